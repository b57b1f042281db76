use axum::http::HeaderValue;

use super::*;

#[test]
fn the_header_of_the_client_is_read_as_rfc_9110_says() {
    let accepts = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
        }
        accepts_gzip(&headers)
    };
    for values in [
        &["gzip"][..],
        &["GZIP"],
        &["x-gzip"],
        &["deflate", "gzip"],
        &["br;q=1.0, gzip;q=0.001"],
        &["*"],
        &["identity;q=0.5, *;q=0.1"],
    ] {
        assert!(accepts(values), "{values:?}");
    }
    for values in [
        &[][..],
        &[""],
        &["gzip;q=0"],
        &["gzip;q=0.000, *"],
        &["*, gzip;q=0"],
        &["*;q=0"],
        &["gzip;q=x"],
        &["gzippy"],
    ] {
        assert!(!accepts(values), "{values:?}");
    }
}

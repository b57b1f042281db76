use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::ACCEPT_ENCODING;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::get;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, StreamBody};
use proptest::collection::vec;
use proptest::prelude::*;
use shared::metrics::Meters;
use tower::ServiceExt;

use super::*;
use crate::metrics::Metrics;

fn limits(bytes: usize) -> AnswerLimits {
    let metrics = Metrics::new(&Meters::local("gateway").unwrap());
    AnswerLimits::new(bytes, Duration::from_mins(1), 1, Arc::clone(&metrics.rest))
}

fn decompress(bytes: &[u8]) -> Vec<u8> {
    let mut decompressed = Vec::new();
    GzDecoder::new(bytes)
        .read_to_end(&mut decompressed)
        .unwrap();
    decompressed
}

/// A service that answers with this many bytes and a tag.
fn service(length: usize, limits: AnswerLimits) -> Router {
    let answer = get(async move || ([(ETAG, "\"tag\"")], "x".repeat(length)).into_response());
    let router = Router::new().route("/", answer);
    router.layer(from_fn_with_state(limits, compress))
}

async fn ask(service: &Router, accept: Option<&str>) -> Response {
    let mut request = Request::get("/");
    if let Some(accept) = accept {
        request = request.header(ACCEPT_ENCODING, accept);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response
}

fn header(response: &Response, name: axum::http::HeaderName) -> Option<&str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}

async fn bytes_of(response: Response) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn an_answer_is_compressed_for_whoever_accepts_it_and_its_tag_is_weak() {
    let service = service(100_000, limits(1 << 30));
    let response = ask(&service, Some("br, gzip;q=0.5")).await;
    assert_eq!(header(&response, CONTENT_ENCODING), Some("gzip"));
    assert_eq!(header(&response, CONTENT_LENGTH), None);
    assert_eq!(header(&response, VARY), Some("Accept-Encoding"));
    assert_eq!(header(&response, ETAG), Some("W/\"tag\""));
    let bytes = bytes_of(response).await;
    assert!(bytes.len() < 2000);
    assert_eq!(decompress(&bytes), vec![b'x'; 100_000]);

    for accept in [None, Some("identity"), Some("br"), Some("gzip;q=0, *")] {
        let response = ask(&service, accept).await;
        assert_eq!(header(&response, CONTENT_ENCODING), None, "{accept:?}");
        // A cache must not give it to those who accept gzip, nor the other way around.
        assert_eq!(header(&response, VARY), Some("Accept-Encoding"));
        assert_eq!(header(&response, ETAG), Some("\"tag\""));
        assert_eq!(bytes_of(response).await, vec![b'x'; 100_000]);
    }
}

#[tokio::test]
async fn a_short_answer_stays_as_it_is() {
    let service = service(1023, limits(1 << 30));
    let response = ask(&service, Some("gzip")).await;
    assert_eq!(header(&response, CONTENT_ENCODING), None);
    assert_eq!(header(&response, VARY), None);
    assert_eq!(bytes_of(response).await.len(), 1023);
}

#[tokio::test]
async fn the_memory_of_compressing_counts_as_long_as_the_answer_lives() {
    let two = usize::try_from(2 * STATE_BYTES).unwrap();
    let service = service(2000, limits(two));
    let first = ask(&service, Some("gzip")).await;
    assert_eq!(header(&first, CONTENT_ENCODING), Some("gzip"));
    // One client may use half of it.
    let second = ask(&service, Some("gzip")).await;
    assert_eq!(header(&second, CONTENT_ENCODING), None);
    assert_eq!(bytes_of(second).await.len(), 2000);
    drop(first);
    let third = ask(&service, Some("gzip")).await;
    assert_eq!(header(&third, CONTENT_ENCODING), Some("gzip"));
}

#[test]
fn a_body_that_is_large_lets_others_have_their_turn() {
    let mut body = GzipBody::new(
        Body::from(vec![b'x'; 10 * STEP]),
        limits(1 << 30).begin(ClientAddress::unknown()),
    );
    let mut turns = 0;
    let mut context = Context::from_waker(std::task::Waker::noop());
    let mut bytes = Vec::new();
    loop {
        match Pin::new(&mut body).poll_frame(&mut context) {
            Poll::Pending => turns += 1,
            Poll::Ready(Some(frame)) => bytes.extend(frame.unwrap().into_data().unwrap()),
            Poll::Ready(None) => break,
        }
    }
    assert_eq!(turns, 9);
    assert_eq!(decompress(&bytes), vec![b'x'; 10 * STEP]);
}

proptest! {
    #[test]
    fn a_body_comes_out_as_it_went_in(frames in vec(vec(any::<u8>(), 0..3000), 0..40)) {
        let whole = frames.concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let frames = frames.into_iter().map(|frame| Ok::<_, axum::Error>(Frame::data(Bytes::from(frame))));
        let body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
        let body = GzipBody::new(body, limits(1 << 30).begin(ClientAddress::unknown()));
        let compressed = runtime.block_on(BodyExt::collect(body)).unwrap().to_bytes();
        prop_assert_eq!(decompress(&compressed), whole);
    }
}

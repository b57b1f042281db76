use super::*;

/// A request with an offer of compression.
fn request() -> Request<Body> {
    Request::builder()
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "keep-alive, Upgrade")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .header(SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate")
        .body(Body::empty())
        .unwrap()
}

#[test]
fn compression_is_accepted_if_it_is_allowed_and_offered() {
    for (may_compress, is_offered) in [(true, true), (true, false), (false, true)] {
        let mut request = request();
        if !is_offered {
            request.headers_mut().remove(SEC_WEBSOCKET_EXTENSIONS);
        }
        let accepted = accept(&request, may_compress).unwrap();
        let headers = accepted.response.headers();
        // The key of RFC 6455, section 1.3.
        assert_eq!(
            headers[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(accepted.compresses, may_compress && is_offered);
        assert_eq!(
            headers.contains_key(SEC_WEBSOCKET_EXTENSIONS),
            accepted.compresses
        );
    }
}

#[test]
fn a_request_that_breaks_the_protocol_is_not_accepted() {
    for (name, value) in [
        (UPGRADE, "h2c"),
        (CONNECTION, "close"),
        (SEC_WEBSOCKET_VERSION, "8"),
        (SEC_WEBSOCKET_KEY, "short=="),
    ] {
        let mut request = request();
        request
            .headers_mut()
            .insert(name.clone(), HeaderValue::from_static(value));
        assert!(accept(&request, true).is_none(), "{name}");
    }
}

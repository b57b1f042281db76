use super::*;

#[test]
fn query_value_is_found_whole() {
    let query = Some("EIO=4&transport=polling&sid=abc");
    assert_eq!(query_value(query, "sid"), Some("abc"));
    assert_eq!(query_value(query, "transport"), Some("polling"));
    assert_eq!(query_value(query, "id"), None);
    assert_eq!(query_value(None, "sid"), None);
}

#[test]
fn slim_request_keeps_what_the_library_reads() {
    let request = Request::builder()
        .uri("/socket.io/?EIO=4&transport=websocket")
        .header(SEC_WEBSOCKET_KEY, "key")
        .header("cookie", "long")
        .body(Body::empty())
        .unwrap();
    let slim = slim(request);
    assert_eq!(slim.headers().len(), 1);
    assert_eq!(slim.headers()[SEC_WEBSOCKET_KEY], "key");
    assert_eq!(slim.uri().query(), Some("EIO=4&transport=websocket"));
}

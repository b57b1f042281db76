mod properties;

use super::*;

const WEBSOCKET: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";

/// Reads a head that arrives in two parts.
fn parse_in_parts(bytes: &[u8], first: usize) -> Head {
    match Head::parse(&bytes[..first], 0) {
        Head::Incomplete => Head::parse(bytes, first),
        head => head,
    }
}

fn is_other(head: &str) -> bool {
    matches!(Head::parse(head.as_bytes(), 0), Head::Other)
}

#[test]
fn a_request_for_a_websocket_is_read_wherever_it_is_cut() {
    let with_rest = format!("{WEBSOCKET}rest");
    // Empty lines in front of a request are skipped, and lines may end without a carriage return.
    let after_lines = format!("\r\n\r\n{WEBSOCKET}");
    let short_lines = WEBSOCKET.replace("\r\n", "\n");
    for (text, rest) in [(with_rest, 4), (after_lines, 0), (short_lines, 0)] {
        for first in 1..text.len() {
            let Head::WebSocket(request, length) = parse_in_parts(text.as_bytes(), first) else {
                panic!("cut at {first}");
            };
            assert_eq!(length, text.len() - rest);
            assert_eq!(request.uri().path(), "/socket.io/");
            assert_eq!(request.uri().query(), Some("EIO=4&transport=websocket"));
            assert_eq!(request.headers().len(), 3);
            assert_eq!(request.headers()[UPGRADE], "WebSocket");
        }
    }
}

#[test]
fn a_head_without_its_end_is_incomplete() {
    for length in 0..WEBSOCKET.len() {
        let head = Head::parse(&WEBSOCKET.as_bytes()[..length], 0);
        assert!(matches!(head, Head::Incomplete), "{length}");
    }
}

#[test]
fn values_of_a_repeated_header_are_kept_in_order() {
    let text = WEBSOCKET.replace("Host: a", "Origin: one\r\nOrigin: two");
    let Head::WebSocket(request, _) = Head::parse(text.as_bytes(), 0) else {
        panic!("{text}");
    };
    let origins: Vec<_> = request.headers().get_all("origin").iter().collect();
    assert_eq!(origins, ["one", "two"]);
}

#[test]
fn everything_else_is_for_hyper() {
    let without = |text: &str| WEBSOCKET.replace(text, "");
    let with = |header: &str| WEBSOCKET.replace("Host: a", &format!("Host: a\r\n{header}"));
    assert!(is_other(&without("Upgrade: WebSocket\r\n")));
    assert!(is_other(&WEBSOCKET.replace("GET", "POST")));
    assert!(is_other(&WEBSOCKET.replace("HTTP/1.1", "HTTP/1.0")));
    assert!(is_other(&WEBSOCKET.replace("WebSocket", "h2c")));
    assert!(is_other(&WEBSOCKET.replace("/socket.io", "http://[/")));
    for header in [
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
    ] {
        assert!(is_other(&with(header)), "{header}");
    }
    let many = "a: b\r\n".repeat(MAX_HEADERS);
    assert!(is_other(&with(many.trim_end())));
    // Known to be wrong before its end.
    assert!(is_other("\x16\x03\x01"));
    assert!(is_other("GET / HTTP/1.1\r\nno colon\r\n"));
}

//! Whatever bytes arrive: what is found out does not depend on how they were cut.

use proptest::prelude::*;

use super::*;

/// Parts of heads, whole and broken, and other bytes.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop_oneof![
            Just("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"),
            Just("POST / HTTP/1.1\r\n"),
            Just("GET / HTTP/1.0\n"),
            Just("Host: a\r\n"),
            Just("Upgrade: websocket\r\n"),
            Just("UPGRADE:WebSocket\n"),
            Just("Connection: Upgrade\r\n"),
            Just("Content-Length: 5\r\n"),
            Just("Transfer-Encoding: chunked\r\n"),
            Just(" folded\r\n"),
            Just("\r\n"),
            Just("\n"),
        ].prop_map(|text: &str| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

/// What is read from a head: its length if it is for a WebSocket.
fn head_length(head: &Head) -> Result<usize, &'static str> {
    match head {
        Head::WebSocket(_, length) => Ok(*length),
        Head::Incomplete => Err("incomplete"),
        Head::Other => Err("other"),
    }
}

proptest! {
    #[test]
    fn a_head_is_the_same_in_one_piece_and_in_two(bytes in bytes(), cut in any::<prop::sample::Index>()) {
        let whole = Head::parse(&bytes, 0);
        let first = cut.index(bytes.len() + 1);
        match Head::parse(&bytes[..first], 0) {
            Head::Incomplete if first > 0 => {
                let again = Head::parse(&bytes, first);
                let is_error_that_shows_later = head_length(&whole) == Err("other")
                    && head_length(&again) == Err("incomplete");
                prop_assert!(head_length(&again) == head_length(&whole) || is_error_that_shows_later);
            }
            Head::Incomplete => {}
            early => prop_assert_eq!(head_length(&early), head_length(&whole)),
        }
    }

    #[test]
    fn a_websocket_has_no_body_and_its_length_is_that_of_the_head(bytes in bytes()) {
        if let Head::WebSocket(request, length) = Head::parse(&bytes, 0) {
            prop_assert!(length <= bytes.len());
            let head = String::from_utf8_lossy(&bytes[..length]).to_ascii_lowercase();
            prop_assert!(head.ends_with("\n\r\n") || head.ends_with("\n\n"), "{}", head);
            prop_assert!(!head.contains("content-length") && !head.contains("transfer-encoding"));
            prop_assert_eq!(request.method(), Method::GET);
        }
    }
}

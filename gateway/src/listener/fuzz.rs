//! What must hold for whatever a stranger sends first.

use std::net::IpAddr;

use futures_util::FutureExt as _;

use super::head::Head;
use super::proxy_protocol::{Client, MAX_LINE, MAX_REST, SIGNATURE, read_header};

/// Returns the length of a head that asks for a WebSocket.
fn length(head: &Head) -> Result<usize, &'static str> {
    match head {
        Head::WebSocket(_, length) => Ok(*length),
        Head::Incomplete => Err("incomplete"),
        Head::Other => Err("other"),
    }
}

/// Input: how many bytes arrive first, then what arrives.
pub(crate) fn head(input: &[u8]) {
    let Some((&first, bytes)) = input.split_first() else {
        return;
    };
    let whole = Head::parse(bytes, 0);
    check_pieces(bytes, usize::from(first).min(bytes.len()), length(&whole));
    let Head::WebSocket(request, length) = whole else {
        return;
    };
    // Only these bytes count: those behind them are frames.
    assert!(length <= bytes.len());
    let (head, before) = (&bytes[..length], &bytes[..length - 1]);
    assert!(matches!(Head::parse(head, 0), Head::WebSocket(_, again) if again == length));
    assert!(matches!(Head::parse(before, 0), Head::Incomplete));
    assert!(head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n"));
    // Two readers of one head must not find different requests in it.
    let headers = request.headers();
    for name in ["content-length", "transfer-encoding", "expect"] {
        assert!(!headers.contains_key(name), "it has a body");
    }
    assert_eq!(request.method(), "GET");
    // A client may begin with empty lines (RFC 9112, section 2.2).
    assert!(head.trim_ascii_start().starts_with(b"GET "));
    let lines = head.split(|byte| *byte == b'\n').count() - 1;
    assert!(headers.len() + 2 <= lines, "a header was invented");
}

/// What is found out does not depend on how the bytes were cut.
fn check_pieces(bytes: &[u8], first: usize, whole: Result<usize, &'static str>) {
    match Head::parse(&bytes[..first], 0) {
        Head::Incomplete if first > 0 => {
            let again = length(&Head::parse(bytes, first));
            // An error is found with the next line at the latest.
            let is_later = whole == Err("other") && again == Err("incomplete");
            assert!(again == whole || is_later, "{again:?}, {whole:?}");
        }
        Head::Incomplete => {}
        early => assert_eq!(length(&early), whole),
    }
}

/// Reads a header of a proxy. Returns the client, and how many bytes were taken.
fn read(bytes: &[u8]) -> (Option<Client>, usize) {
    let mut rest = bytes;
    let read = read_header(&mut rest).now_or_never();
    let read = read.expect("nothing has to be waited for");
    (read.ok(), bytes.len() - rest.len())
}

/// Input: what arrives on a connection of a proxy.
pub(crate) fn proxy_header(input: &[u8]) {
    let (client, taken) = read(input);
    assert!(taken <= SIGNATURE.len() + 4 + MAX_REST, "it has no bound");
    let Some(client) = client else {
        return;
    };
    let (header, rest) = input.split_at(taken);
    // Whatever follows is not a part of it.
    let followed = [header, b"GET / HTTP/1.1\r\n\r\n"].concat();
    assert_eq!(read(&followed), (Some(client), taken));
    assert_eq!(read(header), (Some(client), taken));
    assert_eq!(read(&header[..taken - 1]).0, None, "{rest:?}");

    if let Some(line) = header.strip_prefix(b"PROXY ") {
        assert!(taken <= MAX_LINE && header.ends_with(b"\r\n"));
        let line = std::str::from_utf8(line).expect("it was read as text");
        let mut words = line.trim_end().split(' ');
        let (kind, address) = (words.next(), words.next());
        if let Some(client) = client {
            let address = address.and_then(|address| address.parse::<IpAddr>().ok());
            assert_eq!(address, Some(client));
            let is_v4 = kind == Some("TCP4");
            assert_eq!(client.is_ipv4(), is_v4);
        } else {
            assert_eq!(kind.map(str::trim_end), Some("UNKNOWN"));
        }
    } else {
        assert!(header.starts_with(&SIGNATURE));
        let stands_there = |client: IpAddr| match client {
            IpAddr::V4(client) => header[16..].starts_with(&client.octets()),
            IpAddr::V6(client) => header[16..].starts_with(&client.octets()),
        };
        assert!(client.is_none_or(stands_there), "the address was invented");
    }
}

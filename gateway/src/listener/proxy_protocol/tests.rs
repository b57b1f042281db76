use proptest::prelude::*;

use super::*;

/// Reads a header from these bytes. Returns the client, and how many bytes follow.
fn read(bytes: &[u8]) -> Option<(Client, usize)> {
    let mut rest = bytes;
    let reading = read_header(&mut rest);
    let read = futures_util::FutureExt::now_or_never(reading).expect("nothing is waited for");
    read.ok().map(|client| (client, rest.len()))
}

fn binary(kind: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[kind, family], &length, rest].concat()
}

/// The addresses of a header of version 2.
fn addresses(client: IpAddr) -> (u8, Vec<u8>) {
    match client {
        IpAddr::V4(client) => (
            0x11,
            [&client.octets()[..], &[10, 0, 0, 1], &[1, 2, 3, 4]].concat(),
        ),
        IpAddr::V6(client) => (
            0x21,
            [&client.octets()[..], &[7; 16], &[1, 2, 3, 4]].concat(),
        ),
    }
}

fn line(client: IpAddr) -> String {
    match client {
        IpAddr::V4(_) => format!("PROXY TCP4 {client} 10.0.0.1 4711 443\r\n"),
        IpAddr::V6(_) => format!("PROXY TCP6 {client} 2001:db8::1 4711 443\r\n"),
    }
}

#[test]
fn both_versions_tell_the_client() {
    for client in ["203.0.113.9", "2001:db8::7", "::ffff:203.0.113.9"] {
        let client: IpAddr = client.parse().unwrap();
        assert_eq!(read(line(client).as_bytes()), Some((Some(client), 0)));
        let (family, rest) = addresses(client);
        assert_eq!(read(&binary(0x21, family, &rest)), Some((Some(client), 0)));
        // Further values of the proxy are skipped.
        let more = [&rest[..], &[4; 200]].concat();
        assert_eq!(read(&binary(0x21, family, &more)), Some((Some(client), 0)));
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_names_nobody() {
    for bytes in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
        binary(0x20, 0x00, &[]),
        binary(0x20, 0x11, &[1; 12]),
        binary(0x21, 0x00, &[9; 30]),
    ] {
        assert_eq!(read(&bytes), Some((None, 0)), "{bytes:?}");
    }
}

#[test]
fn anything_else_is_refused() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..],
        b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\n",
        b"PROXY TCP4 203.0.113.9 10.0.0.1 4711\r\n",
        b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443 5\r\n",
        b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 65536\r\n",
        b"PROXY TCP4 203.0.113.999 10.0.0.1 4711 443\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
        b"PROXY TCP6 203.0.113.9 10.0.0.1 4711 443\r\n",
        b"PROXY TCP4 203.0.113.9 2001:db8::1 4711 443\r\n",
        b"PROXY TCP4  203.0.113.9 10.0.0.1 4711 443\r\n",
        b"PROXY UDP4 203.0.113.9 10.0.0.1 4711 443\r\n",
        b"PROXY \xff\xff\xff\xff\xff\xff\xff\xff\r\n",
        b"proxy TCP4 203.0.113.9 10.0.0.1 4711 443\r\n",
    ] {
        assert_eq!(read(bytes), None, "{}", String::from_utf8_lossy(bytes));
    }
    for (kind, family, rest) in [
        (0x11, 0x11, 12),
        (0x22, 0x11, 12),
        (0x21, 0x11, 11),
        (0x21, 0x21, 35),
        (0x21, 0x12, 12),
        (0x21, 0x31, 216),
        (0x21, 0x11, MAX_REST + 1),
    ] {
        let bytes = binary(kind, family, &vec![1; rest]);
        assert_eq!(read(&bytes), None, "{kind:x} {family:x} {rest}");
    }
}

#[test]
fn a_line_that_does_not_end_is_not_read_for_ever() {
    let bytes = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 1_000]].concat();
    let mut rest = &bytes[..];
    let read = futures_util::FutureExt::now_or_never(read_header(&mut rest)).unwrap();
    assert!(read.is_err());
    assert_eq!(bytes.len() - rest.len(), MAX_LINE);
}

proptest! {
    #[test]
    fn nothing_behind_the_header_is_read(
        client in any::<IpAddr>(),
        more in prop::collection::vec(any::<u8>(), 0..64),
        behind in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (family, rest) = addresses(client);
        let rest = [rest, more].concat();
        for header in [line(client).into_bytes(), binary(0x21, family, &rest)] {
            let bytes = [&header[..], &behind].concat();
            prop_assert_eq!(read(&bytes), Some((Some(client), behind.len())));
            // A part of it is no header.
            for end in 0..header.len() {
                prop_assert_eq!(read(&header[..end]), None);
            }
        }
    }

    #[test]
    fn no_bytes_break_it(
        start in prop_oneof![
            Just(SIGNATURE.to_vec()),
            Just(PREFIX.to_vec()),
            Just(Vec::new()),
        ],
        more in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [start, more].concat();
        prop_assert!(read(&bytes).is_none_or(|(_, left)| left < bytes.len()));
    }
}

use super::*;

#[test]
fn a_message_is_read_as_it_was_written() {
    for length in [0, 1, 100, 200, 20_000] {
        let payload = vec![b'a'; length];
        let mut bytes = Vec::new();
        write_publish(&mut bytes, Version::V3, "t", 7, &payload).unwrap();
        let whole = bytes.len();
        assert_eq!(read(&bytes[..whole - 1]).unwrap(), None);
        bytes.push(0);
        let packet = read(&bytes).unwrap().unwrap();
        assert_eq!((packet.head, packet.bytes), (0x32, whole));
        assert_eq!(packet.body, [b"\0\x01t\0\x07", &payload[..]].concat());
    }
    assert_eq!(read(b"").unwrap(), None);
    assert!(read(&[0x32, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
}

#[test]
fn version_5_has_a_place_for_properties() {
    let mut bytes = Vec::new();
    write_publish(&mut bytes, Version::V5, "t", 7, b"a").unwrap();
    assert_eq!(bytes, b"\x32\x07\0\x01t\0\x07\0a");
}

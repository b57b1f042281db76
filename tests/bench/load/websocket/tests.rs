use super::*;

#[test]
fn a_frame_is_read_once_all_its_bytes_are_there() {
    for length in [0, 5, 125, 126, 700, 65_535, 65_536] {
        let text = "a".repeat(length);
        let mut bytes = vec![0x81];
        match length {
            0..=125 => bytes.push(u8::try_from(length).unwrap()),
            126..=65_535 => {
                bytes.push(126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend(u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        bytes.extend(text.as_bytes());
        for cut in [0, 1, bytes.len() - 1] {
            assert_eq!(read(&bytes[..cut]).unwrap(), None, "{length} cut at {cut}");
        }
        let whole = bytes.len();
        bytes.extend(b"more");
        let (frame, used) = read(&bytes).unwrap().unwrap();
        assert_eq!((frame, used), (Frame::Text(&text), whole));
    }
}

#[test]
fn frames_that_no_server_may_send_are_errors() {
    assert!(read(b"\x81\x80\0\0\0\0").is_err(), "masked");
    assert!(read(b"\x01\x01a").is_err(), "in parts");
    assert!(read(b"\x81\x01\xff").is_err(), "not UTF-8");
    assert!(read(b"\x82\x01a").is_err(), "binary");
}

#[test]
fn control_frames_are_distinguished() {
    assert_eq!(read(b"\x89\x02hi").unwrap(), Some((Frame::Ping(b"hi"), 4)));
    assert_eq!(read(b"\x8a\x00").unwrap(), Some((Frame::Pong, 2)));
    assert_eq!(read(b"\x88\x00").unwrap(), Some((Frame::Close, 2)));
}

use super::*;

const MAX: u32 = 1000;

fn read_all(bytes: &[u8]) -> Result<Option<Packet>, ConnectionEnd> {
    read(&mut BytesMut::from(bytes), MAX)
}

#[test]
fn a_disconnect_in_any_form_is_read() {
    let takeover: [&[u8]; 2] = [&[0xe0, 1, 0x8e], &[0xe0, 2, 0x8e, 0]];
    for bytes in takeover {
        let end = read_all(bytes).unwrap_err();
        assert!(matches!(end, ConnectionEnd::TakenOver), "{bytes:?}: {end}");
    }
    for bytes in [&[0xe0, 0][..], &[0xe0, 1, 0], &[0xe0, 2, 0, 0]] {
        let end = read_all(bytes).unwrap_err();
        assert!(matches!(end, ConnectionEnd::Closed), "{bytes:?}: {end}");
    }
    let with_text = [&[0xe0, 8, 0x8b, 6, 0x1f, 0, 3][..], b"why"].concat();
    assert_eq!(
        read_all(&with_text).unwrap_err().to_string(),
        "the broker disconnects: ServerShuttingDown: why"
    );
    let end = read_all(&[0xe0, 1, 0x77]).unwrap_err();
    assert!(matches!(end, ConnectionEnd::Unreadable(_)), "{end}");
}

#[test]
fn a_packet_is_read_once_it_is_complete() {
    let disconnect = [0xe0, 2, 0x8e, 0];
    for length in 0..disconnect.len() {
        let is_complete = read_all(&disconnect[..length]).is_err();
        assert!(!is_complete, "{length} bytes");
    }
    // A packet that is too long is refused by its header.
    let end = read_all(&[0x30, 0xff, 0x7f]).unwrap_err();
    assert!(matches!(end, ConnectionEnd::Unreadable(_)), "{end}");
    let mut two = BytesMut::from(&[0xd0, 0, 0xd0, 0][..]);
    for _ in 0..2 {
        assert!(matches!(read(&mut two, MAX), Ok(Some(Packet::Other))));
    }
    assert!(matches!(read(&mut two, MAX), Ok(None)));
}

#[test]
fn a_broker_that_wants_no_pings_gets_those_that_are_configured() {
    for (seconds, expected) in [(0, None), (7, Some(Duration::from_secs(7)))] {
        let answer = [0x20, 6, 0, 0, 3, 0x13, 0, seconds];
        let Ok(Some(Packet::ConnAck { keep_alive, .. })) = read_all(&answer) else {
            panic!("no CONNACK");
        };
        assert_eq!(keep_alive, expected);
    }
}

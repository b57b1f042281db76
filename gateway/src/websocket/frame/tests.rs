use std::io::Cursor;

use proptest::prelude::*;
use serde_json::value::to_raw_value;
use tungstenite::protocol::frame::FrameSocket;

use super::*;

/// Reads all frames of these bytes as text.
fn texts(bytes: &[u8]) -> Vec<String> {
    let mut socket = FrameSocket::new(Cursor::new(bytes.to_vec()));
    let mut texts = Vec::new();
    while let Some(frame) = socket.read(None).unwrap() {
        texts.push(frame.into_text().unwrap().to_string());
    }
    texts
}

#[test]
fn control_packets_are_whole_frames() {
    assert_eq!(texts(&PING), ["2"]);
    assert_eq!(texts(&PROBE_ANSWER), ["3probe"]);
    assert_eq!(&*close(1000), [0x88, 2, 0x03, 0xe8]);
}

#[test]
fn a_position_with_several_events_is_one_buffer() {
    let data = to_raw_value(&[1]).unwrap();
    let alerts = to_raw_value("ä").unwrap();
    let events = [("device:data", &*data), ("device:alerts", &*alerts)];
    let frames = events_of(&events);
    assert_eq!(
        texts(&frames),
        [r#"42["device:data",[1]]"#, r#"42["device:alerts","ä"]"#]
    );
    assert_eq!(texts(&reply(7, &data)), ["437[[1]]"]);
}

fn events_of(events: &[(&'static str, &RawValue)]) -> Bytes {
    super::events(events.iter().copied())
}

proptest! {
    /// The length of a frame is written in one of three ways.
    #[test]
    fn every_length_is_read_as_it_was_written(length in prop_oneof![0_usize..300, 65_400_usize..65_700]) {
        let payload = "x".repeat(length);
        prop_assert_eq!(texts(&text(&payload)), std::slice::from_ref(&payload));
        let value = to_raw_value(&payload).unwrap();
        let expected = format!(r#"42["device:data","{payload}"]"#);
        prop_assert_eq!(texts(&events_of(&[("device:data", &value)])), [expected]);
    }
}

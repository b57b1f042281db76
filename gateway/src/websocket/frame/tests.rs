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

#[test]
fn only_messages_that_get_shorter_are_compressed() {
    let short = to_raw_value("short").unwrap();
    let long = to_raw_value(&"long ".repeat(100)).unwrap();
    let packets = [("device:data", &*short), ("device:alerts", &*long)];
    let frames = super::events(packets.into_iter(), true);
    let mut socket = FrameSocket::new(Cursor::new(frames.to_vec()));
    let first = socket.read(None).unwrap().unwrap();
    assert!(!first.header().rsv1);
    assert_eq!(first.payload(), br#"42["device:data","short"]"#);
    let second = socket.read(None).unwrap().unwrap();
    assert!(second.header().rsv1 && second.header().is_final);
    let message = deflate::inflate(second.payload(), 1000).unwrap();
    assert_eq!(
        message,
        format!(r#"42["device:alerts",{long}]"#).into_bytes()
    );
    assert!(socket.read(None).unwrap().is_none());
}

fn events_of(events: &[(&'static str, &RawValue)]) -> Bytes {
    super::events(events.iter().copied(), false)
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

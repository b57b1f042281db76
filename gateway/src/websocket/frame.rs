//! Encodes what the gateway sends over a WebSocket: Socket.IO packets (protocol 5) in Engine.IO packets (protocol 4) in frames
//! (RFC 6455). Frames of a server are not masked, so one encoding serves every client. Pure.

use bytes::Bytes;
use serde_json::value::RawValue;

/// The Engine.IO packet `2`: a ping.
pub(crate) const PING: Bytes = Bytes::from_static(&[TEXT, 1, b'2']);
/// The Engine.IO packet `3probe`: the answer to the first packet of an upgrade.
pub(crate) const PROBE_ANSWER: Bytes =
    Bytes::from_static(&[TEXT, 6, b'3', b'p', b'r', b'o', b'b', b'e']);

/// First byte of a whole text message.
const TEXT: u8 = 0x81;
/// First byte of a close frame.
const CLOSE: u8 = 0x88;
/// Longest header of a frame, in bytes.
const MAX_HEADER: usize = 10;

/// Returns a text message.
pub(crate) fn text(payload: &str) -> Bytes {
    let mut frame = Vec::with_capacity(MAX_HEADER + payload.len());
    push_header(&mut frame, payload.len());
    frame.extend_from_slice(payload.as_bytes());
    frame.into()
}

/// Returns the frames of these events, in order.
pub(crate) fn events<'a>(
    events: impl Iterator<Item = (&'static str, &'a RawValue)> + Clone,
) -> Bytes {
    let lengths = events
        .clone()
        .map(|(name, payload)| MAX_HEADER + event_length(name, payload));
    let mut frames = Vec::with_capacity(lengths.sum());
    for (name, payload) in events {
        push_header(&mut frames, event_length(name, payload));
        frames.extend_from_slice(b"42[\"");
        frames.extend_from_slice(name.as_bytes());
        frames.extend_from_slice(b"\",");
        frames.extend_from_slice(payload.get().as_bytes());
        frames.push(b']');
    }
    frames.into()
}

/// Returns the reply to the client's event with this acknowledgement id.
pub(crate) fn reply(id: i64, payload: &RawValue) -> Bytes {
    text(&format!("43{id}[{}]", payload.get()))
}

/// Returns a close frame with this status code.
pub(crate) fn close(code: u16) -> Bytes {
    let [high, low] = code.to_be_bytes();
    vec![CLOSE, 2, high, low].into()
}

fn event_length(name: &str, payload: &RawValue) -> usize {
    r#"42["",]"#.len() + name.len() + payload.get().len()
}

fn push_header(frame: &mut Vec<u8>, length: usize) {
    frame.push(TEXT);
    if let Ok(length) = u8::try_from(length)
        && length < 126
    {
        frame.push(length);
    } else if let Ok(length) = u16::try_from(length) {
        frame.push(126);
        frame.extend_from_slice(&length.to_be_bytes());
    } else {
        frame.push(127);
        frame.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

#[cfg(test)]
mod tests;

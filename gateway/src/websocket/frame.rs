//! Encodes what the gateway sends over a WebSocket: Socket.IO packets (protocol 5) in Engine.IO packets (protocol 4) in frames
//! (RFC 6455). Frames of a server are not masked, so one encoding serves every client. Pure.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::deflate;

/// The Engine.IO packet `2`: a ping.
pub(crate) const PING: Bytes = Bytes::from_static(&[TEXT, 1, b'2']);
/// The Engine.IO packet `3probe`: the answer to the first packet of an upgrade.
pub(crate) const PROBE_ANSWER: Bytes =
    Bytes::from_static(&[TEXT, 6, b'3', b'p', b'r', b'o', b'b', b'e']);

/// First byte of a whole text message.
const TEXT: u8 = 0x81;
/// The bit of the first byte that marks a message as compressed.
const IS_COMPRESSED: u8 = 0x40;
/// First byte of the answer to a ping.
const PONG: u8 = 0x8a;
/// First byte of a close frame.
const CLOSE: u8 = 0x88;
/// Longest header of a frame, in bytes.
const MAX_HEADER: usize = 10;

/// Returns a text message.
pub(crate) fn text(payload: &str) -> Bytes {
    let mut frame = Vec::with_capacity(MAX_HEADER + payload.len());
    push_header(&mut frame, TEXT, payload.len());
    frame.extend_from_slice(payload.as_bytes());
    frame.into()
}

/// Returns the frames of these events, in order. `compressed`: for a client with which compression was agreed on.
pub(crate) fn events<'a>(
    events: impl Iterator<Item = (&'static str, &'a RawValue)> + Clone,
    compressed: bool,
) -> Bytes {
    let lengths = events
        .clone()
        .map(|(name, payload)| MAX_HEADER + event_length(name, payload));
    let mut frames = Vec::with_capacity(lengths.sum());
    for (name, payload) in events {
        let length = event_length(name, payload);
        if !compressed || length < deflate::MIN_BYTES {
            push_header(&mut frames, TEXT, length);
            push_event(&mut frames, name, payload);
            continue;
        }
        let mut message = Vec::with_capacity(length);
        push_event(&mut message, name, payload);
        push_compressed(&mut frames, &message);
    }
    // It is kept for as long as a client needs it.
    frames.shrink_to_fit();
    frames.into()
}

fn push_event(bytes: &mut Vec<u8>, name: &str, payload: &RawValue) {
    bytes.extend_from_slice(b"42[\"");
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(b"\",");
    bytes.extend_from_slice(payload.get().as_bytes());
    bytes.push(b']');
}

/// Adds a text message in its shorter form.
fn push_compressed(frames: &mut Vec<u8>, message: &[u8]) {
    let compressed = deflate::compress(message);
    let (first, content) = match &compressed {
        Some(compressed) => (TEXT | IS_COMPRESSED, compressed.as_slice()),
        None => (TEXT, message),
    };
    push_header(frames, first, content.len());
    frames.extend_from_slice(content);
}

/// Returns the reply to the client's event with this acknowledgement id.
pub(crate) fn reply(id: i64, payload: &RawValue) -> Bytes {
    text(&format!("43{id}[{}]", payload.get()))
}

/// Returns the answer to a ping with this content, which has at most 125 bytes.
pub(crate) fn pong(content: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(MAX_HEADER + content.len());
    push_header(&mut frame, PONG, content.len());
    frame.extend_from_slice(content);
    frame.into()
}

/// Returns a close frame with this status code.
pub(crate) fn close(code: u16) -> Bytes {
    let [high, low] = code.to_be_bytes();
    vec![CLOSE, 2, high, low].into()
}

fn event_length(name: &str, payload: &RawValue) -> usize {
    r#"42["",]"#.len() + name.len() + payload.get().len()
}

fn push_header(frame: &mut Vec<u8>, first: u8, length: usize) {
    frame.push(first);
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

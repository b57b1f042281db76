//! What must hold for whatever a client sends behind its handshake: it is read as tungstenite reads it, however it arrives.

use std::io::{self, Read, Write};

use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::*;

/// Longest message here.
pub(super) const MAX: usize = 300;
/// Takes out everything, until more bytes are needed, the client closes, or it breaks the protocol.
fn take_all(decoder: &mut Decoder, taken: &mut Vec<Decoded>) -> Result<(), Violation> {
    while let Some(decoded) = decoder.next()? {
        let is_end = matches!(decoded, Decoded::Close(_));
        taken.push(decoded);
        if is_end {
            break;
        }
    }
    Ok(())
}

pub(super) fn decode(
    bytes: &[u8],
    step: usize,
    compressed: bool,
) -> (Vec<Decoded>, Result<(), Violation>) {
    let mut decoder = Decoder::new(MAX, compressed);
    let mut taken = Vec::new();
    for part in bytes.chunks(step) {
        decoder.receive(part);
        let result = take_all(&mut decoder, &mut taken);
        if result.is_err() || matches!(taken.last(), Some(Decoded::Close(_))) {
            return (taken, result);
        }
    }
    (taken, Ok(()))
}

/// The received bytes as a stream that has nothing more for now.
struct Received<'a>(&'a [u8]);

impl Read for Received<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Received<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite reads.
fn expected(bytes: &[u8]) -> (Vec<Decoded>, Result<(), Violation>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX))
        .max_frame_size(Some(MAX));
    let mut stream = Received(bytes);
    let mut protocol = WebSocketContext::new(Role::Server, Some(config));
    let mut taken = Vec::new();
    loop {
        let decoded = match protocol.read(&mut stream) {
            Ok(Message::Text(text)) => Decoded::Text(text.to_string()),
            Ok(Message::Binary(_)) => Decoded::Binary,
            Ok(Message::Ping(content)) => Decoded::Ping(content.to_vec()),
            Ok(Message::Pong(_)) => Decoded::Pong,
            Ok(Message::Close(close)) => {
                let code = close.map_or(CloseCode::Normal, |close| close.code);
                taken.push(Decoded::Close(code));
                return (taken, Ok(()));
            }
            Ok(Message::Frame(_)) => unreachable!(),
            Err(Error::Io(_)) => return (taken, Ok(())),
            Err(Error::Capacity(_)) => return (taken, Err(TOO_LONG)),
            Err(Error::Utf8(_)) => return (taken, Err(NOT_TEXT)),
            Err(_) => return (taken, Err(PROTOCOL)),
        };
        taken.push(decoded);
    }
}

/// Checks that these bytes are read as tungstenite reads them. `are_whole`: the last frame is not cut.
pub(super) fn as_expected(bytes: &[u8], step: usize, are_whole: bool) {
    let (taken, result) = decode(bytes, step, false);
    let (expected, expected_result) = expected(bytes);
    if expected_result == Err(NOT_TEXT) {
        // tungstenite refuses the first fragment that is not UTF-8, this decoder the whole message. Control frames may come before.
        assert!(taken.starts_with(&expected));
        let is_control = |decoded: &Decoded| !matches!(decoded, Decoded::Text(_) | Decoded::Binary);
        assert!(taken[expected.len()..].iter().all(is_control));
        return;
    }
    assert_eq!(taken, expected);
    // Of several broken rules the two may name another first, and this decoder does not wait for the content of a frame that it
    // will refuse.
    if are_whole {
        assert_eq!(result.is_err(), expected_result.is_err());
    }
}

/// Input: how they arrive (bit 7: compression was agreed on, bit 6: frames are written below as `first byte, length, content` and masked
/// here; the others: length of the pieces), then frames.
pub(crate) fn check(input: &[u8]) {
    let Some((&how, rest)) = input.split_first() else {
        return;
    };
    let (compressed, are_written) = (how & 0x80 != 0, how & 0x40 != 0);
    let step = usize::from(how & 0x3f).max(1);
    let bytes = if are_written {
        frames(rest)
    } else {
        rest.to_vec()
    };

    let whole = decode(&bytes, bytes.len().max(1), compressed);
    assert_eq!(decode(&bytes, step, compressed), whole);
    for decoded in &whole.0 {
        match decoded {
            Decoded::Text(text) => assert!(text.len() <= MAX, "longer than allowed"),
            Decoded::Ping(content) => assert!(content.len() <= 125),
            Decoded::Close(code) => assert!(code.is_allowed() || *code == CloseCode::Protocol),
            Decoded::Binary | Decoded::Pong => {}
        }
    }
    if !compressed {
        as_expected(&bytes, step, are_written);
    }
}

/// Returns whole frames with a mask.
fn frames(mut written: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0, 0xfa, 0x21];
    let mut frames = Vec::new();
    while let [first, length, rest @ ..] = written {
        // Longer ones must occur, too.
        let length = usize::from(*length) * 2;
        let (content, rest) = rest.split_at(length.min(rest.len()));
        written = rest;
        frames.push(*first);
        if let Ok(length @ 0..126) = u8::try_from(content.len()) {
            frames.push(0x80 | length);
        } else {
            // The mark of a mask, and of a length with two bytes.
            frames.push(0xfe);
            let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
            frames.extend(length.to_be_bytes());
        }
        frames.extend(MASK);
        let mut content = content.to_vec();
        unmask(&mut content, MASK);
        frames.extend(content);
    }
    frames
}

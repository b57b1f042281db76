//! Takes received bytes apart into messages: the rules of RFC 6455 for what a client sends, and those of RFC 7692 for compressed
//! messages. Pure.
//!
//! Headers of frames are read by tungstenite. Messages are put together here, for two reasons. A client that is silent costs no
//! buffer, and there are many such clients; and tungstenite refuses compressed messages.

use std::io::Cursor;

use bytes::{Buf, BytesMut};
use tungstenite::error::Error;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::deflate;

/// Longest content of a control frame, in bytes.
const MAX_CONTROL: u64 = 125;

/// What was received of a WebSocket and not taken yet.
#[derive(Debug)]
pub(super) struct Decoder {
    // Without memory while nothing is in it.
    received: BytesMut,
    /// The message of which some fragments were taken.
    message: Option<Box<Unfinished>>,
    /// Longest message, in bytes, as it was sent and as it is inflated.
    max_bytes: usize,
    may_be_compressed: bool,
}

#[derive(Debug)]
struct Unfinished {
    is_text: bool,
    is_compressed: bool,
    content: Vec<u8>,
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Text(String),
    Binary,
    /// A ping with its content, which the answer must have too.
    Ping(Vec<u8>),
    Pong,
    /// The client closes the WebSocket. The answer must have this code.
    Close(CloseCode),
}

/// How a client broke the protocol: the code for its close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation(pub(super) CloseCode);

const PROTOCOL: Violation = Violation(CloseCode::Protocol);
const TOO_LONG: Violation = Violation(CloseCode::Size);
const NOT_TEXT: Violation = Violation(CloseCode::Invalid);

impl Decoder {
    /// `max_bytes`: longest message. `may_be_compressed`: compression was agreed on.
    pub(super) fn new(max_bytes: usize, may_be_compressed: bool) -> Self {
        Self {
            received: BytesMut::new(),
            message: None,
            max_bytes,
            may_be_compressed,
        }
    }

    /// Adds bytes. The caller takes messages out before it adds more.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// Returns whether some fragments of a message were received.
    pub(super) fn has_fragments(&self) -> bool {
        self.message.is_some()
    }

    /// Returns whether a part of a message or frame was received.
    pub(super) fn is_within_message(&self) -> bool {
        self.has_fragments() || !self.received.is_empty()
    }

    /// Takes out the next message or control frame; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The client broke the protocol. Nothing more can be taken.
    pub(super) fn next(&mut self) -> Result<Option<Decoded>, Violation> {
        while let Some((header, mut content)) = self.next_frame()? {
            unmask(&mut content, header.mask.unwrap_or_default());
            let decoded = match header.opcode {
                OpCode::Control(control) => Some(decode_control(control, content)?),
                OpCode::Data(_) => self.decode_data(&header, content)?,
            };
            if decoded.is_some() {
                return Ok(decoded);
            }
        }
        Ok(None)
    }

    /// Takes out a frame whose rules were checked. Its content is still masked.
    fn next_frame(&mut self) -> Result<Option<(FrameHeader, Vec<u8>)>, Violation> {
        let mut cursor = Cursor::new(&self.received);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|error: Error| {
            // A slice has no other error.
            debug_assert!(matches!(error, Error::Protocol(_)), "{error}");
            PROTOCOL
        })?;
        let Some((header, length)) = parsed else {
            self.free();
            return Ok(None);
        };
        let head = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        // Judged before the content is there: nothing is kept for a frame that is refused.
        self.check(&header, length)?;
        let length = usize::try_from(length).map_err(|_| TOO_LONG)?;
        if self.received.len() - head < length {
            return Ok(None);
        }
        self.received.advance(head);
        let content = self.received[..length].to_vec();
        self.received.advance(length);
        Ok(Some((header, content)))
    }

    fn check(&self, header: &FrameHeader, length: u64) -> Result<(), Violation> {
        let before = self.message.as_ref();
        let is_first = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        let may_be_compressed = self.may_be_compressed && is_first;
        let is_allowed = header.mask.is_some()
            && !header.rsv2
            && !header.rsv3
            && (!header.rsv1 || may_be_compressed)
            && match header.opcode {
                OpCode::Control(_) => header.is_final && length <= MAX_CONTROL,
                OpCode::Data(Data::Continue) => before.is_some(),
                OpCode::Data(_) => before.is_none(),
            };
        if !is_allowed {
            return Err(PROTOCOL);
        }
        let begun = before.map_or(0, |message| message.content.len() as u64);
        if matches!(header.opcode, OpCode::Data(_))
            && begun.saturating_add(length) > self.max_bytes as u64
        {
            return Err(TOO_LONG);
        }
        Ok(())
    }

    /// Returns the message that this frame completes.
    fn decode_data(
        &mut self,
        header: &FrameHeader,
        content: Vec<u8>,
    ) -> Result<Option<Decoded>, Violation> {
        let message = match self.message.take() {
            Some(mut message) => {
                message.content.extend_from_slice(&content);
                message
            }
            None => Box::new(Unfinished {
                is_text: header.opcode == OpCode::Data(Data::Text),
                is_compressed: header.rsv1,
                content,
            }),
        };
        if header.is_final {
            return self.complete(*message).map(Some);
        }
        self.message = Some(message);
        Ok(None)
    }

    fn complete(&self, message: Unfinished) -> Result<Decoded, Violation> {
        let mut content = message.content;
        if message.is_compressed {
            content = deflate::inflate(&content, self.max_bytes).map_err(|error| match error {
                deflate::InflateError::TooLong => TOO_LONG,
                deflate::InflateError::Invalid => NOT_TEXT,
            })?;
        }
        if !message.is_text {
            return Ok(Decoded::Binary);
        }
        String::from_utf8(content)
            .map(Decoded::Text)
            .map_err(|_| NOT_TEXT)
    }

    fn free(&mut self) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
    }
}

fn decode_control(control: Control, content: Vec<u8>) -> Result<Decoded, Violation> {
    match control {
        Control::Ping => Ok(Decoded::Ping(content)),
        Control::Pong => Ok(Decoded::Pong),
        Control::Close => decode_close(&content).map(Decoded::Close),
        Control::Reserved(_) => Err(PROTOCOL),
    }
}

fn decode_close(content: &[u8]) -> Result<CloseCode, Violation> {
    let (code, reason) = match content {
        [] => return Ok(CloseCode::Normal),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(PROTOCOL),
    };
    std::str::from_utf8(reason).map_err(|_| NOT_TEXT)?;
    let code = CloseCode::from(code);
    // A code that no client may send is answered as what it is.
    Ok(if code.is_allowed() {
        code
    } else {
        CloseCode::Protocol
    })
}

fn unmask(content: &mut [u8], mask: [u8; 4]) {
    for (byte, mask) in content.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
#[cfg(test)]
mod tests;

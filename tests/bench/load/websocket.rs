//! Frames of the websocket protocol (RFC 6455), as far as a client of the servers measured here needs them: no extensions, and
//! messages in one frame.

use anyhow::{Result, bail};
use test_support::frames;

/// What one frame from a server means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A message of text.
    Text(&'a str),
    /// A ping, which must be answered with the same bytes.
    Ping(&'a [u8]),
    /// The server closes the connection.
    Close,
    /// A pong: nothing to do.
    Pong,
}

/// Reads the first frame. Returns it and its length in bytes, or `None` if it is not complete yet.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let Some((first, payload, length)) = frames::read(bytes)? else {
        return Ok(None);
    };
    let frame = match first {
        frames::TEXT => Frame::Text(std::str::from_utf8(payload)?),
        frames::CLOSE => Frame::Close,
        frames::PING => Frame::Ping(payload),
        frames::PONG => Frame::Pong,
        other => bail!("the server sends a frame that begins with {other:#x}"),
    };
    Ok(Some((frame, length)))
}

#[cfg(test)]
mod tests;

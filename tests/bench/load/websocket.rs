//! Frames of the websocket protocol (RFC 6455), as far as a client of the servers measured here needs them: no extensions, and
//! messages in one frame.

use anyhow::{Result, bail, ensure};

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

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// The next two bytes are the length.
const LENGTH_OF_16_BITS: u8 = 126;
/// The next eight bytes are the length.
const LENGTH_OF_64_BITS: u8 = 127;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Reads the first frame. Returns it and its length in bytes, or `None` if it is not complete yet.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    ensure!(second & MASKED == 0, "the server masks a frame");
    ensure!(first & FINAL != 0, "the server sends a message in parts");
    let (length, head) = match second {
        LENGTH_OF_16_BITS => match bytes.get(2..4) {
            Some(length) => (usize::from(u16::from_be_bytes(length.try_into()?)), 4),
            None => return Ok(None),
        },
        LENGTH_OF_64_BITS => match bytes.get(2..10) {
            Some(length) => (usize::try_from(u64::from_be_bytes(length.try_into()?))?, 10),
            None => return Ok(None),
        },
        length => (usize::from(length), 2),
    };
    let Some(payload) = bytes.get(head..head + length) else {
        return Ok(None);
    };
    let frame = match first & 0x7f {
        TEXT => Frame::Text(std::str::from_utf8(payload)?),
        CLOSE => Frame::Close,
        PING => Frame::Ping(payload),
        PONG => Frame::Pong,
        other => bail!("the server sends a frame of the kind {other}"),
    };
    Ok(Some((frame, head + length)))
}

/// Appends a text as a frame of a client. The mask is zero: it then changes no byte, and is still a mask.
pub(crate) fn write_text(frames: &mut Vec<u8>, text: &str) -> Result<()> {
    write(frames, TEXT, text.as_bytes())
}

/// Appends the answer to a ping.
pub(crate) fn write_pong(frames: &mut Vec<u8>, payload: &[u8]) -> Result<()> {
    write(frames, PONG, payload)
}

fn write(frames: &mut Vec<u8>, kind: u8, payload: &[u8]) -> Result<()> {
    frames.push(FINAL | kind);
    write_length(frames, MASKED, payload.len())?;
    frames.extend_from_slice(&[0; 4]);
    frames.extend_from_slice(payload);
    Ok(())
}

/// Appends a text as a frame of a server.
pub(crate) fn write_server_text(frames: &mut Vec<u8>, text: &str) -> Result<()> {
    frames.push(FINAL | TEXT);
    write_length(frames, 0, text.len())?;
    frames.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_length(frames: &mut Vec<u8>, mask: u8, length: usize) -> Result<()> {
    match u8::try_from(length) {
        Ok(length) if length < LENGTH_OF_16_BITS => frames.push(mask | length),
        _ => {
            frames.push(mask | LENGTH_OF_16_BITS);
            frames.extend_from_slice(&u16::try_from(length)?.to_be_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Reads what Redis sends on a connection for subscriptions (RESP3), from one buffer and without copies. Pure.
//!
//! Only what such a connection needs is distinguished: published messages, confirmed changes of subscriptions, answers, and
//! errors. Bytes that are not RESP3 are an error, after which nothing on the connection can be understood any more.

use std::fmt;
use std::ops::Range;

use bytes::{Buf, BytesMut};

/// Maximum number of bytes of one value, and so of the buffer. Redis itself closes a subscriber for which more waits
/// (`client-output-buffer-limit pubsub`: 32 MB by default, 64 MB in our configuration).
pub const MAX_VALUE: usize = 64 * 1024 * 1024;
/// Maximum number of elements of one value. The largest is the answer to `HELLO`.
const MAX_ELEMENTS: u64 = 4096;
/// Maximum length of a line: a text without a length before it, or a length.
const MAX_LINE: usize = 64 * 1024;
/// How many bytes the buffer has room for before each read, at least.
const ROOM: usize = 16 * 1024;
/// An empty buffer that is larger is given back.
const MAX_KEPT: usize = 64 * 1024;

/// One value that Redis sent. Borrowed from the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A message that was published on a channel.
    Message {
        /// The name of the channel.
        channel: &'a [u8],
        /// What was published.
        payload: &'a [u8],
    },
    /// This channel is subscribed to now.
    Subscribed(&'a [u8]),
    /// This channel is not subscribed to any more.
    Unsubscribed(&'a [u8]),
    /// Something else that is not the answer to a command.
    OtherPush,
    /// The answer to a command is an error.
    Refused(&'a [u8]),
    /// The answer to a command.
    Answer,
}

/// Why bytes are not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No value begins with this byte.
    Type(u8),
    /// A length is not a number, or a line does not end where it must.
    Length,
    /// The value is longer than [`MAX_VALUE`], or has too many elements.
    TooLarge,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(byte) => write!(f, "a value begins with the byte {byte}"),
            Self::Length => f.write_str("a length cannot be read"),
            Self::TooLarge => f.write_str("a value is too large"),
        }
    }
}

impl std::error::Error for Malformed {}

/// The bytes that have arrived on one connection, and the values in them.
#[derive(Debug, Default)]
pub struct ValueReader {
    buffer: BytesMut,
    /// Length of the value that was returned last. It is removed with the next call.
    returned: usize,
}

impl ValueReader {
    /// Returns the buffer, to which bytes that arrive are appended. It has room for some.
    pub fn room(&mut self) -> &mut BytesMut {
        self.forget_returned();
        self.buffer.reserve(ROOM);
        if self.buffer.is_empty() && self.buffer.capacity() > MAX_KEPT {
            self.buffer = BytesMut::with_capacity(ROOM);
        }
        &mut self.buffer
    }

    /// Returns the next value; `None` if it has not arrived as a whole.
    ///
    /// # Errors
    /// The bytes are not a value.
    pub fn next_value(&mut self) -> Result<Option<Value<'_>>, Malformed> {
        self.forget_returned();
        let Some(scanned) = scan(&self.buffer)? else {
            return Ok(None);
        };
        self.returned = scanned.length;
        Ok(Some(scanned.to_value(&self.buffer)))
    }

    /// Returns the bytes of the next value; `None` if it has not arrived as a whole.
    ///
    /// # Errors
    /// The bytes are not a value.
    pub fn next_bytes(&mut self) -> Result<Option<&[u8]>, Malformed> {
        self.forget_returned();
        let Some(scanned) = scan(&self.buffer)? else {
            return Ok(None);
        };
        self.returned = scanned.length;
        Ok(Some(&self.buffer[..scanned.length]))
    }

    fn forget_returned(&mut self) {
        self.buffer.advance(self.returned);
        self.returned = 0;
    }
}

/// Where the parts of a value are.
struct Scanned {
    length: usize,
    kind: u8,
    /// The first texts of a push: its kind, the channel, and the payload. For an error: its text.
    texts: [Option<Range<usize>>; 3],
}

impl Scanned {
    fn to_value<'a>(&self, bytes: &'a [u8]) -> Value<'a> {
        let text = |index: usize| self.texts[index].clone().map(|range| &bytes[range]);
        match self.kind {
            b'>' => match (text(0), text(1), text(2)) {
                (Some(b"smessage"), Some(channel), Some(payload)) => {
                    Value::Message { channel, payload }
                }
                (Some(b"ssubscribe"), Some(channel), _) => Value::Subscribed(channel),
                (Some(b"sunsubscribe"), Some(channel), _) => Value::Unsubscribed(channel),
                _ => Value::OtherPush,
            },
            b'-' | b'!' => Value::Refused(text(0).unwrap_or_default()),
            _ => Value::Answer,
        }
    }
}

/// The beginning of a value, and what follows it.
struct Header {
    /// Where it ends, with the text if the value is one.
    end: usize,
    /// The text of the value, if it is one.
    text: Option<Range<usize>>,
    /// Number of values that belong to this one.
    elements: u64,
}

/// Finds the first value; `None` if it has not arrived as a whole.
fn scan(bytes: &[u8]) -> Result<Option<Scanned>, Malformed> {
    let Some(&kind) = bytes.first() else {
        return Ok(None);
    };
    let scanned = if kind == b'>' {
        scan_push(bytes)?
    } else {
        skip(bytes, 0)?.map(|skipped| Scanned {
            length: skipped.end,
            kind,
            texts: [skipped.text, None, None],
        })
    };
    let too_large = match &scanned {
        Some(scanned) => scanned.length > MAX_VALUE,
        None => bytes.len() > MAX_VALUE,
    };
    if too_large {
        return Err(Malformed::TooLarge);
    }
    Ok(scanned)
}

fn scan_push(bytes: &[u8]) -> Result<Option<Scanned>, Malformed> {
    let Some(header) = read_header(bytes, 0)? else {
        return Ok(None);
    };
    let mut at = header.end;
    let mut texts = [None, None, None];
    let mut texts_left = texts.iter_mut();
    for _ in 0..header.elements {
        let Some(skipped) = skip(bytes, at)? else {
            return Ok(None);
        };
        if let Some(place) = texts_left.next() {
            *place = skipped.text;
        }
        at = skipped.end;
    }
    Ok(Some(Scanned {
        length: at,
        kind: b'>',
        texts,
    }))
}

/// Where a value ends, and its text if it is one.
struct Skipped {
    end: usize,
    text: Option<Range<usize>>,
}

/// Skips the value at `at`, with all that belongs to it; `None` if it has not arrived as a whole.
fn skip(bytes: &[u8], at: usize) -> Result<Option<Skipped>, Malformed> {
    let Some(first) = read_header(bytes, at)? else {
        return Ok(None);
    };
    let mut end = first.end;
    let mut left = first.elements;
    let mut seen = left;
    while left > 0 {
        let Some(header) = read_header(bytes, end)? else {
            return Ok(None);
        };
        end = header.end;
        left = left - 1 + header.elements;
        seen += header.elements;
        if seen > MAX_ELEMENTS {
            return Err(Malformed::TooLarge);
        }
    }
    Ok(Some(Skipped {
        end,
        text: first.text,
    }))
}

fn read_header(bytes: &[u8], at: usize) -> Result<Option<Header>, Malformed> {
    let Some(&kind) = bytes.get(at) else {
        return Ok(None);
    };
    let is_known = matches!(
        kind,
        b'$' | b'='
            | b'!'
            | b'+'
            | b'-'
            | b':'
            | b','
            | b'('
            | b'#'
            | b'_'
            | b'*'
            | b'~'
            | b'>'
            | b'%'
            | b'|'
    );
    if !is_known {
        return Err(Malformed::Type(kind));
    }
    let start = at + 1;
    let Some(line_end) = find_line_end(bytes, start)? else {
        return Ok(None);
    };
    let line = &bytes[start..line_end];
    let mut header = Header {
        end: line_end + 2,
        text: None,
        elements: 0,
    };
    match kind {
        b'$' | b'=' | b'!' => {
            let Some(length) = read_length(line)? else {
                return Ok(Some(header));
            };
            let length = usize::try_from(length).map_err(|_| Malformed::TooLarge)?;
            if length > MAX_VALUE {
                return Err(Malformed::TooLarge);
            }
            let text = header.end..header.end + length;
            header.end = text.end + 2;
            match bytes.get(text.end..header.end) {
                Some(b"\r\n") => header.text = Some(text),
                Some(_) => return Err(Malformed::Length),
                None => return Ok(None),
            }
        }
        b'*' | b'~' | b'>' => header.elements = read_length(line)?.unwrap_or_default(),
        b'%' => header.elements = read_length(line)?.unwrap_or_default().saturating_mul(2),
        // Attributes stand before the value that they belong to.
        b'|' => {
            let pairs = read_length(line)?.unwrap_or_default();
            header.elements = pairs.saturating_mul(2).saturating_add(1);
        }
        _ => header.text = Some(start..line_end),
    }
    if header.elements > MAX_ELEMENTS {
        return Err(Malformed::TooLarge);
    }
    Ok(Some(header))
}

/// Returns where the line that begins at `start` ends, before its `\r\n`; `None` if it has not arrived as a whole.
fn find_line_end(bytes: &[u8], start: usize) -> Result<Option<usize>, Malformed> {
    let rest = &bytes[start..];
    let searched = &rest[..rest.len().min(MAX_LINE)];
    let Some(length) = searched.iter().position(|byte| *byte == b'\r') else {
        return if searched.len() == MAX_LINE {
            Err(Malformed::TooLarge)
        } else {
            Ok(None)
        };
    };
    match rest.get(length + 1) {
        Some(b'\n') => Ok(Some(start + length)),
        Some(_) => Err(Malformed::Length),
        None => Ok(None),
    }
}

/// Reads a length; `None` if it is that of a null.
fn read_length(line: &[u8]) -> Result<Option<u64>, Malformed> {
    if line == b"-1" {
        return Ok(None);
    }
    if line.is_empty() || line.len() > 19 || !line.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Length);
    }
    let digits = line.iter().map(|digit| u64::from(digit - b'0'));
    Ok(Some(digits.fold(0, |number, digit| number * 10 + digit)))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

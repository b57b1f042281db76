//! Compression of messages (`permessage-deflate`, RFC 7692), each by itself: neither side remembers earlier messages. So one
//! compressed message serves every client, and a connection costs no more memory than without. Pure.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Messages with fewer bytes are sent as they are: they would hardly get shorter.
pub(super) const MIN_BYTES: usize = 128;

/// What every compressed message ends with. It is not sent (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The answer to an offer that is accepted.
pub(crate) const ACCEPTED: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Bytes that are inflated at once.
const STEP: usize = 1024;

thread_local! {
    // One per thread that sends: it has some 300 KB.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(LEVEL, false));
}

/// A message of one reading has some 700 bytes. More effort makes it hardly shorter.
const LEVEL: Compression = Compression::new(6);

/// Why a message cannot be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InflateError {
    TooLong,
    Invalid,
}

/// Returns whether one of the offers in a value of `Sec-WebSocket-Extensions` can be accepted with [`ACCEPTED`].
pub(crate) fn is_offered(extensions: &str) -> bool {
    extensions.split(',').any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        parts.next() == Some("permessage-deflate") && are_acceptable(parts)
    })
}

/// Returns whether all parameters of an offer are known and ask for nothing that we cannot do.
fn are_acceptable<'a>(parameters: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = Vec::new();
    for parameter in parameters {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (parameter, None),
        };
        let bits = value.map(|value| value.trim_matches('"'));
        let bits =
            bits.map(|bits| matches!(bits, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15"));
        let is_acceptable = match name {
            "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
            // The client can make its window smaller. We need not ask for it.
            "client_max_window_bits" => bits.unwrap_or(true),
            // Also `server_max_window_bits`: our window always has the full size.
            _ => false,
        };
        if !is_acceptable || seen.contains(&name) {
            return false;
        }
        seen.push(name);
    }
    true
}

/// Returns the compressed message; `None` if it would not be shorter.
pub(super) fn compress(message: &[u8]) -> Option<Vec<u8>> {
    let mut compressed = Vec::with_capacity(message.len());
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        compress
            .compress_vec(message, &mut compressed, FlushCompress::Sync)
            .ok()
    })?;
    // If the buffer is full, something is missing.
    if compressed.len() >= message.len() || !compressed.ends_with(&TAIL) {
        return None;
    }
    compressed.truncate(compressed.len() - TAIL.len());
    Some(compressed)
}

/// Returns the message that was compressed to this.
///
/// # Errors
/// It has more than `max` bytes, or was not compressed so. No more than that and one step is ever inflated.
pub(super) fn inflate(compressed: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    let mut inflate = Decompress::new(false);
    let mut message = Vec::new();
    for part in [compressed, &TAIL] {
        let mut left = part;
        loop {
            message.reserve_exact(STEP);
            let (read, written) = (inflate.total_in(), message.len());
            let status = inflate
                .decompress_vec(left, &mut message, FlushDecompress::Sync)
                .map_err(|_| InflateError::Invalid)?;
            if message.len() > max {
                return Err(InflateError::TooLong);
            }
            let read = usize::try_from(inflate.total_in() - read).unwrap_or(usize::MAX);
            left = left.get(read..).unwrap_or_default();
            if status == Status::StreamEnd {
                // The client may end its last block, and another one follows.
                inflate.reset(false);
            } else if read == 0 && message.len() == written && !left.is_empty() {
                return Err(InflateError::Invalid);
            }
            if left.is_empty() && message.len() < message.capacity() {
                break;
            }
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests;

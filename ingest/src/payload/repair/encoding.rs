//! Encodings other than UTF-8.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The byte-order mark in UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Characters of the bytes from 0x80 to 0x9F in Windows-1252. Above them it agrees with Unicode.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{FFFD}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{FFFD}', 'Ž',
    '\u{FFFD}', '\u{FFFD}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{FFFD}',
    'ž', 'Ÿ',
];

/// Returns the bytes behind a byte-order mark in UTF-8.
pub(in crate::payload) fn without_mark(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(MARK)
}

/// Decodes a text in UTF-16, with or without a byte-order mark; `None` if the bytes are no such text. An odd byte at the end is
/// left out: the text is cut off there. A half of a character becomes a JSON escape without its other half, so that the text that has
/// it does not look intact.
pub(in crate::payload) fn decode_utf16(bytes: &[u8]) -> Option<String> {
    let (is_little_endian, text) = match bytes {
        [0xFF, 0xFE, text @ ..] => (true, text),
        [0xFE, 0xFF, text @ ..] => (false, text),
        [b'{' | b'[', 0, _, 0, ..] => (true, bytes),
        [0, b'{' | b'[', 0, _, ..] => (false, bytes),
        _ => return None,
    };
    let units = text.chunks_exact(2).map(|pair| {
        let pair = [pair[0], pair[1]];
        if is_little_endian {
            u16::from_le_bytes(pair)
        } else {
            u16::from_be_bytes(pair)
        }
    });
    let mut decoded = String::with_capacity(text.len());
    for unit in char::decode_utf16(units) {
        match unit {
            Ok(c) => decoded.push(c),
            Err(half) => {
                // Writing to a string does not fail.
                write!(decoded, "\\u{:04x}", half.unpaired_surrogate()).ok();
            }
        }
    }
    decoded
        .trim_start()
        .starts_with(['{', '['])
        .then_some(decoded)
}

/// Decodes a text in which bytes that are not UTF-8 are Windows-1252. The second result is whether there were any.
pub(super) fn decode_single_bytes(bytes: &[u8]) -> (Cow<'_, str>, bool) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (Cow::Borrowed(text), false);
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| windows_1252(*byte)));
    }
    (Cow::Owned(text), true)
}

fn windows_1252(byte: u8) -> char {
    let special = byte.checked_sub(0x80).map(usize::from);
    let special = special.and_then(|index| WINDOWS_1252.get(index));
    special.copied().unwrap_or(char::from(byte))
}

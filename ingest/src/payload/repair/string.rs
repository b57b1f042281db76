//! Strings whose characters JSON forbids.

use std::borrow::Cow;

use super::encoding::decode_single_bytes;

/// A string of a payload, as JSON.
#[derive(Debug)]
pub(super) struct JsonString<'a> {
    /// The JSON, with quotes.
    pub(super) json: Cow<'a, str>,
    /// Index behind the closing quote.
    pub(super) end: usize,
    pub(super) has_control_character: bool,
    pub(super) has_single_bytes: bool,
    /// A character could not be read.
    pub(super) has_bad_character: bool,
}

/// Reads the string that begins with the quote at `start`; `None` if it does not end.
pub(super) fn read(bytes: &[u8], start: usize) -> Option<JsonString<'_>> {
    let mut at = start + 1;
    let mut is_plain = true;
    loop {
        match *bytes.get(at)? {
            b'"' => break,
            b'\\' => {
                is_plain = false;
                at += 1;
            }
            0..=0x1F => is_plain = false,
            _ => {}
        }
        at += 1;
    }
    let end = at + 1;
    let (text, has_single_bytes) = decode_single_bytes(&bytes[start..end]);
    let mut string = JsonString {
        json: text,
        end,
        has_control_character: false,
        has_single_bytes,
        has_bad_character: false,
    };
    string.has_bad_character =
        has_single_bytes && string.json.contains(char::REPLACEMENT_CHARACTER);
    if !is_plain {
        string.json = Cow::Owned(string.escaped());
    }
    Some(string)
}

impl JsonString<'_> {
    /// Whether anything was repaired.
    pub(super) fn is_repaired(&self) -> bool {
        self.has_control_character || self.has_single_bytes || self.has_bad_character
    }

    /// Returns the decoded text.
    pub(super) fn text(&self) -> Cow<'_, str> {
        let body = self.json.get(1..self.json.len() - 1).unwrap_or_default();
        if body.contains('\\') {
            Cow::Owned(serde_json::from_str(&self.json).unwrap_or_default())
        } else {
            Cow::Borrowed(body)
        }
    }

    /// Escapes control characters, and repairs escapes.
    fn escaped(&mut self) -> String {
        let body = &self.json[1..self.json.len() - 1];
        let mut json = String::with_capacity(self.json.len() + 16);
        json.push('"');
        let mut rest = body.chars();
        let mut has_control_character = false;
        let mut has_bad_escape = false;
        while let Some(c) = rest.next() {
            match c {
                '\\' => match escape(rest.as_str()) {
                    Escape::Good(length) => {
                        json.push('\\');
                        json.push_str(&rest.as_str()[..length]);
                        rest = rest.as_str()[length..].chars();
                    }
                    Escape::Unpaired(length) => {
                        has_bad_escape = true;
                        json.push(char::REPLACEMENT_CHARACTER);
                        rest = rest.as_str()[length..].chars();
                    }
                    Escape::None => {
                        has_bad_escape = true;
                        json.push_str("\\\\");
                    }
                },
                '\0'..='\x1F' => {
                    has_control_character = true;
                    json.push_str("\\u00");
                    let digits = [u32::from(c) >> 4, u32::from(c) & 0xF];
                    json.extend(
                        digits
                            .into_iter()
                            .filter_map(|digit| char::from_digit(digit, 16)),
                    );
                }
                _ => json.push(c),
            }
        }
        json.push('"');
        self.has_control_character = has_control_character;
        self.has_bad_character |= has_bad_escape;
        json
    }
}

/// What follows a backslash.
enum Escape {
    /// An escape of this length.
    Good(usize),
    /// The escape of an unpaired surrogate, of this length.
    Unpaired(usize),
    /// No escape of JSON.
    None,
}

fn escape(rest: &str) -> Escape {
    let unit = |at: usize| {
        let digits = rest.get(at..at + 4)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex
            .then(|| u16::from_str_radix(digits, 16).ok())
            .flatten()
    };
    match rest.as_bytes().first() {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Escape::Good(1),
        Some(b'u') => match unit(1) {
            None => Escape::None,
            Some(0xD800..=0xDBFF) => {
                let has_pair =
                    rest.get(5..7) == Some("\\u") && matches!(unit(7), Some(0xDC00..=0xDFFF));
                if has_pair {
                    Escape::Good(11)
                } else {
                    Escape::Unpaired(5)
                }
            }
            Some(0xDC00..=0xDFFF) => Escape::Unpaired(5),
            Some(_) => Escape::Good(5),
        },
        _ => Escape::None,
    }
}

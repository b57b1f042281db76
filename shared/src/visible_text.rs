//! Texts from outside, made fit for a screen and a log. This is the only place that says which characters are not.
//!
//! Detectors, brokers and clients send names, units, topics and serials. A control character in them can clear a terminal or forge a
//! log line. A direction character can make `EGNAR` out of `RANGE`. A character without a width makes two names that look the same.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Format characters, those that are drawn as nothing, and code points that are never a character (Unicode 16). Inclusive, in order.
const FORMAT: [(u32, u32); 26] = [
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x600, 0x605),
    (0x61c, 0x61c),
    (0x6dd, 0x6dd),
    (0x70f, 0x70f),
    (0x890, 0x891),
    (0x8e2, 0x8e2),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x202a, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfdd0, 0xfdef),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x1_10bd, 0x1_10bd),
    (0x1_10cd, 0x1_10cd),
    (0x1_3430, 0x1_343f),
    (0x1_bca0, 0x1_bca3),
    (0x1_d173, 0x1_d17a),
    (0xe_0000, 0xe_0fff),
];

/// Whether the character must not reach a screen or a log: a control character, a separator of lines or paragraphs, or one that is not
/// drawn, such as a direction character.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    // Nearly every character is one of these.
    if matches!(c, ' '..='~') {
        return false;
    }
    is_separator(c) || is_format(c)
}

/// Whether it separates words, as a line break does.
fn is_separator(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

fn is_format(c: char) -> bool {
    let code = u32::from(c);
    // The last two code points of each plane are never a character.
    if code & 0xfffe == 0xfffe {
        return true;
    }
    let after = FORMAT.partition_point(|(first, _)| *first <= code);
    let before = after.checked_sub(1).and_then(|index| FORMAT.get(index));
    before.is_some_and(|(_, last)| code <= *last)
}

/// Returns the text as people read it: a hidden character that separates words becomes a blank, and any other is left out. For
/// names, where what is not seen does not matter.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let seen = text.chars().filter(|c| !is_format(*c));
    let seen = seen.map(|c| if is_separator(c) { ' ' } else { c });
    Cow::Owned(seen.collect())
}

/// Returns the text with every hidden character written as in JSON, such as `\u202e`. For logs and dead letters, where it must be seen
/// that there was one.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_other_than(text, &[])
}

/// As [`escape`], but leaves these characters alone.
#[must_use]
pub fn escape_other_than<'a>(text: &'a str, allowed: &[char]) -> Cow<'a, str> {
    let is_escaped = |c: char| is_hidden(c) && !allowed.contains(&c);
    if !text.chars().any(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                write!(escaped, "\\u{unit:04x}").ok();
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Returns the beginning of the text, of at most so many bytes. No character is cut in half.
#[must_use]
pub fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

#[cfg(test)]
mod tests;

//! Numbers and words outside of strings.

use crate::payload::kind::RepairKind;

/// What stands in the place of a value without quotes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A number, `true`, `false` or `null`, as JSON, and how it was repaired.
    Value(String, Option<RepairKind>, Option<RepairKind>),
    /// Anything else, such as `nan`.
    Word,
}

/// Whether a byte may be part of a number or a word. A control character may, since it may stand for a digit.
pub(super) fn is_part(byte: u8) -> bool {
    !matches!(
        byte,
        b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b'"' | b'{' | b'}' | b'[' | b']'
    )
}

/// Reads a number or a word.
pub(super) fn read(token: &[u8]) -> Token {
    match token {
        b"true" | b"false" | b"null" => {}
        _ => return std::str::from_utf8(token).map_or(Token::Word, number),
    }
    Token::Value(String::from_utf8_lossy(token).into_owned(), None, None)
}

fn number(text: &str) -> Token {
    let (sign, unsigned, has_plus) = match text.as_bytes().first() {
        Some(b'-') => ("-", &text[1..], false),
        Some(b'+') => ("", &text[1..], true),
        _ => ("", text, false),
    };
    let digits_of = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = unsigned.split_at(digits_of(unsigned));
    let (fraction, exponent) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let (digits, exponent) = fraction.split_at(digits_of(fraction));
            (Some(digits), exponent)
        }
        None => (None, rest),
    };
    let has_digits = !whole.is_empty() || fraction.is_some_and(|digits| !digits.is_empty());
    if !has_digits || !(exponent.is_empty() || is_exponent(exponent)) {
        return Token::Word;
    }
    let significant = match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let has_leading_zero = whole.len() > significant.len();
    let has_bare_point = whole.is_empty() || fraction.is_some_and(str::is_empty);
    let fraction = fraction.filter(|digits| !digits.is_empty());
    let point = if fraction.is_some() { "." } else { "" };
    let fraction = fraction.unwrap_or_default();
    Token::Value(
        format!("{sign}{significant}{point}{fraction}{exponent}"),
        has_leading_zero.then_some(RepairKind::LeadingZero),
        (has_plus || has_bare_point).then_some(RepairKind::PointOrSign),
    )
}

fn is_exponent(text: &str) -> bool {
    let Some(power) = text.strip_prefix(['e', 'E']) else {
        return false;
    };
    let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;

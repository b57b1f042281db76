//! Lengths of time in a replay file: `0s`, `3m5s`, `1h30m`, `250ms`, and signed ones such as `-1d`. In milliseconds.

const UNITS: [(&str, i64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Parses a length of time that is not negative.
///
/// # Errors
/// A part without a number or unit, an unit twice or out of order, or more milliseconds than an `i64` holds.
pub fn parse(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a time such as 0s, 3m5s, 1h30m or 250ms");
    let mut rest = text.trim();
    let mut units = UNITS.as_slice();
    let mut total: i64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at(letters);
        let index = units.iter().position(|(name, _)| *name == unit);
        let index = index.ok_or_else(wrong)?;
        let number: i64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(units[index].1).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        units = &units[index + 1..];
        rest = after;
    }
    Ok(total)
}

/// Parses a length of time with an optional sign.
///
/// # Errors
/// As [`parse`].
pub fn parse_signed(text: &str) -> Result<i64, String> {
    let text = text.trim();
    match text.strip_prefix('-') {
        Some(rest) => parse(rest).map(|span| -span),
        None => parse(text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Formats a length of time so that [`parse`] reads it.
#[must_use]
pub fn format(millis: i64) -> String {
    let mut rest = millis;
    let mut text = String::new();
    for (unit, factor) in UNITS {
        let number = rest / factor;
        rest %= factor;
        if number != 0 {
            text.push_str(&number.to_string());
            text.push_str(unit);
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests;

//! Exact numbers and flags from JSON values.

use rust_decimal::Decimal as Exact;
use shared::decimal::Decimal;

use super::document::JsonValue;

/// Maximum number of decimal places of a [`Decimal`].
const MAX_PLACES: u32 = 12;

/// Maximum length of a text that is parsed as a number. No number needs more.
const MAX_NUMBER_BYTES: usize = 256;

/// Reads a number, or a string that is a number and nothing else.
pub(super) fn number(value: &JsonValue<'_>) -> Option<Decimal> {
    match value {
        JsonValue::Number(digits) => parse(digits),
        JsonValue::Text(text) => parse(text),
        JsonValue::Null | JsonValue::Flag(_) | JsonValue::Nested { .. } => None,
    }
}

fn parse(text: &str) -> Option<Decimal> {
    let text = text.trim();
    if text.len() > MAX_NUMBER_BYTES {
        return None;
    }
    text.parse().ok().or_else(|| rounded(text))
}

/// Rounds a float that was printed with all its digits (`20.900000000000002`) to [`MAX_PLACES`]. Rounding is monotonic, and
/// a level with at most that many places does not change. So a reading that reached a level still reaches it.
fn rounded(text: &str) -> Option<Decimal> {
    // `rust_decimal` also accepts `1_000`, which is not a number here.
    let is_plain =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.bytes().all(is_plain) {
        return None;
    }
    let exact = if text.contains(['e', 'E']) {
        Exact::from_scientific(text)
    } else {
        text.parse::<Exact>()
    };
    let rounded = exact.ok()?.round_dp(MAX_PLACES).normalize();
    rounded.to_string().parse().ok()
}

/// How the numbers of a payload are scaled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Not scaled.
    AsSent,
    /// They have to be divided by ten to this power.
    Places(u32),
    /// Scaled by an unknown power: no number can be used.
    Unknown,
}

impl Scale {
    /// Converts `Decimal Point` to a scale. Detectors send 0 to 3. Anything but a whole number from 0 to 9 must be an error.
    pub(super) fn from_places(places: Decimal) -> Self {
        places.as_digit().map_or(Self::Unknown, Self::Places)
    }

    pub(super) fn apply(self, number: Decimal) -> Option<Decimal> {
        match self {
            Self::AsSent => Some(number),
            Self::Places(places) => Some(number.scale_down(places)),
            Self::Unknown => None,
        }
    }
}

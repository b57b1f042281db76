//! Numbers and flags out of JSON values, exact.

use rust_decimal::Decimal as Exact;
use shared::decimal::Decimal;

use super::document::Value;

/// The places that [`Decimal`] keeps.
const KEPT_PLACES: u32 = 12;

/// No number needs more; a longer text is not worth the time.
const MAX_NUMBER_BYTES: usize = 256;

/// A number, or a text that is one as a whole.
pub(super) fn number(value: &Value<'_>) -> Option<Decimal> {
    match value {
        Value::Number(digits) => read(digits),
        Value::Text(text) => read(text),
        Value::Null | Value::Flag(_) | Value::Nested => None,
    }
}

/// A number, or `true` for 1 and `false` for 0.
pub(super) fn flag(value: &Value<'_>) -> Option<Decimal> {
    match value {
        Value::Flag(set) => Some(Decimal::from_int(i32::from(*set))),
        other => number(other),
    }
}

fn read(text: &str) -> Option<Decimal> {
    let text = text.trim();
    if text.len() > MAX_NUMBER_BYTES {
        return None;
    }
    text.parse().ok().or_else(|| rounded(text))
}

/// A float printed in full (`20.900000000000002`) is rounded to the places that are kept. Rounding is monotonic and
/// leaves a level of that many places where it is, so a reading that reached a level still does.
fn rounded(text: &str) -> Option<Decimal> {
    // The exact type reads more than a device may write: `1_000`.
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
    let kept = exact.ok()?.round_dp(KEPT_PLACES).normalize();
    kept.to_string().parse().ok()
}

/// By what a number has to be divided before it means something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    AsSent,
    /// By ten to this power.
    Places(u32),
    /// Numbers are scaled, but nobody knows how: none of them can be read.
    Unknown,
}

impl Scale {
    /// Detectors send 0 to 3; what is no whole number between 0 and 9 cannot be meant.
    pub(super) fn from_places(places: Decimal) -> Self {
        let known = (0..=9).find(|known: &u8| Decimal::from_int(i32::from(*known)) == places);
        known.map_or(Self::Unknown, |places| Self::Places(u32::from(places)))
    }

    pub(super) fn apply(self, number: Decimal) -> Option<Decimal> {
        match self {
            Self::AsSent => Some(number),
            // Read again, since dividing may leave more places than are kept.
            Self::Places(places) => read(&number.scale_down(places).to_string()),
            Self::Unknown => None,
        }
    }
}

//! States of lamps, faults and alarms.

use shared::decimal::Decimal;

use super::document::JsonValue;
use super::field::trim;
use super::number::number;

/// Words that mean "not set" in a fault flag, in a LED and in `Alarm Status`, compared without case and surrounding blanks.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NormalWords(Vec<String>);

impl NormalWords {
    /// Reads a comma-separated list.
    #[must_use]
    pub fn new(list: &str) -> Self {
        let words = list.split(',').map(|word| word.trim().to_uppercase());
        Self(words.filter(|word| !word.is_empty()).collect())
    }

    /// Whether the text means "not set". An empty text does.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let text = trim(text).to_uppercase();
        text.is_empty() || self.0.contains(&text)
    }
}

/// Reads a flag as a number; `true` is 1 and `false` is 0.
pub(super) fn flag(value: &JsonValue<'_>) -> Option<Decimal> {
    match value {
        JsonValue::Flag(set) => Some(Decimal::from_int(i32::from(*set))),
        other => number(other),
    }
}

/// Reads a state, in which words are allowed. What is neither a number nor normal is set, so that nothing is ignored; `None` for
/// an array or an object.
pub(super) fn state(value: &JsonValue<'_>, words: &NormalWords) -> Option<Decimal> {
    match value {
        JsonValue::Nested => None,
        JsonValue::Null => Some(Decimal::ZERO),
        JsonValue::Text(text) if words.contains(text) => Some(Decimal::ZERO),
        other => Some(flag(other).unwrap_or(Decimal::from_int(1))),
    }
}

/// Whether a flag is set.
pub(super) fn is_set(flag: Decimal) -> bool {
    flag >= Decimal::from_int(1)
}

/// Whether a flag is on or off. A number below 0, or between 0 and 1, is neither.
pub(super) fn is_clear(flag: Decimal) -> bool {
    flag == Decimal::ZERO || is_set(flag)
}

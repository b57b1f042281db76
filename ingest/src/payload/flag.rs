//! Flags, and states of lamps, faults and alarms.

use shared::decimal::Decimal;

use super::document::JsonValue;
use super::field::trim;
use super::number::number;

/// Words that mean "not set" in a fault flag, in a LED, in `Alarm Status` and in the flags of a level, compared without case and surrounding blanks.
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

/// Words that mean "on" in a flag.
const ON_WORDS: [&str; 3] = ["ON", "YES", "TRUE"];

/// Reads a flag: a number, `true`, `false`, or a word; `None` if it is neither on nor off.
pub(super) fn flag(value: &JsonValue<'_>, words: &NormalWords) -> Option<Decimal> {
    if let Some(number) = flag_number(value) {
        return Some(number).filter(|number| is_clear(*number));
    }
    let word = trim(value.text()?);
    if ON_WORDS.iter().any(|on| on.eq_ignore_ascii_case(word)) {
        return Some(Decimal::from_int(1));
    }
    // An empty text says nothing.
    let is_off = !word.is_empty() && words.contains(word);
    is_off.then_some(Decimal::ZERO)
}

/// Reads a LED, for which words are allowed. What is neither a number nor normal is lit, so that nothing is ignored; `None` for
/// an array or an object.
pub(super) fn led(value: &JsonValue<'_>, words: &NormalWords) -> Option<Decimal> {
    match value {
        JsonValue::Nested { .. } => None,
        JsonValue::Null => Some(Decimal::ZERO),
        JsonValue::Text(text) if words.contains(text) => Some(Decimal::ZERO),
        other => Some(flag_number(other).unwrap_or(Decimal::from_int(1))),
    }
}

/// Reads a fault flag or `Alarm Status`. Everything is set that is not certainly normal: each number but 0, and each array or
/// object that is not empty.
pub(super) fn fault(value: &JsonValue<'_>, words: &NormalWords) -> Decimal {
    let set = Decimal::from_int(1);
    match value {
        JsonValue::Null | JsonValue::Nested { is_empty: true } => Decimal::ZERO,
        JsonValue::Text(text) if words.contains(text) => Decimal::ZERO,
        other => match flag_number(other) {
            Some(number) if is_clear(number) => number,
            _ => set,
        },
    }
}

/// Reads a number; `true` is 1 and `false` is 0.
fn flag_number(value: &JsonValue<'_>) -> Option<Decimal> {
    match value {
        JsonValue::Flag(set) => Some(Decimal::from_int(i32::from(*set))),
        other => number(other),
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

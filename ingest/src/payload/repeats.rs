//! Keys that come twice.

use shared::decimal::Decimal;

use super::document::JsonValue;
use super::field::trim;
use super::number::number;

/// Whether two values in JSON mean the same.
pub(super) fn say_the_same(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let (one, other) = (JsonValue::of(one), JsonValue::of(other));
    match (number(&one), number(&other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => match (one.text(), other.text()) {
            (Some(one), Some(other)) => trim(one) == trim(other),
            _ => false,
        },
        _ => false,
    }
}

/// Returns the lowest and the highest of some values: one if they are equal.
pub(super) fn lowest_and_highest(values: impl Iterator<Item = Decimal> + Clone) -> Vec<Decimal> {
    let (lowest, highest) = (values.clone().min(), values.max());
    let highest = highest.filter(|highest| Some(*highest) != lowest);
    lowest.into_iter().chain(highest).collect()
}

//! What an alarm with levels shows and remembers.

use super::level_index;
use crate::alarm::{Alarm, Condition, GasSide, RememberedLevel};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::reading::Side;
use crate::rules::AlarmDetails;
use crate::rules::limits::Limit;

/// Remembers the most dangerous value, and the highest level that nobody acknowledged.
pub(super) fn note_peak(
    alarm: &mut Alarm,
    side: Side,
    value: Decimal,
    reached: Option<usize>,
    limits: &[Option<Limit>],
) {
    let is_higher = |peak: Decimal| match side {
        Side::Low => value < peak,
        Side::High | Side::Unknown(_) => value > peak,
    };
    if reached.is_some() && alarm.peak_value.is_none_or(is_higher) {
        alarm.peak_value = Some(value);
    }
    let Some(index) = reached else { return };
    let Some(limit) = limits.get(index).copied().flatten() else {
        return;
    };
    if alarm.condition.level_index().is_none() {
        return;
    }
    let condition = Condition::gas(index);
    if alarm
        .peak
        .is_none_or(|peak| peak.level_index() < Some(index))
    {
        alarm.peak = Some(condition);
    }
    let is_news = alarm.acknowledged.is_none() || index > level_index(alarm);
    let is_above = |known: RememberedLevel| known.condition.level_index() < Some(index);
    if is_news && alarm.remembered.is_none_or(is_above) {
        alarm.remembered = Some(RememberedLevel {
            condition,
            threshold: limit.level,
        });
    }
}

pub(super) fn set_level(
    alarm: &mut Alarm,
    condition: Condition,
    threshold: Decimal,
    message: String,
) {
    alarm.condition = condition;
    alarm.gas_side = alarm.gas_side.map(|gas| GasSide {
        of: condition,
        ..gas
    });
    alarm.threshold = Some(threshold);
    alarm.message = message;
}

pub(super) fn set_details(alarm: &mut Alarm, details: AlarmDetails<'_>, now: Time) {
    let reading = details.reading;
    alarm.value = details.value;
    alarm.unit.clone_from(&reading.unit);
    alarm.changed_at = now;
    alarm.reading_timestamp.clone_from(&reading.timestamp);
}

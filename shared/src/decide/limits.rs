//! The alarm levels of a reading as the rules evaluate them.

use crate::decimal::Decimal;
use crate::reading::{Reading, Side};
use crate::rules::gas::Limit;
use crate::settings::{AlarmSettings, ZeroLevel};
use crate::state::Latest;

/// Returns the three levels, with deadbands.
pub(super) fn limits(latest: &Latest, settings: &AlarmSettings) -> [Limit; 3] {
    let mut limits = plain_limits(latest);
    let reading = &latest.reading;
    for (limit, setting) in limits.iter_mut().zip(&reading.levels) {
        let hysteresis = setting.hysteresis.filter(|h| h.is_positive());
        limit.deadband = hysteresis.unwrap_or_else(|| percent_deadband(limit, reading, settings));
        limit.used = settings.zero_level == ZeroLevel::Value || limit.level != Decimal::ZERO;
    }
    limits
}

/// Returns the three levels as sent. The settings are not applied: there are no deadbands, and every level is used.
pub(super) fn plain_limits(latest: &Latest) -> [Limit; 3] {
    std::array::from_fn(|index| {
        let setting = &latest.reading.levels[index];
        Limit {
            level: latest.levels[index],
            side: latest.sides[index],
            deadband: Decimal::ZERO,
            latching: setting.latching.map(|flag| flag >= Decimal::from_int(1)),
            used: true,
        }
    })
}

/// Returns the end of the measuring range as a limit; `None` if the device sends no span.
pub(super) fn range_limit(reading: &Reading, settings: &AlarmSettings) -> Option<Limit> {
    let level = reading.span_high?;
    Some(Limit {
        level,
        side: Side::High,
        deadband: span(reading)
            .unwrap_or(level)
            .percent(settings.alarm_deadband),
        latching: None,
        used: true,
    })
}

/// Returns the deadband in percent of the span, or of the level if the device sends no span.
///
/// It is at most half of the distance between the level and the safe end of the span. Otherwise a level of 35 in a span of
/// 2000 could never clear: 2 % of 2000 is 40, and no value is 40 below 35.
fn percent_deadband(limit: &Limit, reading: &Reading, settings: &AlarmSettings) -> Decimal {
    let percent = settings.alarm_deadband;
    let (Some(span), Some(high)) = (span(reading), reading.span_high) else {
        return limit.level.percent(percent);
    };
    let distance = match limit.side {
        Side::High | Side::Unknown(_) => limit.level - reading.span_low.unwrap_or_default(),
        Side::Low => high - limit.level,
    };
    let deadband = span.percent(percent);
    let half = distance.percent(Decimal::from_int(50));
    if distance.is_positive() {
        deadband.min(half)
    } else {
        deadband
    }
}

/// Returns the width of the measuring range, if the device sends one.
fn span(reading: &Reading) -> Option<Decimal> {
    let high = reading.span_high?;
    let span = high - reading.span_low.unwrap_or_default();
    span.is_positive().then_some(span)
}

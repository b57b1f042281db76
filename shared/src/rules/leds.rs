//! The detector's own LEDs and its `Alarm Status`, compared with the levels that stand.
//!
//! A detector that shows an alarm without a level, or no LED where a level is reached, has other settings than it sends.

use std::time::Duration;

use super::limits::Limit;
use super::sensor::{Finding, Text};
use super::{AlarmDetails, Alarms};
use crate::alarm::{Condition, Kind, Severity};
use crate::clock::{Time, millis};
use crate::decimal::Decimal;
use crate::reading::Reading;
use crate::state::LedMemory;

/// How long an LED must be lit above the level that stands.
const ABOVE: Duration = Duration::from_secs(10);
/// The same, where the level stood before: detectors keep their LEDs lit until somebody resets them.
const ABOVE_AFTER_ALARM: Duration = Duration::from_mins(30);
/// How long a level must be reached without its LED.
const BELOW: Duration = Duration::from_secs(30);
/// Number of readings in a row that must contradict.
const READINGS: u32 = 2;
/// The same with readings between them that agree, fewer than [`AGREEING`] in a row: an LED may blink.
const BLINKING: u32 = 3;
/// Number of readings in a row that must agree until the alarm is cleared, or until earlier contradictions are forgotten.
const AGREEING: u32 = 3;

/// Evaluates the LEDs of a reading that became the latest, after its gas levels. `leds_sent`: it has LED keys. `may_lower`: it
/// may end alarms.
pub fn evaluate(
    alarms: &mut Alarms<'_>,
    memory: &mut LedMemory,
    reading: &Reading,
    limits: &[Limit; 3],
    (leds_sent, may_lower): (bool, bool),
    details: AlarmDetails<'_>,
) {
    let now = alarms.moment.now;
    let lit = highest_lit(reading);
    let standing = alarms.highest_standing_level();
    let reached = reading
        .value
        .and_then(|value| limits.iter().rposition(|limit| limit.is_reached(value)));
    memory.stood = lit.and(memory.stood.max(standing));

    let in_deadband = |index: usize| {
        let between = |value: Decimal| !limits[index].is_back(value);
        reading.value.is_some_and(between)
    };
    let is_above =
        lit.is_some_and(|lit| standing.is_none_or(|standing| lit > standing) && !in_deadband(lit));
    let is_below = leds_sent && reached.is_some() && reached > lit;
    let follows_contradiction = memory.quiet == 0;
    if is_above || is_below {
        memory.agreeing = 0;
        memory.quiet = 0;
    } else {
        memory.quiet = memory.quiet.saturating_add(1).min(AGREEING);
        if may_lower {
            memory.agreeing = memory.agreeing.saturating_add(1).min(AGREEING);
        }
    }
    let is_forgotten = memory.quiet >= AGREEING;
    memory.above = count(memory.above.filter(|_| !is_forgotten), is_above, now);
    memory.below = count(memory.below.filter(|_| !is_forgotten), is_below, now);

    let stood_before = memory.stood.is_some() && memory.stood >= lit;
    let above_limit = if stood_before {
        ABOVE_AFTER_ALARM
    } else {
        ABOVE
    };
    let readings = if follows_contradiction {
        READINGS
    } else {
        BLINKING
    };
    let has_lasted = |counted, limit| has_lasted(counted, (limit, readings), now);
    let contradicts = (is_above && has_lasted(memory.above, above_limit))
        || (is_below && has_lasted(memory.below, BELOW));
    let is_open = alarms.get(Kind::LedMismatch).is_some();
    let holds = contradicts || (is_open && (is_above || is_below));
    let finding = Finding::of(holds, memory.agreeing >= AGREEING, false);
    let is_critical = is_above && lit >= Some(1);
    alarms.set(Condition::LedMismatch, finding, details, || Text {
        severity: is_critical.then_some(Severity::Critical),
        ..Text::from("Detector LEDs disagree with its alarm levels")
    });
}

/// Returns the highest lit LED; A1 is 0. An `Alarm Status` without an LED counts as the first.
fn highest_lit(reading: &Reading) -> Option<usize> {
    let led = reading.highest_led();
    led.or(reading.own_alarm.then_some(0))
}

/// Counts a reading that contradicts. One that agrees changes nothing.
fn count(before: Option<(Time, u32)>, contradicts: bool, now: Time) -> Option<(Time, u32)> {
    if !contradicts {
        return before;
    }
    let (since, readings) = before.unwrap_or((now, 0));
    Some((since, readings.saturating_add(1)))
}

fn has_lasted(counted: Option<(Time, u32)>, (limit, least): (Duration, u32), now: Time) -> bool {
    counted.is_some_and(|(since, readings)| {
        readings >= least && now.millis_since(since) >= millis(limit)
    })
}

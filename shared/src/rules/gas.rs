//! Gas alarms: one alarm per device whose level changes (exclusive limit alarm of OPC UA Part 9), and the alarm for a value
//! above the measuring range.
//!
//! Each of the three levels is evaluated alone. It is active from the value that reaches it until the value is back by the
//! deadband for the off-delay and, if the device latches the level, the alarm was acknowledged. The alarm shows the highest
//! active level. Deadband, off-delay and latching are those of ISA-18.2.

use super::{AlarmDetails, Alarms, Evidence};
use crate::alarm::{ActiveLevel, Alarm, ChangeKind, Condition, Kind};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::reading::Side;

/// One alarm level with everything needed to evaluate a value against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The value that reaches it.
    pub level: Decimal,
    /// Which side of it is dangerous.
    pub side: Side,
    /// Deadband (ISA-18.2): the value is back from the level only once it is this far on the safe side.
    pub deadband: Decimal,
    /// Whether the level stays active until it is acknowledged; `None` if the device does not say.
    pub latching: Option<bool>,
    /// An unused level is never reached, and every value is back from it.
    pub used: bool,
}

impl Limit {
    fn is_reached(&self, value: Decimal) -> bool {
        self.used
            && match self.side {
                Side::High | Side::Unknown(_) => value >= self.level,
                Side::Low => value <= self.level,
            }
    }

    fn is_back(&self, value: Decimal) -> bool {
        !self.used
            || match self.side {
                Side::High => value < self.level - self.deadband,
                Side::Low => value > self.level + self.deadband,
                Side::Unknown(_) => false,
            }
    }
}

/// The alarms that have off-delays.
pub const WITH_OFF_DELAY: [Kind; 2] = [Kind::Gas, Kind::OverRange];

/// Evaluates a value against the three levels.
pub fn evaluate(
    alarms: &mut Alarms<'_>,
    limits: &[Limit; 3],
    evidence: Evidence,
    details: AlarmDetails<'_>,
) {
    let open = alarms.get(Kind::Gas);
    let before = open.and_then(|alarm| alarm.condition.level_index());
    let mut levels = open
        .map(|alarm| alarm.active_levels.clone())
        .unwrap_or_default();
    levels.resize(levels.len().max(limits.len()), None);
    for (level, limit) in levels.iter_mut().zip(limits) {
        *level = evaluate_level(level.take(), limit, evidence, alarms.now);
    }
    let reached = limits
        .iter()
        .rposition(|limit| limit.is_reached(evidence.value));
    match (before, reached) {
        (None, Some(index)) => {
            let (condition, message, threshold) = describe(limits, index, details);
            alarms.raise(condition, message, Some(threshold), details);
            alarms.adjust(Kind::Gas, |alarm| alarm.active_levels = levels);
        }
        (None, None) => {}
        (Some(before), reached) => {
            alarms.adjust(Kind::Gas, |alarm| alarm.active_levels = levels);
            if let Some(index) = reached.filter(|index| *index > before) {
                change_level(alarms, ChangeKind::Escalated, limits, index, details);
            }
            release_returned_levels(alarms, limits, details);
        }
    }
}

/// Raises the inactive levels that a late value reached, then evaluates the latest value against them at once.
pub fn evaluate_late(
    alarms: &mut Alarms<'_>,
    late: (&[Limit; 3], Decimal, AlarmDetails<'_>),
    latest: (&[Limit; 3], Option<Evidence>, AlarmDetails<'_>),
) {
    let (limits, value, details) = late;
    let levels = alarms
        .get(Kind::Gas)
        .map(|alarm| alarm.active_levels.clone());
    let is_active = |index: usize| {
        let level = levels.as_ref().and_then(|levels| levels.get(index));
        level.is_some_and(Option::is_some)
    };
    let is_news =
        (0..limits.len()).any(|index| limits[index].is_reached(value) && !is_active(index));
    if !is_news {
        return;
    }
    let raise_only = Evidence {
        value,
        may_lower: false,
        off_delay: std::time::Duration::ZERO,
    };
    evaluate(alarms, limits, raise_only, details);
    let (limits, evidence, details) = latest;
    if let Some(evidence) = evidence {
        evaluate(alarms, limits, evidence, details);
    }
}

/// Ends the off-delays that are over, and releases their levels.
pub fn end_off_delays(alarms: &mut Alarms<'_>, limits: &[Limit; 3], details: AlarmDetails<'_>) {
    let now = alarms.now;
    for kind in WITH_OFF_DELAY {
        alarms.adjust(kind, |alarm| {
            for level in alarm.active_levels.iter_mut().flatten() {
                if level.off_delay_ends.is_some_and(|end| end <= now) {
                    level.off_delay_ends = None;
                    level.returned = true;
                }
            }
        });
    }
    release_returned_levels(alarms, limits, details);
    clear_returned_over_range(alarms);
}

/// Cancels the running off-delays, because the present value is unknown or not trusted.
pub fn cancel_off_delays(alarms: &mut Alarms<'_>) {
    for kind in WITH_OFF_DELAY {
        alarms.adjust(kind, |alarm| {
            for level in alarm.active_levels.iter_mut().flatten() {
                level.off_delay_ends = None;
            }
        });
    }
}

/// Returns the time at which the next off-delay of this alarm ends; `None` if none is running.
#[must_use]
pub fn next_off_delay_end(alarm: &Alarm) -> Option<Time> {
    alarm
        .active_levels
        .iter()
        .flatten()
        .filter_map(|level| level.off_delay_ends)
        .min()
}

/// Evaluates a value against the upper end of the measuring range. `limit` is `None` if the device sends no span: then an open
/// alarm keeps the span that was exceeded.
pub fn evaluate_over_range(
    alarms: &mut Alarms<'_>,
    limit: Option<Limit>,
    evidence: Evidence,
    details: AlarmDetails<'_>,
) {
    let open = alarms.get(Kind::OverRange);
    let exceeded_before = open.and_then(|alarm| alarm.threshold).map(|level| Limit {
        level,
        side: Side::High,
        deadband: Decimal::ZERO,
        latching: None,
        used: true,
    });
    let Some(limit) = limit.or(exceeded_before) else {
        return;
    };
    // Unlike a gas level, the range is exceeded only by a value above it, not by one that equals it.
    let exceeds = evidence.value > limit.level;
    let is_open = open.is_some();
    let before = open.and_then(|alarm| alarm.active_levels.first().cloned().flatten());
    let before = before.unwrap_or_default();
    let level = if exceeds {
        ActiveLevel {
            latching: false,
            off_delay_ends: None,
            returned: false,
            ..before
        }
    } else {
        evaluate_return(before, &limit, evidence, alarms.now)
    };
    if exceeds && !is_open {
        let message = Condition::OverRange
            .level_message(Side::High, limit.level, &details.reading.unit)
            .unwrap_or_default();
        alarms.raise(Condition::OverRange, message, Some(limit.level), details);
    }
    alarms.adjust(Kind::OverRange, |alarm| {
        alarm.active_levels = vec![Some(level)];
    });
    clear_returned_over_range(alarms);
}

fn evaluate_level(
    level: Option<ActiveLevel>,
    limit: &Limit,
    evidence: Evidence,
    now: Time,
) -> Option<ActiveLevel> {
    // Only a reading that may lower can switch latching off.
    let latching = match limit.latching {
        Some(false) if evidence.may_lower => false,
        Some(true) => true,
        _ => level.as_ref().is_some_and(|level| level.latching),
    };
    if limit.is_reached(evidence.value) {
        return Some(ActiveLevel {
            latching,
            off_delay_ends: None,
            returned: false,
            ..level.unwrap_or_default()
        });
    }
    let level = ActiveLevel { latching, ..level? };
    Some(evaluate_return(level, limit, evidence, now))
}

/// Evaluates a value that does not reach an active level: starts, continues or cancels its off-delay.
fn evaluate_return(
    level: ActiveLevel,
    limit: &Limit,
    evidence: Evidence,
    now: Time,
) -> ActiveLevel {
    if level.returned {
        return level;
    }
    if !limit.is_back(evidence.value) {
        return ActiveLevel {
            off_delay_ends: None,
            ..level
        };
    }
    if !evidence.may_lower {
        return level;
    }
    let end = level.off_delay_ends.unwrap_or(now + evidence.off_delay);
    let returned = end <= now;
    ActiveLevel {
        off_delay_ends: (!returned).then_some(end),
        returned,
        ..level
    }
}

/// Makes the levels inactive that have returned and are not latched. Then lowers, latches, unlatches or clears the alarm
/// accordingly.
pub(super) fn release_returned_levels(
    alarms: &mut Alarms<'_>,
    limits: &[Limit; 3],
    details: AlarmDetails<'_>,
) {
    let Some(alarm) = alarms.get(Kind::Gas) else {
        return;
    };
    let acknowledged = alarm.acknowledged.is_some();
    let was_latched = alarm.latched;
    let before = alarm.condition.level_index().unwrap_or_default();
    let stays_active = |level: &ActiveLevel| !level.returned || (level.latching && !acknowledged);
    let levels: Vec<_> = alarm
        .active_levels
        .iter()
        .map(|level| level.clone().filter(stays_active))
        .collect();
    let Some(highest) = levels.iter().rposition(Option::is_some) else {
        alarms.change(Kind::Gas, ChangeKind::Cleared, |_| ());
        return;
    };
    let is_latched = levels[highest].as_ref().is_some_and(|level| level.returned);
    alarms.adjust(Kind::Gas, |alarm| alarm.active_levels = levels);
    if highest < before {
        alarms.adjust(Kind::Gas, |alarm| alarm.latched = false);
        change_level(alarms, ChangeKind::DeEscalated, limits, highest, details);
    }
    let was_latched = was_latched && highest == before;
    if is_latched && !was_latched {
        alarms.change(Kind::Gas, ChangeKind::Latched, |alarm| alarm.latched = true);
    } else if was_latched && !is_latched {
        alarms.change(Kind::Gas, ChangeKind::Unlatched, |alarm| {
            alarm.latched = false;
        });
    }
}

fn clear_returned_over_range(alarms: &mut Alarms<'_>) {
    let open = alarms.get(Kind::OverRange);
    let has_returned = |alarm: &Alarm| {
        let mut levels = alarm.active_levels.iter().flatten();
        levels.all(|level| level.returned)
    };
    if open.is_some_and(has_returned) {
        alarms.change(Kind::OverRange, ChangeKind::Cleared, |_| ());
    }
}

fn change_level(
    alarms: &mut Alarms<'_>,
    what: ChangeKind,
    limits: &[Limit; 3],
    index: usize,
    details: AlarmDetails<'_>,
) {
    let (condition, message, threshold) = describe(limits, index, details);
    let (now, position) = (alarms.now, alarms.position);
    alarms.change(Kind::Gas, what, |alarm| {
        alarm.condition = condition;
        alarm.message = message;
        alarm.threshold = Some(threshold);
        alarm.value = details.value;
        alarm.unit.clone_from(&details.reading.unit);
        alarm.changed_at = now;
        alarm
            .reading_timestamp
            .clone_from(&details.reading.timestamp);
        if what == ChangeKind::Escalated {
            alarm.reached = position;
            alarm.acknowledged = None;
            alarm.latched = false;
        }
    });
}

/// Returns condition, message and threshold of an alarm at the level with this index.
fn describe(
    limits: &[Limit; 3],
    index: usize,
    details: AlarmDetails<'_>,
) -> (Condition, String, Decimal) {
    let condition = Condition::gas(index);
    let limit = &limits[index];
    let message = condition.level_message(limit.side, limit.level, &details.reading.unit);
    (condition, message.unwrap_or_default(), limit.level)
}

//! Alarms with levels: gas, one alarm per side whose level changes (exclusive limit alarm of OPC UA Part 9), and over range.
//!
//! Each level is evaluated alone. It is active from the value that reaches it until the value is back by the deadband for the
//! off-delay and, if the level latches, the alarm was acknowledged. The alarm shows the highest active level. When none is active,
//! it stays open as `returned` if the highest level that nobody acknowledged is configured to. Deadband, off-delay, latching and
//! *returned to normal, unacknowledged* are those of ISA-18.2.

mod delays;
mod details;
mod level;
mod lost;
mod sides;

use std::time::Duration;

pub use sides::other_than as other_side;

use super::limits::Limit;
use super::{AlarmDetails, Alarms, NewAlarm};
use super::{chatter, earlier_release};
use crate::alarm::{ActiveLevel, Alarm, ChangeKind, Condition, Kind, RememberedLevel};
use crate::decimal::Decimal;
use crate::reading::Side;

pub use delays::{cancel_off_delays, end_off_delays, next_off_delay_end};
use details::{note_peak, set_details, set_level};
use level::evaluate_level;

/// The values of a message, and the effect they may have on alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The highest value, for High levels.
    pub highest: Decimal,
    /// The lowest value, for Low levels.
    pub lowest: Decimal,
    /// Whether it may lower or clear an alarm.
    pub may_lower: bool,
    /// The reading cannot be ordered against the one before it.
    pub is_tie: bool,
    /// The limits that raised an alarm govern it, too. Set for a message that may not change settings, and after the settings
    /// of the device changed, until somebody acknowledges that.
    pub keeps_limits: bool,
    /// Off-delay (ISA-18.2): how long the value must be back by the deadband before a level is no longer active.
    pub off_delay: Duration,
    /// The levels that stay open as `returned` until they are acknowledged, A1 first.
    pub returned_levels: [bool; 3],
}

impl Evidence {
    fn value(&self, side: Side) -> Decimal {
        match side {
            Side::Low => self.lowest,
            Side::High | Side::Unknown(_) => self.highest,
        }
    }
}

/// Evaluates a message against the three levels, on both sides.
pub fn evaluate_gas(
    alarms: &mut Alarms<'_>,
    limits: &[Limit; 3],
    evidence: Evidence,
    details: AlarmDetails<'_>,
) {
    // The alarm of a side is raised before the other one is looked at, if that one has levels of this side.
    let sides = if sides::has_other(alarms.get(Kind::GasHigh)) {
        [Side::Low, Side::High]
    } else {
        [Side::High, Side::Low]
    };
    for side in sides {
        sides::hand_over(alarms);
        let kind = Kind::gas(side);
        let open = alarms.get(kind);
        let on_side = std::array::from_fn::<_, 3, _>(|index| {
            let of_level = open.and_then(|alarm| sides::of_level(alarm, index));
            let limit = limits[index];
            let is_on = limit.is_on(side) || of_level.is_some_and(|side| limit.is_on(side));
            Some(limit).filter(|_| is_on)
        });
        evaluate(alarms, kind, &on_side, evidence, details);
    }
}

/// Evaluates a message against the upper end of the measuring range. `limit` is `None` if the device never sent a span.
pub fn evaluate_over_range(
    alarms: &mut Alarms<'_>,
    limit: Option<Limit>,
    evidence: Evidence,
    details: AlarmDetails<'_>,
) {
    evaluate(alarms, Kind::OverRange, &[limit], evidence, details);
}

fn evaluate(
    alarms: &mut Alarms<'_>,
    kind: Kind,
    limits: &[Option<Limit>],
    evidence: Evidence,
    details: AlarmDetails<'_>,
) {
    let side = side_of(kind);
    let value = evidence.value(side);
    // A level of the other side keeps its alarm open, and raises nothing: an alarm of its side does.
    let is_reached = |limit: &Limit| limit.is_on(side) && limit.is_reached(value);
    let reached = limits
        .iter()
        .rposition(|limit| limit.as_ref().is_some_and(is_reached));
    let now = alarms.moment.now;
    let Some(open) = alarms.get(kind) else {
        if let Some(index) = reached {
            raise(alarms, kind, limits, index, evidence, details);
        }
        return;
    };
    let before = open.active_levels.clone();
    let known_levels = limits.iter().enumerate().map(|(index, limit)| {
        let level = before.get(index).cloned().flatten();
        evaluate_level(level, *limit, side, evidence, now)
    });
    // Levels of a newer release are kept.
    let levels: Vec<_> = known_levels
        .chain(before.iter().skip(limits.len()).cloned())
        .collect();
    let was_returned = |index: usize| {
        let level = before.get(index).and_then(Option::as_ref);
        level.is_some_and(|level| level.returned)
    };
    let shown = level_index(open);
    let is_escalation = |index: &usize| {
        open.returned || *index > shown || (*index == shown && was_returned(*index))
    };
    let escalated = reached.filter(is_escalation);
    let (moment, calm) = (alarms.moment, alarms.chatter_calm);
    // A level that comes back while the alarm chatters is counted, and not reported again.
    let is_counted = chatter::chatters(open, moment.now) && !open.returned;
    let is_reported = |index: &usize| !is_counted || *index > shown;
    // An alarm with one level has no peak: that level has been reached.
    let peak = open.peak.map_or(Some(0), Condition::level_index);
    let is_renewed = |index: usize| peak >= Some(index);
    // While it chatters, every level that comes back ends the calm.
    let ends_calm = is_counted && reached.is_some_and(was_returned);
    let renewed = ends_calm || escalated.is_some_and(is_renewed);
    let details = AlarmDetails {
        value: Some(value),
        ..details
    };
    alarms.adjust(kind, |alarm| {
        if !alarm.returned || reached.is_some() {
            alarm.active_levels = levels;
        }
        note_peak(alarm, side, value, reached, limits);
        if renewed {
            chatter::count(alarm, moment, calm);
        }
        if renewed && is_counted {
            alarm.count = alarm.count.saturating_add(1);
        }
    });
    if let Some(index) = escalated.filter(is_reported) {
        escalate(alarms, kind, index, limits, details);
    }
    if alarms
        .get(kind)
        .is_some_and(|alarm| alarm.unit == details.reading.unit)
    {
        show_governing_level(alarms, kind);
    }
    if evidence.may_lower {
        release_returned_levels(alarms, kind, evidence.returned_levels, details);
    } else {
        unlatch(alarms, kind);
    }
}

fn raise(
    alarms: &mut Alarms<'_>,
    kind: Kind,
    limits: &[Option<Limit>],
    index: usize,
    evidence: Evidence,
    details: AlarmDetails<'_>,
) {
    let Some(limit) = limits.get(index).copied().flatten() else {
        return;
    };
    let side = side_of(kind);
    let condition = condition_at(kind, index);
    let now = alarms.moment.now;
    let value = evidence.value(side);
    let new = NewAlarm {
        condition,
        side,
        message: message_at(condition, side, limit.level, &details.reading.unit),
        threshold: Some(limit.level),
    };
    let details = AlarmDetails {
        value: Some(value),
        ..details
    };
    let levels = limits
        .iter()
        .map(|limit| evaluate_level(None, *limit, side, evidence, now))
        .collect();
    alarms.raise(new, details, |alarm| {
        alarm.active_levels = levels;
        note_peak(alarm, side, value, Some(index), limits);
    });
}

/// Changes the alarm to a level that was reached above the present one, or again after the value was back.
fn escalate(
    alarms: &mut Alarms<'_>,
    kind: Kind,
    reached: usize,
    limits: &[Option<Limit>],
    details: AlarmDetails<'_>,
) {
    let Some(limit) = limits.get(reached).copied().flatten() else {
        return;
    };
    let index = alarms.get(kind).and_then(highest_active).unwrap_or(reached);
    let condition = condition_at(kind, index);
    let threshold = alarms
        .get(kind)
        .and_then(|alarm| alarm.active_levels.get(index).cloned().flatten())
        .and_then(|level| level.level)
        .unwrap_or(limit.level);
    let message = message_at(condition, side_of(kind), threshold, &details.reading.unit);
    let moment = alarms.moment;
    alarms.change(kind, ChangeKind::Escalated, |alarm| {
        set_level(alarm, condition, threshold, message);
        set_details(alarm, details, moment.now);
        alarm.reached = moment.position;
        alarm.acknowledged = None;
        alarm.latched = false;
        alarm.returned = false;
    });
}

/// Shows the value that governs the level of the alarm, after the device changed its setting.
fn show_governing_level(alarms: &mut Alarms<'_>, kind: Kind) {
    alarms.adjust(kind, |alarm| {
        let index = level_index(alarm);
        let level = alarm.active_levels.get(index).and_then(Option::as_ref);
        let governing = level.and_then(|level| level.level);
        if let Some(governing) = governing
            && !alarm.returned
            && alarm.threshold != Some(governing)
        {
            let (condition, side) = (alarm.condition, alarm.side());
            alarm.message = message_at(condition, side, governing, &alarm.unit);
            alarm.threshold = Some(governing);
            if let Some(remembered) = &mut alarm.remembered
                && remembered.condition == condition
            {
                remembered.threshold = governing;
            }
        }
    });
}

/// Unlatches the alarm if the value is no longer back from one of its levels, by a message that may not lower.
fn unlatch(alarms: &mut Alarms<'_>, kind: Kind) {
    let is_unlatched = alarms.get(kind).is_some_and(|alarm| {
        let mut levels = alarm.active_levels.iter().flatten();
        alarm.latched && levels.any(|level| !level.returned)
    });
    if is_unlatched {
        alarms.change(kind, ChangeKind::Unlatched, |alarm| alarm.latched = false);
    }
}

/// Keeps the levels of an alarm active that are back, since the alarm may not end yet and an earlier release would end it otherwise.
/// The next reading decides again.
fn keep_standing(alarms: &mut Alarms<'_>, kind: Kind) {
    alarms.adjust(kind, |alarm| {
        for level in alarm.active_levels.iter_mut().flatten() {
            level.returned = false;
        }
    });
}

/// Makes the levels inactive that have returned, are not latched, and do not chatter. Then lowers, latches, unlatches, returns
/// or clears the alarm accordingly. `returned_levels`: those that stay open until they are acknowledged.
pub(super) fn release_returned_levels(
    alarms: &mut Alarms<'_>,
    kind: Kind,
    returned_levels: [bool; 3],
    details: AlarmDetails<'_>,
) {
    if !kind.has_levels() {
        return;
    }
    let now = alarms.moment.now;
    let Some(alarm) = alarms.get(kind) else {
        return;
    };
    if alarm.returned {
        return;
    }
    let acknowledged = alarm.acknowledged.is_some();
    let chatters = chatter::chatters(alarm, alarms.moment.now);
    let stays_active =
        |level: &ActiveLevel| !level.returned || (level.latching && !acknowledged) || chatters;
    let levels: Vec<_> = alarm
        .active_levels
        .iter()
        .map(|level| level.clone().filter(stays_active))
        .collect();
    let before = level_index(alarm);
    let was_latched = alarm.latched;
    let Some(highest) = levels.iter().rposition(Option::is_some) else {
        end(alarms, kind, returned_levels, details);
        return;
    };
    let is_latched = !chatters && levels.iter().flatten().all(|level| level.returned);
    let threshold = levels[highest].as_ref().and_then(|level| level.level);
    let side = levels[highest].as_ref().and_then(|level| level.side);
    if alarms.must_stay_handled(alarm) {
        let mut after = alarm.clone();
        after.active_levels.clone_from(&levels);
        if !earlier_release::handles(&after) {
            keep_standing(alarms, kind);
            return;
        }
    }
    alarms.adjust(kind, |alarm| alarm.active_levels = levels);
    let mut kind = kind;
    if highest < before {
        let condition = condition_at(kind, highest);
        alarms.change(kind, ChangeKind::DeEscalated, |alarm| {
            if let Some(side) = side {
                sides::change_to(alarm, side);
            }
            let threshold = threshold.or(alarm.threshold).unwrap_or_default();
            let message = message_at(condition, alarm.side(), threshold, &alarm.unit);
            set_level(alarm, condition, threshold, message);
            set_details(alarm, details, now);
        });
        kind = side.map_or(kind, Kind::gas);
    }
    if is_latched && !was_latched {
        alarms.change(kind, ChangeKind::Latched, |alarm| alarm.latched = true);
    } else if was_latched && !is_latched {
        alarms.change(kind, ChangeKind::Unlatched, |alarm| alarm.latched = false);
    }
}

/// Ends an alarm without an active level: it is cleared, or stays open as returned.
fn end(alarms: &mut Alarms<'_>, kind: Kind, returned_levels: [bool; 3], details: AlarmDetails<'_>) {
    let Some(alarm) = alarms.get(kind) else {
        return;
    };
    let remembered = alarm.remembered.filter(|remembered| {
        let index = remembered.condition.level_index();
        index.is_some_and(|index| returned_levels.get(index) == Some(&true))
    });
    let Some(remembered) = remembered else {
        alarms.change(kind, ChangeKind::Cleared, |_| ());
        return;
    };
    if alarms.must_stay_handled(alarm) {
        keep_standing(alarms, kind);
        return;
    }
    let now = alarms.moment.now;
    alarms.change(kind, ChangeKind::Returned, |alarm| {
        let RememberedLevel {
            condition,
            threshold,
        } = remembered;
        let message = message_at(condition, alarm.side(), threshold, &alarm.unit);
        set_level(alarm, condition, threshold, message);
        set_details(alarm, details, now);
        alarm.active_levels.clear();
        alarm.chatters_until = None;
        alarm.latched = false;
        alarm.returned = true;
    });
}

fn side_of(kind: Kind) -> Side {
    if kind == Kind::GasLow {
        Side::Low
    } else {
        Side::High
    }
}

fn condition_at(kind: Kind, index: usize) -> Condition {
    if kind.is_gas() {
        Condition::gas(index)
    } else {
        Condition::OverRange
    }
}

/// Returns the level that the alarm shows; alarms with one level show the first.
fn level_index(alarm: &Alarm) -> usize {
    alarm.condition.level_index().unwrap_or_default()
}

fn highest_active(alarm: &Alarm) -> Option<usize> {
    alarm.active_levels.iter().rposition(Option::is_some)
}

fn message_at(condition: Condition, side: Side, threshold: Decimal, unit: &str) -> String {
    let message = condition.level_message(side, threshold, unit);
    message.unwrap_or_default()
}

//! Gas: one alarm per device with a level that moves (OPC UA Part 9, exclusive limit), and the value above the span.
//!
//! Every level is judged alone: it stands from the value that reaches it until the value is back by the deadband, for
//! the off-delay, and, where the device latches it, acknowledged. The alarm is at the highest level that stands.

use super::{Alarms, Evidence, Facts};
use crate::alarm::{Alarm, ChangeKind, Condition, Hold, Kind};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::reading::Side;

/// One level as it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The value that reaches it.
    pub level: Decimal,
    /// Which side of it is dangerous.
    pub side: Side,
    /// How far behind the level the value must be to be back.
    pub deadband: Decimal,
    /// Whether it stands until it was acknowledged; `None` where the device does not say.
    pub latching: Option<bool>,
    /// A level that is not used is never reached.
    pub used: bool,
}

impl Limit {
    fn is_reached(&self, value: Decimal) -> bool {
        self.used
            && match self.side {
                Side::High => value >= self.level,
                Side::Low => value <= self.level,
            }
    }

    fn is_back(&self, value: Decimal) -> bool {
        !self.used
            || match self.side {
                Side::High => value < self.level - self.deadband,
                Side::Low => value > self.level + self.deadband,
            }
    }
}

/// Judges a value against the three levels.
pub fn judge(alarms: &mut Alarms<'_>, limits: &[Limit; 3], evidence: Evidence, facts: Facts<'_>) {
    let open = alarms.get(Kind::Gas);
    let stood = open.and_then(|alarm| alarm.condition.level_index());
    let mut holds = open.map(|alarm| alarm.holds.clone()).unwrap_or_default();
    holds.resize(limits.len(), None);
    for (hold, limit) in holds.iter_mut().zip(limits) {
        *hold = judge_level(*hold, limit, evidence, alarms.now);
    }
    let reached = limits
        .iter()
        .rposition(|limit| limit.is_reached(evidence.value));
    match (stood, reached) {
        (None, Some(index)) => {
            let (condition, message, threshold) = tell(limits, index, facts);
            alarms.raise(condition, message, Some(threshold), facts);
            alarms.adjust(Kind::Gas, |alarm| alarm.holds = holds);
        }
        (None, None) => {}
        (Some(stood), reached) => {
            alarms.adjust(Kind::Gas, |alarm| alarm.holds = holds);
            if let Some(index) = reached.filter(|index| *index > stood) {
                move_to(alarms, ChangeKind::Escalated, limits, index, facts);
            }
            settle(alarms, limits, facts);
        }
    }
}

/// Raises the levels that a late value reached and that do not stand, then judges the latest against them at once.
pub fn judge_late(
    alarms: &mut Alarms<'_>,
    late: (&[Limit; 3], Decimal, Facts<'_>),
    latest: (&[Limit; 3], Option<Evidence>, Facts<'_>),
) {
    let (limits, value, facts) = late;
    let holds = alarms.get(Kind::Gas).map(|alarm| alarm.holds.clone());
    let stands = |index: usize| {
        let hold = holds.as_ref().and_then(|holds| holds.get(index));
        hold.is_some_and(Option::is_some)
    };
    let is_news = (0..limits.len()).any(|index| limits[index].is_reached(value) && !stands(index));
    if !is_news {
        return;
    }
    let raise_only = Evidence {
        value,
        may_lower: false,
        off_delay: std::time::Duration::ZERO,
    };
    judge(alarms, limits, raise_only, facts);
    let (limits, evidence, facts) = latest;
    if let Some(evidence) = evidence {
        judge(alarms, limits, evidence, facts);
    }
}

/// Lets levels return whose off-delay is over.
pub fn ripen(alarms: &mut Alarms<'_>, limits: &[Limit; 3], facts: Facts<'_>) {
    let now = alarms.now;
    for kind in [Kind::Gas, Kind::OverRange] {
        alarms.adjust(kind, |alarm| {
            for hold in alarm.holds.iter_mut().flatten() {
                if hold.due.is_some_and(|due| due <= now) {
                    hold.due = None;
                    hold.returned = true;
                }
            }
        });
    }
    settle(alarms, limits, facts);
    settle_over_range(alarms);
}

/// Forgets values that were on their way back: what came since is not known.
pub fn hold_back(alarms: &mut Alarms<'_>) {
    for kind in [Kind::Gas, Kind::OverRange] {
        alarms.adjust(kind, |alarm| {
            for hold in alarm.holds.iter_mut().flatten() {
                hold.due = None;
            }
        });
    }
}

/// The next moment at which a level of this alarm may return.
#[must_use]
pub fn next_due(alarm: &Alarm) -> Option<Time> {
    alarm
        .holds
        .iter()
        .flatten()
        .filter_map(|hold| hold.due)
        .min()
}

/// Judges a value against the end of the measuring range; `limit` is `None` where the device sends no span, then the
/// span that was exceeded goes on counting.
pub fn judge_over_range(
    alarms: &mut Alarms<'_>,
    limit: Option<Limit>,
    evidence: Evidence,
    facts: Facts<'_>,
) {
    let open = alarms.get(Kind::OverRange);
    let remembered = open.and_then(|alarm| alarm.threshold).map(|level| Limit {
        level,
        side: Side::High,
        deadband: Decimal::ZERO,
        latching: None,
        used: true,
    });
    let Some(limit) = limit.or(remembered) else {
        return;
    };
    let exceeds = evidence.value > limit.level;
    let stands = open.is_some();
    let before = open.and_then(|alarm| alarm.holds.first().copied().flatten());
    // At the very end of the range the value is not above it: that is what distinguishes it from a gas level.
    let hold = if exceeds {
        Hold::default()
    } else {
        judge_return(before.unwrap_or_default(), &limit, evidence, alarms.now)
    };
    if exceeds && !stands {
        let message = Condition::OverRange
            .level_message(Side::High, limit.level, &facts.reading.unit)
            .unwrap_or_default();
        alarms.raise(Condition::OverRange, message, Some(limit.level), facts);
    }
    alarms.adjust(Kind::OverRange, |alarm| alarm.holds = vec![Some(hold)]);
    settle_over_range(alarms);
}

fn judge_level(hold: Option<Hold>, limit: &Limit, evidence: Evidence, now: Time) -> Option<Hold> {
    // A latch ends only by the word of a reading that may lower.
    let latching = match limit.latching {
        Some(false) if evidence.may_lower => false,
        Some(true) => true,
        _ => hold.is_some_and(|hold| hold.latching),
    };
    if limit.is_reached(evidence.value) {
        return Some(Hold {
            latching,
            due: None,
            returned: false,
        });
    }
    let hold = Hold { latching, ..hold? };
    Some(judge_return(hold, limit, evidence, now))
}

/// What a value that does not reach a standing level does to it.
fn judge_return(hold: Hold, limit: &Limit, evidence: Evidence, now: Time) -> Hold {
    if hold.returned {
        return hold;
    }
    if !limit.is_back(evidence.value) {
        return Hold { due: None, ..hold };
    }
    if !evidence.may_lower {
        return hold;
    }
    let due = hold.due.unwrap_or(now + evidence.off_delay);
    let returned = due <= now;
    Hold {
        due: (!returned).then_some(due),
        returned,
        ..hold
    }
}

/// Drops the levels that nothing holds any more, and tells where that leaves the alarm.
pub(super) fn settle(alarms: &mut Alarms<'_>, limits: &[Limit; 3], facts: Facts<'_>) {
    let Some(alarm) = alarms.get(Kind::Gas) else {
        return;
    };
    let acknowledged = alarm.acknowledged.is_some();
    let was_latched = alarm.latched;
    let stood = alarm.condition.level_index().unwrap_or_default();
    let keep = |hold: &Hold| !hold.returned || (hold.latching && !acknowledged);
    let holds: Vec<_> = alarm.holds.iter().map(|hold| hold.filter(keep)).collect();
    let Some(top) = holds.iter().rposition(Option::is_some) else {
        alarms.change(Kind::Gas, ChangeKind::Cleared, |_| ());
        return;
    };
    let is_latched = holds[top].is_some_and(|hold| hold.returned);
    alarms.adjust(Kind::Gas, |alarm| alarm.holds = holds);
    if top < stood {
        alarms.adjust(Kind::Gas, |alarm| alarm.latched = false);
        move_to(alarms, ChangeKind::DeEscalated, limits, top, facts);
    }
    let was_latched = was_latched && top == stood;
    if is_latched && !was_latched {
        alarms.change(Kind::Gas, ChangeKind::Latched, |alarm| alarm.latched = true);
    } else if was_latched && !is_latched {
        alarms.change(Kind::Gas, ChangeKind::Unlatched, |alarm| {
            alarm.latched = false;
        });
    }
}

fn settle_over_range(alarms: &mut Alarms<'_>) {
    let open = alarms.get(Kind::OverRange);
    if open.is_some_and(|alarm| alarm.holds.iter().flatten().all(|hold| hold.returned)) {
        alarms.change(Kind::OverRange, ChangeKind::Cleared, |_| ());
    }
}

fn move_to(
    alarms: &mut Alarms<'_>,
    what: ChangeKind,
    limits: &[Limit; 3],
    index: usize,
    facts: Facts<'_>,
) {
    let (condition, message, threshold) = tell(limits, index, facts);
    let (now, position) = (alarms.now, alarms.position);
    alarms.change(Kind::Gas, what, |alarm| {
        alarm.condition = condition;
        alarm.message = message;
        alarm.threshold = Some(threshold);
        alarm.value = facts.value;
        alarm.unit.clone_from(&facts.reading.unit);
        alarm.changed_at = now;
        alarm.reading_timestamp.clone_from(&facts.reading.timestamp);
        if what == ChangeKind::Escalated {
            alarm.reached = position;
            alarm.acknowledged = None;
            alarm.latched = false;
        }
    });
}

fn tell(limits: &[Limit; 3], index: usize, facts: Facts<'_>) -> (Condition, String, Decimal) {
    let condition = Condition::gas(index);
    let limit = &limits[index];
    let message = condition.level_message(limit.side, limit.level, &facts.reading.unit);
    (condition, message.unwrap_or_default(), limit.level)
}

//! The alarms of two ends of one line.
//!
//! What one end has and the other has not either ended in the other or was never known there. The line tells: an end that
//! had gone on beyond the position at which an alarm was reached knew it. What ended only counts if it did so on the
//! newer reading of the two; in doubt an alarm stays, and at the higher level.

use super::CommittedState;
use crate::alarm::{Alarm, Change, ChangeKind};
use crate::clock::Time;
use crate::decide::LogLine;
use crate::state::DeviceState;

#[derive(Default)]
pub(super) struct Merged {
    pub(super) open: Vec<Alarm>,
    /// What clients are told beside the open alarms.
    pub(super) changes: Vec<Change>,
    /// What the log has lost with the state; clients were told before.
    pub(super) log: Vec<LogLine>,
}

/// `is_newer`: the remembered reading is the one that is shown from now on.
pub(super) fn merge(
    remembered: &CommittedState,
    stored: &DeviceState,
    is_newer: bool,
    now: Time,
) -> Merged {
    let mut merged = Merged::default();
    let state = &remembered.state;
    for other in &stored.alarms {
        let is_ours_later = is_newer && state.has_passed(other.reached);
        match state.alarm(other.kind()) {
            Some(own) if own.id == other.id => {
                let is_theirs_later = stored.has_passed(own.reached);
                let rises = level(other) > level(own);
                if is_ours_later || !(is_theirs_later || rises) {
                    merged.go_on(own, other);
                    merged.open.push(judged_by(own, is_newer));
                } else {
                    merged.open.push(other.clone());
                }
            }
            // Ours ended in their line, and theirs is another one.
            Some(own) if stored.has_passed(own.reached) && !is_ours_later => {
                merged.open.push(other.clone());
            }
            Some(own) => {
                if level(other) > level(own) && !is_ours_later {
                    let risen = Alarm {
                        id: own.id.clone(),
                        raised_at: own.raised_at,
                        ..other.clone()
                    };
                    merged.change(ChangeKind::Escalated, risen.clone());
                    merged.open.push(risen);
                } else {
                    merged.open.push(judged_by(own, is_newer));
                }
                merged.change(ChangeKind::Cleared, cleared(other.clone(), now));
            }
            None if is_ours_later => merged.end(remembered, other, now),
            None => merged.open.push(other.clone()),
        }
    }
    for own in &state.alarms {
        if stored.alarm(own.kind()).is_none() && !stored.has_passed(own.reached) {
            merged.log(ChangeKind::Raised, own);
            if own.acknowledged.is_some() {
                merged.log(ChangeKind::Acknowledged, own);
            }
            merged.open.push(judged_by(own, is_newer));
        }
    }
    merged
        .open
        .sort_by(|a, b| (a.raised_at, &a.id).cmp(&(b.raised_at, &b.id)));
    merged
}

impl Merged {
    fn change(&mut self, kind: ChangeKind, alarm: Alarm) {
        self.changes.push(Change { kind, alarm });
    }

    fn log(&mut self, kind: ChangeKind, alarm: &Alarm) {
        self.log.push(LogLine::of(kind, alarm, None));
    }

    /// The same alarm went on in our line: the log has lost how.
    fn go_on(&mut self, own: &Alarm, other: &Alarm) {
        if level(own) > level(other) {
            self.log(ChangeKind::Escalated, own);
        }
        if own.acknowledged.is_some() && other.acknowledged.is_none() {
            self.log(ChangeKind::Acknowledged, own);
        }
    }

    /// It ended in our line, perhaps because somebody acknowledged it.
    fn end(&mut self, remembered: &CommittedState, other: &Alarm, now: Time) {
        let ended = remembered.ended.iter().find(|ended| ended.id == other.id);
        let mut alarm = other.clone();
        if let Some(acknowledged) = ended.and_then(|ended| ended.acknowledged.clone())
            && other.acknowledged.is_none()
        {
            alarm.acknowledged = Some(acknowledged);
            alarm.latched = false;
            self.change(ChangeKind::Acknowledged, alarm.clone());
        }
        self.change(ChangeKind::Cleared, cleared(alarm, now));
    }
}

/// Our alarm beside the reading that is shown: what we knew of a value that was back says nothing of a newer one.
fn judged_by(own: &Alarm, is_newer: bool) -> Alarm {
    let mut alarm = own.clone();
    if !is_newer {
        alarm.latched = false;
        for level in alarm.active_levels.iter_mut().flatten() {
            level.off_delay_ends = None;
            level.returned = false;
        }
    }
    alarm
}

fn level(alarm: &Alarm) -> Option<usize> {
    alarm.condition.level_index()
}

fn cleared(mut alarm: Alarm, now: Time) -> Alarm {
    alarm.cleared_at = Some(now);
    alarm.latched = false;
    alarm.active_levels.clear();
    alarm
}

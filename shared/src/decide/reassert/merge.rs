//! Merges the alarms of a committed state and a stored one that descend from the same history.
//!
//! An alarm that one side lacks has either ended there or was never known there. A side that has passed the position at
//! which the alarm was raised knew it, so there it has ended. That end is accepted only if the side also has the newer reading.
//! In doubt an alarm stays open, and at the higher level.

use super::CommittedState;
use crate::alarm::{Alarm, Change, ChangeKind};
use crate::alarm_log::AlarmLogEntry;
use crate::clock::Time;
use crate::state::DeviceState;

pub(super) struct Merged {
    now: Time,
    pub(super) open: Vec<Alarm>,
    /// Changes that clients have not seen.
    pub(super) changes: Vec<Change>,
    /// Entries that the log has lost; clients have seen these changes.
    pub(super) log: Vec<AlarmLogEntry>,
}

/// Merges the alarms of both sides. `is_newer` is true if the committed side has the newer reading.
pub(super) fn merge(
    committed: &CommittedState,
    stored: &DeviceState,
    is_newer: bool,
    now: Time,
) -> Merged {
    let mut merged = Merged {
        now,
        open: Vec::new(),
        changes: Vec::new(),
        log: Vec::new(),
    };
    let state = &committed.state;
    let (pairs, unpaired) = pair(&stored.alarms, &state.alarms);
    for (other, own) in pairs {
        let own_is_later = is_newer && state.has_passed(other.reached);
        match own {
            Some(own) if own.id == other.id => {
                let other_is_later = stored.has_passed(own.reached);
                let other_is_higher = level(other) > level(own);
                if own_is_later || !(other_is_later || other_is_higher) {
                    merged.log_lost_changes(own, other);
                    merged.open.push(with_kept_reading(own, is_newer));
                } else {
                    merged.open.push(other.clone());
                }
            }
            // The stored side knew our alarm and ended it. Its own alarm is another one.
            Some(own) if stored.has_passed(own.reached) && !own_is_later => {
                merged.open.push(other.clone());
            }
            // Two alarms of one kind, each unknown to the other side: ours continues, at the higher level.
            Some(own) => {
                let is_escalated = level(other) > level(own) && !own_is_later;
                let mut open = if is_escalated {
                    Alarm {
                        id: own.id.clone(),
                        raised_at: own.raised_at,
                        log_group: own.log_group.clone(),
                        ..other.clone()
                    }
                } else {
                    with_kept_reading(own, is_newer)
                };
                let mut ended = cleared(other.clone(), now);
                merged.separate_groups(&mut open, &mut ended);
                if is_escalated {
                    merged.change(ChangeKind::Escalated, open.clone());
                }
                merged.open.push(open);
                merged.change(ChangeKind::Cleared, ended);
            }
            None if own_is_later => merged.end(committed, other),
            None => merged.open.push(other.clone()),
        }
    }
    for own in unpaired {
        if !stored.has_passed(own.reached) {
            merged.log(ChangeKind::Raised, own);
            if own.acknowledged.is_some() {
                merged.log(ChangeKind::Acknowledged, own);
            }
            merged.open.push(with_kept_reading(own, is_newer));
        }
    }
    merged
        .open
        .sort_by(|a, b| (a.raised_at, &a.id).cmp(&(b.raised_at, &b.id)));
    merged
}

/// Pairs each stored alarm with ours: the one with the same id, else one of the same kind that has no such partner. Also
/// returns our alarms without a partner. A newer release may keep several gas alarms of one device.
pub(super) fn pair<'a>(
    stored: &'a [Alarm],
    ours: &'a [Alarm],
) -> (Vec<(&'a Alarm, Option<&'a Alarm>)>, Vec<&'a Alarm>) {
    let is_stored = |own: &&Alarm| stored.iter().any(|other| other.id == own.id);
    let mut unpaired: Vec<&Alarm> = ours.iter().filter(|own| !is_stored(own)).collect();
    let partner = |other: &Alarm| {
        ours.iter().find(|own| own.id == other.id).or_else(|| {
            let index = unpaired.iter().position(|own| own.kind() == other.kind())?;
            Some(unpaired.remove(index))
        })
    };
    let partners: Vec<Option<&Alarm>> = stored.iter().map(partner).collect();
    (stored.iter().zip(partners).collect(), unpaired)
}

impl Merged {
    fn change(&mut self, kind: ChangeKind, alarm: Alarm) {
        self.changes.push(Change { kind, alarm });
    }

    fn log(&mut self, kind: ChangeKind, alarm: &Alarm) {
        self.log
            .push(AlarmLogEntry::of_change(kind, alarm, self.now));
    }

    /// Keeps the end of one alarm from being shown as that of another one that is logged together with it.
    fn separate_groups(&mut self, open: &mut Alarm, ended: &mut Alarm) {
        let is_same_group = open.group_id() == ended.group_id();
        if is_same_group && ended.log_group.take().is_none() {
            // The group is named after the one that ends.
            open.log_group = None;
            self.log(ChangeKind::Raised, open);
        }
    }

    /// Logs the changes of our alarm that are missing from the stored one, which is the same alarm.
    fn log_lost_changes(&mut self, own: &Alarm, other: &Alarm) {
        if level(own) > level(other) {
            self.log(ChangeKind::Escalated, own);
        }
        if own.acknowledged.is_some() && other.acknowledged.is_none() {
            self.log(ChangeKind::Acknowledged, own);
        }
    }

    /// Ends a stored alarm that has ended on our side. If an acknowledgement ended it there, that is published too.
    fn end(&mut self, committed: &CommittedState, other: &Alarm) {
        let ended_alarm = committed
            .recently_cleared
            .iter()
            .find(|alarm| alarm.id == other.id);
        let mut alarm = other.clone();
        if let Some(acknowledged) = ended_alarm.and_then(|alarm| alarm.acknowledged.clone())
            && other.acknowledged.is_none()
        {
            alarm.acknowledged = Some(acknowledged);
            alarm.latched = false;
            alarm.returned = false;
            self.change(ChangeKind::Acknowledged, alarm.clone());
        }
        self.change(ChangeKind::Cleared, cleared(alarm, self.now));
    }
}

/// Returns our alarm, to be stored with the reading that is kept. If that reading is not ours, it does not show that our
/// levels returned to normal.
fn with_kept_reading(own: &Alarm, is_newer: bool) -> Alarm {
    let mut alarm = own.clone();
    if !is_newer {
        alarm.latched = false;
        alarm.returned = false;
        alarm.ceased = false;
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
    alarm.returned = false;
    alarm.active_levels.clear();
    alarm
}

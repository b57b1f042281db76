//! What a writer committed and Redis has lost since, asserted again.
//!
//! A writer's state and the stored one are two ends of what was one line. Where the stored end is an earlier point of
//! the writer's own line, the writer knows everything it knows. Where others went on from an earlier point meanwhile,
//! both ends hold something true: the newer reading stays, and every alarm of either.

use std::cmp::Ordering;

use super::event::{self, Commit};
use super::{Deadline, Decision, Draft, LogLine, Outcome, Subject, told_limits};
use crate::alarm::{Alarm, Change, ChangeKind};
use crate::clock::Time;
use crate::order;
use crate::state::{DeviceState, Epoch, Position};

/// The last state this process committed of a device, kept for the day on which Redis goes back behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The partition's epoch at that commit.
    pub epoch: Epoch,
    /// What was committed.
    pub state: DeviceState,
    /// Server time of the last message that proved the device alive.
    pub last_message: Option<Time>,
}

impl Remembered {
    /// Whether the stored state has lost what this one says: a lower number, the same number of another line, or, where
    /// others have gone on, an acknowledgement of what still stands.
    #[must_use]
    pub fn is_missing_from(&self, stored: &Subject) -> bool {
        if stored.epoch == self.epoch {
            return false;
        }
        match self.compare(stored) {
            Ordering::Greater => true,
            // A device that was retired is gone on purpose; the partition knows the highest number it took along.
            Ordering::Equal if stored.state.latest.is_none() && !stored.lost => false,
            Ordering::Equal => stored.state.position.epoch != self.state.position.epoch,
            Ordering::Less => self.lost_acknowledgements(stored).next().is_some(),
        }
    }

    /// Which of the two lines went further.
    fn compare(&self, stored: &Subject) -> Ordering {
        let taken = stored.state.position.seq.max(stored.seq_floor);
        self.state.position.seq.cmp(&taken)
    }

    /// Alarms that stand in both, unchanged, and are acknowledged here alone.
    fn lost_acknowledgements(&self, stored: &Subject) -> impl Iterator<Item = &Alarm> {
        let is_lost = |own: &&Alarm| {
            own.acknowledged.is_some()
                && stored.state.alarms.iter().any(|other| {
                    let is_same = other.id == own.id && other.reached == own.reached;
                    is_same && other.acknowledged.is_none()
                })
        };
        self.state.alarms.iter().filter(is_lost)
    }

    /// Whether this line had already gone on beyond that position.
    fn has_passed(&self, position: Position) -> bool {
        let line = self.state.memory.line.iter().chain([&self.state.position]);
        line.into_iter()
            .any(|point| point.epoch == position.epoch && position.seq <= point.seq)
    }
}

pub(super) fn decide(
    mut draft: Draft<'_>,
    remembered: &Remembered,
    traceparent: Option<&str>,
) -> Decision {
    if remembered.compare(draft.subject) == Ordering::Less {
        return acknowledge_again(draft, remembered, traceparent);
    }
    let stored = &draft.subject.state;
    let own = &remembered.state;
    draft.now = draft.now.max(own.memory.decided_at);
    draft.position.seq = draft.position.seq.max(own.position.seq.saturating_add(1));

    let is_newer = is_newer(own, stored);
    if is_newer {
        draft.state.latest.clone_from(&own.latest);
        draft.state.order = own.order.clone();
        draft.state.memory = own.memory.clone();
    }
    draft.state.memory.leave(own.position);
    draft.state.memory.decided_at = draft.now;
    draft.state.prints.clone_from(&stored.prints);
    for print in &own.prints {
        if !stored.prints.contains(print) {
            order::remember(&mut draft.state.prints, *print);
        }
    }
    // A sample is committed with its reading: what lost the one has lost the other.
    let is_unknown = |print: &u64| !stored.prints.contains(print);
    let sample = own.latest.clone().filter(|_| {
        let print = own.order.latest_print;
        is_newer && print.as_ref().is_none_or(is_unknown)
    });

    let merged = merge(remembered, stored, draft.now);
    draft.state.alarms = merged.open;
    draft.log = merged.log;
    let commit = Commit {
        changes: merged.changes,
        heard: remembered.last_message,
        is_snapshot: true,
        moves_latest: is_newer,
        sample_of: sample.map(|latest| (latest, false)),
        // Every deadline may be lost, too: the timers look at once, and know the settings.
        deadline: Deadline::At(draft.now),
        ..Commit::of(Outcome::Reasserted)
    };
    event::finish(draft, commit, traceparent)
}

/// Others have gone on from an earlier point, on which nobody had acknowledged yet.
fn acknowledge_again(
    mut draft: Draft<'_>,
    remembered: &Remembered,
    traceparent: Option<&str>,
) -> Decision {
    let stored = &draft.subject.state;
    let Some(latest) = &stored.latest else {
        return draft.nothing(Outcome::NotFound);
    };
    let mut alarms = draft.alarms();
    for own in remembered.lost_acknowledgements(draft.subject) {
        if let Some(acknowledgement) = &own.acknowledged {
            alarms.acknowledge(
                &own.id,
                &acknowledgement.by,
                &told_limits(latest),
                latest.facts(),
            );
        }
    }
    let (open, changes) = alarms.finish();
    draft.state.alarms = open;
    let commit = Commit {
        changes,
        ..Commit::of(Outcome::Reasserted)
    };
    event::finish(draft, commit, traceparent)
}

fn is_newer(own: &DeviceState, stored: &DeviceState) -> bool {
    let taken_at = |state: &DeviceState| state.latest.as_ref().map(|latest| latest.taken_at);
    own.latest.is_some() && taken_at(own) >= taken_at(stored)
}

#[derive(Default)]
struct Merged {
    open: Vec<Alarm>,
    /// What clients are told beside the open alarms.
    changes: Vec<Change>,
    /// What the log has lost with the state; clients were told before.
    log: Vec<LogLine>,
}

fn merge(remembered: &Remembered, stored: &DeviceState, now: Time) -> Merged {
    let mut merged = Merged::default();
    for alarm in &stored.alarms {
        let own = remembered.state.alarm(alarm.kind());
        if own.is_some_and(|own| own.id == alarm.id) {
            continue;
        }
        // Another one of the same kind gives way; one that our line had and has no more was cleared in it.
        if own.is_some() || remembered.has_passed(alarm.reached) {
            merged.change(ChangeKind::Cleared, cleared(alarm.clone(), now));
        } else {
            merged.open.push(alarm.clone());
        }
    }
    for own in &remembered.state.alarms {
        let Some(other) = stored.alarm(own.kind()) else {
            merged.log(ChangeKind::Raised, own);
            if own.acknowledged.is_some() {
                merged.log(ChangeKind::Acknowledged, own);
            }
            merged.open.push(own.clone());
            continue;
        };
        let rises = other.condition.level_index() > own.condition.level_index()
            && !remembered.has_passed(other.reached);
        if rises {
            let alarm = Alarm {
                id: own.id.clone(),
                raised_at: own.raised_at,
                ..other.clone()
            };
            if other.id != own.id {
                merged.change(ChangeKind::Escalated, alarm.clone());
            }
            merged.open.push(alarm);
            continue;
        }
        if other.id == own.id && own.condition.level_index() > other.condition.level_index() {
            merged.log(ChangeKind::Escalated, own);
        }
        if other.id == own.id && own.acknowledged.is_some() && other.acknowledged.is_none() {
            merged.log(ChangeKind::Acknowledged, own);
        }
        merged.open.push(own.clone());
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
}

fn cleared(mut alarm: Alarm, now: Time) -> Alarm {
    alarm.cleared_at = Some(now);
    alarm.latched = false;
    alarm.holds.clear();
    alarm
}

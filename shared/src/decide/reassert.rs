//! What a writer committed and Redis has lost since, asserted again.
//!
//! A writer's state and the stored one are two ends of what was one line. Where the stored end is an earlier point of
//! the writer's own line, the writer knows everything it knows. Where others went on from an earlier point meanwhile,
//! both ends hold something true: the newer reading stays, and every alarm of either.

mod merge;

use std::cmp::Ordering;

use super::event::{self, Effects};
use super::{Deadline, Decision, Draft, Outcome, StoredDevice, told_limits};
use crate::alarm::Alarm;
use crate::clock::Time;
use crate::order;
use crate::position::Epoch;
use crate::state::DeviceState;

/// The last state this process committed of a device, kept for the day on which Redis goes back behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedState {
    /// The partition's epoch at that commit.
    pub epoch: Epoch,
    /// What was committed.
    pub state: DeviceState,
    /// Server time of the last message that proved the device alive.
    pub last_message: Option<Time>,
    /// Alarms that ended in the last commits, as they ended: at most [`CommittedState::MAX_ENDED`], the newest last.
    pub ended: Vec<Alarm>,
}

impl CommittedState {
    /// So many alarms that ended are remembered of a device.
    pub const MAX_ENDED: usize = 4;

    /// Whether the stored state has lost what this one says: a lower number, the same number of another line, or, where
    /// others have gone on, an alarm that they never knew, or an acknowledgement of what still stands.
    #[must_use]
    pub fn is_missing_from(&self, stored: &StoredDevice) -> bool {
        if stored.epoch == self.epoch {
            return false;
        }
        let taken = stored.state.position.seq.max(stored.seq_floor);
        let order = self.state.position.seq.cmp(&taken);
        // A device that was retired is gone on purpose; the partition knows the highest number it took along.
        if order != Ordering::Greater && stored.state.latest.is_none() && !stored.lost {
            return false;
        }
        match order {
            Ordering::Greater => true,
            Ordering::Equal => stored.state.position.epoch != self.state.position.epoch,
            Ordering::Less => {
                let is_unknown = |own: &Alarm| {
                    stored.state.alarm(own.kind()).is_none()
                        && !stored.state.has_passed(own.reached)
                };
                self.state.alarms.iter().any(is_unknown)
                    || self.lost_acknowledgements(&stored.state).next().is_some()
            }
        }
    }

    /// Alarms that stand in the stored state as they did here, and are acknowledged here alone.
    fn lost_acknowledgements(&self, stored: &DeviceState) -> impl Iterator<Item = &Alarm> {
        let is_lost = |own: &&Alarm| {
            own.acknowledged.is_some()
                && stored.alarms.iter().any(|other| {
                    let is_same = other.id == own.id && other.reached == own.reached;
                    is_same && other.acknowledged.is_none()
                })
        };
        self.state.alarms.iter().chain(&self.ended).filter(is_lost)
    }
}

pub(super) fn decide(
    mut draft: Draft<'_>,
    remembered: &CommittedState,
    traceparent: Option<&str>,
) -> Decision {
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
    draft.state.fingerprints.clone_from(&stored.fingerprints);
    for fingerprint in &own.fingerprints {
        if !stored.fingerprints.contains(fingerprint) {
            order::remember(&mut draft.state.fingerprints, *fingerprint);
        }
    }
    // A sample is committed with its reading: what lost the one has lost the other.
    let is_unknown = |fingerprint: &u64| !stored.fingerprints.contains(fingerprint);
    let sample = own.latest.clone().filter(|_| {
        let fingerprint = own.order.latest_fingerprint;
        is_newer && fingerprint.as_ref().is_none_or(is_unknown)
    });

    let merged = merge::merge(remembered, stored, is_newer, draft.now);
    draft.state.alarms = merged.open;
    draft.log = merged.log;
    let mut alarms = draft.alarms();
    if let Some(latest) = &draft.state.latest {
        for lost in remembered.lost_acknowledgements(&draft.state) {
            let by = lost.acknowledged.as_ref().map_or("", |by| by.by.as_str());
            alarms.acknowledge(&lost.id, by, &told_limits(latest), latest.facts());
        }
    }
    let (open, acknowledged) = alarms.finish();
    draft.state.alarms = open;
    let commit = Effects {
        changes: merged.changes.into_iter().chain(acknowledged).collect(),
        heard: remembered.last_message,
        is_snapshot: true,
        moves_latest: is_newer,
        sample_of: sample.map(|latest| (latest, false)),
        // Every deadline may be lost, too: the timers look at once, and know the settings.
        deadline: Deadline::At(draft.now),
        ..Effects::of(Outcome::Reasserted)
    };
    event::finish(draft, commit, traceparent)
}

fn is_newer(own: &DeviceState, stored: &DeviceState) -> bool {
    let taken_at = |state: &DeviceState| state.latest.as_ref().map(|latest| latest.taken_at);
    own.latest.is_some() && taken_at(own) >= taken_at(stored)
}

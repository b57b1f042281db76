//! Writes a state again that this process committed and Redis has lost since.
//!
//! The committed state and the stored one descend from the same history. If the stored one is an earlier point of the
//! committed one's history, it adds nothing. If other processes have continued from an earlier point, each state may contain
//! readings and alarms that the other lacks: the newer reading is kept, and the alarms of both are merged (see `merge`).

mod merge;

use std::cmp::Ordering;
use std::sync::Arc;

use super::effects::{Effects, SampleOf, finish};
use super::{Deadline, Decision, Draft, Outcome, StoredDevice};
use crate::alarm::Alarm;
use crate::clock::Time;
use crate::order;
use crate::position::Epoch;
use crate::state::DeviceState;

/// The last state of a device that this process committed, kept in case Redis loses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedState {
    /// Epoch of the partition at that commit.
    pub epoch: Epoch,
    /// The committed state.
    pub state: Arc<DeviceState>,
    /// Server time of the last message that proved the device alive.
    pub last_message: Option<Time>,
    /// Alarms that were cleared by the last commits, as they were then, newest last: at most [`CommittedState::MAX_RECENTLY_CLEARED`].
    pub recently_cleared: Vec<Alarm>,
}

impl CommittedState {
    /// Maximum number of cleared alarms that are kept per device.
    pub const MAX_RECENTLY_CLEARED: usize = 4;

    /// Whether the stored state has lost part of this one. That can be so only in another epoch. There, a part is lost if the
    /// stored seq is lower, or the same with another history. If the stored seq is higher, a part is lost if the stored state
    /// lacks an alarm that it never knew, or an acknowledgement of an open alarm.
    #[must_use]
    pub fn is_missing_from(&self, stored: &StoredDevice) -> bool {
        if stored.epoch == self.epoch {
            return false;
        }
        let highest_seq = stored.state.position.seq.max(stored.seq_floor);
        let order = self.state.position.seq.cmp(&highest_seq);
        // A retired device was deleted on purpose. The partition keeps the highest seq of those it retired.
        if order != Ordering::Greater && stored.state.latest.is_none() && !stored.lost {
            return false;
        }
        match order {
            Ordering::Greater => true,
            Ordering::Equal => stored.state.position.epoch != self.state.position.epoch,
            Ordering::Less => {
                let (_, unpaired) = merge::pair(&stored.state.alarms, &self.state.alarms);
                let is_unknown = |own: &&Alarm| !stored.state.has_passed(own.reached);
                unpaired.iter().any(is_unknown)
                    || self.lost_acknowledgements(&stored.state).next().is_some()
            }
        }
    }

    /// Alarms that are open and unacknowledged in the stored state, at the same level, but acknowledged here.
    fn lost_acknowledgements(&self, stored: &DeviceState) -> impl Iterator<Item = &Alarm> {
        let is_lost = |own: &&Alarm| {
            own.acknowledged.is_some()
                && stored.alarms.iter().any(|other| {
                    let is_same = other.id == own.id && other.reached == own.reached;
                    is_same && other.acknowledged.is_none()
                })
        };
        self.state
            .alarms
            .iter()
            .chain(&self.recently_cleared)
            .filter(is_lost)
    }
}

pub(super) fn decide(mut draft: Draft<'_>, committed: &CommittedState) -> Decision {
    let stored = &draft.stored.state;
    let own = &committed.state;
    draft.now = draft.now.max(own.memory.decided_at);
    draft.position.seq = draft.position.seq.max(own.position.seq.saturating_add(1));

    let is_newer = is_newer(own, stored);
    if is_newer {
        draft.state.latest.clone_from(&own.latest);
        draft.state.order = own.order.clone();
        draft.state.memory = own.memory.clone();
        draft.state.closed.clone_from(&own.closed);
    }
    draft.state.memory.record_epoch(own.position);
    draft.state.memory.decided_at = draft.now;
    draft.state.fingerprints.clone_from(&stored.fingerprints);
    for fingerprint in &own.fingerprints {
        if !stored.fingerprints.contains(fingerprint) {
            order::remember(&mut draft.state.fingerprints, *fingerprint);
        }
    }
    // A sample is committed together with its reading, so if the reading is lost, the sample is lost too.
    let is_unknown = |fingerprint: &u64| !stored.fingerprints.contains(fingerprint);
    let lost_sample = own.latest.clone().filter(|_| {
        let fingerprint = own.order.latest_fingerprint;
        is_newer && fingerprint.as_ref().is_none_or(is_unknown)
    });

    let merged = merge::merge(committed, stored, is_newer, draft.now);
    draft.state.alarms = merged.open;
    draft.log = merged.log;
    let mut alarms = draft.alarms(draft.now);
    if let Some(latest) = &draft.state.latest {
        for lost in committed.lost_acknowledgements(&draft.state) {
            let acknowledged = lost.acknowledged.as_ref();
            let by = acknowledged.map_or("", |by| by.by.as_str());
            let note = acknowledged.and_then(|by| by.note.as_deref());
            alarms.acknowledge(&lost.id, by, note, latest.details());
        }
    }
    let (open, closed, acknowledged) = alarms.finish();
    draft.state.alarms = open;
    draft.state.closed = closed;
    let effects = Effects {
        changes: merged.changes.into_iter().chain(acknowledged).collect(),
        last_alive: committed.last_message,
        is_snapshot: true,
        moves_latest: is_newer,
        sample: lost_sample.map(SampleOf::Latest),
        // The stored deadline may be lost too. The timers evaluate the device at once, with the settings.
        deadline: Deadline::At(draft.now),
        ..Effects::of(Outcome::Reasserted)
    };
    finish(draft, effects)
}

fn is_newer(own: &DeviceState, stored: &DeviceState) -> bool {
    let taken_at = |state: &DeviceState| state.latest.as_ref().map(|latest| latest.taken_at);
    own.latest.is_some() && taken_at(own) >= taken_at(stored)
}

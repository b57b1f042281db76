//! The state that this process last committed for each device, kept in memory for three uses.
//!
//! * If Redis loses it, it is written again.
//! * The next message of the device is decided from it, without loading the stored state first. Another process may have
//!   changed that: then the commit is refused, and the newer state is loaded. After a conflict the next
//!   [`LOADS_AFTER_CONFLICT`] decisions load first, so that a device whose messages alternate between replicas costs little more than
//!   a load for each. Each [`UNLOADED_IN_ROW`] decisions there is a load, too: then a stored field that somebody has damaged is noticed.
//! * The events that follow are stored as the difference from one that is stored whole (`event_diff`).
//!
//! Bound: one state and one event (a few kilobytes, the event at most four) per device, for at most [`MAX_DEVICES`] devices. If there are more, the states that were
//! committed longest ago are dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Commit;
use super::stored_events::WholeEvent;
use crate::alarm::ChangeKind;
use crate::clock::Time;
use crate::decide::{CommittedState, Outcome, StoredDevice};
use crate::device::DeviceId;
use crate::position::Epoch;
use crate::state::DeviceState;

/// Maximum number of devices. It is far above the size of one installation, which `--max-devices` bounds.
const MAX_DEVICES: usize = 100_000;

/// One in so many states is dropped at once when there are too many, so that the search for the oldest ones is rare.
const DROPPED_SHARE: usize = 16;

/// How many decisions about a device load its state first after another process was faster.
const LOADS_AFTER_CONFLICT: u8 = 16;

/// How many decisions about a device in a row may be made without a load.
const UNLOADED_IN_ROW: u8 = 64;

#[derive(Debug)]
pub(super) struct CommittedStates {
    // A std mutex: held for one look-up or insertion, never across an await.
    kept: Mutex<Kept>,
    max_devices: usize,
}

#[derive(Debug, Default)]
struct Kept {
    devices: HashMap<DeviceId, KeptState>,
    /// Number of states recorded so far.
    recorded: u64,
    has_dropped: bool,
}

#[derive(Debug)]
struct KeptState {
    committed: Arc<CommittedState>,
    /// How many decisions must still load the stored state first.
    loads: u8,
    /// Number of decisions since the last one that loaded it.
    unloaded: u8,
    /// As in [`StoredDevice::deadline_by`].
    deadline_by: Option<Time>,
    /// The newest event that this process stored whole.
    whole_event: Option<Arc<WholeEvent>>,
    /// The value of [`Kept::recorded`] when it was recorded.
    recorded: u64,
}

impl Default for CommittedStates {
    fn default() -> Self {
        Self::with_max(MAX_DEVICES)
    }
}

impl CommittedStates {
    fn with_max(max_devices: usize) -> Self {
        Self {
            kept: Mutex::default(),
            max_devices,
        }
    }

    /// Records a successful commit. `at`: its server time. `deadline_by`: as in [`StoredDevice::deadline_by`]. `whole_event`: the newest
    /// event that is stored whole.
    pub(super) fn record(
        &self,
        commit: &Commit<'_>,
        at: Time,
        deadline_by: Option<Time>,
        whole_event: Option<Arc<WholeEvent>>,
    ) {
        let stored = commit.stored;
        if commit.has(Outcome::Retired) {
            self.forget(&stored.device, stored.epoch);
            return;
        }
        let cleared = commit.changes().filter_map(|change| {
            let is_cleared = change.kind == ChangeKind::Cleared;
            is_cleared.then(|| change.alarm.clone())
        });
        let last_message = stored.last_message.max(commit.last_alive());
        let mut committed = CommittedState {
            epoch: stored.epoch,
            state: Arc::clone(commit.state()),
            last_message: last_message.max(commit.is_alive().then_some(at)),
            recently_cleared: cleared.collect(),
        };
        let mut kept = self.kept();
        kept.recorded += 1;
        let recorded = kept.recorded;
        if let Some(known) = kept.devices.get_mut(&stored.device) {
            let earlier = &known.committed;
            // Two tasks may record their commits in the wrong order: an older commit must not replace a newer one. A device
            // that was lost or retired starts again with a low `rev`, but with a higher seq. So both are compared.
            let is_not_older =
                |of: fn(&DeviceState) -> u64| of(&earlier.state) >= of(&committed.state);
            if earlier.epoch == stored.epoch
                && is_not_older(|state| state.rev)
                && is_not_older(|state| state.position.seq)
            {
                return;
            }
            let mut cleared = earlier.recently_cleared.clone();
            cleared.append(&mut committed.recently_cleared);
            cleared.drain(
                ..cleared
                    .len()
                    .saturating_sub(CommittedState::MAX_RECENTLY_CLEARED),
            );
            committed.recently_cleared = cleared;
            known.committed = Arc::new(committed);
            known.deadline_by = deadline_by;
            known.whole_event = whole_event;
            known.recorded = recorded;
            return;
        }
        if kept.devices.len() >= self.max_devices {
            kept.drop_oldest();
        }
        let state = KeptState {
            committed: Arc::new(committed),
            loads: 0,
            unloaded: 0,
            deadline_by,
            whole_event,
            recorded,
        };
        kept.devices.insert(stored.device.clone(), state);
    }

    /// Returns the device as this process left it, to decide from; `None` if the stored state must be loaded.
    pub(super) fn device(&self, device: &DeviceId) -> Option<Box<StoredDevice>> {
        let (committed, deadline_by) = {
            let mut kept = self.kept();
            let known = kept.devices.get_mut(device)?;
            if known.loads > 0 {
                known.loads -= 1;
                known.unloaded = 0;
                return None;
            }
            if known.unloaded >= UNLOADED_IN_ROW {
                known.unloaded = 0;
                return None;
            }
            known.unloaded += 1;
            (Arc::clone(&known.committed), known.deadline_by)
        };
        let state = Arc::clone(&committed.state);
        // The first message of a device decides about more than its state.
        state.latest.as_ref()?;
        Some(Box::new(StoredDevice {
            device: device.clone(),
            epoch: committed.epoch,
            stored_rev: format!("{} {}", state.rev, state.position.seq).into_bytes(),
            seq_floor: state.position.seq,
            state,
            lost: false,
            last_message: committed.last_message,
            deadline_by,
        }))
    }

    /// Returns the newest event of the device that this process stored whole.
    pub(super) fn whole_event(&self, device: &DeviceId) -> Option<Arc<WholeEvent>> {
        self.kept().devices.get(device)?.whole_event.clone()
    }

    /// Another process has committed a newer state.
    pub(super) fn conflicted(&self, device: &DeviceId) {
        self.load_next(device, LOADS_AFTER_CONFLICT);
    }

    /// It is not known whether a commit of this device was carried out.
    pub(super) fn in_doubt(&self, device: &DeviceId) {
        self.load_next(device, 1);
    }

    fn load_next(&self, device: &DeviceId, loads: u8) {
        if let Some(known) = self.kept().devices.get_mut(device) {
            known.loads = known.loads.max(loads);
        }
    }

    /// Forgets a device that was retired in this epoch. A state of another epoch is kept, because Redis may have lost it.
    pub(super) fn forget(&self, device: &DeviceId, epoch: Epoch) {
        let devices = &mut self.kept().devices;
        if devices
            .get(device)
            .is_some_and(|known| known.committed.epoch == epoch)
        {
            devices.remove(device);
        }
    }

    /// Stops trying to reassert a state (commit it again) in `epoch`, where that is impossible. It is marked as committed in
    /// that epoch.
    pub(super) fn give_up(&self, device: &DeviceId, epoch: Epoch) {
        if let Some(known) = self.kept().devices.get_mut(device) {
            Arc::make_mut(&mut known.committed).epoch = epoch;
            known.loads = known.loads.max(1);
        }
    }

    /// Returns the devices with a kept state in these partitions. `total` is the number of all partitions.
    pub(super) fn in_partitions(&self, partitions: &[u16], total: u16) -> Vec<DeviceId> {
        let kept = self.kept();
        let is_in_partitions = |device: &&DeviceId| partitions.contains(&device.partition(total));
        let devices = kept.devices.keys();
        devices.filter(is_in_partitions).cloned().collect()
    }

    /// Returns the committed state, if the stored state has lost part of it.
    ///
    /// If a new epoch began and nothing was lost, the two are not compared again. If both have the same position, the committed
    /// state is marked as committed in the new epoch. Otherwise it is dropped.
    pub(super) fn missing_from(&self, stored: &StoredDevice) -> Option<Arc<CommittedState>> {
        let mut kept = self.kept();
        let known = kept.devices.get_mut(&stored.device)?;
        let committed = &mut known.committed;
        if committed.is_missing_from(stored) {
            return Some(Arc::clone(committed));
        }
        if committed.epoch != stored.epoch {
            if committed.state.position == stored.state.position {
                Arc::make_mut(committed).epoch = stored.epoch;
            } else {
                kept.devices.remove(&stored.device);
            }
        }
        None
    }

    /// Returns the devices whose state was committed in another epoch than the present one. `epochs` has the present epoch of each
    /// partition, `None` if it is unknown.
    pub(super) fn in_other_epochs(&self, epochs: &[Option<Epoch>]) -> Vec<DeviceId> {
        let Ok(partitions) = u16::try_from(epochs.len()) else {
            return Vec::new();
        };
        let kept = self.kept();
        let others = kept.devices.iter().filter(|(device, known)| {
            let epoch = epochs.get(usize::from(device.partition(partitions)));
            epoch.is_some_and(|epoch| epoch.is_some_and(|epoch| epoch != known.committed.epoch))
        });
        others.map(|(device, _)| device.clone()).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Drops the states that were recorded longest ago.
    fn drop_oldest(&mut self) {
        if !self.has_dropped {
            self.has_dropped = true;
            tracing::error!(
                devices = self.devices.len(),
                "too many devices: the oldest committed states are dropped and cannot be written again if Redis loses them"
            );
        }
        let mut ages: Vec<u64> = self.devices.values().map(|known| known.recorded).collect();
        let dropped = ages.len() / DROPPED_SHARE;
        let (_, newest_dropped, _) = ages.select_nth_unstable(dropped);
        let newest_dropped = *newest_dropped;
        self.devices
            .retain(|_, known| known.recorded > newest_dropped);
    }
}

#[cfg(test)]
mod tests;

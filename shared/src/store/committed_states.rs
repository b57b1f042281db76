//! The state that this process last committed for each device, kept in memory in case Redis loses it.
//!
//! Bound: one state (a few kilobytes) per device, for at most [`MAX_DEVICES`] devices. States of further devices are not
//! kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Commit;
use crate::alarm::ChangeKind;
use crate::clock::Time;
use crate::decide::{CommittedState, Outcome, StoredDevice};
use crate::device::DeviceId;
use crate::position::Epoch;
use crate::state::DeviceState;

/// Maximum number of devices. It is far above the size of one installation, which `--max-devices` bounds.
const MAX_DEVICES: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct CommittedStates {
    // A std mutex: held for one look-up or insertion, never across an await.
    devices: Mutex<HashMap<DeviceId, Arc<CommittedState>>>,
    is_full: AtomicBool,
}

impl CommittedStates {
    /// Records a successful commit. `at`: its server time.
    pub(super) fn record(&self, commit: &Commit<'_>, at: Time) {
        let stored = commit.stored;
        if commit.has(Outcome::Retired) {
            self.forget(&stored.device, stored.epoch);
            return;
        }
        let cleared = commit.changes().filter_map(|change| {
            let is_cleared = change.kind == ChangeKind::Cleared;
            is_cleared.then(|| change.alarm.clone())
        });
        let mut committed = CommittedState {
            epoch: stored.epoch,
            state: commit.state().clone(),
            last_message: if commit.is_alive() {
                Some(at)
            } else {
                stored.last_message.max(commit.last_alive())
            },
            recently_cleared: cleared.collect(),
        };
        let mut devices = self.devices();
        if let Some(known) = devices.get(&stored.device) {
            // Two tasks may record their commits in the wrong order: an older commit must not replace a newer one. A device
            // that was lost or retired starts again with a low `rev`, but with a higher seq. So both are compared.
            let is_not_older =
                |of: fn(&DeviceState) -> u64| of(&known.state) >= of(&committed.state);
            if known.epoch == stored.epoch
                && is_not_older(|state| state.rev)
                && is_not_older(|state| state.position.seq)
            {
                return;
            }
            let mut cleared = known.recently_cleared.clone();
            cleared.append(&mut committed.recently_cleared);
            cleared.drain(
                ..cleared
                    .len()
                    .saturating_sub(CommittedState::MAX_RECENTLY_CLEARED),
            );
            committed.recently_cleared = cleared;
        }
        let committed = Arc::new(committed);
        if let Some(known) = devices.get_mut(&stored.device) {
            *known = committed;
        } else if devices.len() < MAX_DEVICES {
            devices.insert(stored.device.clone(), committed);
        } else if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::error!(
                devices = MAX_DEVICES,
                "too many devices: the states of further devices are not kept and cannot be written again if Redis loses them"
            );
        }
    }

    /// Forgets a device that was retired in this epoch. A state of another epoch is kept, because Redis may have lost it.
    pub(super) fn forget(&self, device: &DeviceId, epoch: Epoch) {
        let mut devices = self.devices();
        if devices
            .get(device)
            .is_some_and(|known| known.epoch == epoch)
        {
            devices.remove(device);
        }
    }

    /// Stops trying to reassert a state (commit it again) in `epoch`, where that is impossible. It is marked as committed in
    /// that epoch.
    pub(super) fn give_up(&self, device: &DeviceId, epoch: Epoch) {
        if let Some(committed) = self.devices().get_mut(device) {
            Arc::make_mut(committed).epoch = epoch;
        }
    }

    /// Returns the devices with a kept state in these partitions. `total` is the number of all partitions.
    pub(super) fn in_partitions(&self, partitions: &[u16], total: u16) -> Vec<DeviceId> {
        let devices = self.devices();
        let is_in_partitions = |device: &&DeviceId| partitions.contains(&device.partition(total));
        devices.keys().filter(is_in_partitions).cloned().collect()
    }

    /// Returns the committed state, if the stored state has lost part of it.
    ///
    /// If a new epoch began and nothing was lost, the two are not compared again. If both have the same position, the committed
    /// state is marked as committed in the new epoch. Otherwise it is dropped.
    pub(super) fn missing_from(&self, stored: &StoredDevice) -> Option<Arc<CommittedState>> {
        let mut devices = self.devices();
        let committed = devices.get_mut(&stored.device)?;
        if committed.is_missing_from(stored) {
            return Some(Arc::clone(committed));
        }
        if committed.epoch != stored.epoch {
            if committed.state.position == stored.state.position {
                Arc::make_mut(committed).epoch = stored.epoch;
            } else {
                devices.remove(&stored.device);
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
        let devices = self.devices();
        let others = devices.iter().filter(|(device, committed)| {
            let epoch = epochs.get(usize::from(device.partition(partitions)));
            epoch.is_some_and(|epoch| epoch.is_some_and(|epoch| epoch != committed.epoch))
        });
        others.map(|(device, _)| device.clone()).collect()
    }

    fn devices(&self) -> MutexGuard<'_, HashMap<DeviceId, Arc<CommittedState>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

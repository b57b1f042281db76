//! The last state this process committed of each device: what it asserts again should Redis go back behind it.
//!
//! Bound: one state (a few kilobytes) per device this process committed, at most [`MAX_DEVICES`]; of further ones nothing
//! is remembered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Commit;
use crate::alarm::ChangeKind;
use crate::clock::Time;
use crate::decide::{CommittedState, StoredDevice};
use crate::device::DeviceId;
use crate::position::Epoch;
use crate::state::DeviceState;

/// Far above what one installation has; `--max-devices` is what bounds the number of devices.
const MAX_DEVICES: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct CommittedStates {
    // A std mutex: held for one look-up or insertion, never across an await.
    devices: Mutex<HashMap<DeviceId, Arc<CommittedState>>>,
    is_full: AtomicBool,
}

impl CommittedStates {
    /// Takes in what was committed at this server time.
    pub(super) fn keep(&self, commit: &Commit<'_>, at: Time) {
        let (subject, decision) = (commit.subject, commit.decision);
        let heard = subject.last_message.max(decision.heard);
        let ended = decision.changes.iter().filter_map(|change| {
            let has_ended = change.kind == ChangeKind::Cleared;
            has_ended.then(|| change.alarm.clone())
        });
        let mut remembered = CommittedState {
            epoch: subject.epoch,
            state: decision.state.clone(),
            last_message: if decision.alive { Some(at) } else { heard },
            ended: ended.collect(),
        };
        let mut devices = self.devices();
        if let Some(known) = devices.get(&subject.device) {
            // Two tasks may have noted their commits in the other order. A device that was lost or retired begins with a
            // low `rev` again, and above every seq.
            let is_newer = |of: fn(&DeviceState) -> u64| of(&known.state) >= of(&remembered.state);
            if known.epoch == subject.epoch
                && is_newer(|state| state.rev)
                && is_newer(|state| state.position.seq)
            {
                return;
            }
            let mut ended = known.ended.clone();
            ended.append(&mut remembered.ended);
            ended.drain(..ended.len().saturating_sub(CommittedState::MAX_ENDED));
            remembered.ended = ended;
        }
        let remembered = Arc::new(remembered);
        if let Some(known) = devices.get_mut(&subject.device) {
            *known = remembered;
        } else if devices.len() < MAX_DEVICES {
            devices.insert(subject.device.clone(), remembered);
        } else if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::error!(
                devices = MAX_DEVICES,
                "too many devices to remember: what Redis loses of further ones stays lost"
            );
        }
    }

    /// The device was retired in this epoch. What is remembered from an earlier one may have been lost instead.
    pub(super) fn forget(&self, device: &DeviceId, epoch: Epoch) {
        let mut devices = self.devices();
        if devices
            .get(device)
            .is_some_and(|known| known.epoch == epoch)
        {
            devices.remove(device);
        }
    }

    /// Nothing more can be done for the device in its partition's present epoch.
    pub(super) fn give_up(&self, device: &DeviceId, epoch: Epoch) {
        if let Some(remembered) = self.devices().get_mut(device) {
            Arc::make_mut(remembered).epoch = epoch;
        }
    }

    /// Devices remembered in these partitions.
    pub(super) fn in_partitions(&self, partitions: &[u16], count: u16) -> Vec<DeviceId> {
        let devices = self.devices();
        let is_there = |device: &&DeviceId| partitions.contains(&device.partition(count));
        devices.keys().filter(is_there).cloned().collect()
    }

    /// What is remembered of the device and missing from its stored state. A memory that is not is brought up to date:
    /// under the present epoch it is asked no more, and where others have gone on it has nothing to say.
    pub(super) fn missing_from(&self, stored: &StoredDevice) -> Option<Arc<CommittedState>> {
        let mut devices = self.devices();
        let remembered = devices.get_mut(&stored.device)?;
        if remembered.is_missing_from(stored) {
            return Some(Arc::clone(remembered));
        }
        if remembered.epoch != stored.epoch {
            if remembered.state.position == stored.state.position {
                Arc::make_mut(remembered).epoch = stored.epoch;
            } else {
                devices.remove(&stored.device);
            }
        }
        None
    }

    /// Devices remembered under another epoch than the one of their partition, where that is known.
    pub(super) fn in_other_epochs(&self, epochs: &[Option<Epoch>]) -> Vec<DeviceId> {
        let Ok(partitions) = u16::try_from(epochs.len()) else {
            return Vec::new();
        };
        let devices = self.devices();
        let elsewhere = devices.iter().filter(|(device, remembered)| {
            let epoch = epochs.get(usize::from(device.partition(partitions)));
            epoch.is_some_and(|epoch| epoch.is_some_and(|epoch| epoch != remembered.epoch))
        });
        elsewhere.map(|(device, _)| device.clone()).collect()
    }

    fn devices(&self) -> MutexGuard<'_, HashMap<DeviceId, Arc<CommittedState>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

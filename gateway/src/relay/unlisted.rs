//! Devices that clients wait for although they are not in the device list: they have sent nothing yet, or do not exist.
//!
//! They get no channel in Redis. Instead, one task looks at their partitions several times a second and asks for the devices
//! that were listed since its last look. The cost depends on those, not on how many names clients wait for.
//!
//! ```text
//! subscribed ── not listed ──▶ waits here ── listed ──▶ gets a channel, and what it sent since is read from its stream
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::store::{PartitionMark, Store, StoreError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::command::ShardCommand;
use super::shard_senders::ShardSenders;
use crate::spare_capacity::shrink_set;

/// How often the partitions of unlisted devices are looked at: the first reading of a device is late by at most this.
const INTERVAL: Duration = Duration::from_millis(250);
/// Maximum number of devices that are looked up in one round trip.
const CHUNK: usize = 500;

/// The devices that clients of this replica wait for. Clones share them. Bounded by `--max-unlisted`.
#[derive(Clone, Debug)]
pub(super) struct UnlistedDevices {
    partitions: u16,
    // A std mutex: held for one insertion or removal, or one pass over the partitions, never across an await.
    waiting: Arc<Mutex<HashMap<u16, WaitingDevices>>>,
}

/// The devices of one partition.
#[derive(Debug, Default)]
struct WaitingDevices {
    devices: HashSet<DeviceId>,
    /// Those that were added since the last look began.
    new: HashSet<DeviceId>,
    /// How far the partition was looked through.
    mark: Option<PartitionMark>,
}

impl UnlistedDevices {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            partitions: store.partitions(),
            waiting: Arc::default(),
        }
    }

    /// Waits for the device, which was not listed a moment ago.
    pub(super) fn add(&self, device: &DeviceId) {
        let mut waiting = self.waiting();
        let partition = waiting.entry(device.partition(self.partitions));
        let partition = partition.or_default();
        partition.devices.insert(device.clone());
        partition.new.insert(device.clone());
    }

    /// Waits for the device no longer. Returns whether it was waited for.
    pub(super) fn remove(&self, device: &DeviceId) -> bool {
        let mut waiting = self.waiting();
        let number = device.partition(self.partitions);
        let Some(partition) = waiting.get_mut(&number) else {
            return false;
        };
        partition.new.remove(device);
        let was_waiting = partition.devices.remove(device);
        if partition.devices.is_empty() {
            waiting.remove(&number);
        }
        was_waiting
    }

    pub(super) fn count(&self) -> usize {
        let waiting = self.waiting();
        waiting
            .values()
            .map(|partition| partition.devices.len())
            .sum()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u16, WaitingDevices>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for the devices until `finish`, and reports those that appear to their shards.
    pub(super) async fn watch(
        self,
        store: Store,
        shards: ShardSenders,
        finish: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = finish.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            match self.look(&store).await {
                Ok(appeared) => {
                    for device in appeared {
                        if self.remove(&device) {
                            let appeared = |channel| ShardCommand::Appeared { channel };
                            shards.send(&device, appeared).await;
                        }
                    }
                }
                Err(error) => {
                    let error = error_chain(&error);
                    tracing::debug!(error, "cannot look for new devices, trying again");
                }
            }
        }
    }

    /// Returns the devices that are listed by now.
    ///
    /// A device that is new here is looked up after its partition's mark was read. So if it is listed before the look-up, that
    /// shows it, and later it gets a higher number than the mark: none is missed. One that is added during the look is new at the
    /// next look, even if it was waited for before.
    async fn look(&self, store: &Store) -> Result<Vec<DeviceId>, StoreError> {
        let mut new = HashSet::new();
        let mut marks = Vec::new();
        for (number, partition) in &mut *self.waiting() {
            shrink_set(&mut partition.devices);
            new.extend(std::mem::take(&mut partition.new));
            marks.push((*number, partition.mark));
        }
        let found = self.look_up(store, &new, &marks).await;
        if found.is_err() {
            self.restore_new(new);
        }
        found
    }

    /// Marks devices as new again after a look that failed, unless they are no longer waited for.
    fn restore_new(&self, new: HashSet<DeviceId>) {
        let mut waiting = self.waiting();
        for device in new {
            let partition = waiting.get_mut(&device.partition(self.partitions));
            if let Some(partition) = partition
                && partition.devices.contains(&device)
            {
                partition.new.insert(device);
            }
        }
    }

    async fn look_up(
        &self,
        store: &Store,
        new: &HashSet<DeviceId>,
        marks: &[(u16, Option<PartitionMark>)],
    ) -> Result<Vec<DeviceId>, StoreError> {
        if marks.is_empty() {
            return Ok(Vec::new());
        }
        let listings = store.new_listings(marks).await?;
        let mut appeared = Vec::new();
        let mut unsure = Vec::new();
        {
            let waiting = self.waiting();
            for ((number, _), listings) in marks.iter().zip(&listings) {
                let Some(partition) = waiting.get(number) else {
                    continue;
                };
                match &listings.devices {
                    Some(devices) => {
                        let is_waiting = |device: &&DeviceId| partition.devices.contains(*device);
                        appeared.extend(devices.iter().filter(is_waiting).cloned());
                        unsure.extend(new.intersection(&partition.devices).cloned());
                    }
                    None => unsure.extend(partition.devices.iter().cloned()),
                }
            }
        }
        for chunk in unsure.chunks(CHUNK) {
            let listed = store.are_listed(chunk).await?;
            let found = chunk.iter().zip(listed).filter(|(_, is_listed)| *is_listed);
            appeared.extend(found.map(|(device, _)| device.clone()));
        }
        // Only now, so that a look that failed is repeated as a whole.
        let mut waiting = self.waiting();
        for ((number, _), listings) in marks.iter().zip(listings) {
            if let Some(partition) = waiting.get_mut(number) {
                partition.mark = listings.mark;
            }
        }
        Ok(appeared)
    }
}

#[cfg(test)]
mod tests;

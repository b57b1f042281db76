//! Finds out whether a device is listed before it gets a channel in Redis, so that names that do not exist get none.

use std::sync::Arc;
use std::time::Instant;

use shared::clock::Time;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::store::StoreError;

use super::channel_queue::ChannelQueue;
use super::{Completed, Shard};
use crate::interest::{CHUNK, Channel};
use crate::relay::command::Join;
use crate::relay::device::{Listing, WatchedDevice};
use crate::socket::refusal::Refusal;

/// The devices that wait to be looked up in the device list.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    waiting: ChannelQueue,
    /// A look-up is under way. The next one takes everything that waits by then.
    is_under_way: bool,
}

impl Lookups {
    /// Returns memory that it needed for a flood of devices. To be called regularly.
    pub(super) fn shrink(&mut self) {
        self.waiting.shrink();
    }
}

impl Shard {
    pub(super) fn join(&mut self, channel: &Channel, join: Join) {
        let interest = &self.interest;
        let device = self.devices.entry(Arc::clone(channel)).or_insert_with(|| {
            // A channel that lingers belongs to a device that was listed.
            let listing = if interest.contains(channel) {
                Listing::Listed
            } else {
                Listing::Unknown
            };
            WatchedDevice::new(join.device.clone(), listing)
        });
        device.join(join);
        match device.listing {
            Listing::Unknown => self.lookups.waiting.push(channel),
            Listing::Unlisted => self.refuse_beyond_bounds(channel),
            Listing::Listed => {
                self.inputs.watches.record_listed(device.device());
                self.interest.watch(channel);
            }
        }
        self.load_if_needed(channel);
    }

    /// Watches a listed device for every client.
    pub(super) fn pin(&mut self, channel: &Channel, device: DeviceId, since: Option<Time>) {
        let watched = self.devices.entry(Arc::clone(channel));
        watched
            .or_insert_with(|| WatchedDevice::new(device, Listing::Unknown))
            .pin(since);
        self.list(channel);
        self.load_if_needed(channel);
    }

    /// Gives a listed device its channel. What it sent before the channel is confirmed is read from its stream then.
    pub(super) fn list(&mut self, channel: &Channel) {
        // Its clients may have left since it was looked up.
        if let Some(device) = self.devices.get_mut(channel) {
            self.lookups.waiting.remove(channel);
            if device.listing == Listing::Unlisted {
                self.inputs.unlisted.remove(device.device());
            }
            device.listing = Listing::Listed;
            self.inputs.watches.record_listed(device.device());
            self.interest.watch(channel);
        }
    }

    /// Handles a device that was removed from the watched ones.
    pub(super) fn stop_watching(&mut self, channel: &Channel, device: &WatchedDevice) {
        match device.listing {
            Listing::Unknown => self.lookups.waiting.remove(channel),
            Listing::Unlisted => {
                self.inputs.unlisted.remove(device.device());
            }
            Listing::Listed => self.interest.unwatch(channel, Instant::now()),
        }
    }

    /// Returns whether a load of the device is needed, and would not miss an event: those of a listed device arrive, and those of
    /// an unlisted one are found when it is listed.
    pub(super) fn can_load(&self, channel: &Channel, device: &WatchedDevice) -> bool {
        let is_safe = match device.listing {
            Listing::Unknown => false,
            Listing::Unlisted => true,
            Listing::Listed => self.interest.is_confirmed(channel),
        };
        is_safe && device.needs_load()
    }

    /// Looks up the devices that wait for it, in one round trip.
    pub(super) fn begin_lookup(&mut self) {
        if self.lookups.is_under_way || self.loads.paused_until().is_some() {
            return;
        }
        let mut channels = Vec::new();
        let mut devices = Vec::new();
        while channels.len() < CHUNK
            && let Some(channel) = self.lookups.waiting.pop()
        {
            if let Some(device) = self.devices.get(&channel) {
                devices.push(device.device().clone());
                channels.push(channel);
            }
        }
        if channels.is_empty() {
            return;
        }
        self.lookups.is_under_way = true;
        let store = self.store.clone();
        self.work.push(Box::pin(async move {
            let result = store.are_listed(&devices).await;
            Completed::Lookup { channels, result }
        }));
    }

    pub(super) fn finish_lookup(
        &mut self,
        channels: &[Channel],
        result: Result<Vec<bool>, StoreError>,
    ) {
        self.lookups.is_under_way = false;
        let listed = match result {
            Ok(listed) => listed,
            Err(error) => {
                let error = error_chain(&error);
                tracing::debug!(error, "cannot look up devices, trying again");
                for channel in channels {
                    let device = self.devices.get(channel);
                    if device.is_some_and(|device| device.listing == Listing::Unknown) {
                        self.lookups.waiting.push(channel);
                    }
                }
                self.loads.pause();
                return;
            }
        };
        for (channel, is_listed) in channels.iter().zip(listed) {
            let Some(device) = self.devices.get_mut(channel) else {
                continue;
            };
            if device.listing != Listing::Unknown {
                continue;
            }
            if is_listed {
                self.list(channel);
            } else {
                device.listing = Listing::Unlisted;
                self.inputs.unlisted.add(device.device());
                self.lookups.waiting.remove(channel);
                self.refuse_beyond_bounds(channel);
                self.load_if_needed(channel);
            }
        }
    }

    /// Refuses the subscriptions to a device that is not listed, if their addresses or all clients wait for too many of them.
    fn refuse_beyond_bounds(&mut self, channel: &Channel) {
        let Some(device) = self.devices.get_mut(channel) else {
            return;
        };
        self.inputs.watches.record_unlisted(device.device());
        for join in device.take_refused() {
            let Some(refused) = join.watch.refused() else {
                continue;
            };
            let refusal = Refusal::from(refused);
            let counts = &self.inputs.socket_metrics.commands_refused;
            counts.increment(refusal.code());
            if let Some(ack) = join.ack {
                let reply = refusal.to_reply();
                join.client.reply(Some(&join.device), ack, reply);
            }
        }
        self.forget_if_unused(channel);
    }
}

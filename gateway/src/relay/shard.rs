//! One shard: the task that owns its devices, so that nothing sent about a device overtakes anything else about it.

mod awaited_answers;
mod channel_queue;
mod link;
mod listing;
mod load_queue;
mod receiving;
mod retry;
mod subscribing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use shared::error_chain::error_chain;
use shared::position::Epoch;
use shared::rate_limit::RateLimit;
use shared::redis_watch::RedisObservation;
use shared::store::{Snapshot, Store, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::acks;
use super::command::ShardCommand;
use super::device::{Listing, WatchedDevice};
use super::fan_out::FanOutContext;
use super::unlisted::UnlistedDevices;
use super::watch_counts::{ShardWatchCounts, WatchCounts};
use crate::client::ClientId;
use crate::interest::{Channel, Interest};
use crate::metrics::SocketMetrics;
use crate::spare_capacity::shrink_map;
use crate::watches::Watches;
use link::Link;
use listing::Lookups;
use load_queue::LoadQueue;
use subscribing::ChangesPause;

/// After an event for more clients than this, other tasks get their turn.
const LARGE_FAN_OUT: usize = 256;
/// How often staleness, lingering subscriptions and subscriptions of clients that are gone are checked.
const TICK: Duration = Duration::from_secs(1);

/// The inputs of a shard.
pub(super) struct ShardInputs {
    pub(super) commands: mpsc::Receiver<ShardCommand>,
    pub(super) observations: watch::Receiver<RedisObservation>,
    pub(super) unlisted: UnlistedDevices,
    /// Learns here which devices are listed.
    pub(super) watches: Watches,
    pub(super) socket_metrics: Arc<SocketMetrics>,
}

pub(super) struct Shard {
    store: Store,
    fan_out: FanOutContext,
    /// Limits log lines about events that cannot be read, as there could be one per reading.
    unreadable_events: RateLimit,
    /// Limits log lines about devices that cannot be read.
    unreadable_devices: RateLimit,
    /// Limits log lines about subscriptions that Redis did not confirm.
    unconfirmed: RateLimit,
    inputs: ShardInputs,
    link: Link,
    /// Events are dropped until the shard has caught up with its connection.
    is_skipping: bool,
    /// The partitions' epochs, as last observed.
    epochs: Arc<[Option<Epoch>]>,
    interest: Interest,
    changes_pause: ChangesPause,
    devices: HashMap<Channel, WatchedDevice>,
    lookups: Lookups,
    loads: LoadQueue,
    /// Subscriptions, look-ups and loads under way.
    work: FuturesUnordered<BoxFuture<'static, Completed>>,
    counts: Arc<[ShardWatchCounts]>,
    /// Index of this shard in `counts`.
    number: usize,
}

/// Work that ended, with its result.
enum Completed {
    Lookup {
        channels: Vec<Channel>,
        /// Whether each device is listed.
        result: Result<Vec<bool>, StoreError>,
    },
    Load {
        channel: Channel,
        id: u64,
        result: Result<Box<Snapshot>, StoreError>,
    },
    /// The pause after which a device that could not be read is tried again.
    Pause { channel: Channel },
}

impl Shard {
    pub(super) fn new(
        number: usize,
        store: Store,
        fan_out: FanOutContext,
        interest: Interest,
        inputs: ShardInputs,
        counts: Arc<[ShardWatchCounts]>,
    ) -> Self {
        Self {
            link: Link::new(store.clone(), number, inputs.observations.clone()),
            is_skipping: false,
            store,
            fan_out,
            unreadable_events: RateLimit::one_per_ten_seconds(),
            unreadable_devices: RateLimit::one_per_ten_seconds(),
            unconfirmed: RateLimit::one_per_ten_seconds(),
            inputs,
            epochs: Arc::default(),
            interest,
            changes_pause: ChangesPause::new(),
            devices: HashMap::new(),
            lookups: Lookups::default(),
            loads: LoadQueue::new(),
            work: FuturesUnordered::new(),
            counts,
            number,
        }
    }

    pub(super) async fn run(mut self, finish: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.begin_work();
            let paused_until = self.loads.paused_until();
            let changes_paused_until = self.changes_pause.until();
            tokio::select! {
                () = finish.cancelled() => return Ok(()),
                event = self.link.ready() => {
                    if self.handle_link(event) > LARGE_FAN_OUT {
                        tokio::task::yield_now().await;
                    }
                }
                command = self.inputs.commands.recv() => match command {
                    Some(command) => self.carry_out(command),
                    None => return Ok(()),
                },
                Some(completed) = self.work.next() => self.complete(completed),
                // Never happens without the task that watches Redis.
                Ok(()) = self.inputs.observations.changed() => self.observe(),
                _ = ticks.tick() => self.tick(),
                () = sleep_until(paused_until) => self.loads.resume(),
                () = sleep_until(changes_paused_until) => self.changes_pause.end(),
            }
        }
    }

    fn carry_out(&mut self, command: ShardCommand) {
        match command {
            ShardCommand::Join { channel, join } => {
                if join.client.closed().is_cancelled() {
                    return;
                }
                self.join(&channel, join);
            }
            ShardCommand::Leave {
                channel,
                client,
                device,
                ack,
            } => {
                if let Some(watched) = self.devices.get_mut(&channel) {
                    watched.leave(&client);
                    self.forget_if_unused(&channel);
                }
                if let Some(ack) = ack {
                    client.reply(Some(&device), ack, acks::unsubscribed(&device));
                }
            }
            ShardCommand::RemoveClient { channels, client } => {
                self.remove_client(&channels, client);
            }
            ShardCommand::CountWatchers { reply } => {
                let watched = self.devices.values();
                let watched = watched.filter(|device| device.member_count() > 0);
                let count = |device: &WatchedDevice| {
                    (device.device().clone(), device.member_count() as u64)
                };
                // The task that asked may have ended.
                reply.send(watched.map(count).collect()).ok();
            }
            ShardCommand::Pin {
                channel,
                device,
                since,
            } => {
                self.pin(&channel, device, since);
            }
            ShardCommand::Appeared { channel } => self.list(&channel),
        }
    }

    fn remove_client(&mut self, channels: &[Channel], client: ClientId) {
        for channel in channels {
            if let Some(device) = self.devices.get_mut(channel) {
                device.remove(client);
                self.forget_if_unused(channel);
            }
        }
    }

    fn forget_if_unused(&mut self, channel: &Channel) {
        let device = self.devices.get(channel);
        if device.is_some_and(WatchedDevice::is_unused)
            && let Some(device) = self.devices.remove(channel)
        {
            self.loads.remove(channel);
            self.stop_watching(channel, &device);
        }
    }

    fn complete(&mut self, completed: Completed) {
        match completed {
            Completed::Lookup { channels, result } => self.finish_lookup(&channels, result),
            Completed::Load {
                channel,
                id,
                result,
            } => {
                self.loads.end();
                self.finish_load(&channel, id, result);
            }
            Completed::Pause { channel } => self.load_if_needed(&channel),
        }
    }

    fn finish_load(
        &mut self,
        channel: &Channel,
        id: u64,
        result: Result<Box<Snapshot>, StoreError>,
    ) {
        let Some(device) = self.devices.get_mut(channel) else {
            return;
        };
        let now = self.fan_out.clock.now();
        let was_behind = device.is_behind();
        match result {
            Ok(snapshot) => {
                self.loads.reset_backoff();
                device.finish_load(id, &snapshot, now, &self.fan_out);
                if device.listing == Listing::Unlisted && snapshot.state.is_some() {
                    self.list(channel);
                }
                self.load_if_needed(channel);
            }
            Err(StoreError::Refused(reason)) => {
                if let Some(suppressed) = self.unreadable_devices.allow(now) {
                    tracing::warn!(device.id = %device.device().for_log(), reason, held_back = suppressed, "cannot read a device");
                }
                device.fail_load(id, true);
                let channel = Arc::clone(channel);
                let pause = self.loads.device_pause() + TICK;
                self.work.push(Box::pin(async move {
                    tokio::time::sleep(pause).await;
                    Completed::Pause { channel }
                }));
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::debug!(error, device.id = %device.device().for_log(), "cannot load a device, trying again");
                device.fail_load(id, false);
                self.loads.pause();
                self.load_if_needed(channel);
            }
        }
        let is_behind = self
            .devices
            .get(channel)
            .is_some_and(WatchedDevice::is_behind);
        if was_behind && !is_behind {
            self.counts[self.number].record_caught_up();
        }
        self.forget_if_unused(channel);
    }

    fn load_if_needed(&mut self, channel: &Channel) {
        let device = self.devices.get(channel);
        if device.is_some_and(|device| self.can_load(channel, device)) {
            self.loads.push(channel);
        }
    }

    fn begin_work(&mut self) {
        self.begin_changes();
        self.begin_lookup();
        while let Some(channel) = self.loads.pop() {
            self.begin_load(channel);
        }
    }

    fn begin_load(&mut self, channel: Channel) {
        let device = self.devices.get(&channel);
        if !device.is_some_and(|device| self.can_load(&channel, device)) {
            return;
        }
        let Some(device) = self.devices.get_mut(&channel) else {
            return;
        };
        let id = self.loads.begin();
        let since = device.begin_load(id);
        let device = device.device().clone();
        let store = self.store.clone();
        self.work.push(Box::pin(async move {
            let result = store.snapshot(&device, since).await.map(Box::new);
            Completed::Load {
                channel,
                id,
                result,
            }
        }));
    }

    /// Assumes that events of every device were missed.
    fn assume_gaps(&mut self) {
        let channels: Vec<Channel> = self.devices.keys().cloned().collect();
        for channel in channels {
            if let Some(device) = self.devices.get_mut(&channel) {
                device.assume_gap();
            }
            self.load_if_needed(&channel);
        }
    }

    /// Publishes the present numbers for the gauges and the status.
    fn store_counts(&self) {
        let mut counts = WatchCounts {
            channels: self.interest.len() as u64,
            lingering: self.interest.lingering() as u64,
            ..WatchCounts::default()
        };
        for device in self.devices.values() {
            let members = device.member_count() as u64;
            counts.rooms += u64::from(members > 0);
            counts.subscriptions += members;
            counts.unconfirmed += u64::from(device.is_behind());
        }
        self.counts[self.number].store(counts);
    }

    fn tick(&mut self) {
        self.store_counts();
        let now = self.fan_out.clock.now();
        let can_read = self.link.is_open() && self.loads.paused_until().is_none();
        let mut unused = Vec::new();
        for (channel, device) in &mut self.devices {
            device.remove_closed_joiners();
            if device.is_unused() {
                unused.push(Arc::clone(channel));
                continue;
            }
            let is_confirmed = self.interest.is_confirmed(channel);
            device.check_time(now, can_read && is_confirmed);
            let can_load = is_confirmed || device.listing == Listing::Unlisted;
            if device.needs_load() && can_load {
                self.loads.push(channel);
            }
        }
        for channel in unused {
            self.forget_if_unused(&channel);
        }
        shrink_map(&mut self.devices);
        self.lookups.shrink();
        self.loads.shrink();
        self.interest.shrink();
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

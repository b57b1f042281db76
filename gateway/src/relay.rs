//! Sends events from Redis to the clients. Each device belongs to one task, which sends all its events, so that they stay in
//! order.
//!
//! ```text
//!              Redis pushes published events: one connection per shard
//!                        ▼
//! commands ─▶ shards (one task each) ─▶ device: members, joiners, repair ─▶ client
//! ```
//!
//! The devices are divided among a few shards. A shard subscribes to the channels of its watched devices and waits for the
//! confirmation. Then it reads the events that it may have missed from the events streams.

mod acks;
mod broadcast_all;
mod canary_check;
pub(crate) mod command;
mod device;
mod fan_out;
mod shard;
mod shard_senders;
mod spans;
mod unlisted;
pub(crate) mod watch_counts;

use shared::device::DeviceId;
use shared::lifecycle::Lifecycle;
use shared::redis_watch::RedisObservation;
use shared::store::Store;
use shared::trace::SpanRecorder;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::clients::Clients;
use crate::interest::{Interest, Linger};
use crate::metrics::Metrics;
use crate::watches::Watches;
use command::{Join, ShardCommand};
use fan_out::FanOutContext;
use shard::{Shard, ShardInputs};
use shard_senders::ShardSenders;
use spans::EventSpans;
use unlisted::UnlistedDevices;
use watch_counts::{ShardWatchCounts, WatchCounts};

/// Maximum number of shards: each is one task with one connection to Redis. There are not more than processors, since a further
/// connection only costs: Redis writes to each of them.
const MAX_SHARDS: usize = 4;
/// Maximum number of commands that wait for one shard. When it is reached, the client's task waits.
const MAX_COMMANDS: usize = 1024;

/// Settings of the relay.
#[derive(Clone, Debug)]
pub(crate) struct RelayConfig {
    /// How long, and how many, Redis subscriptions are kept after their last watcher has left.
    pub(crate) linger: Linger,
    /// Whether every client also gets every reading of every device.
    pub(crate) broadcast_all: bool,
    /// Records the spans of events that were late or unreadable.
    pub(crate) recorder: SpanRecorder,
    /// The bounds of watched devices.
    pub(crate) watches: Watches,
}

/// The fan-out of this replica. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    shards: ShardSenders,
    counts: Arc<[ShardWatchCounts]>,
    unlisted: UnlistedDevices,
}

impl Relay {
    /// Starts the tasks. They end when `finish` is cancelled.
    pub(crate) fn start(
        store: &Store,
        clients: &Clients,
        config: &RelayConfig,
        metrics: &Metrics,
        observations: &watch::Receiver<RedisObservation>,
        lifecycle: &Lifecycle,
        finish: &CancellationToken,
    ) -> Self {
        let shards = shard_count();
        let counts: Arc<[ShardWatchCounts]> =
            (0..shards).map(|_| ShardWatchCounts::default()).collect();
        let unlisted = UnlistedDevices::new(store);
        let mut senders = Vec::with_capacity(shards);
        for number in 0..shards {
            let (commands_tx, commands) = mpsc::channel(MAX_COMMANDS);
            senders.push(commands_tx);
            let fan_out = FanOutContext {
                clients: clients.clone(),
                broadcast_all: config.broadcast_all,
                clock: store.clock(),
                spans: EventSpans::new(config.recorder.clone()),
                metrics: Arc::clone(&metrics.relay),
            };
            let inputs = ShardInputs {
                commands,
                observations: observations.clone(),
                unlisted: unlisted.clone(),
                watches: config.watches.clone(),
                socket_metrics: Arc::clone(&metrics.socket),
            };
            // Rounded up, so that a small bound does not become none.
            let interest = Interest::new(Linger {
                max: config.linger.max.div_ceil(shards),
                ..config.linger
            });
            let counts = Arc::clone(&counts);
            let shard = Shard::new(number, store.clone(), fan_out, interest, inputs, counts);
            lifecycle.spawn("relay shard", shard.run(finish.clone()));
        }
        let shards = ShardSenders::new(store.clone(), senders);
        let watching = unlisted.clone();
        let watching = watching.watch(store.clone(), shards.clone(), finish.clone());
        lifecycle.spawn("unlisted devices", watching);
        if config.broadcast_all {
            let started = store.clock().now();
            let pinning =
                broadcast_all::pin_all(store.clone(), shards.clone(), started, finish.clone());
            lifecycle.spawn("broadcast of all devices", pinning);
        }
        Self {
            shards,
            counts,
            unlisted,
        }
    }

    /// Returns whether every Redis connection that receives published events is open.
    pub(crate) fn is_connected(&self) -> bool {
        self.connections().all(|is_open| is_open)
    }

    /// Returns for each Redis connection that receives published events whether it is open.
    pub(crate) fn connections(&self) -> impl Iterator<Item = bool> {
        self.counts.iter().map(ShardWatchCounts::is_connected)
    }

    /// Answers a subscription, and sends the client the device's events from then on.
    pub(crate) async fn join(&self, join: Join) {
        let device = join.device.clone();
        let command = |channel| ShardCommand::Join { channel, join };
        self.shards.send(&device, command).await;
    }

    /// Ends a subscription and replies, if the client expects it.
    pub(crate) async fn leave(&self, client: &Arc<Client>, device: DeviceId, ack: Option<i64>) {
        let client = Arc::clone(client);
        let command = |channel| ShardCommand::Leave {
            channel,
            client,
            device: device.clone(),
            ack,
        };
        self.shards.send(&device, command).await;
    }

    /// Ends the subscriptions of a client that disconnected.
    pub(crate) async fn remove_client(&self, client: &Client, devices: HashSet<DeviceId>) {
        self.shards.remove_client(client.id(), devices).await;
    }

    /// Returns how many clients of this replica watch each device, in no particular order.
    pub(crate) async fn watchers(&self) -> Vec<(DeviceId, u64)> {
        self.shards.watchers().await
    }

    /// Returns the number of devices that clients wait for although they are not listed.
    pub(crate) fn unlisted(&self) -> usize {
        self.unlisted.count()
    }

    /// Returns the numbers of watched devices and subscriptions. They are at most a second old.
    pub(crate) fn watch_counts(&self) -> WatchCounts {
        WatchCounts::sum(&*self.counts)
    }
}

fn shard_count() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.min(MAX_SHARDS)
}

#[cfg(test)]
mod tests;

//! Counts of watched devices and subscriptions, for the gauges.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The counts of one shard at its last tick.
#[derive(Debug, Default)]
pub(super) struct ShardWatchCounts {
    rooms: AtomicU64,
    subscriptions: AtomicU64,
    channels: AtomicU64,
    lingering: AtomicU64,
    unconfirmed: AtomicU64,
    is_connected: AtomicBool,
}

/// The counts of one shard, or of all together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WatchCounts {
    /// Devices with members.
    pub(crate) rooms: u64,
    /// Members of all devices.
    pub(crate) subscriptions: u64,
    /// Subscribed Redis channels.
    pub(crate) channels: u64,
    /// Those among them that nobody watches any more.
    pub(crate) lingering: u64,
    /// Watched devices whose subscription in Redis was lost, and whose clients do not have every event since.
    pub(crate) unconfirmed: u64,
}

impl ShardWatchCounts {
    pub(super) fn store(&self, counts: WatchCounts) {
        self.rooms.store(counts.rooms, Ordering::Relaxed);
        self.subscriptions
            .store(counts.subscriptions, Ordering::Relaxed);
        self.channels.store(counts.channels, Ordering::Relaxed);
        self.lingering.store(counts.lingering, Ordering::Relaxed);
        self.unconfirmed
            .store(counts.unconfirmed, Ordering::Relaxed);
    }

    /// Counts a device whose clients have every event again. The next [`ShardWatchCounts::store`] counts anew.
    pub(super) fn record_caught_up(&self) {
        let less = |count: u64| Some(count.saturating_sub(1));
        self.unconfirmed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .ok();
    }

    /// Records whether the shard's connection for published events is open.
    pub(super) fn record_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
    }

    /// Returns whether the shard's connection for published events is open.
    pub(super) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    pub(super) fn load(&self) -> WatchCounts {
        WatchCounts {
            rooms: self.rooms.load(Ordering::Relaxed),
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
            channels: self.channels.load(Ordering::Relaxed),
            lingering: self.lingering.load(Ordering::Relaxed),
            unconfirmed: self.unconfirmed.load(Ordering::Relaxed),
        }
    }
}

impl WatchCounts {
    /// Sums the counts of all shards.
    pub(super) fn sum<'a>(shards: impl IntoIterator<Item = &'a ShardWatchCounts>) -> Self {
        shards.into_iter().fold(Self::default(), |sum, shard| {
            let counts = shard.load();
            Self {
                rooms: sum.rooms + counts.rooms,
                subscriptions: sum.subscriptions + counts.subscriptions,
                channels: sum.channels + counts.channels,
                lingering: sum.lingering + counts.lingering,
                unconfirmed: sum.unconfirmed + counts.unconfirmed,
            }
        })
    }
}

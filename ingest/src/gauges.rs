//! Metrics whose values are read from other parts of the service at each scrape; `deploy/METRICS.md` lists them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shared::clock::Time;
use shared::metrics::Meters;
use shared::rollup::Levels;
use shared::store::{Places, Store};
use tokio::sync::watch;

use crate::heartbeat::LastHeartbeat;
use crate::mqtt::status::BrokerStatus;
use crate::rollups::RollupTotals;
use crate::trimming::HistoryTotals;

/// The parts of the service whose values are read.
pub(crate) struct Gauges {
    pub(crate) broker: BrokerStatus,
    pub(crate) store: Store,
    pub(crate) heartbeat: watch::Receiver<LastHeartbeat>,
    /// How many devices there may be.
    pub(crate) places: Places,
    /// What the history takes.
    pub(crate) history: Arc<HistoryTotals>,
    /// What is made of it.
    pub(crate) levels: Levels,
    /// What was made of it.
    pub(crate) rollups: Arc<RollupTotals>,
}

impl Gauges {
    pub(crate) fn register(self, meters: &Meters) {
        let of_broker = |read: fn(&BrokerStatus) -> u64| {
            let broker = self.broker.clone();
            move || read(&broker)
        };
        meters.observed_count(
            "ingest.messages.received",
            "Messages received from the broker, without those counted as lost.",
            of_broker(BrokerStatus::received),
        );
        meters.observed_count(
            "ingest.messages.lost",
            "QoS 0 messages dropped because they arrived faster than they were committed.",
            of_broker(BrokerStatus::lost),
        );
        meters.gauge(
            "ingest.messages.queued",
            "Received messages that wait to be processed.",
            of_broker(|broker| broker.queued() as u64),
        );
        meters.gauge(
            "ingest.messages.unacknowledged",
            "Messages received and not yet acknowledged to the broker: the used part of the receive window.",
            of_broker(|broker| broker.unacknowledged() as u64),
        );
        meters.gauge(
            "ingest.broker.link.up",
            "1 while the subscription at the broker is active, else 0.",
            of_broker(|broker| u64::from(broker.is_subscribed())),
        );
        let heartbeat = self.heartbeat.clone();
        meters.gauge(
            "ingest.broker.quiet",
            "1 while the subscription has brought no message for --quiet-after although detectors are known, else 0.",
            move || u64::from(heartbeat.borrow().is_quiet),
        );
        meters.observed_count(
            "ingest.broker.connections",
            "Connections made to the broker.",
            of_broker(BrokerStatus::connections),
        );
        let heartbeat = self.heartbeat.clone();
        meters.gauge(
            "ingest.devices.room.left",
            "1 while messages of all unknown devices are accepted, 0 once `--max-devices` is reached, or while the key of the places cannot be used.",
            move || u64::from(heartbeat.borrow().places.accepts_all()),
        );
        let heartbeat = self.heartbeat.clone();
        meters.gauge(
            "ingest.devices.places.taken",
            "Places of `--max-devices` and `--alarm-reserve` that are taken, by stored devices and by those about to be stored.",
            move || heartbeat.borrow().places_taken,
        );
        let places = self.places.devices + self.places.reserve;
        meters.gauge(
            "ingest.devices.places",
            "Places for devices: `--max-devices` and `--alarm-reserve` together.",
            move || places,
        );
        let heartbeat = self.heartbeat;
        meters.gauge(
            "ingest.redis.link.up",
            "1 while Redis answers, else 0.",
            move || u64::from(heartbeat.borrow().redis_up),
        );
        register_memory(meters, &self.store);
        register_history(meters, &self.history, &self.store);
        register_rollups(meters, &self.rollups, &self.history, &self.store);
        let block = self.levels.finest().map(|finest| finest.width);
        let block = block.map_or(0, |width| width.block_millis().unsigned_abs() / 1_000);
        meters.gauge(
            "ingest.rollups.block.seconds",
            "Length of a block of the finest rollups, the unit that is written. As far behind are the rollups just before its end. 0: there are none.",
            move || block,
        );
        let store = self.store.clone();
        meters.observed_count(
            "ingest.redis.connections",
            "Connections made to Redis for commits.",
            move || store.connections(),
        );
        let store = self.store;
        meters.observed_count(
            "ingest.reasserted.devices",
            "Devices written to Redis again because it had lost a state committed by this process.",
            move || store.reasserted(),
        );
    }
}

/// Registers the memory of Redis.
fn register_memory(meters: &Meters, store: &Store) {
    let full = store.clone();
    meters.gauge(
        "ingest.redis.full",
        "1 while Redis is at `maxmemory`: alarms are stored within `--memory-reserve`, history is not. Else 0.",
        move || u64::from(full.full().is_some()),
    );
    let used = store.clone();
    meters.gauge(
        "ingest.redis.memory.used",
        "Bytes that Redis uses of `maxmemory`.",
        move || used.memory().unwrap_or_default().used,
    );
    let max = store.clone();
    meters.gauge(
        "ingest.redis.memory.limit",
        "`maxmemory` of Redis in bytes; 0 if it has none.",
        move || max.memory().unwrap_or_default().max,
    );
}

/// Registers what the history of all devices takes.
fn register_history(meters: &Meters, history: &Arc<HistoryTotals>, store: &Store) {
    let read = |of: fn(&HistoryTotals) -> &AtomicU64| {
        let history = Arc::clone(history);
        move || of(&history).load(Ordering::Relaxed)
    };
    meters.gauge(
        "ingest.history.samples",
        "Samples in the history of all devices, as the last pass over them found.",
        read(|history| &history.samples),
    );
    meters.gauge(
        "ingest.history.bytes",
        "Bytes of the history of all devices in Redis, as the last pass over them found.",
        read(|history| &history.bytes),
    );
    meters.gauge(
        "ingest.history.limit",
        "Bytes that the history of all devices may take: `--history-bytes`, or its default.",
        read(|history| &history.limit),
    );
    meters.observed_count(
        "ingest.history.dropped",
        "Samples dropped before `--history-age` and `--history-max`, because `--history-bytes` was reached or Redis was nearly full.",
        read(|history| &history.dropped),
    );
    let store = store.clone();
    meters.observed_count(
        "ingest.history.unstored",
        "Samples that were not stored because Redis was full.",
        move || store.unstored_samples(),
    );
}

/// Registers the rollups of the history.
fn register_rollups(
    meters: &Meters,
    rollups: &Arc<RollupTotals>,
    history: &Arc<HistoryTotals>,
    store: &Store,
) {
    let written = Arc::clone(rollups);
    meters.observed_count(
        "ingest.rollups.blocks",
        "Blocks of rollups that this replica has written.",
        move || written.blocks.load(Ordering::Relaxed),
    );
    let refused = Arc::clone(rollups);
    meters.gauge(
        "ingest.rollups.refused",
        "Devices of which the last pass made no rollup, because a key of theirs cannot be used.",
        move || refused.refused.load(Ordering::Relaxed),
    );
    let (behind, clock) = (Arc::clone(rollups), store.clock());
    meters.gauge(
        "ingest.rollups.behind.seconds",
        "Seconds since the time up to which all rollups are made: up to one block of the finest level, and one pass. Before the first complete pass, since the start. 0: there are none.",
        move || match behind.until.load(Ordering::Relaxed) {
            0 => 0,
            until => clock.now().duration_since(Time::from_millis(until)).as_secs(),
        },
    );
    let bytes = Arc::clone(history);
    meters.gauge(
        "ingest.rollups.bytes",
        "Bytes of the rollups of all devices in Redis, as the last pass over them found. They count for `--history-bytes`.",
        move || bytes.rollup_bytes.load(Ordering::Relaxed),
    );
    let dropped = Arc::clone(history);
    meters.observed_count(
        "ingest.rollups.dropped",
        "Blocks of rollups dropped before their age, because they took half of `--history-bytes` or Redis was nearly full.",
        move || dropped.dropped_blocks.load(Ordering::Relaxed),
    );
}

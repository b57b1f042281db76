//! Every metric of this service; `deploy/METRICS.md` lists them. Labels are bounded: constants of the code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::alarm::Change;
use shared::metrics::{Count, Durations, LabelledCount, Meters};
use shared::store::Store;
use tokio::sync::watch;

use crate::mqtt::LinkStatus;
use crate::timers::Beat;

/// Why a message becomes a dead letter: the codes of unreadable payloads, and what only the store knows.
const REASONS: [&str; 9] = [
    "too_large",
    "not_utf8",
    "not_json",
    "too_deep",
    "not_an_object",
    "missing_serial",
    "bad_serial",
    "too_many_devices",
    "commit_failed",
];

/// Transitions of alarms by messages and deadlines; the others are made in a gateway.
const BY_DETECTORS: [&str; 6] = [
    "raised",
    "escalated",
    "de_escalated",
    "latched",
    "unlatched",
    "cleared",
];

/// The counters of this service. Each is registered when it is created.
#[derive(Debug)]
pub struct Metrics {
    /// Messages whose decision was committed, or needed no write.
    pub committed: Count,
    /// Duplicates among them.
    pub duplicates: Count,
    /// Late readings among them.
    pub late: Count,
    /// Decisions made again because the stored state had changed.
    pub conflicts: Count,
    /// Batches that were not committed whole because Redis was away.
    pub failures: Count,
    /// Deadlines evaluated.
    pub timers: Count,
    /// Deadlines that could not be evaluated or written.
    pub timers_refused: Count,
    /// Dead letters by reason.
    pub rejected: LabelledCount,
    alarm_changes: LabelledCount,
    /// Load, decision and commit of one batch of messages.
    pub commit_duration: Durations,
    /// From the socket to the commit of a message.
    pub message_duration: Durations,
    deadline_lag: Durations,
}

/// Where the state of the links is read.
pub(crate) struct Links {
    pub(crate) broker: LinkStatus,
    pub(crate) store: Store,
    pub(crate) beats: watch::Receiver<Beat>,
    /// Whether devices that were never heard of are still taken.
    pub(crate) room_left: Arc<AtomicBool>,
}

impl Metrics {
    /// Registers every counter and histogram of this service.
    #[must_use]
    pub fn new(meters: &Meters) -> Arc<Self> {
        Arc::new(Self {
            committed: meters.count(
                "ingest.messages.committed",
                "Messages that are done: their decision is committed to Redis, or needed no write.",
            ),
            duplicates: meters.count(
                "ingest.messages.duplicate",
                "Committed messages that decided nothing: repeated deliveries, and retained messages of known devices.",
            ),
            late: meters.count(
                "ingest.messages.late",
                "Committed readings that arrived late: after a newer one of the same device, or redelivered without a usable device time.",
            ),
            conflicts: meters.count(
                "ingest.commit.conflicts",
                "Decisions repeated because another writer had changed the stored state in between.",
            ),
            failures: meters.count(
                "ingest.commit.failures",
                "Batches not written completely because Redis was unavailable. The rest is tried again.",
            ),
            timers: meters.count("ingest.timers", "Deadlines evaluated."),
            timers_refused: meters.count(
                "ingest.timers.refused",
                "Deadlines that could not be evaluated or written, because the stored state of the device is lost or its keys cannot be used. Each is tried again after `--offline-after`.",
            ),
            rejected: meters.count_by(
                "ingest.messages.rejected",
                "Messages that can never be processed and became dead letters, by reason.",
                "reason",
                &REASONS,
            ),
            alarm_changes: meters.count_by(
                "ingest.alarm.changes",
                "Alarm changes caused by messages and deadlines.",
                "change",
                &BY_DETECTORS,
            ),
            commit_duration: meters.durations(
                "ingest.commit.duration",
                "Time to load, decide and commit one batch of messages.",
            ),
            message_duration: meters.durations(
                "ingest.message.duration",
                "Time from receiving a message to its commit.",
            ),
            deadline_lag: meters.durations(
                "ingest.deadline.lag",
                "Time from when a deadline (silence, off-delay) was due until it was evaluated. High just after an outage in which no ingest was listening.",
            ),
        })
    }

    /// Counts alarm changes.
    pub fn count_changes(&self, changes: &[Change]) {
        for change in changes {
            self.alarm_changes.increment(change.kind.code());
        }
    }

    /// Records how many milliseconds after its time a deadline was evaluated.
    pub fn record_deadline_lag(&self, late_ms: i64) {
        let late = Duration::from_millis(u64::try_from(late_ms).unwrap_or(0));
        self.deadline_lag.record(late);
    }
}

impl Links {
    /// Registers the gauges that read them.
    pub(crate) fn register(self, meters: &Meters) {
        let Self {
            broker,
            store,
            beats,
            room_left,
        } = self;
        let of_broker = |read: fn(&LinkStatus) -> u64| {
            let broker = broker.clone();
            move || read(&broker)
        };
        meters.observed_count(
            "ingest.messages.received",
            "Messages received from the broker, without those counted as lost.",
            of_broker(LinkStatus::received),
        );
        meters.observed_count(
            "ingest.messages.lost",
            "QoS 0 messages dropped because they arrived faster than they were committed.",
            of_broker(LinkStatus::lost),
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
        meters.observed_count(
            "ingest.broker.connections",
            "Connections made to the broker.",
            of_broker(LinkStatus::connections),
        );
        meters.gauge(
            "ingest.redis.link.up",
            "1 while Redis answers, else 0.",
            move || u64::from(beats.borrow().redis),
        );
        let counted = store.clone();
        meters.observed_count(
            "ingest.redis.connections",
            "Connections made to Redis for commits.",
            move || counted.connections(),
        );
        meters.observed_count(
            "ingest.reasserted.devices",
            "Devices written to Redis again because it had lost a state committed by this process.",
            move || store.reasserted(),
        );
        meters.gauge(
            "ingest.devices.room.left",
            "1 while messages of unknown devices are accepted, 0 once `--max-devices` is reached.",
            move || u64::from(room_left.load(Ordering::Relaxed)),
        );
    }
}

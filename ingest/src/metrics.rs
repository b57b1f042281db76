//! Every metric of this service; `deploy/METRICS.md` lists them. Labels are bounded: constants of the code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::metrics::Histogram;
use shared::alarm::Change;
use shared::metrics::{Counts, Meters, reading, telling};
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

/// Counts since the start of the process.
#[derive(Debug)]
pub struct Metrics {
    /// Messages whose decision was committed (or was nothing to write).
    pub committed: AtomicU64,
    /// Duplicates among them.
    pub duplicates: AtomicU64,
    /// Late readings among them.
    pub late: AtomicU64,
    /// Conflicts: how often a decision had to be made again.
    pub conflicts: AtomicU64,
    /// Batches that were not committed whole because Redis was away.
    pub failures: AtomicU64,
    /// Deadlines looked at.
    pub timers: AtomicU64,
    /// Those of which nothing can be written.
    pub timers_refused: AtomicU64,
    rejected: Counts,
    alarm_changes: Counts,
    commit_duration: Histogram<f64>,
    message_duration: Histogram<f64>,
    deadline_lag: Histogram<f64>,
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
    /// Everything at 0, told by these meters.
    #[must_use]
    pub fn new(meters: &Meters) -> Arc<Self> {
        let metrics = Arc::new(Self {
            committed: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            late: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            timers: AtomicU64::new(0),
            timers_refused: AtomicU64::new(0),
            rejected: Counts::new(&REASONS),
            alarm_changes: Counts::new(&BY_DETECTORS),
            commit_duration: meters.durations(
                "ingest.commit.duration",
                "Load, decision and commit of one batch of messages.",
            ),
            message_duration: meters.durations(
                "ingest.message.duration",
                "From the socket to the commit of a message.",
            ),
            deadline_lag: meters.durations(
                "ingest.deadline.lag",
                "How long after its time a deadline was looked at: silence, off-delays. Long after nobody listened.",
            ),
        });
        metrics.tell_messages(meters);
        metrics.tell_commits(meters);
        metrics
    }

    fn tell_messages(self: &Arc<Self>, meters: &Meters) {
        meters.counter(
            "ingest.messages.committed",
            "Messages whose decision was committed, or was nothing to write.",
            reading(self, |metrics| &metrics.committed),
        );
        meters.counter(
            "ingest.messages.duplicate",
            "Duplicates among the committed.",
            reading(self, |metrics| &metrics.duplicates),
        );
        meters.counter(
            "ingest.messages.late",
            "Late readings among the committed.",
            reading(self, |metrics| &metrics.late),
        );
        meters.counters(
            "ingest.messages.rejected",
            "Dead letters: messages that can never be processed.",
            telling(self, "reason", |metrics| &metrics.rejected),
        );
    }

    fn tell_commits(self: &Arc<Self>, meters: &Meters) {
        meters.counter(
            "ingest.commit.conflicts",
            "Decisions made again because the state had moved.",
            reading(self, |metrics| &metrics.conflicts),
        );
        meters.counter(
            "ingest.commit.failures",
            "Batches not committed whole because Redis was away; what is left of them is tried again.",
            reading(self, |metrics| &metrics.failures),
        );
        meters.counter(
            "ingest.timers",
            "Deadlines looked at.",
            reading(self, |metrics| &metrics.timers),
        );
        meters.counter(
            "ingest.timers.refused",
            "Deadlines that cannot be judged or written: the state of the device is lost, or its keys are not what they should be. Tried again after `--offline-after`.",
            reading(self, |metrics| &metrics.timers_refused),
        );
        meters.counters(
            "ingest.alarm.changes",
            "Transitions of alarms by messages and deadlines.",
            telling(self, "change", |metrics| &metrics.alarm_changes),
        );
    }

    /// Counts a dead letter.
    pub fn reject(&self, reason: &'static str) {
        self.rejected.add(reason);
    }

    /// Counts transitions of alarms.
    pub fn changed(&self, changes: &[Change]) {
        for change in changes {
            self.alarm_changes.add(change.kind.code());
        }
    }

    /// A deadline was looked at, so many milliseconds after its time.
    pub fn deadline_looked_at(&self, late_ms: i64) {
        let late = Duration::from_millis(u64::try_from(late_ms).unwrap_or(0));
        self.deadline_lag.record(late.as_secs_f64(), &[]);
    }

    /// A batch was committed.
    pub fn batch_took(&self, time: Duration) {
        self.commit_duration.record(time.as_secs_f64(), &[]);
    }

    /// A message was committed, so long after it came out of the socket.
    pub fn message_took(&self, time: Duration) {
        self.message_duration.record(time.as_secs_f64(), &[]);
    }
}

impl Links {
    /// Tells how the links stand, whenever somebody asks.
    pub(crate) fn tell(self, meters: &Meters) {
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
        meters.counter(
            "ingest.messages.received",
            "Messages taken from the broker, without the lost ones.",
            of_broker(LinkStatus::received),
        );
        meters.counter(
            "ingest.messages.lost",
            "Messages of QoS 0 dropped because they came faster than they are committed.",
            of_broker(LinkStatus::lost),
        );
        meters.gauge(
            "ingest.messages.queued",
            "Messages that wait for the pipeline.",
            of_broker(|broker| broker.queued() as u64),
        );
        meters.gauge(
            "ingest.messages.unacknowledged",
            "Messages in the ack window: received and not acknowledged to the broker.",
            of_broker(|broker| broker.unacknowledged() as u64),
        );
        meters.gauge(
            "ingest.broker.link.up",
            "1 while the subscription at the broker stands.",
            of_broker(|broker| u64::from(broker.is_subscribed())),
        );
        meters.counter(
            "ingest.broker.connections",
            "Connections made to the broker.",
            of_broker(LinkStatus::connections),
        );
        meters.gauge(
            "ingest.redis.link.up",
            "1 while Redis answers.",
            move || u64::from(beats.borrow().redis),
        );
        let counted = store.clone();
        meters.counter(
            "ingest.redis.connections",
            "Connections made to Redis for commits.",
            move || counted.connections(),
        );
        meters.counter(
            "ingest.reasserted.devices",
            "Devices asserted again after Redis went back behind what was committed.",
            move || store.reasserted(),
        );
        meters.gauge(
            "ingest.devices.room.left",
            "1 while devices never heard of are taken, 0 once `--max-devices` is reached.",
            move || u64::from(room_left.load(Ordering::Relaxed)),
        );
    }
}

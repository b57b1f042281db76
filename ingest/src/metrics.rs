//! The counters and histograms of this service; `deploy/METRICS.md` lists them. Label values
//! are constants of the code, so their number is bounded.

use std::sync::Arc;
use std::time::Duration;

use shared::alarm::{Change, ChangeKind};
use shared::metrics::{Count, Durations, LabelledCount, Meters};

use crate::dead_letter_reason::DeadLetterReason;
use crate::payload::{RepairKind, RepairKinds};

/// The alarm changes that messages and deadlines cause. All others are requested through a gateway.
const CHANGES: [&str; 7] = [
    ChangeKind::Raised.code(),
    ChangeKind::Escalated.code(),
    ChangeKind::DeEscalated.code(),
    ChangeKind::Latched.code(),
    ChangeKind::Unlatched.code(),
    ChangeKind::Returned.code(),
    ChangeKind::Cleared.code(),
];

/// The counters of this service. Each is registered when it is created.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Messages whose decision was committed, or needed no write.
    pub(crate) committed: Count,
    /// Duplicates among the committed messages.
    pub(crate) duplicates: Count,
    /// Late readings among the committed messages.
    pub(crate) late: Count,
    /// Decisions made again because the stored state had changed.
    pub(crate) conflicts: Count,
    /// Batches that were not written completely because Redis was unavailable.
    pub(crate) failures: Count,
    /// Deadlines evaluated.
    pub(crate) timers: Count,
    /// Deadlines that could not be evaluated or written.
    pub(crate) timers_refused: Count,
    /// Entries of the alarm log that are only counted.
    pub(crate) log_folded: Count,
    dead_letters: LabelledCount,
    repairs: LabelledCount,
    alarm_changes: LabelledCount,
    /// Time to load, decide and commit one batch of messages.
    pub(crate) commit_duration: Durations,
    /// Time from receiving a message to its commit.
    pub(crate) message_duration: Durations,
    deadline_lag: Durations,
}

impl Metrics {
    /// Registers every counter and histogram of this service.
    #[must_use]
    pub(crate) fn new(meters: &Meters) -> Arc<Self> {
        Arc::new(Self {
            committed: meters.count(
                "ingest.messages.committed",
                "Messages that are done: their decision is committed to Redis, or needed no write.",
            ),
            duplicates: meters.count(
                "ingest.messages.duplicate",
                "Committed messages without a new reading: repeated ones, and retained ones that are not newer.",
            ),
            late: meters.count(
                "ingest.messages.late",
                "Committed readings that arrived late: after a newer one of the same device.",
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
            log_folded: meters.count(
                "ingest.log.folded",
                "Entries of the alarm log that are only counted, because the device had written its share of the log.",
            ),
            dead_letters: meters.count_by(
                "ingest.messages.rejected",
                "Messages that can never be processed and became dead letters, by reason.",
                "reason",
                &DeadLetterReason::CODES,
            ),
            repairs: meters.count_by(
                "ingest.payloads.repaired",
                "Payloads that were no valid JSON object, or had a key twice with different values, by what was repaired. One payload can have several kinds.",
                "kind",
                &RepairKind::CODES,
            ),
            alarm_changes: meters.count_by(
                "ingest.alarm.changes",
                "Alarm changes caused by messages and deadlines.",
                "change",
                &CHANGES,
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

    /// Counts a dead letter.
    pub(crate) fn count_dead_letter(&self, reason: DeadLetterReason) {
        self.dead_letters.increment(reason.code());
    }

    /// Counts the repairs of a payload.
    pub(crate) fn count_repairs(&self, kinds: RepairKinds) {
        for code in kinds.codes() {
            self.repairs.increment(code);
        }
    }

    /// Counts alarm changes.
    pub(crate) fn count_changes(&self, changes: &[Change]) {
        for change in changes {
            self.alarm_changes.increment(change.kind.code());
        }
    }

    /// Records the time from when a deadline was due until it was evaluated.
    pub(crate) fn record_deadline_lag(&self, lag_ms: i64) {
        let lag = Duration::from_millis(u64::try_from(lag_ms).unwrap_or(0));
        self.deadline_lag.record(lag);
    }
}

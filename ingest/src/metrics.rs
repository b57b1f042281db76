//! Every metric of this service; `deploy/METRICS.md` lists them. Labels are bounded: constants of the code.

use std::sync::Arc;
use std::time::Duration;

use shared::alarm::Change;
use shared::metrics::{Count, Durations, LabelledCount, Meters};

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
pub(crate) struct Metrics {
    /// Messages whose decision was committed, or needed no write.
    pub(crate) committed: Count,
    /// Duplicates among them.
    pub(crate) duplicates: Count,
    /// Late readings among them.
    pub(crate) late: Count,
    /// Decisions made again because the stored state had changed.
    pub(crate) conflicts: Count,
    /// Batches that were not committed whole because Redis was away.
    pub(crate) failures: Count,
    /// Deadlines evaluated.
    pub(crate) timers: Count,
    /// Deadlines that could not be evaluated or written.
    pub(crate) timers_refused: Count,
    /// Dead letters by reason.
    pub(crate) rejected: LabelledCount,
    alarm_changes: LabelledCount,
    /// Load, decision and commit of one batch of messages.
    pub(crate) commit_duration: Durations,
    /// From the socket to the commit of a message.
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
                "Messages whose decision was committed, or was nothing to write.",
            ),
            duplicates: meters.count(
                "ingest.messages.duplicate",
                "Duplicates among the committed.",
            ),
            late: meters.count(
                "ingest.messages.late",
                "Late readings among the committed.",
            ),
            conflicts: meters.count(
                "ingest.commit.conflicts",
                "Decisions made again because the state had moved.",
            ),
            failures: meters.count(
                "ingest.commit.failures",
                "Batches not committed whole because Redis was away; what is left of them is tried again.",
            ),
            timers: meters.count("ingest.timers", "Deadlines looked at."),
            timers_refused: meters.count(
                "ingest.timers.refused",
                "Deadlines that cannot be judged or written: the state of the device is lost, or its keys are not what they should be. Tried again after `--offline-after`.",
            ),
            rejected: meters.count_by(
                "ingest.messages.rejected",
                "Dead letters: messages that can never be processed.",
                "reason",
                &REASONS,
            ),
            alarm_changes: meters.count_by(
                "ingest.alarm.changes",
                "Transitions of alarms by messages and deadlines.",
                "change",
                &BY_DETECTORS,
            ),
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
        })
    }

    /// Counts alarm changes.
    pub(crate) fn count_changes(&self, changes: &[Change]) {
        for change in changes {
            self.alarm_changes.increment(change.kind.code());
        }
    }

    /// Records how many milliseconds after its time a deadline was evaluated.
    pub(crate) fn record_deadline_lag(&self, late_ms: i64) {
        let late = Duration::from_millis(u64::try_from(late_ms).unwrap_or(0));
        self.deadline_lag.record(late);
    }
}

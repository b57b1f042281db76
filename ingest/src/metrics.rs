//! Every counter of this service. Labels are bounded: reasons are constants of the code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Messages taken from the broker.
    pub received: AtomicU64,
    /// Messages whose decision was committed (or was nothing to write).
    pub committed: AtomicU64,
    /// Duplicates among them.
    pub duplicates: AtomicU64,
    /// Late readings among them.
    pub late: AtomicU64,
    /// Conflicts: how often a decision had to be made again.
    pub conflicts: AtomicU64,
    /// Alarm changes.
    pub alarm_changes: AtomicU64,
    /// Deadlines looked at.
    pub timers: AtomicU64,
    /// Dead letters by reason. A mutex: one short look-up for a message that is broken anyway.
    rejected: Mutex<BTreeMap<&'static str, u64>>,
}

impl Metrics {
    /// Counts a dead letter.
    pub fn reject(&self, reason: &'static str) {
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        *rejected.entry(reason).or_default() += 1;
    }

    /// All counters in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        let counters = [
            (
                "ingest_messages_received_total",
                "Messages taken from the broker.",
                &self.received,
            ),
            (
                "ingest_messages_committed_total",
                "Messages whose decision was committed.",
                &self.committed,
            ),
            (
                "ingest_messages_duplicate_total",
                "Duplicates among the committed.",
                &self.duplicates,
            ),
            (
                "ingest_messages_late_total",
                "Late readings among the committed.",
                &self.late,
            ),
            (
                "ingest_commit_conflicts_total",
                "Decisions that had to be made again.",
                &self.conflicts,
            ),
            (
                "ingest_alarm_changes_total",
                "Transitions of alarms.",
                &self.alarm_changes,
            ),
            ("ingest_timers_total", "Deadlines looked at.", &self.timers),
        ];
        let mut text = String::new();
        for (name, help, counter) in counters {
            let count = counter.load(Ordering::Relaxed);
            writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {count}"
            )
            .expect("a String takes every text");
        }
        let name = "ingest_messages_rejected_total";
        writeln!(
            text,
            "# HELP {name} Dead letters by reason.\n# TYPE {name} counter"
        )
        .expect("a String takes every text");
        let rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        for (reason, count) in rejected.iter() {
            writeln!(text, "{name}{{reason=\"{reason}\"}} {count}")
                .expect("a String takes every text");
        }
        text
    }
}

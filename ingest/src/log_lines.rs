//! The log lines that detectors cause, rate-limited: one for each alarm change, dead letter and failure, none for a reading.

use std::sync::{Mutex, PoisonError};

use shared::alarm_log_lines::AlarmLogLines;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::rate_limit::RateLimit;
use shared::store::StoreError;
use shared::trace::TraceContext;
use shared::visible_text::escape;

use crate::dead_letter_reason::DeadLetterReason;
use crate::payload::RepairKinds;
use crate::refused_dangers::RefusedDangers;

/// Writes log lines within their rate limits. `held_back` in a line is the number of suppressed lines before it.
#[derive(Debug)]
pub(crate) struct LogLines {
    /// Lines about one device: alarm changes and refused deadlines.
    pub(crate) alarms: AlarmLogLines,
    dead_letters: RateLimit,
    // A std mutex: held for one decision, never across an await.
    refused_dangers: Mutex<RefusedDangers>,
    repairs: RateLimit,
    failures: RateLimit,
    recordings: RateLimit,
}

impl Default for LogLines {
    fn default() -> Self {
        Self {
            alarms: AlarmLogLines::default(),
            dead_letters: RateLimit::one_per_ten_seconds(),
            refused_dangers: Mutex::default(),
            repairs: RateLimit::one_per_ten_seconds(),
            failures: RateLimit::one_per_ten_seconds(),
            recordings: RateLimit::one_per_ten_seconds(),
        }
    }
}

impl LogLines {
    /// Logs that a message becomes a dead letter.
    pub(crate) fn dead_letter(
        &self,
        reason: DeadLetterReason,
        detail: &str,
        topic: &str,
        trace: Option<TraceContext>,
        now: Time,
    ) {
        if let Some(held_back) = self.dead_letters.allow(now) {
            tracing::warn!(
                reason = reason.code(),
                topic,
                trace_id = trace.map(|trace| tracing::field::display(trace.trace_id())),
                held_back,
                "message stored as a dead letter: {}",
                escape(detail)
            );
        }
    }

    /// Logs that a message which shows a danger, or may show one, is refused: nobody watches its device.
    pub(crate) fn refused_danger(&self, device: &DeviceId, err: &StoreError, now: Time) {
        let dangers = self.refused_dangers.lock();
        let allowed = dangers
            .unwrap_or_else(PoisonError::into_inner)
            .allow(device, now);
        if let Some(held_back) = allowed {
            tracing::error!(
                device.id = %device.for_log(),
                reason = err.code(),
                held_back,
                "a detector that may be in danger is not watched: {}",
                escape(&err.to_string())
            );
        }
    }

    /// Logs that a payload had to be repaired, and what it says may be wrong.
    pub(crate) fn repaired(&self, device: &DeviceId, kinds: RepairKinds, now: Time) {
        if let Some(held_back) = self.repairs.allow(now) {
            let kinds: Vec<&str> = kinds.codes().collect();
            tracing::warn!(
                device.id = %device.for_log(),
                kinds = kinds.join(","),
                held_back,
                "payload repaired; its reading is uncertain"
            );
        }
    }

    /// Logs that a deadline of a device cannot be evaluated or committed.
    pub(crate) fn deadline_refused(&self, device: &DeviceId, err: &StoreError, now: Time) {
        if let Some(held_back) = self.alarms.allow(device, now) {
            let error = error_chain(err);
            tracing::error!(
                device.id = %device.for_log(),
                error,
                held_back,
                "cannot evaluate a deadline; an offline alarm may be missed"
            );
        }
    }

    /// Logs that payloads could not be recorded.
    pub(crate) fn not_recorded(&self, err: &StoreError, now: Time) {
        if let Some(held_back) = self.recordings.allow(now) {
            let error = error_chain(err);
            tracing::warn!(
                error,
                held_back,
                "cannot record raw payloads; the recording has a gap"
            );
        }
    }

    /// Logs that Redis did not confirm a commit.
    pub(crate) fn not_committed(&self, err: &StoreError, now: Time) {
        if let Some(held_back) = self.failures.allow(now) {
            let error = error_chain(err);
            tracing::warn!(error, held_back, "cannot commit messages, trying again");
        }
    }
}

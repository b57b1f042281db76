//! The log lines that detectors cause: one per change of an alarm, none per reading, and never more than somebody can read.

use shared::alarm_log_lines::AlarmLogLines;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::rate_limit::RateLimit;
use shared::store::StoreError;
use shared::trace::TraceContext;

/// What may still be told.
#[derive(Debug)]
pub(crate) struct LogLines {
    pub(crate) alarms: AlarmLogLines,
    rejections: RateLimit,
    failures: RateLimit,
}

impl Default for LogLines {
    fn default() -> Self {
        Self {
            alarms: AlarmLogLines::default(),
            rejections: RateLimit::one_per_ten_seconds(),
            failures: RateLimit::one_per_ten_seconds(),
        }
    }
}

impl LogLines {
    /// A message became a dead letter.
    pub(crate) fn rejected(
        &self,
        reason: &'static str,
        detail: &str,
        topic: &str,
        trace: Option<TraceContext>,
        now: Time,
    ) {
        if let Some(held_back) = self.rejections.allow(now) {
            tracing::warn!(
                reason,
                topic,
                trace_id = trace.map(|trace| tracing::field::display(trace.trace_id())),
                held_back,
                "message kept as a dead letter: {detail}"
            );
        }
    }

    /// What a deadline of a device asks for cannot be written.
    pub(crate) fn deadline_refused(&self, device: &DeviceId, err: &StoreError, now: Time) {
        if let Some(held_back) = self.alarms.allow(device, now) {
            let error = error_chain(err);
            tracing::error!(
                device.id = %device.for_log(),
                error,
                held_back,
                "cannot be looked at: its silence would not be told"
            );
        }
    }

    /// Redis did not take what it was given.
    pub(crate) fn not_committed(&self, err: &StoreError, now: Time) {
        if let Some(held_back) = self.failures.allow(now) {
            let error = error_chain(err);
            tracing::warn!(error, held_back, "not committed, trying again");
        }
    }
}

//! The log lines that detectors cause: one per change of an alarm, none per reading, and never more than somebody can read.

use shared::clock::Time;
use shared::device::DeviceId;
use shared::lines::{AlarmLines, Limit, chain, shown};
use shared::store::StoreError;
use shared::trace::Trace;

/// What may still be told.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) alarms: AlarmLines,
    rejections: Limit,
    failures: Limit,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            alarms: AlarmLines::default(),
            rejections: Limit::rare(),
            failures: Limit::rare(),
        }
    }
}

impl Lines {
    /// A message became a dead letter.
    pub(crate) fn rejected(
        &self,
        reason: &'static str,
        detail: &str,
        topic: &str,
        trace: Option<Trace>,
        now: Time,
    ) {
        if let Some(held_back) = self.rejections.take(now) {
            tracing::warn!(
                reason,
                topic,
                trace_id = trace.map(|trace| tracing::field::display(trace.id())),
                held_back,
                "message kept as a dead letter: {detail}"
            );
        }
    }

    /// What a deadline of a device asks for cannot be written.
    pub(crate) fn deadline_refused(&self, device: &DeviceId, err: &StoreError, now: Time) {
        if let Some(held_back) = self.alarms.take(device, now) {
            let error = chain(err);
            tracing::error!(
                device.id = %shown(device),
                error,
                held_back,
                "cannot be looked at: its silence would not be told"
            );
        }
    }

    /// Redis did not take what it was given.
    pub(crate) fn not_committed(&self, err: &StoreError, now: Time) {
        if let Some(held_back) = self.failures.take(now) {
            let error = chain(err);
            tracing::warn!(error, held_back, "not committed, trying again");
        }
    }
}

//! The log lines that detectors cause: one per change of an alarm, none per reading, and never more than somebody can read.
//! What is held back is counted in the next line; `/metrics` and the alarm log have everything.

use shared::alarm::Change;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::quota::{Pause, Quota};
use shared::store::StoreError;
use shared::trace::Trace;

/// What may still be told.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    changes: Quota,
    rejections: Pause,
    failures: Pause,
}

impl Lines {
    /// Alarms of a device changed.
    pub(crate) fn changed(
        &self,
        device: &DeviceId,
        changes: &[Change],
        trace: Option<Trace>,
        now: Time,
    ) {
        for Change { kind, alarm } in changes {
            if let Some(held_back) = self.changes.take(device, now) {
                tracing::info!(
                    device.id = %device,
                    alarm.id = %alarm.id,
                    alarm.change = kind.code(),
                    alarm.condition = ?alarm.condition,
                    alarm.severity = ?alarm.condition.severity(),
                    trace_id = trace.map(|trace| tracing::field::display(trace.id())),
                    held_back,
                    "alarm changed"
                );
            }
        }
    }

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

    /// Redis did not take what it was given.
    pub(crate) fn not_committed(&self, err: &StoreError, now: Time) {
        if let Some(held_back) = self.failures.take(now) {
            let error: &dyn std::error::Error = err;
            tracing::warn!(error, held_back, "not committed, trying again");
        }
    }
}

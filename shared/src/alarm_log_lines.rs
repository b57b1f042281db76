//! One log line per alarm change, rate-limited per device and in total.

use serde::Serialize;

use crate::alarm::Change;
use crate::clock::Time;
use crate::device::DeviceId;
use crate::rate_limit::DeviceRateLimit;
use crate::trace::TraceContext;

/// Writes a log line for each alarm change, within the limits of [`DeviceRateLimit`].
#[derive(Debug, Default)]
pub struct AlarmLogLines {
    limit: DeviceRateLimit,
}

impl AlarmLogLines {
    /// Decides whether another line about this device may be written. Returns the number of lines suppressed since the last
    /// one, or `None` if this line must be suppressed, too.
    pub fn allow(&self, device: &DeviceId, now: Time) -> Option<u64> {
        self.limit.allow(device, now)
    }

    /// Logs alarm changes of a device. `trace` is given where the current span does not belong to that trace.
    pub fn log_changes(
        &self,
        device: &DeviceId,
        changes: &[Change],
        trace: Option<TraceContext>,
        now: Time,
    ) {
        for Change { kind, alarm } in changes {
            if let Some(held_back) = self.allow(device, now) {
                tracing::info!(
                    device.id = %device.for_log(),
                    alarm.id = %alarm.id,
                    alarm.change = kind.code(),
                    alarm.condition = alarm.condition.code(),
                    alarm.severity = %wire_word(&alarm.severity()),
                    trace_id = trace.map(|trace| tracing::field::display(trace.trace_id())),
                    held_back,
                    "alarm changed"
                );
            }
        }
    }
}

/// Returns the serialised form of a unit enum variant, which is the word clients and the alarm log use.
fn wire_word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    let word = value.as_ref().and_then(serde_json::Value::as_str);
    word.unwrap_or_default().to_owned()
}

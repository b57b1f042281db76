//! Conditions without a level: the detector's fault flag, a missing value, silence.

use super::{AlarmDetails, Alarms};
use crate::alarm::{ChangeKind, Condition};

impl Alarms<'_> {
    /// Raises a condition that is active, or clears one that is not. If `may_clear` is false it is only raised.
    pub fn set(
        &mut self,
        condition: Condition,
        active: bool,
        may_clear: bool,
        details: AlarmDetails<'_>,
    ) {
        let is_open = self.get(condition.kind()).is_some();
        let message = match condition {
            Condition::SensorFault => "Sensor fault detected",
            _ => "Sensor reading missing or unreadable",
        };
        if active && !is_open {
            self.raise(condition, message.to_owned(), None, details);
        } else if !active && is_open && may_clear {
            self.change(condition.kind(), ChangeKind::Cleared, |_| ());
        }
    }

    /// Raises the alarm that a device is offline. `silent_s` is the number of seconds since its last message, or since an ingest
    /// began to listen if that was later.
    pub fn raise_offline(&mut self, silent_s: i64, details: AlarmDetails<'_>) {
        if self.get(Condition::DeviceOffline.kind()).is_none() {
            let message = format!("No message from the detector for {silent_s} s");
            self.raise(Condition::DeviceOffline, message, None, details);
        }
    }

    /// Clears the alarm that a device is offline: a message proved it alive.
    pub fn clear_offline(&mut self) {
        self.change(Condition::DeviceOffline.kind(), ChangeKind::Cleared, |_| ());
    }
}

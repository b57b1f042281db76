//! Conditions without a level: the detector's fault flag, a missing value, silence.

use super::{Alarms, Facts};
use crate::alarm::{ChangeKind, Condition};

impl Alarms<'_> {
    /// Raises or clears a condition that is either there or not. Where `may_clear` is false it may only be raised.
    pub fn set(&mut self, condition: Condition, active: bool, may_clear: bool, facts: Facts<'_>) {
        let stands = self.get(condition.kind()).is_some();
        let message = match condition {
            Condition::SensorFault => "Sensor fault detected",
            _ => "Sensor reading missing or unreadable",
        };
        if active && !stands {
            self.raise(condition, message.to_owned(), None, facts);
        } else if !active && stands && may_clear {
            self.change(condition.kind(), ChangeKind::Cleared, |_| ());
        }
    }

    /// Raises the silence of a device, `silent_s` seconds after the last message or since anybody listened.
    pub fn raise_offline(&mut self, silent_s: i64, facts: Facts<'_>) {
        if self.get(Condition::DeviceOffline.kind()).is_none() {
            let message = format!("No message from the detector for {silent_s} s");
            self.raise(Condition::DeviceOffline, message, None, facts);
        }
    }

    /// Clears the silence: a message proved the device alive.
    pub fn clear_offline(&mut self) {
        self.change(Condition::DeviceOffline.kind(), ChangeKind::Cleared, |_| ());
    }
}

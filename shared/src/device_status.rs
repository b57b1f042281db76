//! The status word of a device in lists of devices: `status` in `/api/devices`. Pure.

use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, Condition};
use crate::reading::Quality;
use crate::state::DeviceState;

/// The status of a device in lists of devices. `gateway/README.md` describes when each one applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceStatus {
    /// Gas at A2 or A3, a lit LED of one of them, or a detector that cannot measure.
    Critical,
    /// Gas at A1, or something else that somebody must look at.
    Warning,
    /// Silent, without a gas alarm.
    Offline,
    /// Fresh and normal.
    Online,
}

/// Chooses the status. A gas alarm comes first: neither a fault nor silence hides it. A device is `online` only if it is
/// fresh and normal.
#[must_use]
pub fn device_status(state: &DeviceState, quality: Quality) -> DeviceStatus {
    // A chattering fault is one, also between its raises.
    let active = || state.alarms.iter().filter(|alarm| !alarm.returned);
    let is_critical = |alarm: &Alarm| {
        matches!(
            alarm.condition,
            Condition::AlarmLevel2
                | Condition::AlarmLevel3
                | Condition::OverRange
                | Condition::UnderRange
                | Condition::SensorFault
                | Condition::ReadingInvalid
        )
    };
    let reading = state.latest.as_ref().map(|latest| &latest.reading);
    let has_high_led = reading.is_some_and(|reading| reading.highest_led() >= Some(1));
    let has_led = reading.is_some_and(|reading| reading.has_led() || reading.own_alarm);
    if active().any(is_critical) || has_high_led {
        DeviceStatus::Critical
    } else if active().any(|alarm| alarm.condition == Condition::AlarmLevel1) {
        DeviceStatus::Warning
    } else if quality == Quality::Offline {
        DeviceStatus::Offline
    } else if has_led || quality != Quality::Good || !state.alarms.is_empty() {
        DeviceStatus::Warning
    } else {
        DeviceStatus::Online
    }
}

//! The status word of a device in lists of devices: `status` in `/api/devices`. Pure.

use serde::Serialize;

use crate::alarm::Condition;
use crate::reading::Quality;
use crate::state::DeviceState;

/// The status of a device in lists of devices. `gateway/README.md` describes when each one applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceStatus {
    /// Gas at A2 or A3, or a detector that cannot measure.
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
    let has = |wanted: &[Condition]| {
        let mut alarms = state.alarms.iter();
        alarms.any(|alarm| wanted.contains(&alarm.condition))
    };
    let has_led = state
        .latest
        .as_ref()
        .is_some_and(|latest| latest.reading.has_led());
    if has(&[
        Condition::AlarmLevel2,
        Condition::AlarmLevel3,
        Condition::OverRange,
        Condition::SensorFault,
        Condition::ReadingInvalid,
    ]) {
        DeviceStatus::Critical
    } else if has(&[Condition::AlarmLevel1]) {
        DeviceStatus::Warning
    } else if quality == Quality::Offline {
        DeviceStatus::Offline
    } else if has_led || quality != Quality::Good || !state.alarms.is_empty() {
        DeviceStatus::Warning
    } else {
        DeviceStatus::Online
    }
}

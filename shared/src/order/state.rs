//! The stored facts about earlier messages of a device that the order of its next message needs.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::forward::UnknownFields;

/// The facts about earlier messages that the order of the next one needs.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderState {
    /// Fingerprint of the latest reading.
    #[serde(default, rename = "latest_print")]
    pub latest_fingerprint: Option<u64>,
    /// Newest usable device time of any latest reading.
    #[serde(default)]
    pub latest_time: Option<Time>,
    /// Whether the device time of the latest reading is usable.
    #[serde(default)]
    pub latest_usable: bool,
    /// Server time at which the latest reading arrived.
    #[serde(default)]
    pub latest_arrival: Time,
    /// The device time that arrives repeatedly.
    #[serde(default, rename = "standing")]
    pub repeated: Option<RepeatedDeviceTime>,
    /// Late readings in a row.
    #[serde(default)]
    pub late: Option<LateRun>,
    /// Arrival minus device time of the last few latest readings, in milliseconds, oldest first.
    #[serde(default)]
    pub offsets_ms: VecDeque<i64>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// A device time that arrives repeatedly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepeatedDeviceTime {
    /// The device time.
    pub time: Time,
    /// Server time of its first arrival.
    pub since: Time,
    /// Number of arrivals, without redelivered and retained messages.
    pub count: u32,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Late readings in a row whose device times advance like their arrivals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateRun {
    /// Device time of the first.
    pub first_time: Time,
    /// Server time at which the first arrived.
    pub first_arrival: Time,
    /// Device time of the last.
    pub last_time: Time,
    /// Number of readings whose device time has advanced.
    pub count: u32,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

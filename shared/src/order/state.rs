//! The stored facts about earlier messages of a device that the order of its next message needs.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::forward::UnknownFields;

/// The facts about earlier messages that the order of the next one needs.
///
/// Its size is bounded: there are at most [`super::MAX_OFFSET_MINIMA`] minima and one of everything else.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderState {
    /// Fingerprint of the latest reading.
    #[serde(default, rename = "latest_print")]
    pub latest_fingerprint: Option<u64>,
    /// Newest usable device time of any latest reading that was not ahead.
    #[serde(default)]
    pub latest_time: Option<Time>,
    /// Whether the device time of the latest reading is usable.
    #[serde(default)]
    pub latest_usable: bool,
    /// Server time at which the latest reading arrived.
    #[serde(default)]
    pub latest_arrival: Time,
    /// What else is known of the latest reading, if its device time does not say when it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_doubt: Option<LatestDoubt>,
    /// The device time that arrives repeatedly.
    #[serde(default, rename = "standing")]
    pub repeated: Option<RepeatedDeviceTime>,
    /// Late readings in a row.
    #[serde(default)]
    pub late: Option<LateRun>,
    /// The last gap between device times of readings in order that was longer than the silence limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// The smallest offsets of the last 24 h in which the device was heard, oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub offset_minima: VecDeque<OffsetMinimum>,
    /// Readings in a row whose offsets are far from the usual one, all on the same side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unusual: Option<UnusualRun>,
    /// The last new bytes, and how often known ones have arrived since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_bytes: Option<SameBytes>,
    /// The device time has moved from one message to another. It never does in a device without a clock.
    #[serde(default, skip_serializing_if = "is_false")]
    pub time_has_moved: bool,
    /// The last few offsets, as the previous release keeps them. They become the first minimum and are not written again.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub offsets_ms: VecDeque<i64>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What is known of a latest reading whose device time does not say when it was taken.
///
/// An older release keeps these facts and replaces the latest reading. So they name the reading they belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestDoubt {
    /// Fingerprint of the reading.
    pub fingerprint: u64,
    /// Server time at which it arrived.
    pub arrival: Time,
    /// The newest device time it can have, by the usual offset.
    #[serde(default)]
    pub newest: Option<Time>,
    /// Its own device time, if that is ahead of the newest possible one.
    #[serde(default)]
    pub ahead: Option<Time>,
    /// It is a retained message: no evidence about the device's clock.
    #[serde(default)]
    pub retained: bool,
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
    /// Number of arrivals, without redelivered and retained messages. Arrivals within 2 s count as one.
    pub count: u32,
    /// Server time of the last arrival that was counted. An older release does not store it.
    #[serde(default)]
    pub last: Time,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Late readings in a row, with no reading in order between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateRun {
    /// Device time of the first.
    pub first_time: Time,
    /// Server time at which the first arrived.
    pub first_arrival: Time,
    /// Device time of the last.
    pub last_time: Time,
    /// Number of readings whose device time has advanced. Only the previous release uses it.
    pub count: u32,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// A span of device time from which no reading arrived in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Device time of the reading before it.
    pub from: Time,
    /// Device time of the reading behind it.
    pub to: Time,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// The smallest offset among the readings of three hours. Stored as `[since, offset_ms]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Time, i64)", into = "(Time, i64)")]
pub struct OffsetMinimum {
    /// Server time at which the first of the readings arrived.
    pub since: Time,
    /// Arrival minus device time, in milliseconds.
    pub offset_ms: i64,
}

impl From<(Time, i64)> for OffsetMinimum {
    fn from((since, offset_ms): (Time, i64)) -> Self {
        Self { since, offset_ms }
    }
}

impl From<OffsetMinimum> for (Time, i64) {
    fn from(minimum: OffsetMinimum) -> Self {
        (minimum.since, minimum.offset_ms)
    }
}

/// Readings in a row whose offsets are far from the usual one, all on the same side. The run begins with the one that has the
/// smallest offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusualRun {
    /// The device times are ahead of the newest possible ones; otherwise they are behind.
    pub ahead: bool,
    /// Server time at which the first reading arrived.
    pub first_arrival: Time,
    /// Offset of the first reading in milliseconds.
    pub first_ms: i64,
    /// Smallest offset in milliseconds; at most a little below that of the first.
    pub min_ms: i64,
    /// Number of readings that kept pace with the first.
    pub count: u32,
    /// Server time at which the last of these arrived.
    pub last_arrival: Time,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Messages in a row that brought no new bytes, without redelivered and retained ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameBytes {
    /// Fingerprint of the last new bytes.
    pub fingerprint: u64,
    /// The device time in them.
    #[serde(default)]
    pub time: Option<Time>,
    /// Fingerprint of their time as it was sent, if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable_time: Option<u64>,
    /// Server time of their first arrival.
    pub since: Time,
    /// Server time of the last arrival of known bytes with a value.
    pub last: Time,
    /// Number of arrivals with a value.
    pub count: u32,
    /// While only known bytes arrive: number of messages in a row with new bytes and without time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub without_time: u32,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

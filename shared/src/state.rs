//! What is kept of a device between two messages, and how fresh it is.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, Kind};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::position::Position;
use crate::reading::{Quality, Reading, Side};

/// What is kept of a device between two messages. Equal parts are not written again.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceState {
    /// Moves with every write; used by the compare alone.
    pub rev: u64,
    /// Position of the last published event.
    pub position: Position,
    /// Open alarms, oldest first.
    pub alarms: Vec<Alarm>,
    /// What ordering the next message needs.
    pub order: OrderState,
    /// The last 64 fingerprints of payloads, oldest first.
    pub fingerprints: VecDeque<u64>,
    /// The reading that is shown; `None` only for a device that was never heard of.
    pub latest: Option<Latest>,
    /// What outlives a single reading: last known levels, the silence limit, the moment of the last decision.
    pub memory: DeviceMemory,
}

/// The reading that is shown, with what was found out about it when it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// The reading itself.
    pub reading: Reading,
    /// The levels it was judged by: its own, else the last known, else the defaults.
    pub levels: [Decimal; 3],
    /// Which side of them is dangerous: its own word, else the last known, else High.
    pub sides: [Side; 3],
    /// Server time at which it was taken (`processed_at`).
    pub taken_at: Time,
    /// Server time of the last commit that published it (`timestamp` of `device:data`).
    pub published_at: Time,
    /// Age of the reading at `taken_at`, by the device's usual clock offset; `None` if its time is unusable.
    pub age_ms: Option<i64>,
    /// A default level, too old at commit, or first seen as a retained message: quality `uncertain`.
    pub doubtful: bool,
    /// The device's clock is more than 5 min off, was set back or is unusable.
    pub clock_suspect: bool,
    /// It was newer than what came before, so that it may lower what a late reading raises.
    pub in_order: bool,
}

/// What [`crate::order`] needs of the messages before.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderState {
    /// Fingerprint of the latest reading.
    #[serde(default, rename = "latest_print")]
    pub latest_fingerprint: Option<u64>,
    /// Newest usable device time among the latest readings.
    #[serde(default)]
    pub latest_time: Option<Time>,
    /// Whether the latest reading's own device time is usable.
    #[serde(default)]
    pub latest_usable: bool,
    /// When the latest reading arrived.
    #[serde(default)]
    pub latest_arrival: Time,
    /// The device time that arrives again and again.
    #[serde(default)]
    pub standing: Option<Standing>,
    /// Late readings in a row.
    #[serde(default)]
    pub late: Option<LateRun>,
    /// Arrival minus device time of the last few readings, in milliseconds, oldest first.
    #[serde(default)]
    pub offsets_ms: VecDeque<i64>,
}

/// A device time that did not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The device time.
    pub time: Time,
    /// Its first arrival.
    pub since: Time,
    /// How often it arrived, redelivered and retained messages not counted.
    pub count: u32,
}

/// Late readings in a row whose device times advance as their arrivals do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateRun {
    /// Device time of the first.
    pub first_time: Time,
    /// Arrival of the first.
    pub first_arrival: Time,
    /// Device time of the last.
    pub last_time: Time,
    /// How many.
    pub count: u32,
}

/// What outlives a single reading.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceMemory {
    /// The levels the device last sent.
    #[serde(default)]
    pub levels: [Option<Decimal>; 3],
    /// The sides of them it last sent.
    #[serde(default)]
    pub sides: [Option<Side>; 3],
    /// Their latching flags it last sent.
    #[serde(default)]
    pub latching: [Option<Decimal>; 3],
    /// The silence limit of the ingest that last decided, in milliseconds.
    #[serde(default)]
    pub silence_limit_ms: i64,
    /// The moment of the last decision: `now` never runs back for a device.
    #[serde(default)]
    pub decided_at: Time,
    /// The seq after which this device began: what clients have seen up to here was of one that was retired or lost.
    #[serde(default)]
    pub born_after: u64,
    /// How far the device had come in each of its earlier epochs, the newest last: by them an earlier point of its own
    /// line is known as one. At most [`DeviceMemory::MAX_EPOCHS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub line: Vec<Position>,
}

impl DeviceMemory {
    /// So many earlier epochs are known.
    pub const MAX_EPOCHS: usize = 8;

    /// The device stood there, and goes on in another epoch.
    pub fn leave(&mut self, position: Position) {
        let mut epochs = self.line.iter_mut();
        if let Some(left) = epochs.find(|left| left.epoch == position.epoch) {
            left.seq = left.seq.max(position.seq);
            return;
        }
        if self.line.len() >= Self::MAX_EPOCHS {
            self.line.remove(0);
        }
        self.line.push(position);
    }
}

impl DeviceState {
    /// The open alarm of this kind.
    #[must_use]
    pub fn alarm(&self, kind: Kind) -> Option<&Alarm> {
        self.alarms.iter().find(|alarm| alarm.kind() == kind)
    }

    /// Whether the device's line had come to that position, or beyond it.
    #[must_use]
    pub fn has_passed(&self, position: Position) -> bool {
        let line = self.memory.line.iter().chain([&self.position]);
        line.into_iter()
            .any(|point| point.epoch == position.epoch && position.seq <= point.seq)
    }

    /// Quality of the latest reading; `offline` while the alarm of a silent detector is open.
    #[must_use]
    pub fn quality(&self) -> Quality {
        match &self.latest {
            Some(latest) if self.alarm(Kind::DeviceOffline).is_none() => latest.quality(),
            _ => Quality::Offline,
        }
    }

    /// Whether the device must be shown in `ALARM`: any alarm open, any LED or the fault flag set, or a flag unknown.
    #[must_use]
    pub fn in_alarm(&self) -> bool {
        let flagged = |latest: &Latest| {
            let reading = &latest.reading;
            reading.has_led() || reading.has_fault() || reading.unclear
        };
        !self.alarms.is_empty() || self.latest.as_ref().is_some_and(flagged)
    }
}

impl Latest {
    /// Quality of this reading, whatever its age.
    #[must_use]
    pub fn quality(&self) -> Quality {
        if self.reading.value.is_none() {
            Quality::Bad
        } else if self.doubtful || self.reading.doubtful || self.reading.has_fault() {
            Quality::Uncertain
        } else {
            Quality::Good
        }
    }
}

/// Whether a state may still be shown as current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The last message is within the silence limit.
    Fresh,
    /// There never was one: what a broker kept is all that is known. Shown as `uncertain` at best, and `ALARM`.
    Unheard,
    /// It is older: shown as `offline` and `ALARM`, whether an ingest was listening or not.
    Stale,
}

/// Judges how fresh a state is at the moment it is shown. `last_message` is the server time of the last message that
/// proved the device alive.
#[must_use]
pub fn freshness(state: &DeviceState, last_message: Option<Time>, now: Time) -> Freshness {
    match last_message {
        Some(last) if now.millis_since(last) <= state.memory.silence_limit_ms => Freshness::Fresh,
        Some(_) => Freshness::Stale,
        None => Freshness::Unheard,
    }
}

/// What deciding about a reading or a deadline is configured with; an acknowledgement needs none of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmSettings {
    /// Silence after which a device is offline.
    pub offline_after: Duration,
    /// Deadband in percent of the span the device sends, or of the level where it sends none.
    pub alarm_deadband: Decimal,
    /// How long a value must be back before its level returns.
    pub alarm_off_delay: Duration,
    /// What a level of 0 means.
    pub zero_level: ZeroLevel,
}

/// What a level of 0 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ZeroLevel {
    /// A level like any other.
    #[default]
    Value,
    /// The level is not used.
    Unused,
}

//! The stored state of a device, and its freshness.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, Kind};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::forward::UnknownFields;
use crate::order::OrderState;
use crate::position::Position;
use crate::reading::{Quality, Reading, Side};

/// The state of a device that is stored between two messages.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceState {
    /// Changes with every write. Only the commit compares it; it never leaves Redis.
    pub rev: u64,
    /// Position of the last published event.
    pub position: Position,
    /// Open alarms, oldest first.
    pub alarms: Vec<Alarm>,
    /// The facts that are needed to order the next message.
    pub order: OrderState,
    /// The last 64 fingerprints of payloads, oldest first.
    pub fingerprints: VecDeque<u64>,
    /// The reading that is shown; `None` only for an unknown device.
    pub latest: Option<Latest>,
    /// Facts that are kept longer than a single reading.
    pub memory: DeviceMemory,
}

/// The reading that is shown, with how it was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// The reading itself.
    pub reading: Reading,
    /// The levels it was judged by: its own, else the last ones the device sent, else the defaults.
    pub levels: [Decimal; 3],
    /// Which side of each level is dangerous: as the device sent it, else as it sent it last, else High.
    pub sides: [Side; 3],
    /// Server time of the decision that made it the latest (`processed_at` on the wire).
    pub taken_at: Time,
    /// Server time of the last commit that published it (`timestamp` of `device:data`).
    pub published_at: Time,
    /// Age of the reading at `taken_at` in milliseconds, by the device's usual clock offset; `None` if its time is unusable.
    pub age_ms: Option<i64>,
    /// Its quality is `uncertain`: a default level was used, it was too old when committed, or it is a retained message of an
    /// unknown device.
    pub doubtful: bool,
    /// The device's clock is more than 5 min off, was set back, or is unusable.
    pub clock_suspect: bool,
    /// It was newer than the reading before it. Only then may it lower an alarm that a late reading raises.
    pub in_order: bool,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Facts that are kept longer than a single reading.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceMemory {
    /// The levels the device sent last.
    #[serde(default)]
    pub levels: [Option<Decimal>; 3],
    /// The sides of the levels it sent last.
    #[serde(default)]
    pub sides: [Option<Side>; 3],
    /// The latching flags of the levels it sent last.
    #[serde(default)]
    pub latching: [Option<Decimal>; 3],
    /// The silence limit of the ingest replica that decided last, in milliseconds.
    #[serde(default)]
    pub silence_limit_ms: i64,
    /// Server time of the last decision. A later decision never has an earlier time.
    #[serde(default)]
    pub decided_at: Time,
    /// The seq after which this device began. Events up to it belong to a device that was retired or lost.
    #[serde(default)]
    pub born_after: u64,
    /// The last position in each earlier epoch, newest last: at most [`DeviceMemory::MAX_EPOCHS`]. They show whether another
    /// state is an earlier point of the same history.
    #[serde(default, rename = "line", skip_serializing_if = "Vec::is_empty")]
    pub earlier_epochs: Vec<Position>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl DeviceMemory {
    /// Maximum number of earlier epochs that are kept.
    pub const MAX_EPOCHS: usize = 8;

    /// Records the last position of an epoch that the device has left.
    pub fn record_epoch(&mut self, last: Position) {
        let mut epochs = self.earlier_epochs.iter_mut();
        if let Some(known) = epochs.find(|known| known.epoch == last.epoch) {
            known.seq = known.seq.max(last.seq);
            return;
        }
        if self.earlier_epochs.len() >= Self::MAX_EPOCHS {
            self.earlier_epochs.remove(0);
        }
        self.earlier_epochs.push(last);
    }
}

impl DeviceState {
    /// Returns the open alarm of this kind.
    #[must_use]
    pub fn alarm(&self, kind: Kind) -> Option<&Alarm> {
        self.alarms.iter().find(|alarm| alarm.kind() == kind)
    }

    /// Whether the history of this state includes the position.
    #[must_use]
    pub fn has_passed(&self, position: Position) -> bool {
        let last_positions = self.memory.earlier_epochs.iter().chain([&self.position]);
        last_positions
            .into_iter()
            .any(|last| last.epoch == position.epoch && position.seq <= last.seq)
    }

    /// Returns the quality of the latest reading; `offline` while the alarm of a silent detector is open.
    #[must_use]
    pub fn quality(&self) -> Quality {
        match &self.latest {
            Some(latest) if self.alarm(Kind::DeviceOffline).is_none() => latest.quality(),
            _ => Quality::Offline,
        }
    }

    /// Whether the device is shown in `ALARM`: an alarm is open, an LED or the fault flag is set, or a flag is unreadable.
    #[must_use]
    pub fn in_alarm(&self) -> bool {
        let is_flagged = |latest: &Latest| {
            let reading = &latest.reading;
            reading.has_led() || reading.has_fault() || reading.unclear
        };
        !self.alarms.is_empty() || self.latest.as_ref().is_some_and(is_flagged)
    }
}

impl Latest {
    /// Returns the quality of this reading. Its age does not matter.
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

/// Whether a state may be shown as current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The last message is within the silence limit.
    Fresh,
    /// Only a retained message is known. Shown as `uncertain` at best, and in `ALARM`.
    Unheard,
    /// The last message is older than the silence limit, whether an ingest was listening or not. Shown as `offline` and in
    /// `ALARM`.
    Stale,
}

/// Judges how fresh a state is at `now`, when it is shown. `last_message` is the server time of the last message that
/// proved the device alive.
#[must_use]
pub fn freshness(state: &DeviceState, last_message: Option<Time>, now: Time) -> Freshness {
    match last_message {
        Some(last) if now.millis_since(last) <= state.memory.silence_limit_ms => Freshness::Fresh,
        Some(_) => Freshness::Stale,
        None => Freshness::Unheard,
    }
}

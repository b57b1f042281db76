//! The stored state of a device, and its freshness.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, Condition, Kind};
use crate::alarm_log::share::LogShare;
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
    /// Open alarms, oldest first. At most one of each kind.
    pub alarms: Vec<Alarm>,
    /// Alarms that were cleared, the last one of its kind each, oldest first: at most as many as there are kinds.
    pub closed: Vec<ClosedAlarm>,
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "stored under these names, most of them since earlier releases"
)]
pub struct Latest {
    /// The reading itself. Shared, because every decision copies the state before it.
    #[serde(with = "shared_reading")]
    pub reading: Arc<Reading>,
    /// The levels it was judged by: its own, else the last ones the device sent, else the defaults.
    pub levels: [Decimal; 3],
    /// Which side of each level is dangerous: as the device sent it, else as it sent it last, else by `--low-devices`.
    pub sides: [Side; 3],
    /// The levels that are used, A1 first.
    #[serde(default = "all_used")]
    pub used: [bool; 3],
    /// Server time of the decision that made it the latest (`processed_at` on the wire).
    pub taken_at: Time,
    /// Server time of the last commit that published it (`timestamp` of `device:data`).
    pub published_at: Time,
    /// Age of the reading at `taken_at` in milliseconds, by the device's usual clock offset; `None` if its time is unusable.
    pub age_ms: Option<i64>,
    /// Its quality is `uncertain`: a default level was used, it is below the measuring range, it was too old when committed, or it is a retained message of an
    /// unknown device.
    pub doubtful: bool,
    /// The device's clock is more than 5 min off, was set back, or is unusable.
    pub clock_suspect: bool,
    /// It may lower alarms: it was in order, measured without a fault, within the measuring range, and read without doubt, and
    /// nothing that is worse has arrived since.
    pub in_order: bool,
    /// It shows a danger whose alarm is held back while an earlier release is at work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_back: bool,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// An alarm that was cleared a short while ago. A new raise may continue it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedAlarm {
    /// Its id.
    pub id: String,
    /// Its last condition.
    pub condition: Condition,
    /// Its side, if it is a gas alarm.
    pub side: Side,
    /// Server time of its first raise.
    pub raised_at: Time,
    /// How often it was raised.
    pub count: u32,
    /// When the readings were taken that raised it last.
    pub raises: Vec<Time>,
    /// Server time of the clearing.
    pub cleared_at: Time,
    /// When the reading was taken that cleared it.
    pub taken_at: Time,
    /// As in [`Alarm::log_group`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_group: Option<String>,
}

impl ClosedAlarm {
    /// Returns the kind of the alarm.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(self.condition, self.side)
    }
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
    /// The hysteresis of the levels it sent last.
    #[serde(default)]
    pub hysteresis: [Option<Decimal>; 3],
    /// The span it sent last: low and high.
    #[serde(default)]
    pub span: [Option<Decimal>; 2],
    /// The unit it sent last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The gas it sent last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas: Option<String>,
    /// The `Decimal Point` it sent last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimal_point: Option<Decimal>,
    /// Levels were lost by settings that came for the first time, while an earlier release was at work. It is reported later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_unreported_loss: bool,
    /// [`DeviceState::rev`] of the last write by a release that has these rules. If it is another one, an earlier release has
    /// written since then, and left the fields that it does not know as they were.
    #[serde(default)]
    pub rules_rev: u64,
    /// Number of messages in a row that all needed the repairs of [`DeviceMemory::repairs_in_row`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repaired_in_row: u32,
    /// The kinds of repair that these messages have in common, one bit each. They concern only keys that do not matter here.
    #[serde(default)]
    pub repairs_in_row: u16,
    /// Number of readings that became the latest since the last event. The next event has the latest, and this number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unpublished: u32,
    /// The history lacks the latest reading, because the device sends more than its rate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsampled: bool,
    /// How much the device sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sending: Option<SendingRate>,
    /// The same for late readings, whose times are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sending_late: Option<SendingRate>,
    /// What it may still write to the alarm log; `None` as long as it has its whole share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_share: Option<LogShare>,
    /// How many entries it may write at once, as the ingest replica that decided last had it; `None` for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_burst: Option<u32>,
    /// How the LEDs of the detector compared with its levels.
    #[serde(default, skip_serializing_if = "LedMemory::is_empty")]
    pub leds: LedMemory,
    /// The silence limit of the ingest replica that decided last, in milliseconds.
    #[serde(default)]
    pub silence_limit_ms: i64,
    /// Since when nothing at all was heard from the device; `None` until that is longer than the silence limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheard: Option<Unheard>,
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

/// Since when nothing at all was heard from a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unheard {
    /// Server time of the last message that proved it alive. If it is another one, the device has been heard since then, by a
    /// release that does not know this field.
    pub heard_at: Time,
    /// How long this system had listened by then: [`crate::listening::Listening::total_ms`].
    pub listened_ms: i64,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// How much a device sends, compared with its rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingRate {
    /// When the newest message was taken.
    pub at: Time,
    /// What it may still send at that time, in thousandths of a message.
    pub allowance: i64,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Since when the LEDs of a detector contradict its levels.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedMemory {
    /// Arrival of the first reading with an LED above the levels, and the number of such readings. Forgotten after three readings
    /// in a row that agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<(Time, u32)>,
    /// Arrival of the first reading that reaches a level without its LED, and the number of such readings. Forgotten likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<(Time, u32)>,
    /// Number of readings in a row that agree and may lower.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub agreeing: u32,
    /// Number of readings in a row that do not contradict, whatever they may lower.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub quiet: u32,
    /// The highest level that stood while LEDs were lit without interruption; A1 is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood: Option<usize>,
}

impl LedMemory {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
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

/// Stores a shared reading as the reading itself.
mod shared_reading {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::reading::Reading;

    pub(super) fn serialize<S: Serializer>(
        reading: &Arc<Reading>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        reading.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Reading>, D::Error> {
        Reading::deserialize(deserializer).map(Arc::new)
    }
}

fn all_used() -> [bool; 3] {
    [true; 3]
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

    /// Returns the quality of the latest reading; `offline` while the detector is silent.
    #[must_use]
    pub fn quality(&self) -> Quality {
        let is_active = |kind: Kind| self.alarm(kind).is_some_and(Alarm::is_active);
        let Some(latest) = &self.latest else {
            return Quality::Offline;
        };
        if is_active(Kind::DeviceOffline) {
            Quality::Offline
        } else if is_active(Kind::ReadingFrozen) {
            latest.quality().min(Quality::Uncertain)
        } else {
            latest.quality()
        }
    }

    /// Whether the device is shown in `ALARM`: an alarm of gas or of a fault is active or held back, or a flag or an LED is set. An alarm that only waits for its acknowledgement, or reports a changed setting, is shown beside `NORMAL`.
    #[must_use]
    pub fn in_alarm(&self) -> bool {
        let is_flagged = |latest: &Latest| {
            let reading = &latest.reading;
            reading.has_led() || reading.own_alarm || reading.has_fault() || latest.held_back
        };
        let counts = |alarm: &Alarm| !alarm.returned && alarm.kind().is_danger();
        self.alarms.iter().any(counts) || self.latest.as_ref().is_some_and(is_flagged)
    }
}

impl Latest {
    /// Returns the server time at which the reading was taken: its commit less its age.
    #[must_use]
    pub fn measured_at(&self) -> Time {
        let age_ms = self.age_ms.unwrap_or(0).max(0).unsigned_abs();
        self.taken_at - Duration::from_millis(age_ms)
    }

    /// Returns the quality of this reading. Its age does not matter.
    #[must_use]
    pub fn quality(&self) -> Quality {
        if self.reading.value.is_none() {
            Quality::Bad
        } else if self.doubtful
            || self.reading.doubtful
            || self.reading.unclear
            || self.reading.has_fault()
        {
            Quality::Uncertain
        } else {
            Quality::Good
        }
    }
}

/// Whether a state may be shown as current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The last message and the reading shown are within the silence limit.
    Fresh,
    /// Only a retained message is known. Shown as `uncertain` at best, and in `ALARM`.
    Unheard,
    /// The last message, or the reading shown, is older than the silence limit, whether an ingest was listening or not. Shown as
    /// `offline` and in `ALARM`.
    Stale,
}

/// Judges how fresh a state is at `now`, when it is shown. `last_message` is the server time of the last message that
/// proved the device alive.
#[must_use]
pub fn freshness(state: &DeviceState, last_message: Option<Time>, now: Time) -> Freshness {
    let measured_at = state.latest.as_ref().map(Latest::measured_at);
    let oldest = |last: Time| measured_at.map_or(last, |measured_at| measured_at.min(last));
    match last_message.map(oldest) {
        Some(last) if now.millis_since(last) <= state.memory.silence_limit_ms => Freshness::Fresh,
        Some(_) => Freshness::Stale,
        None => Freshness::Unheard,
    }
}

//! `(stored state, input, now) → Decision`: everything that is decided about a device.
//!
//! Pure: no clock and no I/O. The store carries a decision out only if the state it started from is still stored.

mod acknowledge;
mod deadline;
mod effects;
mod judge;
mod last_known;
mod message;
mod reassert;
mod retire;

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::alarm::{Alarm, Change, ChangeKind, Kind};
use crate::alarm_log::AlarmLogEntry;
use crate::clock::Time;
use crate::device::DeviceId;
use crate::listening::Listening;
use crate::order::Class;
use crate::position::{Epoch, Position};
use crate::reading::{PayloadFacts, Reading};
use crate::rules::{AlarmDetails, Alarms, Moment};
use crate::sample::Sample;
use crate::settings::AlarmSettings;
use crate::state::{DeviceState, Latest};

use effects::Effects;
pub use reassert::CommittedState;

/// The state a decision starts from, as it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDevice {
    /// The device.
    pub device: DeviceId,
    /// The present epoch of its partition.
    pub epoch: Epoch,
    /// `rev` and `seq` as they are stored, separated by a space. The commit compares them. After a retirement, the
    /// new device with the same serial may repeat a `rev`, but never a `seq`.
    pub stored_rev: Vec<u8>,
    /// The state; empty for an unknown device.
    pub state: Arc<DeviceState>,
    /// The highest seq that is known to be used, where the state does not contain it.
    pub seq_floor: u64,
    /// The stored state could not be read, or is missing although the device is listed.
    pub lost: bool,
    /// Server time of the last message that proved the device alive.
    pub last_message: Option<Time>,
    /// The stored deadline is at this time or earlier; `None` if that is not known.
    pub deadline_by: Option<Time>,
}

impl StoredDevice {
    /// A device of which nothing is stored.
    #[must_use]
    pub fn unknown(device: DeviceId, epoch: Epoch) -> Self {
        Self {
            device,
            epoch,
            stored_rev: Vec::new(),
            state: Arc::default(),
            seq_floor: 0,
            lost: false,
            last_message: None,
            deadline_by: None,
        }
    }

    /// The device as this decision leaves it, to be decided about again in the same commit.
    #[must_use]
    pub fn after(&self, decision: &Decision) -> Self {
        let alive_at = decision.state.memory.decided_at;
        Self {
            device: self.device.clone(),
            epoch: self.epoch,
            stored_rev: self.stored_rev.clone(),
            state: Arc::clone(&decision.state),
            seq_floor: self.seq_floor,
            lost: self.lost && decision.outcome.is_unchanged(),
            last_message: self
                .last_message
                .max(decision.last_alive)
                .max(decision.alive.then_some(alive_at)),
            deadline_by: self.deadline_by,
        }
    }
}

/// An input to a decision about a device. A variant contains everything that the decision needs beside the stored state.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A parsed message arrived.
    Message {
        /// The message.
        message: &'a Message<'a>,
        /// Settings of the alarm rules.
        settings: &'a AlarmSettings,
    },
    /// A deadline passed.
    Deadline {
        /// When at least one ingest replica has been receiving messages.
        listening: Listening,
        /// Settings of the alarm rules.
        settings: &'a AlarmSettings,
    },
    /// A person acknowledges an alarm.
    Acknowledge(AcknowledgeRequest<'a>),
    /// A person retires the device.
    Retirement {
        /// Name of the person.
        by: &'a str,
    },
    /// Redis has lost a state that this process committed.
    Reassertion(&'a CommittedState),
}

/// A parsed message.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Its content.
    pub reading: Arc<Reading>,
    /// What it says beside the reading.
    pub facts: PayloadFacts,
    /// Fingerprint of its bytes.
    pub fingerprint: u64,
    /// It may have been delivered before.
    pub dup: bool,
    /// The broker had retained it.
    pub retain: bool,
    /// The payload, if it is published with the event.
    pub live_raw_message: Option<&'a RawValue>,
}

/// A request to acknowledge an alarm.
#[derive(Clone, Copy, Debug)]
pub struct AcknowledgeRequest<'a> {
    /// Id of the alarm.
    pub alarm_id: &'a str,
    /// Name of the person.
    pub by: &'a str,
    /// What the person writes beside it.
    pub note: Option<&'a str>,
    /// The position the person had seen.
    pub seen: Position,
    /// The alarm, if it is closed and still among the device's recent alarms.
    pub closed: Option<&'a Alarm>,
}

/// The result of a decision: the state to write, and the event to publish. The state's `rev` is one above the `rev` of the state
/// that the decision started from.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The state after the decision.
    pub state: Arc<DeviceState>,
    /// Alarm changes, in order.
    pub changes: Vec<Change>,
    /// The event to publish, if clients must see this commit. Its position is the state's.
    pub event: Option<RenderedEvent>,
    /// Entries for the alarm log.
    pub log: Vec<AlarmLogEntry>,
    /// Number of further entries that are only counted, because the device has written its share of the log.
    pub folded: u32,
    /// A sample for the history.
    pub sample: Option<Sample>,
    /// Whether the message proves the device alive.
    pub alive: bool,
    /// An earlier time at which a message proved the device alive; the index may have lost it.
    pub last_alive: Option<Time>,
    /// When to evaluate the device again.
    pub deadline: Deadline,
    /// The result of the decision.
    pub outcome: Outcome,
}

/// The bytes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedEvent {
    /// The envelope with all payloads.
    pub envelope: String,
    /// Payload of `device:alerts:changed` alone, for the changes stream.
    pub changes: Option<String>,
}

/// When to evaluate a device again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// At the time that is stored already.
    Keep,
    /// At this time.
    At(Time),
    /// Not before the next input.
    Never,
}

impl Deadline {
    /// Returns the earlier of this one and `time`.
    fn or_earlier(self, time: Time) -> Self {
        match self {
            Self::At(own) => Self::At(own.min(time)),
            Self::Never => Self::At(time),
            Self::Keep => Self::Keep,
        }
    }
}

/// The result of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A message was ordered.
    Message(Class),
    /// A message without a reading proved the device alive.
    SignOfLife,
    /// A deadline was evaluated.
    Deadline,
    /// The acknowledgement covers the alarm.
    Acknowledged,
    /// The alarm had been acknowledged before. Nothing to write.
    AlreadyAcknowledged,
    /// The alarm has reached a level that had not been seen: it stays unacknowledged.
    Escalated,
    /// As [`Outcome::Escalated`], and the log has an acknowledgement of that level already. Nothing to write.
    EscalatedBefore,
    /// The device is retired: everything stored of it is deleted.
    Retired,
    /// There is no such alarm or device. Nothing to write.
    NotFound,
    /// A state that Redis had lost is written again.
    Reasserted,
    /// Redis has lost nothing. Nothing to write.
    NothingMissing,
}

impl Outcome {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_unchanged(self) -> bool {
        matches!(
            self,
            Self::AlreadyAcknowledged
                | Self::EscalatedBefore
                | Self::NotFound
                | Self::NothingMissing
                | Self::Message(Class::Ignored)
        )
    }
}

impl Decision {
    /// Creates a decision that changes nothing.
    #[must_use]
    pub fn unchanged(stored: &StoredDevice, outcome: Outcome) -> Self {
        Self {
            state: Arc::clone(&stored.state),
            changes: Vec::new(),
            event: None,
            log: Vec::new(),
            folded: 0,
            sample: None,
            alive: false,
            last_alive: None,
            deadline: Deadline::Keep,
            outcome,
        }
    }

    /// Whether it shows a danger to people: gas, a value outside the measuring range, a detector that cannot measure, or one that
    /// itself reports an alarm. A new detector with one gets a place in the reserve.
    #[must_use]
    pub fn shows_danger(&self) -> bool {
        let is_raised = |change: &Change| {
            let is_danger = matches!(
                change.alarm.kind(),
                Kind::GasHigh
                    | Kind::GasLow
                    | Kind::OverRange
                    | Kind::UnderRange
                    | Kind::SensorFault
                    | Kind::ReadingInvalid
                    | Kind::LedMismatch
            );
            is_danger && change.kind == ChangeKind::Raised
        };
        let is_reported = |latest: &Latest| {
            let reading = &latest.reading;
            reading.has_led() || reading.own_alarm || latest.held_back
        };
        self.changes.iter().any(is_raised) || self.state.latest.as_ref().is_some_and(is_reported)
    }

    /// Whether the reading of the message becomes the latest of the device.
    #[must_use]
    pub fn moves_latest(&self) -> bool {
        matches!(
            self.outcome,
            Outcome::Message(Class::Next(_) | Class::Tie(_))
        )
    }
}

/// Decides about one input. `traceparent` is published with the event.
#[must_use]
pub fn decide(
    stored: &StoredDevice,
    input: Input<'_>,
    now: Time,
    traceparent: Option<&str>,
) -> Decision {
    let draft = Draft::new(stored, now, traceparent);
    match input {
        Input::Message { message, settings } => message::decide(draft, message, settings),
        Input::Deadline {
            listening,
            settings,
        } => deadline::decide(draft, listening, settings),
        Input::Acknowledge(request) => acknowledge::decide(draft, request),
        Input::Retirement { by } => retire::decide(draft, by),
        Input::Reassertion(committed) => reassert::decide(draft, committed),
    }
}

/// A decision that is being made.
struct Draft<'a> {
    stored: &'a StoredDevice,
    /// Never before the device's last decision.
    now: Time,
    /// The position that an event of this decision gets.
    position: Position,
    traceparent: Option<&'a str>,
    state: DeviceState,
    log: Vec<AlarmLogEntry>,
}

impl<'a> Draft<'a> {
    fn new(stored: &'a StoredDevice, now: Time, traceparent: Option<&'a str>) -> Self {
        let before: &DeviceState = &stored.state;
        let now = now.max(before.memory.decided_at);
        let mut state = before.clone();
        state.rev = before.rev.saturating_add(1);
        state.memory.decided_at = now;
        if before.latest.is_none() {
            state.memory.born_after = stored.seq_floor;
        }
        // Each reading that was not published has a position that no event has.
        let unpublished = u64::from(before.memory.unpublished);
        let last = before.position.seq.max(stored.seq_floor);
        let position = Position {
            epoch: stored.epoch,
            seq: last.saturating_add(unpublished).saturating_add(1),
        };
        if stored.lost {
            // Clients get the alarms that are left in a snapshot at this position. The seq may begin again in a new epoch.
            for alarm in &mut state.alarms {
                alarm.reached = position;
            }
        }
        Self {
            stored,
            now,
            position,
            traceparent,
            state,
            log: Vec::new(),
        }
    }

    /// Takes the alarms, to be changed by something that was known at `taken_at`.
    fn alarms(&self, taken_at: Time) -> Alarms<'a> {
        let moment = Moment {
            now: self.now,
            taken_at,
            position: self.position,
        };
        let (open, closed) = (self.state.alarms.clone(), self.state.closed.clone());
        Alarms::new(&self.stored.device, open, closed, moment)
    }

    /// Takes over the changed alarms.
    fn take_alarms(&mut self, alarms: Alarms<'_>, effects: &mut Effects<'_>) {
        let (open, closed, changes) = alarms.finish();
        self.state.alarms = open;
        self.state.closed = closed;
        effects.changes = changes;
    }

    fn unchanged(self, outcome: Outcome) -> Decision {
        Decision::unchanged(self.stored, outcome)
    }
}

impl Latest {
    fn details(&self) -> AlarmDetails<'_> {
        AlarmDetails {
            reading: &self.reading,
            value: self.reading.value,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Sequences of inputs and the expected decisions. The clock moves only when a test moves it.

mod babbling;
mod chatter;
mod deadline;
mod earlier_release;
mod endings;
mod forget;
mod leds;
mod lifecycle;
mod log_share;
mod model;
mod more;
mod notes;
mod order;
mod properties;
mod random;
mod range;
mod reassert;
mod retire;
mod returned;
mod rows;
mod sensor;
mod settings;
mod sides;
mod stored;
mod telemetry;
mod two_sides;

use std::time::Duration;

use super::*;
use crate::alarm::{AlarmState, ChangeKind, Condition, Kind};
use crate::decimal::Decimal;
use crate::event::Event;
use crate::reading::{PayloadFacts, Quality};

/// What the person of these tests writes beside an acknowledgement.
pub(super) const NOTE: &str = "Looked at on site";

/// A device on a virtual clock. Its decisions are kept as if the store had committed them.
pub(super) struct TestDevice {
    pub(super) stored: StoredDevice,
    pub(super) settings: AlarmSettings,
    pub(super) now: Time,
    pub(super) device_time: Time,
    fingerprints: u64,
}

pub(crate) fn dec(text: &str) -> Decimal {
    text.parse().expect("a number")
}

pub(crate) fn reading(value: Option<&str>) -> Reading {
    Reading {
        value: value.map(dec),
        ..test_support::sample::reading()
    }
}

impl TestDevice {
    pub(super) fn new() -> Self {
        let start = Time::from_millis(1_800_000_000_000);
        Self {
            stored: StoredDevice::unknown(
                "OTSM-0114".parse().expect("a serial"),
                Epoch::from_bits(0xabc),
            ),
            settings: AlarmSettings::default(),
            now: start,
            device_time: start,
            fingerprints: 0,
        }
    }

    /// Moves both clocks forward.
    pub(super) fn advance(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.device_time = self.device_time + Duration::from_secs(seconds);
    }

    /// Sends a reading with this value, 5 s after the one before.
    pub(super) fn send_value(&mut self, value: &str) -> Decision {
        self.advance(5);
        self.send_reading(reading(Some(value)))
    }

    /// Sends this reading with the present time of the device.
    pub(super) fn send_reading(&mut self, mut reading: Reading) -> Decision {
        reading.device_time = Some(self.device_time);
        self.send_message(reading)
    }

    /// Sends this reading with the time it contains, if any.
    pub(super) fn send_message(&mut self, reading: Reading) -> Decision {
        let fingerprint = self.next_fingerprint();
        self.send_with_fingerprint(reading, fingerprint, false)
    }

    /// As [`TestDevice::send_message`], marked as delivered before.
    pub(super) fn send_redelivered(&mut self, reading: Reading) -> Decision {
        let fingerprint = self.next_fingerprint();
        self.send_with_fingerprint(reading, fingerprint, true)
    }

    /// As [`TestDevice::send_message`], retained by the broker.
    pub(super) fn send_retained(&mut self, reading: Reading) -> Decision {
        let fingerprint = self.next_fingerprint();
        self.decide_message(&Message {
            retain: true,
            ..message(reading, fingerprint)
        })
    }

    /// Sends this reading so many seconds after the one before.
    pub(super) fn send_after(&mut self, seconds: u64, reading: Reading) -> Decision {
        self.advance(seconds);
        self.send_reading(reading)
    }

    /// Sends this reading 5 s after the one before, in a message with these properties.
    pub(super) fn send_edited(
        &mut self,
        mut reading: Reading,
        edit: impl FnOnce(&mut Message<'static>),
    ) -> Decision {
        self.advance(5);
        reading.device_time = Some(self.device_time);
        let mut message = message(reading, self.next_fingerprint());
        edit(&mut message);
        self.decide_message(&message)
    }

    /// Its stored state, to be changed.
    pub(super) fn state_mut(&mut self) -> &mut DeviceState {
        Arc::make_mut(&mut self.stored.state)
    }

    pub(super) fn next_fingerprint(&mut self) -> u64 {
        self.fingerprints += 1;
        self.fingerprints
    }

    pub(super) fn send_with_fingerprint(
        &mut self,
        reading: Reading,
        fingerprint: u64,
        dup: bool,
    ) -> Decision {
        self.decide_message(&Message {
            dup,
            ..message(reading, fingerprint)
        })
    }

    pub(super) fn decide_message(&mut self, message: &Message<'_>) -> Decision {
        let settings = &self.settings.clone();
        self.apply(Input::Message { message, settings })
    }

    /// Decides as the timers do when a deadline has passed.
    pub(super) fn run_timer(&mut self, listening: impl Into<Listening>) -> Decision {
        let settings = &self.settings.clone();
        self.apply(Input::Deadline {
            listening: listening.into(),
            settings,
        })
    }

    /// Acknowledges an alarm, having seen the present position.
    pub(super) fn acknowledge(&mut self, id: &str) -> Decision {
        let seen = self.stored.state.position;
        self.acknowledge_seen(id, seen)
    }

    pub(super) fn acknowledge_seen(&mut self, id: &str, seen: Position) -> Decision {
        self.apply(Input::Acknowledge(AcknowledgeRequest {
            alarm_id: id,
            by: "User",
            note: Some(NOTE),
            seen,
            closed: None,
        }))
    }

    /// Acknowledges an alarm that was cleared, as a client does that does not know where it has got to.
    pub(super) fn acknowledge_closed(&mut self, alarm: &Alarm) -> Decision {
        self.apply(Input::Acknowledge(AcknowledgeRequest {
            alarm_id: &alarm.id,
            by: "User",
            note: Some(NOTE),
            seen: self.stored.state.position,
            closed: Some(alarm),
        }))
    }

    pub(super) fn apply(&mut self, input: Input<'_>) -> Decision {
        let decision = decide(&self.stored, input, self.now, None);
        more::check_more(&decision);
        if decision.alive {
            self.stored.last_message = Some(self.now);
        }
        self.stored.state = Arc::clone(&decision.state);
        decision
    }

    /// Reads the state back from its stored form, as after a restart of everything.
    pub(super) fn restart(&mut self) {
        self.stored.state = Arc::new(crate::store::round_trip(&self.stored.state));
    }

    pub(super) fn gas_alarm(&self) -> Option<&Alarm> {
        let state = &self.stored.state;
        state.alarm(Kind::GasHigh).or(state.alarm(Kind::GasLow))
    }

    pub(super) fn open_alarm_ids(&self) -> Vec<String> {
        let alarms = self.stored.state.alarms.iter();
        alarms.map(|alarm| alarm.id.clone()).collect()
    }

    pub(super) fn gas_alarm_id(&self) -> String {
        self.gas_alarm()
            .map(|alarm| alarm.id.clone())
            .unwrap_or_default()
    }

    pub(super) fn gas_alarm_state(&self) -> Option<AlarmState> {
        self.gas_alarm().map(Alarm::state)
    }

    pub(super) fn alarm(&self, kind: Kind) -> Option<&Alarm> {
        self.stored.state.alarm(kind)
    }

    /// The state of the alarm of this kind; `None` if none is open.
    pub(super) fn state_of(&self, kind: Kind) -> Option<AlarmState> {
        self.alarm(kind).map(Alarm::state)
    }

    /// Acknowledges the open alarm of this kind, having seen the present position.
    pub(super) fn acknowledge_kind(&mut self, kind: Kind) -> Decision {
        let id = self.alarm(kind).map(|alarm| alarm.id.clone());
        self.acknowledge(&id.unwrap_or_default())
    }

    /// `alarm_status` as it is shown while the device sends.
    pub(super) fn alarm_status(&self) -> &'static str {
        crate::event::alarm_status(&self.stored.state, crate::state::Freshness::Fresh)
    }

    pub(super) fn quality(&self) -> Quality {
        self.stored.state.quality()
    }
}

/// A reading with this value, and with what `edit` changes.
pub(super) fn edited(value: &str, edit: impl FnOnce(&mut Reading)) -> Reading {
    let mut reading = reading(Some(value));
    edit(&mut reading);
    reading
}

/// A reading without a span: the deadband is 2 % of each level.
pub(super) fn without_span(value: &str) -> Reading {
    edited(value, |reading| {
        reading.span_low = None;
        reading.span_high = None;
    })
}

fn message(reading: Reading, fingerprint: u64) -> Message<'static> {
    Message {
        reading: reading.into(),
        fingerprint,
        dup: false,
        retain: false,
        live_raw_message: None,
        facts: PayloadFacts::default(),
    }
}

pub(super) fn changes(decision: &Decision) -> Vec<(ChangeKind, Condition)> {
    let change = |change: &Change| (change.kind, change.alarm.condition);
    decision.changes.iter().map(change).collect()
}

/// The rows that a decision adds to the alarm log: one for each raise and each escalation.
pub(super) fn rows(decision: &Decision) -> usize {
    let is_row =
        |change: &&Change| matches!(change.kind, ChangeKind::Raised | ChangeKind::Escalated);
    decision.changes.iter().filter(is_row).count()
}

//! Tables of decisions: inputs, and what they must lead to. The clock moves only when a test moves it.

mod lifecycle;
mod model;
mod order;
mod reassert;
mod retire;

use std::time::Duration;

use super::*;
use crate::alarm::{AlarmState, ChangeKind, Condition, Kind};
use crate::decimal::Decimal;
use crate::reading::Quality;
use crate::state::ZeroLevel;

/// One device on a virtual clock. Every decision is committed as the store would do it.
pub(super) struct World {
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

impl World {
    pub(super) fn new() -> Self {
        let start = Time::from_millis(1_800_000_000_000);
        Self {
            stored: StoredDevice {
                device: "OTSM-0114".parse().expect("a serial"),
                epoch: Epoch::from_bits(0xabc),
                stored_rev: Vec::new(),
                state: DeviceState::default(),
                seq_floor: 0,
                lost: false,
                last_message: None,
            },
            settings: AlarmSettings {
                offline_after: Duration::from_mins(3),
                alarm_deadband: Decimal::from_int(2),
                alarm_off_delay: Duration::ZERO,
                zero_level: ZeroLevel::Value,
            },
            now: start,
            device_time: start,
            fingerprints: 0,
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.device_time = self.device_time + Duration::from_secs(seconds);
    }

    /// Sends a reading with this value, 5 s after the one before.
    pub(super) fn value(&mut self, value: &str) -> Decision {
        self.pass(5);
        self.read(reading(Some(value)))
    }

    pub(super) fn read(&mut self, mut reading: Reading) -> Decision {
        reading.device_time = Some(self.device_time);
        self.send(reading, false, false)
    }

    pub(super) fn send(&mut self, reading: Reading, dup: bool, retain: bool) -> Decision {
        self.fingerprints += 1;
        let fingerprint = self.fingerprints;
        self.send_fingerprint(reading, fingerprint, dup, retain)
    }

    pub(super) fn send_fingerprint(
        &mut self,
        reading: Reading,
        fingerprint: u64,
        dup: bool,
        retain: bool,
    ) -> Decision {
        let message = Message {
            reading,
            fingerprint,
            dup,
            retain,
            live_raw_message: None,
        };
        let settings = &self.settings.clone();
        self.apply(Input::Message {
            message: &message,
            settings,
        })
    }

    pub(super) fn timer(&mut self, listening_since: Time) -> Decision {
        let settings = &self.settings.clone();
        self.apply(Input::Deadline {
            listening_since,
            settings,
        })
    }

    pub(super) fn acknowledge(&mut self, id: &str) -> Decision {
        let seen = self.stored.state.position;
        self.acknowledge_seen(id, seen)
    }

    pub(super) fn acknowledge_seen(&mut self, id: &str, seen: Position) -> Decision {
        self.apply(Input::Acknowledgement(Acknowledgement {
            alarm_id: id,
            by: "User",
            seen,
            closed: None,
        }))
    }

    pub(super) fn apply(&mut self, input: Input<'_>) -> Decision {
        let decision = decide(&self.stored, input, self.now, None);
        if decision.alive {
            self.stored.last_message = Some(self.now);
        }
        self.stored.state = decision.state.clone();
        decision
    }

    /// Restarts everything: what remains is the state in its stored form.
    pub(super) fn restart(&mut self) {
        self.stored.state = crate::store::round_trip(&self.stored.state);
    }

    pub(super) fn gas(&self) -> Option<&Alarm> {
        self.stored.state.alarm(Kind::Gas)
    }

    pub(super) fn gas_id(&self) -> String {
        self.gas().map(|alarm| alarm.id.clone()).unwrap_or_default()
    }

    pub(super) fn quality(&self) -> Quality {
        self.stored.state.quality()
    }
}

pub(super) fn kinds(decision: &Decision) -> Vec<(ChangeKind, Condition)> {
    let change = |change: &Change| (change.kind, change.alarm.condition);
    decision.changes.iter().map(change).collect()
}

pub(super) fn state_of(world: &World) -> Option<AlarmState> {
    world.gas().map(Alarm::state)
}

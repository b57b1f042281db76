//! Decisions as tables: what is sent in, what must come out. The virtual clock only moves when a test says so.

mod lifecycle;
mod model;
mod order;
mod reassert;
mod retire;

use std::time::Duration;

use super::*;
use crate::alarm::{AlarmState, Condition, Kind};
use crate::reading::Quality;
use crate::state::AlarmSettings;

/// One device on a virtual clock, committed the way the store does it.
pub(super) struct World {
    pub(super) subject: StoredDevice,
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
            subject: StoredDevice {
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

    /// A new reading of the present device time, 5 s after the one before.
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
        self.apply(&Input::Reading(Message {
            reading,
            fingerprint,
            dup,
            retain,
            live_raw_message: None,
        }))
    }

    pub(super) fn timer(&mut self, listening_since: Time) -> Decision {
        self.apply(&Input::Timer { listening_since })
    }

    pub(super) fn acknowledge(&mut self, id: &str) -> Decision {
        let seen = self.subject.state.position;
        self.acknowledge_seen(id, seen)
    }

    pub(super) fn acknowledge_seen(&mut self, id: &str, seen: Position) -> Decision {
        self.apply(&Input::Acknowledge(Acknowledge {
            id,
            by: "User",
            seen,
            closed: None,
        }))
    }

    pub(super) fn apply(&mut self, input: &Input<'_>) -> Decision {
        let decision = decide(&self.subject, input, self.now, Some(&self.settings), None);
        if decision.alive {
            self.subject.last_message = Some(self.now);
        }
        self.subject.state = decision.state.clone();
        decision
    }

    /// What a restart of everything leaves: the stored form, read again.
    pub(super) fn restart(&mut self) {
        self.subject.state = crate::store::round_trip(&self.subject.state);
    }

    pub(super) fn gas(&self) -> Option<&Alarm> {
        self.subject.state.alarm(Kind::Gas)
    }

    pub(super) fn gas_id(&self) -> String {
        self.gas().map(|alarm| alarm.id.clone()).unwrap_or_default()
    }

    pub(super) fn quality(&self) -> Quality {
        self.subject.state.quality()
    }
}

pub(super) fn kinds(decision: &Decision) -> Vec<(ChangeKind, Condition)> {
    let change = |change: &Change| (change.kind, change.alarm.condition);
    decision.changes.iter().map(change).collect()
}

pub(super) fn state_of(world: &World) -> Option<AlarmState> {
    world.gas().map(Alarm::state)
}

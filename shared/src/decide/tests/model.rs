//! Compares the rules for gas with a naive model over random sequences: open alarms have the level and state of the model, and
//! the published changes result in exactly the open alarms.
//!
//! The random sequences reach: both sides, values at and beside every level and deadband, latching, an off-delay, faulty and
//! unreadable readings, ties, late and redelivered readings, acknowledgements of present and of earlier positions, pauses of up to
//! twelve minutes, restarts. The model takes the order of a message as given; `order` has its own tests.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::reading::Side;

mod naive;
use naive::{Model, Plant};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A reading in order.
    Reading { value: i64, after_s: u64 },
    /// A reading without a usable value.
    Invalid,
    /// A reading with the fault flag set.
    Faulty { value: i64 },
    /// A reading with the device time of the latest one.
    Tie { value: i64, after_ms: u64 },
    /// A new reading that is older than the latest.
    Late { value: i64 },
    /// The same, marked as redelivered.
    LateAgain { value: i64 },
    /// Time passes, then the timer runs.
    Wait { seconds: u64 },
    /// Acknowledges one gas alarm, having seen a position so many events ago.
    Acknowledge { kind: Kind, back: u64 },
    /// The state is read back from its stored form.
    Restart,
}

fn any_value() -> impl Strategy<Value = i64> {
    let edges = [
        0, 50, 51, 90, 91, 209, 210, 249, 250, 459, 460, 499, 500, 700, 959, 960, 1000,
    ];
    prop_oneof![prop::sample::select(edges.to_vec()), 0..1_500_i64]
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![3 => Just(Kind::GasHigh), 1 => Just(Kind::GasLow)]
}

fn any_step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![4 => 3..30_u64, 1 => 30..700_u64];
    prop_oneof![
        8 => (any_value(), after).prop_map(|(value, after_s)| Step::Reading { value, after_s }),
        1 => Just(Step::Invalid),
        1 => any_value().prop_map(|value| Step::Faulty { value }),
        2 => (any_value(), 1..4_000_u64).prop_map(|(value, after_ms)| Step::Tie { value, after_ms }),
        2 => any_value().prop_map(|value| Step::Late { value }),
        1 => any_value().prop_map(|value| Step::LateAgain { value }),
        2 => (1..700_u64).prop_map(|seconds| Step::Wait { seconds }),
        2 => any_kind().prop_map(|kind| Step::Acknowledge { kind, back: 0 }),
        1 => (any_kind(), 1..4_u64).prop_map(|(kind, back)| Step::Acknowledge { kind, back }),
        1 => Just(Step::Restart),
    ]
}

/// A client that receives the changes and derives the open alarms from them.
#[derive(Default)]
struct Client {
    open: HashMap<Kind, (String, Condition)>,
    ids: Vec<String>,
}

impl Client {
    fn receive(&mut self, decision: &Decision) {
        for change in &decision.changes {
            let kind = change.alarm.kind();
            let (id, to) = (change.alarm.id.clone(), change.alarm.condition);
            if change.kind == ChangeKind::Raised {
                let is_known = self.ids.contains(&id);
                let is_reopened = change.alarm.count > 1;
                assert_eq!(is_known, is_reopened, "{id} was raised twice");
                self.ids.push(id.clone());
                let before = self.open.insert(kind, (id, to));
                assert!(before.is_none(), "raised while one is open: {before:?}");
                continue;
            }
            let (open_id, from) = self.open.remove(&kind).expect("changed what was not open");
            assert_eq!(open_id, id);
            match change.kind {
                ChangeKind::Cleared => continue,
                ChangeKind::DeEscalated => assert!(to < from, "{from:?} to {to:?}"),
                ChangeKind::Escalated => {}
                ChangeKind::Returned => assert!(to >= from, "{from:?} to {to:?}"),
                _ => assert_eq!(to, from, "a level changed silently"),
            }
            self.open.insert(kind, (id, to));
        }
    }
}

struct Comparison {
    device: TestDevice,
    model: Model,
    client: Client,
    late_ms: i64,
    start: Time,
}

impl Comparison {
    fn new(plant: Plant) -> Self {
        let mut device = TestDevice::new();
        let off_delay_s = if plant.off_delay {
            naive::OFF_DELAY_S
        } else {
            0
        };
        device.settings.alarm_off_delay = Duration::from_secs(off_delay_s);
        device.settings.offline_after = Duration::from_secs(1_000_000);
        Self {
            start: device.now,
            device,
            model: Model::new(plant),
            client: Client::default(),
            late_ms: 0,
        }
    }

    fn reading(&self, value: Option<i64>) -> Reading {
        let mut reading = reading(value.map(|value| value.to_string()).as_deref());
        reading.span_low = None;
        reading.span_high = None;
        for (index, setting) in reading.levels.iter_mut().enumerate() {
            let (level, side) = self.model.plant.level(index);
            setting.level = Some(dec(&level.to_string()));
            setting.side = Some(side);
            setting.hysteresis = Some(dec(&naive::DEADBAND.to_string()));
            setting.latching = Some(Decimal::from_int(i32::from(self.model.plant.latching)));
        }
        reading
    }

    fn run_timer(&mut self) {
        self.model.timer(self.device.now);
        let decision = self.device.run_timer(self.start);
        self.client.receive(&decision);
    }

    /// Sends the reading, and tells the model what was sent and how it was ordered.
    fn send(
        &mut self,
        value: Option<i64>,
        is_faulty: bool,
        send: impl FnOnce(&mut TestDevice, Reading) -> Decision,
    ) {
        let mut reading = self.reading(value);
        reading.sensor_fault = Decimal::from_int(i32::from(is_faulty));
        let seq = self.device.stored.state.position.seq + 1;
        let decision = send(&mut self.device, reading);
        let Outcome::Message(class) = decision.outcome else {
            panic!("{:?}", decision.outcome);
        };
        self.model
            .message(value, is_faulty, class, self.device.now, seq);
        self.client.receive(&decision);
    }

    fn step(&mut self, step: Step) {
        let is_known = self.device.stored.state.latest.is_some();
        let seconds_passed = match step {
            Step::Reading { after_s, .. } => after_s,
            Step::Invalid | Step::Faulty { .. } => 3,
            Step::Late { .. } | Step::LateAgain { .. } => 1,
            Step::Wait { seconds } => seconds,
            _ => 0,
        };
        self.device.advance(seconds_passed);
        if is_known {
            // The timer runs before anything else happens.
            self.run_timer();
        }
        let in_order = |device: &mut TestDevice, reading| device.send_reading(reading);
        match step {
            Step::Reading { value, .. } => self.send(Some(value), false, in_order),
            Step::Invalid => self.send(None, false, in_order),
            Step::Faulty { value } => self.send(Some(value), true, in_order),
            Step::Tie { value, after_ms } if is_known => {
                let time = self.device.stored.state.order.latest_time;
                let pause = Duration::from_millis(after_ms);
                self.device.now = self.device.now + pause;
                self.device.device_time = self.device.device_time + pause;
                self.run_timer();
                self.send(Some(value), false, |device, mut reading| {
                    reading.device_time = time;
                    device.send_message(reading)
                });
            }
            Step::Late { value } if is_known => {
                let late = self.late();
                self.send(Some(value), false, |device, reading| {
                    device.send_message(Reading {
                        device_time: Some(late),
                        ..reading
                    })
                });
            }
            Step::LateAgain { value } if is_known => {
                let late = self.late();
                self.send(Some(value), false, |device, reading| {
                    device.send_redelivered(Reading {
                        device_time: Some(late),
                        ..reading
                    })
                });
            }
            Step::Acknowledge { kind, back } if is_known => {
                let present = self.device.stored.state.position;
                let seq = present.seq.saturating_sub(back);
                let id = self.device.alarm(kind).map(|alarm| alarm.id.clone());
                let seen = Position { seq, ..present };
                let decision = self.device.acknowledge_seen(&id.unwrap_or_default(), seen);
                self.model.acknowledge(kind, seq, self.device.now);
                self.client.receive(&decision);
            }
            Step::Restart => self.device.restart(),
            _ => {}
        }
        self.check(step);
    }

    /// A time before all others. Otherwise the clock would be taken to be set back.
    fn late(&mut self) -> Time {
        self.late_ms += 1_000;
        Time::from_millis(self.start.as_millis() - self.late_ms)
    }

    #[track_caller]
    fn check(&self, step: Step) {
        for kind in [Kind::GasHigh, Kind::GasLow] {
            let alarm = self.device.alarm(kind);
            let found = alarm.map(|alarm| {
                let index = alarm.condition.level_index().expect("gas");
                (index, alarm.state(), alarm.acknowledged.is_some())
            });
            let expected = self.model.shown(kind);
            assert_eq!(found, expected, "{kind:?} after {step:?}: {:?}", self.model);
        }
        let alarms = self.device.stored.state.alarms.iter();
        let open: HashMap<_, _> = alarms
            .map(|a| (a.kind(), (a.id.clone(), a.condition)))
            .collect();
        assert_eq!(
            open, self.client.open,
            "the changes do not result in the open alarms, after {step:?}"
        );
    }
}

fn any_plant() -> impl Strategy<Value = Plant> {
    any::<(bool, bool, bool)>().prop_map(|(latching, off_delay, both_sides)| Plant {
        latching,
        off_delay,
        both_sides,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_agree_with_a_naive_model(
        plant in any_plant(),
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let mut comparison = Comparison::new(plant);
        for step in steps {
            comparison.step(step);
        }
    }
}

//! Compares the rules with a naive model over random sequences: open alarms have the level and state of the model, and the
//! published changes result in exactly the open alarms.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// The three levels of the model's device, each with the same deadband.
const LEVELS: [i64; 3] = [250, 500, 1000];
const DEADBAND: i64 = 40;
const OFF_DELAY_S: i64 = 20;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A reading in order.
    Reading { value: i64, after_s: u64 },
    /// A reading without a usable value.
    Invalid,
    /// A reading with the fault flag set.
    Faulty { value: i64 },
    /// A reading with the device time of the latest one.
    Tie { value: i64 },
    /// A new reading that is older than the latest.
    Late { value: i64 },
    /// The latest payload again, marked as redelivered.
    Redelivered,
    /// Time passes, then the timer runs.
    Wait { seconds: u64 },
    /// Acknowledges the gas alarm, having seen the present position.
    Acknowledge,
    /// Acknowledges the gas alarm, having seen only a position this many events before.
    AcknowledgeOld { back: u64 },
    /// The state is read back from its stored form.
    Restart,
}

fn any_value() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0_i64),
        Just(209),
        Just(210),
        Just(249),
        Just(250),
        Just(460),
        Just(500),
        Just(700),
        Just(960),
        Just(1000),
        0..1_500_i64,
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any_value(), 3..30_u64).prop_map(|(value, after_s)| Step::Reading { value, after_s }),
        1 => Just(Step::Invalid),
        1 => any_value().prop_map(|value| Step::Faulty { value }),
        1 => any_value().prop_map(|value| Step::Tie { value }),
        2 => any_value().prop_map(|value| Step::Late { value }),
        1 => Just(Step::Redelivered),
        2 => (1..40_u64).prop_map(|seconds| Step::Wait { seconds }),
        2 => Just(Step::Acknowledge),
        1 => (1..4_u64).prop_map(|back| Step::AcknowledgeOld { back }),
        1 => Just(Step::Restart),
    ]
}

/// One level, independent of the others.
#[derive(Clone, Copy, Debug, Default)]
struct LevelModel {
    is_active: bool,
    returned_since_s: Option<i64>,
    /// The off-delay is over: only latching keeps the level active.
    returned: bool,
}

#[derive(Debug, Default)]
struct Model {
    latching: bool,
    off_delay_s: i64,
    levels: [LevelModel; 3],
    acknowledged: bool,
    /// Seq of the last raise or escalation.
    reached_seq: u64,
    latest: Option<(i64, bool)>,
}

impl Model {
    fn level(&self) -> Option<usize> {
        (0..3).rev().find(|index| self.levels[*index].is_active)
    }

    /// Every value may raise a level. It lowers one only if `may_lower`.
    fn evaluate(&mut self, value: i64, may_lower: bool, now_s: i64, seq: u64) {
        let before = self.level();
        for (model, level) in self.levels.iter_mut().zip(LEVELS) {
            if value >= level {
                *model = LevelModel {
                    is_active: true,
                    ..LevelModel::default()
                };
            } else if model.is_active && !model.returned {
                if value >= level - DEADBAND {
                    model.returned_since_s = None;
                } else if may_lower {
                    model.returned_since_s.get_or_insert(now_s);
                }
            }
        }
        let reached = (0..3).rev().find(|index| value >= LEVELS[*index]);
        if reached > before {
            self.acknowledged = false;
            self.reached_seq = seq;
        }
        self.end_off_delays(now_s);
    }

    fn cancel_off_delays(&mut self) {
        for level in &mut self.levels {
            level.returned_since_s = None;
        }
    }

    fn end_off_delays(&mut self, now_s: i64) {
        for level in &mut self.levels {
            if level
                .returned_since_s
                .is_some_and(|since| now_s - since >= self.off_delay_s)
            {
                level.returned_since_s = None;
                level.returned = true;
            }
            if level.returned && (!self.latching || self.acknowledged) {
                *level = LevelModel::default();
            }
        }
        if self.level().is_none() {
            self.acknowledged = false;
        }
    }

    fn late(&mut self, value: i64, now_s: i64, seq: u64) {
        let is_news = (0..3).any(|index| value >= LEVELS[index] && !self.levels[index].is_active);
        if !is_news {
            return;
        }
        self.evaluate(value, false, now_s, seq);
        if let Some((latest, may_lower)) = self.latest {
            self.evaluate(latest, may_lower, now_s, seq);
        }
    }

    fn acknowledge(&mut self, seen_seq: u64, now_s: i64) {
        if self.level().is_some() && !self.acknowledged && seen_seq >= self.reached_seq {
            self.acknowledged = true;
            self.end_off_delays(now_s);
        }
    }
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
            let id = change.alarm.id.clone();
            match change.kind {
                ChangeKind::Raised => {
                    assert!(!self.ids.contains(&id), "{id} was raised twice");
                    self.ids.push(id.clone());
                    let before = self.open.insert(kind, (id, change.alarm.condition));
                    assert!(before.is_none(), "raised while one is open: {before:?}");
                }
                ChangeKind::Cleared => {
                    let before = self.open.remove(&kind);
                    assert_eq!(
                        before.map(|(id, _)| id),
                        Some(id),
                        "cleared what was not open"
                    );
                }
                _ => {
                    let open = self.open.get_mut(&kind).expect("changed what was not open");
                    assert_eq!(open.0, id);
                    let (from, to) = (open.1, change.alarm.condition);
                    match change.kind {
                        ChangeKind::Escalated => assert!(to > from, "{from:?} to {to:?}"),
                        ChangeKind::DeEscalated => assert!(to < from, "{from:?} to {to:?}"),
                        _ => assert_eq!(to, from, "a level changed silently"),
                    }
                    open.1 = to;
                }
            }
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm per kind of step")]
fn compare_with_model(latching: bool, off_delay: bool, steps: &[Step]) {
    let mut device = TestDevice::new();
    let off_delay_s = if off_delay { OFF_DELAY_S } else { 0 };
    device.settings.alarm_off_delay = Duration::from_secs(off_delay_s.unsigned_abs());
    device.settings.offline_after = Duration::from_secs(1_000_000);
    let start = device.now;
    let mut model = Model {
        latching,
        off_delay_s,
        ..Model::default()
    };
    let mut client = Client::default();
    let mut late_ms = 0;
    for step in steps {
        let make_reading = |value: Option<i64>| {
            let text = value.map(|value| value.to_string());
            let mut reading = reading(text.as_deref());
            for level in &mut reading.levels {
                level.latching = Some(Decimal::from_int(i32::from(latching)));
            }
            reading.span_high = None;
            for level in &mut reading.levels {
                level.hysteresis = Some(Decimal::from_int(40));
            }
            reading
        };
        let is_known = model.latest.is_some();
        let seconds_passed = match *step {
            Step::Reading { after_s, .. } => after_s,
            Step::Invalid | Step::Faulty { .. } => 3,
            Step::Wait { seconds } => seconds,
            _ => 0,
        };
        device.advance(seconds_passed);
        if is_known {
            // The timer runs before anything else happens.
            model.end_off_delays(seconds_since(&device, start));
            client.receive(&device.run_timer(start));
        }
        let before = device.stored.state.position.seq;
        let decision = match *step {
            Step::Reading { value, .. } => {
                let decision = device.send_reading(make_reading(Some(value)));
                model.latest = Some((value, true));
                model.evaluate(value, true, seconds_since(&device, start), before + 1);
                decision
            }
            Step::Invalid => {
                model.latest = Some((0, false));
                model.cancel_off_delays();
                device.send_reading(make_reading(None))
            }
            Step::Faulty { value } => {
                let mut faulty = make_reading(Some(value));
                faulty.sensor_fault = dec("1");
                model.latest = Some((value, false));
                model.cancel_off_delays();
                model.evaluate(value, false, seconds_since(&device, start), before + 1);
                device.send_reading(faulty)
            }
            Step::Tie { value } if is_known && is_first_of_its_time(&device) => {
                model.latest = Some((value, false));
                model.evaluate(value, false, seconds_since(&device, start), before + 1);
                let mut tie = make_reading(Some(value));
                tie.device_time = device.stored.state.order.latest_time;
                let decision = device.send_message(tie);
                client.receive(&decision);
                device.advance(1);
                model.end_off_delays(seconds_since(&device, start));
                device.run_timer(start)
            }
            Step::Late { value } if is_known => {
                // Each is older than the one before. Otherwise the clock would be taken to be set back.
                late_ms += 1_000;
                let mut late = make_reading(Some(value));
                let time = start.as_millis() - late_ms;
                late.device_time = Some(Time::from_millis(time));
                if model.latest.is_some_and(|(_, valid)| valid) || has_value(&device) {
                    model.late(value, seconds_since(&device, start), before + 1);
                } else {
                    model.late_raise_only(value, seconds_since(&device, start), before + 1);
                }
                device.send_message(late)
            }
            Step::Redelivered if is_known => {
                let latest = device.stored.state.latest.as_ref().expect("known");
                let again = latest.reading.clone();
                let fingerprint = device.stored.state.order.latest_fingerprint.expect("known");
                let decision = device.send_with_fingerprint(again, fingerprint, true);
                assert!(decision.event.is_none(), "a redelivery published an event");
                decision
            }
            Step::Wait { .. } if is_known => device.run_timer(start),
            Step::Acknowledge if is_known => {
                model.acknowledge(before, seconds_since(&device, start));
                let id = device.gas_alarm_id();
                device.acknowledge(&id)
            }
            Step::AcknowledgeOld { back } if is_known => {
                let seen = before.saturating_sub(back);
                model.acknowledge(seen, seconds_since(&device, start));
                let id = device.gas_alarm_id();
                let epoch = device.stored.state.position.epoch;
                device.acknowledge_seen(&id, Position { epoch, seq: seen })
            }
            Step::Restart if is_known => {
                device.restart();
                continue;
            }
            _ => continue,
        };
        client.receive(&decision);
        assert_equal(&device, &model, &client, *step);
    }
}

impl Model {
    /// A late value while the latest reading has no value. The alarm stays open until a reading with a value arrives.
    fn late_raise_only(&mut self, value: i64, now_s: i64, seq: u64) {
        let is_news = (0..3).any(|index| value >= LEVELS[index] && !self.levels[index].is_active);
        if is_news {
            self.evaluate(value, false, now_s, seq);
        }
    }
}

/// Whether the latest device time has arrived only once. At a third arrival, the clock would be taken to be stuck.
fn is_first_of_its_time(device: &TestDevice) -> bool {
    let order = &device.stored.state.order;
    let repeated = order
        .repeated
        .as_ref()
        .filter(|repeated| Some(repeated.time) == order.latest_time);
    repeated.is_some_and(|repeated| repeated.count == 1)
}

fn has_value(device: &TestDevice) -> bool {
    let latest = device.stored.state.latest.as_ref();
    latest.is_some_and(|latest| latest.reading.value.is_some())
}

fn seconds_since(device: &TestDevice, start: Time) -> i64 {
    device.now.millis_since(start) / 1_000
}

#[track_caller]
fn assert_equal(device: &TestDevice, model: &Model, client: &Client, step: Step) {
    let gas = device.gas_alarm();
    let level = gas.and_then(|alarm| alarm.condition.level_index());
    assert_eq!(level, model.level(), "level after {step:?}: {model:?}");
    if let (Some(alarm), Some(level)) = (gas, level) {
        assert_eq!(
            alarm.acknowledged.is_some(),
            model.acknowledged,
            "after {step:?}"
        );
        assert_eq!(
            alarm.latched, model.levels[level].returned,
            "after {step:?}"
        );
    }
    let open: HashMap<Kind, Condition> = device
        .stored
        .state
        .alarms
        .iter()
        .map(|alarm| (alarm.kind(), alarm.condition))
        .collect();
    let received: HashMap<Kind, Condition> = client
        .open
        .iter()
        .map(|(kind, (_, condition))| (*kind, *condition))
        .collect();
    assert_eq!(
        open, received,
        "the changes do not result in the open alarms, after {step:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_agree_with_a_naive_model(
        latching in any::<bool>(),
        off_delay in any::<bool>(),
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        compare_with_model(latching, off_delay, &steps);
    }

    #[test]
    fn a_restart_at_any_step_changes_nothing(
        steps in prop::collection::vec(any_step(), 1..30),
        at in 0..30_usize,
    ) {
        let mut with_restart = steps.clone();
        with_restart.insert(at.min(steps.len()), Step::Restart);
        compare_with_model(true, true, &with_restart);
    }
}

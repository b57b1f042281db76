//! The rules against a naive model over random sequences: open alarms have the level and state of the model, and the published
//! changes add up to the open alarms.

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
    /// Acknowledges the gas alarm, having seen only a position some events before.
    AcknowledgeOld { back: u64 },
    /// Everything is restarted.
    Restart,
}

fn value() -> impl Strategy<Value = i64> {
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

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (value(), 3..30_u64).prop_map(|(value, after_s)| Step::Reading { value, after_s }),
        1 => Just(Step::Invalid),
        1 => value().prop_map(|value| Step::Faulty { value }),
        1 => value().prop_map(|value| Step::Tie { value }),
        2 => value().prop_map(|value| Step::Late { value }),
        1 => Just(Step::Redelivered),
        2 => (1..40_u64).prop_map(|seconds| Step::Wait { seconds }),
        2 => Just(Step::Acknowledge),
        1 => (1..4_u64).prop_map(|back| Step::AcknowledgeOld { back }),
        1 => Just(Step::Restart),
    ]
}

/// One level, evaluated alone.
#[derive(Clone, Copy, Debug, Default)]
struct LevelModel {
    is_active: bool,
    back_since_s: Option<i64>,
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

    /// Any value may raise, only some may lower.
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
                    model.back_since_s = None;
                } else if may_lower {
                    model.back_since_s.get_or_insert(now_s);
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
            level.back_since_s = None;
        }
    }

    fn end_off_delays(&mut self, now_s: i64) {
        for level in &mut self.levels {
            if level
                .back_since_s
                .is_some_and(|since| now_s - since >= self.off_delay_s)
            {
                level.back_since_s = None;
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
fn run(latching: bool, off_delay: bool, steps: &[Step]) {
    let mut world = World::new();
    let off_delay_s = if off_delay { OFF_DELAY_S } else { 0 };
    world.settings.alarm_off_delay = Duration::from_secs(off_delay_s.unsigned_abs());
    world.settings.offline_after = Duration::from_secs(1_000_000);
    let start = world.now;
    let mut model = Model {
        latching,
        off_delay_s,
        ..Model::default()
    };
    let mut client = Client::default();
    let mut late_ms = 0;
    for step in steps {
        let make = |value: Option<i64>| {
            let text = value.map(|value| value.to_string());
            let mut reading = reading(text.as_deref());
            for level in &mut reading.levels {
                level.latching = Some(Decimal::from_int(i32::from(latching)));
            }
            reading.span_high = None;
            for level in &mut reading.levels {
                level.hysteresis = Decimal::from_int(40);
            }
            reading
        };
        let known = model.latest.is_some();
        let passed = match *step {
            Step::Reading { after_s, .. } => after_s,
            Step::Invalid | Step::Faulty { .. } => 3,
            Step::Wait { seconds } => seconds,
            _ => 0,
        };
        world.pass(passed);
        if known {
            // The timer runs before anything else happens.
            model.end_off_delays(seconds(&world, start));
            client.receive(&world.timer(start));
        }
        let before = world.stored.state.position.seq;
        let decision = match *step {
            Step::Reading { value, .. } => {
                let decision = world.read(make(Some(value)));
                model.latest = Some((value, true));
                model.evaluate(value, true, seconds(&world, start), before + 1);
                decision
            }
            Step::Invalid => {
                model.latest = Some((0, false));
                model.cancel_off_delays();
                world.read(make(None))
            }
            Step::Faulty { value } => {
                let mut faulty = make(Some(value));
                faulty.sensor_fault = dec("1");
                model.latest = Some((value, false));
                model.cancel_off_delays();
                model.evaluate(value, false, seconds(&world, start), before + 1);
                world.read(faulty)
            }
            Step::Tie { value } if known && first_of_its_time(&world) => {
                model.latest = Some((value, false));
                model.evaluate(value, false, seconds(&world, start), before + 1);
                let mut tie = make(Some(value));
                tie.device_time = world.stored.state.order.latest_time;
                let decision = world.send(tie, false, false);
                client.receive(&decision);
                world.pass(1);
                model.end_off_delays(seconds(&world, start));
                world.timer(start)
            }
            Step::Late { value } if known => {
                // Each is older than the one before, so that they never count as a clock that was set.
                late_ms += 1_000;
                let mut late = make(Some(value));
                let time = start.as_millis() - late_ms;
                late.device_time = Some(Time::from_millis(time));
                if model.latest.is_some_and(|(_, valid)| valid) || has_value(&world) {
                    model.late(value, seconds(&world, start), before + 1);
                } else {
                    model.late_raise_only(value, seconds(&world, start), before + 1);
                }
                world.send(late, false, false)
            }
            Step::Redelivered if known => {
                let latest = world.stored.state.latest.as_ref().expect("known");
                let again = latest.reading.clone();
                let fingerprint = world.stored.state.order.latest_fingerprint.expect("known");
                let decision = world.send_fingerprint(again, fingerprint, true, false);
                assert!(decision.event.is_none(), "a redelivery decides nothing");
                decision
            }
            Step::Wait { .. } if known => world.timer(start),
            Step::Acknowledge if known => {
                model.acknowledge(before, seconds(&world, start));
                let id = world.gas_id();
                world.acknowledge(&id)
            }
            Step::AcknowledgeOld { back } if known => {
                let seen = before.saturating_sub(back);
                model.acknowledge(seen, seconds(&world, start));
                let id = world.gas_id();
                let epoch = world.stored.state.position.epoch;
                world.acknowledge_seen(&id, Position { epoch, seq: seen })
            }
            Step::Restart if known => {
                world.restart();
                continue;
            }
            _ => continue,
        };
        client.receive(&decision);
        compare(&world, &model, &client, *step);
    }
}

impl Model {
    /// A late value while the latest reading has no value: the alarm stays open until a value is known.
    fn late_raise_only(&mut self, value: i64, now_s: i64, seq: u64) {
        let is_news = (0..3).any(|index| value >= LEVELS[index] && !self.levels[index].is_active);
        if is_news {
            self.evaluate(value, false, now_s, seq);
        }
    }
}

/// A third arrival of the same device time would count as a stuck clock.
fn first_of_its_time(world: &World) -> bool {
    let order = &world.stored.state.order;
    let repeated = order
        .repeated
        .as_ref()
        .filter(|repeated| Some(repeated.time) == order.latest_time);
    repeated.is_some_and(|repeated| repeated.count == 1)
}

fn has_value(world: &World) -> bool {
    let latest = world.stored.state.latest.as_ref();
    latest.is_some_and(|latest| latest.reading.value.is_some())
}

fn seconds(world: &World, start: Time) -> i64 {
    world.now.millis_since(start) / 1_000
}

#[track_caller]
fn compare(world: &World, model: &Model, client: &Client, step: Step) {
    let gas = world.gas();
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
    let open: HashMap<Kind, Condition> = world
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
        "the changes add up to the open alarms, after {step:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_equal_a_naive_model(
        latching in any::<bool>(),
        off_delay in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(latching, off_delay, &steps);
    }

    #[test]
    fn a_restart_anywhere_changes_nothing(
        steps in prop::collection::vec(step(), 1..30),
        at in 0..30_usize,
    ) {
        let mut with_restart = steps.clone();
        with_restart.insert(at.min(steps.len()), Step::Restart);
        run(true, true, &with_restart);
    }
}

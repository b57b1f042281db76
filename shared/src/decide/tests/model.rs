//! The rules against a naive model over random sequences: what the model says must stand stands, at its level, in its
//! state, and what was told adds up to it.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// The three levels of the model's device, each with the same deadband.
const LEVELS: [i64; 3] = [250, 500, 1000];
const DEADBAND: i64 = 40;
const OFF_DELAY_S: i64 = 20;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// In order.
    Reading { value: i64, after_s: u64 },
    /// Without a usable value.
    Invalid,
    /// With the fault flag set.
    Faulty { value: i64 },
    /// The same device time as the latest, a moment later.
    Tie { value: i64 },
    /// Older than the latest, never seen.
    Late { value: i64 },
    /// The latest payload once more, marked as redelivered.
    Redelivered,
    /// Seconds pass, deadlines are looked at.
    Wait { seconds: u64 },
    /// Acknowledge what is open, having seen the present position …
    Acknowledge,
    /// … or only what stood some positions before.
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

/// One level, judged alone, as a person would note it on paper.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    stands: bool,
    back_since_s: Option<i64>,
    held_by_latch: bool,
}

#[derive(Debug, Default)]
struct Model {
    latching: bool,
    off_delay_s: i64,
    notes: [Note; 3],
    acknowledged: bool,
    /// Seq of the last raise or escalation.
    reached_seq: u64,
    latest: Option<(i64, bool)>,
}

impl Model {
    fn level(&self) -> Option<usize> {
        (0..3).rev().find(|index| self.notes[*index].stands)
    }

    /// A value arrives: raise freely, lower only where allowed.
    fn see(&mut self, value: i64, may_lower: bool, now_s: i64, seq: u64) {
        let before = self.level();
        for (note, level) in self.notes.iter_mut().zip(LEVELS) {
            if value >= level {
                *note = Note {
                    stands: true,
                    ..Note::default()
                };
            } else if note.stands && !note.held_by_latch {
                if value >= level - DEADBAND {
                    note.back_since_s = None;
                } else if may_lower {
                    note.back_since_s.get_or_insert(now_s);
                }
            }
        }
        let reached = (0..3).rev().find(|index| value >= LEVELS[*index]);
        if reached > before {
            self.acknowledged = false;
            self.reached_seq = seq;
        }
        self.ripen(now_s);
    }

    fn forget_returns(&mut self) {
        for note in &mut self.notes {
            note.back_since_s = None;
        }
    }

    fn ripen(&mut self, now_s: i64) {
        for note in &mut self.notes {
            if note
                .back_since_s
                .is_some_and(|since| now_s - since >= self.off_delay_s)
            {
                note.back_since_s = None;
                note.held_by_latch = true;
            }
            if note.held_by_latch && (!self.latching || self.acknowledged) {
                *note = Note::default();
            }
        }
        if self.level().is_none() {
            self.acknowledged = false;
        }
    }

    fn late(&mut self, value: i64, now_s: i64, seq: u64) {
        let is_news = (0..3).any(|index| value >= LEVELS[index] && !self.notes[index].stands);
        if !is_news {
            return;
        }
        self.see(value, false, now_s, seq);
        if let Some((latest, may_lower)) = self.latest {
            self.see(latest, may_lower, now_s, seq);
        }
    }

    fn acknowledge(&mut self, seen_seq: u64, now_s: i64) {
        if self.level().is_some() && !self.acknowledged && seen_seq >= self.reached_seq {
            self.acknowledged = true;
            self.ripen(now_s);
        }
    }
}

/// What a client that only reads the changes believes to be open.
#[derive(Default)]
struct Told {
    open: HashMap<Kind, (String, Condition)>,
    ids: Vec<String>,
}

impl Told {
    fn hear(&mut self, decision: &Decision) {
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
    let mut told = Told::default();
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
            // Deadlines are looked at before anything else happens.
            model.ripen(seconds(&world, start));
            told.hear(&world.timer(start));
        }
        let before = world.stored.state.position.seq;
        let decision = match *step {
            Step::Reading { value, .. } => {
                let decision = world.read(make(Some(value)));
                model.latest = Some((value, true));
                model.see(value, true, seconds(&world, start), before + 1);
                decision
            }
            Step::Invalid => {
                model.latest = Some((0, false));
                model.forget_returns();
                world.read(make(None))
            }
            Step::Faulty { value } => {
                let mut faulty = make(Some(value));
                faulty.sensor_fault = dec("1");
                model.latest = Some((value, false));
                model.forget_returns();
                model.see(value, false, seconds(&world, start), before + 1);
                world.read(faulty)
            }
            Step::Tie { value } if known && first_of_its_time(&world) => {
                model.latest = Some((value, false));
                model.see(value, false, seconds(&world, start), before + 1);
                let mut tie = make(Some(value));
                tie.device_time = world.stored.state.order.latest_time;
                let decision = world.send(tie, false, false);
                told.hear(&decision);
                world.pass(1);
                model.ripen(seconds(&world, start));
                world.timer(start)
            }
            Step::Late { value } if known => {
                // Ever older, so that it is never taken for a clock that was set.
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
        told.hear(&decision);
        compare(&world, &model, &told, *step);
    }
}

impl Model {
    /// A late value while the latest reading says nothing: it stands until something is known.
    fn late_raise_only(&mut self, value: i64, now_s: i64, seq: u64) {
        let is_news = (0..3).any(|index| value >= LEVELS[index] && !self.notes[index].stands);
        if is_news {
            self.see(value, false, now_s, seq);
        }
    }
}

/// A third arrival of the same device time would be a clock that stands still.
fn first_of_its_time(world: &World) -> bool {
    let order = &world.stored.state.order;
    let standing = order
        .standing
        .filter(|standing| Some(standing.time) == order.latest_time);
    standing.is_some_and(|standing| standing.count == 1)
}

fn has_value(world: &World) -> bool {
    let latest = world.stored.state.latest.as_ref();
    latest.is_some_and(|latest| latest.reading.value.is_some())
}

fn seconds(world: &World, start: Time) -> i64 {
    world.now.millis_since(start) / 1_000
}

#[track_caller]
fn compare(world: &World, model: &Model, told: &Told, step: Step) {
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
            alarm.latched, model.notes[level].held_by_latch,
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
    let heard: HashMap<Kind, Condition> = told
        .open
        .iter()
        .map(|(kind, (_, condition))| (*kind, *condition))
        .collect();
    assert_eq!(
        open, heard,
        "what was told adds up to what is open, after {step:?}"
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

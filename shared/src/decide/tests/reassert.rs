//! Redis went back to an earlier state: what a writer remembers is merged with what is stored.

use std::cmp::Reverse;

use super::*;

const NEW_EPOCH: Epoch = Epoch::from_bits(0xdef);

/// The last state that the writer of this world committed.
fn committed(world: &World) -> CommittedState {
    CommittedState {
        epoch: world.stored.epoch,
        state: world.stored.state.clone(),
        last_message: world.stored.last_message,
        ended: Vec::new(),
    }
}

/// The same device on a server that lost everything.
fn emptied(world: &World) -> World {
    let mut other = World::new();
    other.stored.epoch = NEW_EPOCH;
    other.now = world.now;
    other.device_time = world.device_time;
    other.fingerprints = 1_000;
    other
}

/// The same device on a server that went back to this state.
fn gone_back_to(state: &StoredDevice, world: &World) -> World {
    let mut other = emptied(world);
    other.stored.state = state.state.clone();
    other.stored.last_message = state.last_message;
    other
}

fn reassert(world: &mut World, remembered: &CommittedState) -> Decision {
    assert!(
        remembered.is_missing_from(&world.stored),
        "nothing is missing"
    );
    let decision = world.apply(Input::Reassertion(remembered));
    world.stored.last_message = world.stored.last_message.max(decision.last_alive);
    decision
}

fn log(decision: &Decision) -> Vec<ChangeKind> {
    decision.log.iter().filter_map(|line| line.change).collect()
}

#[test]
fn in_the_same_epoch_nothing_is_missing() {
    let mut world = World::new();
    world.value("100");
    let remembered = committed(&world);
    world.stored.state = DeviceState::default();
    assert!(!remembered.is_missing_from(&world.stored));
}

#[test]
fn after_a_clean_restart_nothing_is_missing() {
    let mut world = World::new();
    world.value("100");
    let remembered = committed(&world);
    world.stored.epoch = NEW_EPOCH;
    assert!(
        !remembered.is_missing_from(&world.stored),
        "stored as it was"
    );
    world.value("101");
    assert!(
        !remembered.is_missing_from(&world.stored),
        "another writer has continued"
    );
}

#[test]
fn an_emptied_server_gets_everything_back_with_the_next_seq() {
    let mut world = World::new();
    world.value("300");
    let id = world.gas_id();
    world.acknowledge(&id);
    world.value("320");
    let before = world.stored.clone();
    let remembered = committed(&world);
    let mut emptied = emptied(&world);
    let decision = reassert(&mut emptied, &remembered);
    assert_eq!(decision.state.position.epoch, NEW_EPOCH);
    assert_eq!(decision.state.position.seq, before.state.position.seq + 1);
    assert_eq!(emptied.gas(), before.state.alarm(Kind::Gas));
    assert_eq!(state_of(&emptied), Some(AlarmState::Acknowledged));
    assert_eq!(decision.last_alive, before.last_message);
    assert_eq!(decision.deadline, Deadline::At(emptied.now));
    assert!(decision.sample.is_some(), "the history is gone, too");
    // The log lost both lines. Clients have received both changes and do not receive them again.
    assert_eq!(
        log(&decision),
        [ChangeKind::Raised, ChangeKind::Acknowledged]
    );
    assert!(decision.changes.is_empty());
    let event = decision.event.expect("an event");
    assert!(
        event.envelope.contains(r#""snapshot":true"#),
        "{}",
        event.envelope
    );
    assert!(
        event.envelope.contains(&id),
        "the open alarms are part of it"
    );
    // Still the same device: a redelivery is known, the next reading is next.
    let repeated = emptied.send_fingerprint(
        reading(Some("320")),
        before.state.fingerprints[1],
        true,
        false,
    );
    assert_eq!(repeated.outcome, Outcome::Message(Class::Duplicate));
    emptied.value("100");
    assert!(emptied.gas().is_none());
}

#[test]
fn a_latched_alarm_survives() {
    let mut world = World::new();
    let latching = |value| {
        let mut reading = reading(Some(value));
        reading.levels[0].latching = Some(dec("1"));
        reading
    };
    world.pass(5);
    world.read(latching("300"));
    world.pass(5);
    world.read(latching("100"));
    assert_eq!(state_of(&world), Some(AlarmState::Latched));
    let remembered = committed(&world);
    let mut emptied = emptied(&world);
    reassert(&mut emptied, &remembered);
    assert_eq!(state_of(&emptied), Some(AlarmState::Latched));
    let id = emptied.gas_id();
    emptied.acknowledge(&id);
    assert!(
        emptied.gas().is_none(),
        "only the acknowledgement was missing"
    );
}

#[test]
fn a_later_state_of_the_writer_replaces_the_earlier_stored_one() {
    let mut world = World::new();
    world.value("300");
    let earlier = world.stored.clone();
    let id = world.gas_id();
    world.value("600");
    let remembered = committed(&world);
    let mut back = gone_back_to(&earlier, &world);
    let decision = reassert(&mut back, &remembered);
    assert_eq!(
        back.gas().map(|alarm| alarm.condition),
        Some(Condition::AlarmLevel2)
    );
    assert_eq!(back.gas_id(), id);
    assert_eq!(log(&decision), [ChangeKind::Escalated]);
    assert_eq!(
        decision.state.position.seq,
        remembered.state.position.seq + 1
    );
}

#[test]
fn an_alarm_the_writer_had_seen_cleared_is_cleared_again() {
    let mut world = World::new();
    world.value("300");
    let earlier = world.stored.clone();
    world.value("100");
    let remembered = committed(&world);
    let mut back = gone_back_to(&earlier, &world);
    let decision = reassert(&mut back, &remembered);
    assert!(back.gas().is_none());
    assert_eq!(
        kinds(&decision),
        [(ChangeKind::Cleared, Condition::AlarmLevel1)]
    );
}

#[test]
fn of_two_alarms_of_one_kind_the_writers_own_is_kept_at_the_higher_level() {
    for (own, other, level) in [
        ("300", "600", Condition::AlarmLevel2),
        ("600", "300", Condition::AlarmLevel2),
        ("300", "300", Condition::AlarmLevel1),
    ] {
        let mut world = World::new();
        world.value("100");
        world.value("100");
        world.value(own);
        let id = world.gas_id();
        let remembered = committed(&world);
        // Another writer began from nothing on the emptied server.
        let mut others = emptied(&world);
        others.value(other);
        let other_id = others.gas_id();
        assert_ne!(id, other_id);
        let newer = others.stored.state.latest.clone();
        let decision = reassert(&mut others, &remembered);
        assert_eq!(others.gas_id(), id, "{own} {other}");
        assert_eq!(others.gas().map(|alarm| alarm.condition), Some(level));
        assert_eq!(others.stored.state.alarms.len(), 1);
        let cleared = decision
            .changes
            .iter()
            .find(|c| c.kind == ChangeKind::Cleared);
        assert_eq!(cleared.map(|c| c.alarm.id.clone()), Some(other_id));
        // The other writer has the newer reading.
        let shown = |latest: &Option<Latest>| latest.as_ref().map(|latest| latest.reading.clone());
        assert_eq!(shown(&others.stored.state.latest), shown(&newer));
        assert_eq!(decision.state.position.seq, 4);
    }
}

#[test]
fn alarms_of_different_kinds_are_all_kept() {
    let mut world = World::new();
    world.value("100");
    world.value("300");
    let remembered = committed(&world);
    let mut others = emptied(&world);
    let mut faulty = reading(Some("100"));
    faulty.sensor_fault = dec("1");
    others.pass(5);
    others.read(faulty);
    reassert(&mut others, &remembered);
    assert!(others.stored.state.alarm(Kind::Gas).is_some());
    assert!(others.stored.state.alarm(Kind::SensorFault).is_some());
}

#[test]
fn the_same_seq_in_another_epoch_is_a_loss() {
    let mut world = World::new();
    world.value("300");
    let remembered = committed(&world);
    let mut others = emptied(&world);
    others.value("100");
    assert_eq!(
        others.stored.state.position.seq,
        remembered.state.position.seq
    );
    reassert(&mut others, &remembered);
    assert!(others.gas().is_some());
    assert_eq!(others.stored.state.position.seq, 2);
}

#[test]
fn of_two_writers_the_one_with_the_later_state_decides() {
    let mut world = World::new();
    world.value("300");
    let behind = committed(&world);
    world.value("100");
    let ahead = committed(&world);
    let mut emptied = emptied(&world);
    reassert(&mut emptied, &behind);
    assert!(emptied.gas().is_some(), "nothing later is known yet");
    let decision = reassert(&mut emptied, &ahead);
    assert!(emptied.gas().is_none());
    assert_eq!(
        kinds(&decision),
        [(ChangeKind::Cleared, Condition::AlarmLevel1)]
    );
    assert!(!behind.is_missing_from(&emptied.stored));
}

#[test]
fn an_alarm_that_ended_in_a_later_epoch_stays_ended() {
    let mut world = World::new();
    world.value("300");
    let earlier = world.stored.clone();
    // A clean restart: the device continues in another epoch, and the alarm ends there.
    world.stored.epoch = Epoch::from_bits(0xbcd);
    world.value("310");
    world.value("100");
    let remembered = committed(&world);
    let mut back = gone_back_to(&earlier, &world);
    let decision = reassert(&mut back, &remembered);
    assert!(back.gas().is_none());
    assert_eq!(
        kinds(&decision),
        [(ChangeKind::Cleared, Condition::AlarmLevel1)]
    );
}

#[test]
fn a_retired_device_stays_retired() {
    let mut world = World::new();
    world.value("300");
    let remembered = committed(&world);
    let mut emptied = emptied(&world);
    emptied.stored.seq_floor = remembered.state.position.seq + 1;
    assert!(!remembered.is_missing_from(&emptied.stored));
}

#[test]
fn time_never_runs_back_for_a_device() {
    let mut world = World::new();
    world.value("300");
    let remembered = committed(&world);
    let mut emptied = emptied(&world);
    emptied.now = Time::from_millis(1);
    let decision = reassert(&mut emptied, &remembered);
    assert_eq!(decision.state.memory.decided_at, world.now);
}

#[test]
fn an_acknowledgement_is_not_lost_if_another_writer_continued() {
    let mut world = World::new();
    world.value("300");
    let earlier = world.stored.clone();
    let id = world.gas_id();
    world.acknowledge(&id);
    let remembered = committed(&world);
    let mut others = gone_back_to(&earlier, &world);
    others.value("310");
    others.value("320");
    let decision = reassert(&mut others, &remembered);
    assert_eq!(
        kinds(&decision),
        [(ChangeKind::Acknowledged, Condition::AlarmLevel1)]
    );
    assert_eq!(state_of(&others), Some(AlarmState::Acknowledged));
    assert_eq!(decision.log[0].acknowledgement(), Some(("User", 1)));
    // The person who acknowledged the alarm had not seen a level that was reached later.
    let mut risen = gone_back_to(&earlier, &world);
    risen.value("310");
    risen.value("600");
    assert!(!remembered.is_missing_from(&risen.stored));
}

/// Two writers on one device, and a server that goes back to any earlier state, or loses everything, at any moment. The writer
/// that committed last remembers the last state. That state must be stored in the end, whichever writer reasserts first.
#[test]
fn whatever_the_server_loses_the_last_commit_is_restored() {
    const VALUES: [&str; 6] = ["100", "240", "300", "600", "1200", "2100"];
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new();
        let mut epoch = 1;
        let mut stored = vec![world.stored.clone()];
        let mut memories: [Option<CommittedState>; 2] = [None, None];
        for _ in 0..60 {
            match random.u8(..10) {
                0 => {
                    epoch += 1;
                    let back = if random.bool() {
                        0
                    } else {
                        random.usize(..stored.len())
                    };
                    stored.truncate(back + 1);
                    world.stored = stored[back].clone();
                    world.stored.epoch = Epoch::from_bits(epoch);
                    let last = memories
                        .iter()
                        .flatten()
                        .max_by_key(|m| m.state.position.seq);
                    let last = last.cloned();
                    let mut writers = [0, 1];
                    random.shuffle(&mut writers);
                    for writer in writers {
                        let Some(memory) = &memories[writer] else {
                            continue;
                        };
                        if memory.is_missing_from(&world.stored) {
                            world.apply(Input::Reassertion(memory));
                            memories[writer] = Some(committed(&world));
                        } else if memory.state.position != world.stored.state.position {
                            memories[writer] = None;
                        }
                        stored.push(world.stored.clone());
                    }
                    let Some(last) = last else { continue };
                    let state = &world.stored.state;
                    let brief = |state: &DeviceState| {
                        let mut alarms: Vec<_> = state
                            .alarms
                            .iter()
                            .map(|alarm| (alarm.id.clone(), alarm.condition, alarm.state()))
                            .collect();
                        alarms.sort_by_key(|(id, ..)| Reverse(id.clone()));
                        (alarms, state.latest.as_ref().map(|latest| latest.taken_at))
                    };
                    assert_eq!(brief(state), brief(&last.state), "seed {seed}");
                }
                1 => {
                    let id = world.gas_id();
                    world.acknowledge(&id);
                    memories[random.usize(..2)] = Some(committed(&world));
                    stored.push(world.stored.clone());
                }
                _ => {
                    let mut reading = reading(Some(VALUES[random.usize(..VALUES.len())]));
                    reading.levels[0].latching = Some(dec("1"));
                    world.pass(5);
                    world.read(reading);
                    memories[random.usize(..2)] = Some(committed(&world));
                    stored.push(world.stored.clone());
                }
            }
        }
    }
}

/// Two writers continue from the same state. Returns what the first remembers, and the world of the second, whose commits are
/// stored.
fn fork(first: impl Fn(&mut World), second: impl Fn(&mut World)) -> (CommittedState, World) {
    let mut world = World::new();
    world.value("300");
    world.value("310");
    let earlier = world.stored.clone();
    let mut others = gone_back_to(&earlier, &world);
    first(&mut world);
    let remembered = committed(&world);
    others.pass(60);
    second(&mut others);
    (remembered, others)
}

#[test]
fn an_alarm_that_ended_on_an_older_reading_stays_open_on_a_newer_one() {
    let ours = |world: &mut World| {
        world.value("100");
        world.value("110");
    };
    let (remembered, mut others) = fork(ours, |others| {
        others.value("320");
    });
    reassert(&mut others, &remembered);
    assert!(
        others.gas().is_some(),
        "the newer reading is above the level"
    );
    // An older reading does not lower it either.
    let ours = |world: &mut World| {
        world.value("260");
        world.value("260");
    };
    let (remembered, mut others) = fork(ours, |others| {
        others.value("1200");
    });
    reassert(&mut others, &remembered);
    let level = others.gas().map(|alarm| alarm.condition);
    assert_eq!(level, Some(Condition::AlarmLevel3));
}

#[test]
fn an_off_delay_of_an_older_reading_does_not_continue_with_a_newer_one() {
    let mut world = World::new();
    world.settings.alarm_off_delay = Duration::from_secs(30);
    world.value("100");
    let earlier = world.stored.clone();
    world.value("300");
    world.value("100");
    world.value("100");
    let remembered = committed(&world);
    let mut others = gone_back_to(&earlier, &world);
    others.settings = world.settings.clone();
    others.pass(5);
    others.value("310");
    reassert(&mut others, &remembered);
    others.pass(60);
    others.timer(Time::default());
    assert!(others.gas().is_some(), "no later value was below the level");
}

#[test]
fn an_alarm_that_the_other_writer_never_knew_is_kept_although_it_continued() {
    let mut world = World::new();
    world.value("100");
    let earlier = world.stored.clone();
    let latching = |value| {
        let mut reading = reading(Some(value));
        reading.levels[0].latching = Some(dec("1"));
        reading
    };
    world.pass(5);
    world.read(latching("300"));
    world.pass(5);
    world.read(latching("100"));
    let id = world.gas_id();
    let remembered = committed(&world);
    let mut others = gone_back_to(&earlier, &world);
    for _ in 0..5 {
        others.pass(5);
        others.read(latching("100"));
    }
    reassert(&mut others, &remembered);
    assert_eq!(others.gas_id(), id);
    // An alarm that the other writer knew and ended stays ended.
    let (remembered, others) = fork(
        |_| {},
        |others| {
            others.value("100");
        },
    );
    assert!(!remembered.is_missing_from(&others.stored));
}

#[test]
fn the_acknowledgement_that_ended_an_alarm_is_published_with_its_end() {
    let mut world = World::new();
    let latching = |value| {
        let mut reading = reading(Some(value));
        reading.levels[0].latching = Some(dec("1"));
        reading
    };
    world.pass(5);
    world.read(latching("300"));
    world.pass(5);
    world.read(latching("100"));
    let earlier = world.stored.clone();
    let id = world.gas_id();
    let ended = world.acknowledge(&id).changes.pop().expect("cleared").alarm;
    let remembered = CommittedState {
        ended: vec![ended],
        ..committed(&world)
    };
    let expected = [
        (ChangeKind::Acknowledged, Condition::AlarmLevel1),
        (ChangeKind::Cleared, Condition::AlarmLevel1),
    ];
    // The server has the earlier state, without and with later readings by another writer.
    for readings in [0, 4] {
        let mut back = gone_back_to(&earlier, &world);
        for _ in 0..readings {
            back.pass(5);
            back.read(latching("100"));
        }
        let decision = reassert(&mut back, &remembered);
        assert_eq!(kinds(&decision), expected, "{readings}");
        assert!(back.gas().is_none());
        let by = decision.log[0].acknowledgement().map(|(by, _)| by);
        assert_eq!(by, Some("User"));
    }
}

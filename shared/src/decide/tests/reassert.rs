//! Redis has lost commits: the state that a process committed is merged with the stored one.

mod several;

use std::cmp::Reverse;

use super::*;
use crate::alarm::GasSide;
use crate::reading::Side;

const NEW_EPOCH: Epoch = Epoch::from_bits(0xdef);

/// The state that the process committed last for this device.
fn committed_state(device: &TestDevice) -> CommittedState {
    CommittedState {
        epoch: device.stored.epoch,
        state: Arc::clone(&device.stored.state),
        last_message: device.stored.last_message,
        recently_cleared: Vec::new(),
    }
}

/// The same device after Redis lost all data.
fn after_data_loss(device: &TestDevice) -> TestDevice {
    let mut other = TestDevice::new();
    other.stored.epoch = NEW_EPOCH;
    other.now = device.now;
    other.device_time = device.device_time;
    other.fingerprints = 1_000;
    other
}

/// The same device after Redis went back to this earlier state.
fn after_rollback_to(state: &StoredDevice, device: &TestDevice) -> TestDevice {
    let mut other = after_data_loss(device);
    other.stored.state = Arc::clone(&state.state);
    other.stored.last_message = state.last_message;
    other
}

fn latching_reading(value: &str) -> Reading {
    let mut reading = reading(Some(value));
    reading.levels[0].latching = Some(dec("1"));
    reading
}

fn reassert(device: &mut TestDevice, committed: &CommittedState) -> Decision {
    assert!(
        committed.is_missing_from(&device.stored),
        "nothing is missing"
    );
    let decision = device.apply(Input::Reassertion(committed));
    device.stored.last_message = device.stored.last_message.max(decision.last_alive);
    decision
}

fn logged_changes(decision: &Decision) -> Vec<ChangeKind> {
    decision
        .log
        .iter()
        .filter_map(|entry| entry.change)
        .collect()
}

#[test]
fn in_the_same_epoch_nothing_is_missing() {
    let mut device = TestDevice::new();
    device.send_value("100");
    let committed = committed_state(&device);
    device.stored.state = Arc::default();
    assert!(!committed.is_missing_from(&device.stored));
}

#[test]
fn after_a_clean_restart_nothing_is_missing() {
    let mut device = TestDevice::new();
    device.send_value("100");
    let committed = committed_state(&device);
    device.stored.epoch = NEW_EPOCH;
    assert!(
        !committed.is_missing_from(&device.stored),
        "nothing was lost"
    );
    device.send_value("101");
    assert!(
        !committed.is_missing_from(&device.stored),
        "another process has continued"
    );
}

#[test]
fn after_a_complete_loss_the_state_is_restored_with_the_next_seq() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let id = device.gas_alarm_id();
    device.acknowledge(&id);
    device.send_value("320");
    let before = device.stored.clone();
    let committed = committed_state(&device);
    let mut emptied = after_data_loss(&device);
    let decision = reassert(&mut emptied, &committed);
    assert_eq!(decision.state.position.epoch, NEW_EPOCH);
    assert_eq!(decision.state.position.seq, before.state.position.seq + 1);
    assert_eq!(emptied.gas_alarm(), before.state.alarm(Kind::GasHigh));
    assert_eq!(emptied.gas_alarm_state(), Some(AlarmState::Acknowledged));
    assert_eq!(decision.last_alive, before.last_message);
    assert_eq!(decision.deadline, Deadline::At(emptied.now));
    assert!(decision.sample.is_some(), "the history is lost, too");
    // The log lost both entries. Clients have received both changes and do not receive them again.
    assert_eq!(
        logged_changes(&decision),
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
    // The order is restored too: a redelivery is a duplicate, and the next reading is in order.
    let repeated =
        emptied.send_with_fingerprint(reading(Some("320")), before.state.fingerprints[1], true);
    assert_eq!(repeated.outcome, Outcome::Message(Class::Duplicate));
    emptied.send_value("100");
    assert!(emptied.gas_alarm().is_none());
}

#[test]
fn a_latched_alarm_is_restored_and_stays_latched() {
    let mut device = TestDevice::new();
    device.advance(5);
    device.send_reading(latching_reading("300"));
    device.advance(5);
    device.send_reading(latching_reading("100"));
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Latched));
    let committed = committed_state(&device);
    let mut emptied = after_data_loss(&device);
    reassert(&mut emptied, &committed);
    assert_eq!(emptied.gas_alarm_state(), Some(AlarmState::Latched));
    let id = emptied.gas_alarm_id();
    emptied.acknowledge(&id);
    assert!(
        emptied.gas_alarm().is_none(),
        "the alarm waited only for the acknowledgement"
    );
}

#[test]
fn a_later_committed_state_replaces_the_earlier_stored_one() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let earlier = device.stored.clone();
    let id = device.gas_alarm_id();
    device.send_value("600");
    let committed = committed_state(&device);
    let mut rolled_back = after_rollback_to(&earlier, &device);
    let decision = reassert(&mut rolled_back, &committed);
    assert_eq!(
        rolled_back.gas_alarm().map(|alarm| alarm.condition),
        Some(Condition::AlarmLevel2)
    );
    assert_eq!(rolled_back.gas_alarm_id(), id);
    assert_eq!(logged_changes(&decision), [ChangeKind::Escalated]);
    assert_eq!(
        decision.state.position.seq,
        committed.state.position.seq + 1
    );
}

#[test]
fn an_alarm_that_was_cleared_in_the_committed_state_is_cleared_again() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let earlier = device.stored.clone();
    device.send_value("100");
    let committed = committed_state(&device);
    let mut rolled_back = after_rollback_to(&earlier, &device);
    let decision = reassert(&mut rolled_back, &committed);
    assert!(rolled_back.gas_alarm().is_none());
    assert_eq!(
        changes(&decision),
        [(ChangeKind::Cleared, Condition::AlarmLevel1)]
    );
}

#[test]
fn of_two_alarms_of_one_kind_the_committed_one_is_kept_at_the_higher_level() {
    for (own, other, level) in [
        ("300", "600", Condition::AlarmLevel2),
        ("600", "300", Condition::AlarmLevel2),
        ("300", "300", Condition::AlarmLevel1),
    ] {
        let mut device = TestDevice::new();
        device.send_value("100");
        device.send_value("100");
        device.send_value(own);
        let id = device.gas_alarm_id();
        let committed = committed_state(&device);
        // Another process wrote the device first after the data loss.
        let mut continued = after_data_loss(&device);
        continued.send_value(other);
        let other_id = continued.gas_alarm_id();
        assert_ne!(id, other_id);
        let newer = continued.stored.state.latest.clone();
        let decision = reassert(&mut continued, &committed);
        assert_eq!(continued.gas_alarm_id(), id, "{own} {other}");
        assert_eq!(
            continued.gas_alarm().map(|alarm| alarm.condition),
            Some(level)
        );
        assert_eq!(continued.stored.state.alarms.len(), 1);
        let cleared = decision
            .changes
            .iter()
            .find(|c| c.kind == ChangeKind::Cleared);
        assert_eq!(cleared.map(|c| c.alarm.id.clone()), Some(other_id));
        // The stored reading is newer.
        let reading_of =
            |latest: &Option<Latest>| latest.as_ref().map(|latest| Arc::clone(&latest.reading));
        assert_eq!(
            reading_of(&continued.stored.state.latest),
            reading_of(&newer)
        );
        assert_eq!(decision.state.position.seq, 4);
    }
}

#[test]
fn alarms_of_different_kinds_are_all_kept() {
    let mut device = TestDevice::new();
    device.send_value("100");
    device.send_value("300");
    let committed = committed_state(&device);
    let mut continued = after_data_loss(&device);
    let mut faulty = reading(Some("100"));
    faulty.sensor_fault = dec("1");
    continued.advance(5);
    continued.send_reading(faulty);
    reassert(&mut continued, &committed);
    assert!(continued.stored.state.alarm(Kind::GasHigh).is_some());
    assert!(continued.stored.state.alarm(Kind::SensorFault).is_some());
}

#[test]
fn the_same_seq_in_another_epoch_means_that_commits_were_lost() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let committed = committed_state(&device);
    let mut continued = after_data_loss(&device);
    continued.send_value("100");
    assert_eq!(
        continued.stored.state.position.seq,
        committed.state.position.seq
    );
    reassert(&mut continued, &committed);
    assert!(continued.gas_alarm().is_some());
    assert_eq!(continued.stored.state.position.seq, 2);
}

#[test]
fn of_two_processes_the_one_with_the_later_state_decides() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let behind = committed_state(&device);
    device.send_value("100");
    let ahead = committed_state(&device);
    let mut emptied = after_data_loss(&device);
    reassert(&mut emptied, &behind);
    assert!(
        emptied.gas_alarm().is_some(),
        "the later state is not reasserted yet"
    );
    let decision = reassert(&mut emptied, &ahead);
    assert!(emptied.gas_alarm().is_none());
    assert_eq!(
        changes(&decision),
        [(ChangeKind::Cleared, Condition::AlarmLevel1)]
    );
    assert!(!behind.is_missing_from(&emptied.stored));
}

#[test]
fn an_alarm_that_ended_in_a_later_epoch_stays_ended() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let earlier = device.stored.clone();
    // A clean restart: the device continues in another epoch, and the alarm ends there.
    device.stored.epoch = Epoch::from_bits(0xbcd);
    device.send_value("310");
    device.send_value("100");
    let committed = committed_state(&device);
    let mut rolled_back = after_rollback_to(&earlier, &device);
    let decision = reassert(&mut rolled_back, &committed);
    assert!(rolled_back.gas_alarm().is_none());
    assert_eq!(
        changes(&decision),
        [(ChangeKind::Cleared, Condition::AlarmLevel1)]
    );
}

#[test]
fn a_retired_device_stays_retired() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let committed = committed_state(&device);
    let mut emptied = after_data_loss(&device);
    emptied.stored.seq_floor = committed.state.position.seq + 1;
    assert!(!committed.is_missing_from(&emptied.stored));
}

#[test]
fn the_time_of_decisions_never_goes_back() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let committed = committed_state(&device);
    let mut emptied = after_data_loss(&device);
    emptied.now = Time::from_millis(1);
    let decision = reassert(&mut emptied, &committed);
    assert_eq!(decision.state.memory.decided_at, device.now);
}

#[test]
fn an_acknowledgement_is_kept_if_another_process_continued_without_it() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let earlier = device.stored.clone();
    let id = device.gas_alarm_id();
    device.acknowledge(&id);
    let committed = committed_state(&device);
    let mut continued = after_rollback_to(&earlier, &device);
    continued.send_value("310");
    continued.send_value("320");
    let decision = reassert(&mut continued, &committed);
    assert_eq!(
        changes(&decision),
        [(ChangeKind::Acknowledged, Condition::AlarmLevel1)]
    );
    assert_eq!(continued.gas_alarm_state(), Some(AlarmState::Acknowledged));
    assert_eq!(decision.log[0].acknowledgement(), Some(("User", 1)));
    // The person who acknowledged the alarm had not seen a level that was reached later.
    let mut escalated = after_rollback_to(&earlier, &device);
    escalated.send_value("310");
    escalated.send_value("600");
    assert!(!committed.is_missing_from(&escalated.stored));
}

/// Two processes write one device. At random times Redis goes back to an earlier state or loses everything. The process that
/// committed last has the last state. That state must be stored in the end, no matter which process reasserts first.
#[test]
fn the_last_commit_is_restored_after_any_loss_of_data() {
    const VALUES: [&str; 6] = ["100", "240", "300", "600", "1200", "2100"];
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut device = TestDevice::new();
        let mut epoch = 1;
        let mut stored = vec![device.stored.clone()];
        let mut by_process: [Option<CommittedState>; 2] = [None, None];
        for _ in 0..60 {
            match random.u8(..10) {
                0 => {
                    epoch += 1;
                    let index = if random.bool() {
                        0
                    } else {
                        random.usize(..stored.len())
                    };
                    stored.truncate(index + 1);
                    device.stored = stored[index].clone();
                    device.stored.epoch = Epoch::from_bits(epoch);
                    let last = by_process
                        .iter()
                        .flatten()
                        .max_by_key(|committed| committed.state.position.seq);
                    let last = last.cloned();
                    let mut processes = [0, 1];
                    random.shuffle(&mut processes);
                    for process in processes {
                        let Some(committed) = &by_process[process] else {
                            continue;
                        };
                        if committed.is_missing_from(&device.stored) {
                            device.apply(Input::Reassertion(committed));
                            by_process[process] = Some(committed_state(&device));
                        } else if committed.state.position != device.stored.state.position {
                            by_process[process] = None;
                        }
                        stored.push(device.stored.clone());
                    }
                    let Some(last) = last else { continue };
                    let state = &device.stored.state;
                    let summary = |state: &DeviceState| {
                        let mut alarms: Vec<_> = state
                            .alarms
                            .iter()
                            .map(|alarm| (alarm.id.clone(), alarm.condition, alarm.state()))
                            .collect();
                        alarms.sort_by_key(|(id, ..)| Reverse(id.clone()));
                        (alarms, state.latest.as_ref().map(|latest| latest.taken_at))
                    };
                    assert_eq!(summary(state), summary(&last.state), "seed {seed}");
                }
                1 => {
                    let id = device.gas_alarm_id();
                    device.acknowledge(&id);
                    by_process[random.usize(..2)] = Some(committed_state(&device));
                    stored.push(device.stored.clone());
                }
                _ => {
                    device.advance(5);
                    device.send_reading(latching_reading(VALUES[random.usize(..VALUES.len())]));
                    by_process[random.usize(..2)] = Some(committed_state(&device));
                    stored.push(device.stored.clone());
                }
            }
        }
    }
}

/// Two processes continue from the same state. Returns the state that the first one committed, and the device as the second one
/// stored it.
fn two_processes_continue(
    first: impl Fn(&mut TestDevice),
    second: impl Fn(&mut TestDevice),
) -> (CommittedState, TestDevice) {
    let mut device = TestDevice::new();
    device.send_value("300");
    device.send_value("310");
    let earlier = device.stored.clone();
    let mut continued = after_rollback_to(&earlier, &device);
    first(&mut device);
    let committed = committed_state(&device);
    continued.advance(60);
    second(&mut continued);
    (committed, continued)
}

#[test]
fn an_alarm_that_ended_on_an_older_reading_stays_open_on_a_newer_one() {
    let first = |device: &mut TestDevice| {
        device.send_value("100");
        device.send_value("110");
    };
    let (committed, mut continued) = two_processes_continue(first, |continued| {
        continued.send_value("320");
    });
    reassert(&mut continued, &committed);
    assert!(
        continued.gas_alarm().is_some(),
        "the newer reading is above the level"
    );
    // An older reading does not lower it either.
    let first = |device: &mut TestDevice| {
        device.send_value("260");
        device.send_value("260");
    };
    let (committed, mut continued) = two_processes_continue(first, |continued| {
        continued.send_value("1200");
    });
    reassert(&mut continued, &committed);
    let level = continued.gas_alarm().map(|alarm| alarm.condition);
    assert_eq!(level, Some(Condition::AlarmLevel3));
}

#[test]
fn an_off_delay_of_an_older_reading_does_not_continue_with_a_newer_one() {
    let mut device = TestDevice::new();
    device.settings.alarm_off_delay = Duration::from_secs(30);
    device.send_value("100");
    let earlier = device.stored.clone();
    device.send_value("300");
    device.send_value("100");
    device.send_value("100");
    let committed = committed_state(&device);
    let mut continued = after_rollback_to(&earlier, &device);
    continued.settings = device.settings.clone();
    continued.advance(5);
    continued.send_value("310");
    reassert(&mut continued, &committed);
    continued.advance(60);
    continued.run_timer(Time::default());
    assert!(
        continued.gas_alarm().is_some(),
        "no later value was below the level"
    );
}

#[test]
fn an_alarm_that_the_other_process_never_knew_is_kept() {
    let mut device = TestDevice::new();
    device.send_value("100");
    let earlier = device.stored.clone();
    device.advance(5);
    device.send_reading(latching_reading("300"));
    device.advance(5);
    device.send_reading(latching_reading("100"));
    let id = device.gas_alarm_id();
    let committed = committed_state(&device);
    let mut continued = after_rollback_to(&earlier, &device);
    for _ in 0..5 {
        continued.advance(5);
        continued.send_reading(latching_reading("100"));
    }
    reassert(&mut continued, &committed);
    assert_eq!(continued.gas_alarm_id(), id);
    // An alarm that the other process knew and ended stays ended.
    let (committed, continued) = two_processes_continue(
        |_| {},
        |continued| {
            continued.send_value("100");
        },
    );
    assert!(!committed.is_missing_from(&continued.stored));
}

#[test]
fn the_acknowledgement_that_ended_an_alarm_is_published_with_its_end() {
    let mut device = TestDevice::new();
    device.advance(5);
    device.send_reading(latching_reading("300"));
    device.advance(5);
    device.send_reading(latching_reading("100"));
    let earlier = device.stored.clone();
    let id = device.gas_alarm_id();
    let ended = device
        .acknowledge(&id)
        .changes
        .pop()
        .expect("cleared")
        .alarm;
    let committed = CommittedState {
        recently_cleared: vec![ended],
        ..committed_state(&device)
    };
    let expected = [
        (ChangeKind::Acknowledged, Condition::AlarmLevel1),
        (ChangeKind::Cleared, Condition::AlarmLevel1),
    ];
    // Redis has the earlier state, without and with later readings from another process.
    for readings in [0, 4] {
        let mut rolled_back = after_rollback_to(&earlier, &device);
        for _ in 0..readings {
            rolled_back.advance(5);
            rolled_back.send_reading(latching_reading("100"));
        }
        let decision = reassert(&mut rolled_back, &committed);
        assert_eq!(changes(&decision), expected, "{readings}");
        assert!(rolled_back.gas_alarm().is_none());
        let by = decision.log[0].acknowledgement().map(|(by, _)| by);
        assert_eq!(by, Some("User"));
    }
}

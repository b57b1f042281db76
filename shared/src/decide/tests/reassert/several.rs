//! A lost state with several alarms of one device is written again.

use super::*;

/// A latching gas alarm on the other side.
fn add_second_gas_alarm(device: &mut TestDevice) -> Alarm {
    let mut second = device.gas_alarm().cloned().expect("a gas alarm");
    second.id = "low_OTSM-0114_1".to_owned();
    second.gas_side = Some(GasSide {
        side: Side::Low,
        of: second.condition,
    });
    for level in second.active_levels.iter_mut().flatten() {
        level.latching = true;
    }
    device.state_mut().alarms.push(second.clone());
    second
}

fn open_ids(device: &TestDevice) -> Vec<String> {
    let alarms = device.stored.state.alarms.iter();
    alarms.map(|alarm| alarm.id.clone()).collect()
}

#[test]
fn of_two_gas_alarms_each_is_merged_with_itself() {
    let mut device = TestDevice::new();
    device.send_value("300");
    add_second_gas_alarm(&mut device);
    let both = open_ids(&device);
    let stored = device.stored.clone();
    device.send_value("310");
    let committed = committed_state(&device);
    let mut device = after_rollback_to(&stored, &device);
    let decision = reassert(&mut device, &committed);
    assert_eq!(open_ids(&device), both);
    assert!(decision.changes.is_empty(), "{:?}", decision.changes);
}

#[test]
fn a_second_gas_alarm_that_only_the_process_knows_is_kept() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let stored = device.stored.clone();
    device.send_value("310");
    let mut second = add_second_gas_alarm(&mut device);
    second.reached = device.stored.state.position;
    *device.state_mut().alarms.last_mut().expect("the second") = second;
    let both = open_ids(&device);
    let committed = committed_state(&device);
    let mut device = after_rollback_to(&stored, &device);
    reassert(&mut device, &committed);
    assert_eq!(open_ids(&device), both);
}

/// A device that has written its share, whose first alarm has cleared, and one that still has that alarm.
fn with_a_group_to_join() -> (TestDevice, StoredDevice) {
    let mut device = TestDevice::new();
    device.settings.chatter_calm = Duration::ZERO;
    device.settings.returned_levels = [false; 3];
    device.settings.log_burst = 1;
    device.send_value("300");
    let standing = device.stored.clone();
    device.send_value("10");
    (device, standing)
}

/// Whether the newest line of the group of the open gas alarm says that it has cleared.
fn shows_gas_as_cleared(device: &TestDevice, log: &[AlarmLogEntry]) -> bool {
    let open = device.gas_alarm().expect("open");
    let mut newest_first = log.iter().rev().filter_map(|entry| entry.alarm.as_ref());
    let last = newest_first.find(|alarm| alarm.group_id() == open.group_id());
    last.is_some_and(|alarm| alarm.cleared_at.is_some())
}

#[test]
fn of_two_alarms_that_are_logged_together_the_end_of_one_is_not_shown_as_that_of_the_other() {
    for stands_in_redis in [false, true] {
        let (mut device, standing) = with_a_group_to_join();
        let cleared = device.stored.clone();
        device.send_value("300");
        let committed = committed_state(&device);
        let own = device.gas_alarm().cloned().expect("raised");
        assert_ne!(
            own.log_group, None,
            "it is logged together with the first one"
        );
        let earlier = if stands_in_redis { standing } else { cleared };
        let mut continued = after_rollback_to(&earlier, &device);
        continued.settings = device.settings.clone();
        continued.send_value("300");
        let other = continued.gas_alarm().cloned().expect("raised");
        assert_eq!(other.group_id(), own.group_id());
        assert_ne!(other.id, own.id);
        let decision = reassert(&mut continued, &committed);
        assert_eq!(continued.gas_alarm_id(), own.id);
        assert!(changes(&decision).contains(&(ChangeKind::Cleared, Condition::AlarmLevel1)));
        assert!(
            !shows_gas_as_cleared(&continued, &decision.log),
            "{:?}",
            decision.log
        );
    }
}

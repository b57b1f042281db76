//! Devices that are retired because they have been silent for very long.

use super::*;

const DAY: u64 = 86_400;

fn silent_device() -> (TestDevice, Time) {
    let mut device = TestDevice::new();
    device.settings.forget_after = Duration::from_secs(30 * DAY);
    let since = device.now;
    device.send_value("10");
    device.advance(180);
    let decision = device.run_timer(since);
    assert!(device.alarm(Kind::DeviceOffline).is_some());
    let silent_since = device.now - Duration::from_mins(3);
    let expected = silent_since + Duration::from_secs(30 * DAY);
    assert_eq!(decision.deadline, Deadline::At(expected));
    (device, since)
}

fn acknowledge_all(device: &mut TestDevice) {
    let ids: Vec<String> = device
        .stored
        .state
        .alarms
        .iter()
        .map(|alarm| alarm.id.clone())
        .collect();
    for id in ids {
        device.acknowledge(&id);
    }
}

#[test]
fn a_silent_device_is_forgotten_when_its_silence_is_acknowledged() {
    let (mut device, since) = silent_device();
    acknowledge_all(&mut device);
    device.advance(30 * DAY);
    let decision = device.run_timer(since);
    assert_eq!(decision.outcome, Outcome::Retired);
    let retired = decision
        .log
        .iter()
        .filter(|entry| entry.change == Some(ChangeKind::Retired));
    assert!(retired.clone().count() >= 1);
    for entry in retired {
        assert_eq!(entry.by.as_deref(), Some("--forget-after"));
    }
}

#[test]
fn a_silence_that_nobody_acknowledged_is_looked_at_again_and_not_forgotten() {
    let (mut device, since) = silent_device();
    device.advance(40 * DAY);
    let decision = device.run_timer(since);
    assert_eq!(decision.outcome, Outcome::Deadline);
    assert_eq!(
        decision.deadline,
        Deadline::At(device.now + Duration::from_mins(10))
    );
    acknowledge_all(&mut device);
    device.advance(600);
    assert_eq!(device.run_timer(since).outcome, Outcome::Retired);
}

#[test]
fn a_device_with_another_open_alarm_is_never_forgotten() {
    for value in [Some("300"), Some("2000"), None] {
        let mut device = TestDevice::new();
        device.settings.forget_after = Duration::from_secs(30 * DAY);
        let since = device.now;
        device.advance(5);
        device.send_reading(reading(value));
        device.advance(180);
        device.run_timer(since);
        acknowledge_all(&mut device);
        device.advance(400 * DAY);
        assert_eq!(
            device.run_timer(since).outcome,
            Outcome::Deadline,
            "{value:?}"
        );
        assert!(device.stored.state.alarms.len() > 1);
    }
}

#[test]
fn a_device_is_not_forgotten_for_a_time_in_which_nobody_listened() {
    let (mut device, _) = silent_device();
    acknowledge_all(&mut device);
    device.advance(40 * DAY);
    let listening_since = device.now - Duration::from_secs(DAY);
    assert_eq!(device.run_timer(listening_since).outcome, Outcome::Deadline);
}

#[test]
fn nothing_is_forgotten_by_default() {
    let mut device = TestDevice::new();
    let since = device.now;
    device.send_value("10");
    device.advance(180);
    device.run_timer(since);
    acknowledge_all(&mut device);
    device.advance(4_000 * DAY);
    assert_eq!(device.run_timer(since).outcome, Outcome::Deadline);
}

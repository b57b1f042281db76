//! When the timers look at a device again.

use super::*;
use crate::alarm::ActiveLevel;
use ChangeKind::{Cleared, DeEscalated};
use Condition::{AlarmLevel1, AlarmLevel2, DeviceOffline};

#[test]
fn a_silent_device_is_not_looked_at_again() {
    let mut device = TestDevice::new();
    let since = device.now;
    device.send_value("10");
    device.advance(180);
    for _ in 0..2 {
        assert_eq!(device.run_timer(since).deadline, Deadline::Never);
        assert!(device.alarm(Kind::DeviceOffline).is_some());
        device.advance(60);
    }
}

#[test]
fn a_device_whose_reading_is_too_old_already_is_looked_at_soon_and_not_at_once() {
    for (limit_ms, soon_ms) in [(180_000, 1_000), (400, 400)] {
        let mut device = TestDevice::new();
        device.settings.offline_after = Duration::from_millis(limit_ms);
        device.send_value("10");
        device.advance(1_000);
        let mut old = reading(Some("10"));
        old.device_time = Some(device.device_time - Duration::from_mins(10));
        let soon = device.now + Duration::from_millis(soon_ms);
        assert_eq!(device.send_message(old).deadline, Deadline::At(soon));
    }
}

#[test]
fn the_first_off_delay_to_end_is_the_deadline() {
    let mut device = TestDevice::new();
    device.settings.alarm_off_delay = Duration::from_secs(30);
    let since = device.now;
    device.send_value("600");
    device.send_value("300");
    let first = device.now + Duration::from_secs(30);
    assert_eq!(device.send_value("10").deadline, Deadline::At(first));
    device.now = first;
    let decision = device.run_timer(since);
    let second = first + Duration::from_secs(5);
    assert_eq!(decision.deadline, Deadline::At(second));
    // A1 is shown, though the value has been back from it for a while.
    assert_eq!(changes(&decision), [(DeEscalated, AlarmLevel1)]);
}

#[test]
fn the_end_of_a_calm_is_looked_at_once_while_the_device_is_silent() {
    let mut device = TestDevice::new();
    let since = device.now;
    for value in ["2000", "1900", "2000", "1900", "2000", "1900"] {
        device.send_after(1, reading(Some(value)));
    }
    let range = device.alarm(Kind::OverRange).expect("it chatters");
    let calm_ends = range.chatters_until.expect("it chatters");
    device.advance(180);
    assert_eq!(
        device.run_timer(since).deadline,
        Deadline::At(calm_ends),
        "the alarm latches, so its level is back"
    );
    device.now = calm_ends;
    assert_eq!(device.run_timer(since).deadline, Deadline::Never);
    assert!(device.alarm(Kind::OverRange).is_some());
}

#[test]
fn delays_that_this_release_does_not_end_are_no_deadline() {
    let newer: Condition = serde_json::from_str("\"pump_failure\"").expect("a newer condition");
    assert!(matches!(newer, Condition::Unknown(_)));
    for condition in [newer, Condition::SensorFault] {
        let mut device = TestDevice::new();
        device.send_value("10");
        let soon = Some(device.now + Duration::from_secs(10));
        let position = device.stored.state.position;
        let mut alarm = Alarm::new("of_newer".to_owned(), condition, device.now, position);
        alarm.active_levels = vec![Some(ActiveLevel {
            off_delay_ends: soon,
            ..ActiveLevel::default()
        })];
        if condition == newer {
            alarm.chatters_until = soon;
            alarm.ceased = true;
        }
        device.state_mut().alarms.push(alarm);
        let mut calibration = reading(Some("10"));
        "CALIBRATION".clone_into(&mut calibration.message_type);
        let decision = device.send_after(5, calibration);
        let silence = device.now + Duration::from_mins(3);
        assert_eq!(decision.deadline, Deadline::At(silence), "{condition:?}");
    }
}

#[test]
fn the_timer_of_a_silent_device_ends_no_off_delay() {
    let mut device = TestDevice::new();
    device.settings.alarm_off_delay = Duration::from_mins(5);
    let since = device.now;
    device.send_value("600");
    device.send_value("10");
    device.advance(300);
    assert_eq!(
        changes(&device.run_timer(since)),
        [(ChangeKind::Raised, DeviceOffline)]
    );
    let alarm = device.gas_alarm().expect("nobody knows the value");
    assert_eq!(alarm.condition, AlarmLevel2);
    // The delay begins again.
    assert_eq!(
        changes(&device.send_value("10")),
        [(Cleared, DeviceOffline)]
    );
}

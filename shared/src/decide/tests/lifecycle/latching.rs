//! Latching alarms stay until the value is back and somebody has acknowledged them.

use super::*;

fn latching_reading(value: &str) -> Reading {
    let mut reading = reading(Some(value));
    for level in &mut reading.levels {
        level.latching = Some(dec("1"));
    }
    reading
}

#[test]
fn a_latching_alarm_stays_open_until_the_value_has_returned_and_it_was_acknowledged() {
    let mut device = TestDevice::new();
    device.send_reading(latching_reading("300"));
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(latching_reading("100"))),
        [(Latched, AlarmLevel1)]
    );
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Latched));
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(latching_reading("240"))),
        [(Unlatched, AlarmLevel1)]
    );
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(latching_reading("100"))),
        [(Latched, AlarmLevel1)]
    );
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(latching_reading("300"))),
        [(Escalated, AlarmLevel1)]
    );
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(latching_reading("100"))),
        [(Latched, AlarmLevel1)]
    );
    let id = device.gas_alarm_id();
    let decision = device.acknowledge(&id);
    assert_eq!(
        changes(&decision),
        [(Acknowledged, AlarmLevel1), (Cleared, AlarmLevel1)]
    );
    assert!(device.gas_alarm().is_none());

    let mut device = TestDevice::new();
    device.send_reading(latching_reading("300"));
    let id = device.gas_alarm_id();
    device.acknowledge(&id);
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(latching_reading("100"))),
        [(Cleared, AlarmLevel1)]
    );
}

#[test]
fn a_reading_that_may_not_lower_does_not_end_latching() {
    let mut device = TestDevice::new();
    device.send_reading(latching_reading("300"));
    device.advance(5);
    device.send_reading(latching_reading("100"));
    device.advance(5);
    let mut faulty = reading(Some("100"));
    faulty.sensor_fault = dec("1");
    assert_eq!(
        changes(&device.send_reading(faulty)),
        [(Raised, SensorFault)]
    );
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Latched));
}

#[test]
fn latching_ends_once_its_end_is_acknowledged_and_not_if_the_device_omits_the_flag() {
    let mut device = TestDevice::new();
    device.send_reading(latching_reading("300"));
    device.advance(5);
    device.send_reading(latching_reading("100"));
    assert_eq!(changes(&device.send_value("100")), []);
    device.advance(5);
    let mut ended = latching_reading("100");
    for level in &mut ended.levels {
        level.latching = Some(Decimal::ZERO);
    }
    assert_eq!(
        changes(&device.send_reading(ended.clone())),
        [(Raised, SettingChanged)]
    );
    device.acknowledge_kind(Kind::SettingChanged);
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(ended)),
        [(Cleared, AlarmLevel1)]
    );
}

#[test]
fn a_latching_flag_sent_before_the_alarm_still_applies() {
    let mut device = TestDevice::new();
    device.send_reading(latching_reading("100"));
    assert_eq!(changes(&device.send_value("350")), [(Raised, AlarmLevel1)]);
    assert_eq!(changes(&device.send_value("100")), [(Latched, AlarmLevel1)]);
}

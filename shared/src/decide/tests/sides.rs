//! Gas has one alarm per side. One never hides the other.

use super::*;
use crate::reading::{LevelSetting, Side};
use crate::settings::SerialPatterns;
use ChangeKind::{Acknowledged, Cleared, Latched, Raised};
use Condition::{AlarmLevel1, AlarmLevel2, AlarmLevel3};

/// Oxygen: too poor at 19.5, too rich at 23.5, no A3.
fn oxygen(value: &str) -> Reading {
    edited(value, |reading| {
        reading.levels[0].level = Some(dec("19.5"));
        reading.levels[0].side = Some(Side::Low);
        reading.levels[1].level = Some(dec("23.5"));
        reading.levels[1].side = Some(Side::High);
        reading.levels[2].level = None;
        reading.span_high = Some(dec("25"));
    })
}

fn latching(mut reading: Reading) -> Reading {
    for level in &mut reading.levels {
        level.latching = Some(dec("1"));
    }
    reading
}

#[test]
fn a_latched_alarm_of_one_side_does_not_hide_a_danger_on_the_other() {
    let mut device = TestDevice::new();
    let mut send = |value: &str| changes(&device.send_after(5, latching(oxygen(value))));
    assert_eq!(send("24"), [(Raised, AlarmLevel2)]);
    assert_eq!(send("20.9"), [(Latched, AlarmLevel2)]);
    assert_eq!(send("10"), [(Raised, AlarmLevel1)]);
    let low = device.alarm(Kind::GasLow).expect("a new alarm");
    assert_eq!(
        low.message,
        "Gas concentration below A1 threshold (19.5 ppm)"
    );
    assert_eq!(low.state(), AlarmState::Unacknowledged);
    assert_eq!(device.state_of(Kind::GasHigh), Some(AlarmState::Latched));
}

#[test]
fn an_acknowledged_alarm_of_one_side_does_not_cover_the_other() {
    let mut device = TestDevice::new();
    device.send_after(5, oxygen("24"));
    device.acknowledge_kind(Kind::GasHigh);
    let decision = device.send_after(5, oxygen("17"));
    assert_eq!(
        changes(&decision),
        [(Cleared, AlarmLevel2), (Raised, AlarmLevel1)]
    );
    assert_eq!(
        device.state_of(Kind::GasLow),
        Some(AlarmState::Unacknowledged)
    );
}

#[test]
fn an_acknowledgement_is_for_one_side() {
    let mut device = TestDevice::new();
    device.send_after(5, latching(oxygen("24")));
    device.send_after(5, latching(oxygen("10")));
    assert_eq!(
        changes(&device.acknowledge_kind(Kind::GasHigh)),
        [(Acknowledged, AlarmLevel2), (Cleared, AlarmLevel2)]
    );
    assert_eq!(
        device.state_of(Kind::GasLow),
        Some(AlarmState::Unacknowledged)
    );
}

#[test]
fn a_level_above_air_without_its_own_type_is_high_beside_a_low_a1() {
    let reading_at = |value: &str| {
        let mut reading = oxygen(value);
        reading.levels[1] = LevelSetting::default();
        reading.levels[2].level = Some(dec("23.5"));
        reading
    };
    let mut device = TestDevice::new();
    let mut send = |value: &str| changes(&device.send_after(5, reading_at(value)));
    assert_eq!(send("20.9"), []);
    assert_eq!(send("23.4"), []);
    assert_eq!(send("23.5"), [(Raised, AlarmLevel3)]);
    let high = device.alarm(Kind::GasHigh).expect("the High side");
    assert_eq!(
        high.message,
        "Gas concentration above A3 threshold (23.5 ppm)"
    );
}

#[test]
fn the_a1_of_a_configured_device_without_types_is_low() {
    let reading_at = |value: &str| {
        let mut reading = oxygen(value);
        reading.levels[0].side = None;
        reading.levels[1].side = None;
        reading
    };
    let mut device = TestDevice::new();
    device.settings.low_devices = SerialPatterns::new("OTSM-01*");
    let mut send = |value: &str| changes(&device.send_after(5, reading_at(value)));
    assert_eq!(send("20.9"), []);
    assert_eq!(send("19.5"), [(Raised, AlarmLevel1)]);
    assert_eq!(send("24"), [(Raised, AlarmLevel2), (Cleared, AlarmLevel1)]);
}

#[test]
fn a_type_is_remembered_when_the_other_payload_format_omits_it() {
    let mut device = TestDevice::new();
    device.send_after(5, oxygen("20.9"));
    let untyped = |value: &str| {
        let mut reading = oxygen(value);
        reading.levels[0].side = None;
        reading.levels[1].side = None;
        reading
    };
    assert_eq!(changes(&device.send_after(5, untyped("20.9"))), []);
    assert_eq!(
        changes(&device.send_after(5, untyped("10"))),
        [(Raised, AlarmLevel1)]
    );
}

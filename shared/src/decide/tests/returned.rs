//! An unacknowledged peak is not forgotten: *returned to normal, unacknowledged* (ISA-18.2).

use super::*;
use ChangeKind::{
    Acknowledged, Cleared, DeEscalated, Escalated, Latched, Raised, Returned, Unlatched,
};
use Condition::{AlarmLevel1, AlarmLevel2, AlarmLevel3};

#[test]
fn an_unacknowledged_peak_stays_open_beside_a_normal_status() {
    let mut device = TestDevice::new();
    assert_eq!(changes(&device.send_value("1200")), [(Raised, AlarmLevel3)]);
    assert_eq!(changes(&device.send_value("10")), [(Returned, AlarmLevel3)]);
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Returned));
    assert_eq!(device.alarm_status(), "NORMAL");
    let alarm = device.gas_alarm().expect("open");
    assert_eq!(alarm.peak_value, Some(dec("1200")));
    assert_eq!(alarm.threshold, Some(dec("1000")));
    assert_eq!(
        changes(&device.acknowledge_kind(Kind::GasHigh)),
        [(Acknowledged, AlarmLevel3), (Cleared, AlarmLevel3)]
    );
}

#[test]
fn a_peak_that_fell_through_the_lower_levels_is_remembered() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    let decision = device.send_value("300");
    assert_eq!(changes(&decision), [(DeEscalated, AlarmLevel1)]);
    assert_eq!(decision.changes[0].alarm.peak, Some(AlarmLevel3));
    assert_eq!(decision.changes[0].alarm.peak_value, Some(dec("1200")));
    assert_eq!(changes(&device.send_value("10")), [(Returned, AlarmLevel3)]);
}

#[test]
fn which_levels_are_remembered_is_configured() {
    for (levels, value, end) in [
        ([false, true, true], "300", Cleared),
        ([false, true, true], "600", Returned),
        ([false, false, true], "600", Cleared),
        ([false, false, true], "1000", Returned),
        ([true, true, true], "300", Returned),
        ([false, false, false], "1200", Cleared),
    ] {
        let mut device = TestDevice::new();
        device.settings.returned_levels = levels;
        device.send_value(value);
        let decision = device.send_value("10");
        assert_eq!(decision.changes[0].kind, end, "{levels:?}, {value}");
    }
}

#[test]
fn a_returned_alarm_waits_for_its_acknowledgement_whatever_happens() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    device.send_value("10");
    let id = device.gas_alarm_id();
    let seen = device.stored.state.position;
    for day in 0..30 {
        device.advance(24 * 3600);
        device.run_timer(device.now);
        device.send_after(5, edited("10", |r| r.sensor_fault = dec("1")));
        device.send_value("10");
        assert_eq!(
            device.gas_alarm_state(),
            Some(AlarmState::Returned),
            "{day}"
        );
        device.restart();
    }
    assert_eq!(
        changes(&device.acknowledge_seen(&id, seen)),
        [(Acknowledged, AlarmLevel3), (Cleared, AlarmLevel3)]
    );
}

#[test]
fn any_level_reached_again_is_an_escalation_and_the_peak_stays_remembered() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    device.send_value("10");
    let seen = device.stored.state.position;
    let id = device.gas_alarm_id();
    device.advance(120);
    assert_eq!(
        changes(&device.send_value("250")),
        [(Escalated, AlarmLevel1)]
    );
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
    assert_eq!(
        device.acknowledge_seen(&id, seen).outcome,
        Outcome::Escalated,
        "the new level had not been seen"
    );
    assert_eq!(changes(&device.send_value("10")), [(Returned, AlarmLevel3)]);
}

#[test]
fn a_value_in_the_deadband_changes_nothing_about_a_returned_alarm() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    device.send_value("10");
    assert_eq!(changes(&device.send_value("249.9")), []);
    assert_eq!(changes(&device.send_value("238")), []);
}

#[test]
fn an_acknowledgement_covers_every_level_up_to_what_was_seen() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    device.send_value("300");
    device.acknowledge_kind(Kind::GasHigh);
    assert_eq!(changes(&device.send_value("10")), [(Cleared, AlarmLevel1)]);

    let mut device = TestDevice::new();
    device.send_value("300");
    let (id, seen) = (device.gas_alarm_id(), device.stored.state.position);
    device.send_value("1200");
    device.acknowledge_seen(&id, seen);
    assert_eq!(changes(&device.send_value("10")), [(Returned, AlarmLevel3)]);
}

#[test]
fn a_level_reached_again_after_its_acknowledgement_is_remembered_again() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    device.acknowledge_kind(Kind::GasHigh);
    device.send_value("300");
    device.advance(120);
    assert_eq!(
        changes(&device.send_value("600")),
        [(Escalated, AlarmLevel2)]
    );
    assert_eq!(changes(&device.send_value("10")), [(Returned, AlarmLevel2)]);
}

fn latching(value: &str) -> Reading {
    edited(value, |reading| {
        for level in &mut reading.levels {
            level.latching = Some(dec("1"));
        }
    })
}

#[test]
fn a_latched_alarm_is_unlatched_by_a_lower_level_and_escalated_by_its_own() {
    let mut device = TestDevice::new();
    let mut send = |value: &str| changes(&device.send_after(70, latching(value)));
    assert_eq!(send("600"), [(Raised, AlarmLevel2)]);
    assert_eq!(send("100"), [(Latched, AlarmLevel2)]);
    assert_eq!(send("300"), [(Unlatched, AlarmLevel2)]);
    assert_eq!(send("100"), [(Latched, AlarmLevel2)]);
    assert_eq!(
        send("240"),
        [(Unlatched, AlarmLevel2)],
        "the deadband of A1"
    );
    assert_eq!(send("100"), [(Latched, AlarmLevel2)]);
    assert_eq!(send("600"), [(Escalated, AlarmLevel2)]);
    assert_eq!(send("100"), [(Latched, AlarmLevel2)]);
    assert_eq!(send("1000"), [(Escalated, AlarmLevel3)]);
}

#[test]
fn a_latched_alarm_that_is_acknowledged_ends_without_returning() {
    let mut device = TestDevice::new();
    device.send_after(5, latching("1200"));
    device.send_after(5, latching("10"));
    assert_eq!(
        changes(&device.acknowledge_kind(Kind::GasHigh)),
        [(Acknowledged, AlarmLevel3), (Cleared, AlarmLevel3)]
    );
}

#[test]
fn a_level_that_is_still_acknowledged_is_not_remembered_again() {
    let mut device = TestDevice::new();
    device.send_value("1200");
    device.acknowledge_kind(Kind::GasHigh);
    assert_eq!(changes(&device.send_value("1300")), []);
    assert_eq!(changes(&device.send_value("10")), [(Cleared, AlarmLevel3)]);
}

#[test]
fn the_peak_of_a_low_alarm_is_its_lowest_value() {
    let mut device = TestDevice::new();
    for (value, peak) in [("19", "19"), ("17.5", "17.5"), ("18.5", "17.5")] {
        let low = edited(value, |r| {
            r.levels[0].level = Some(dec("19.5"));
            r.levels[0].side = Some(crate::reading::Side::Low);
        });
        device.send_after(5, low);
        let alarm = device.alarm(Kind::GasLow).expect("open");
        assert_eq!(alarm.peak_value, Some(dec(peak)), "{value}");
    }
}

#[test]
fn a_latched_alarm_is_unlatched_by_a_reading_that_may_not_lower() {
    let mut device = TestDevice::new();
    device.send_after(5, latching("600"));
    device.send_after(5, latching("10"));
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Latched));
    let mut faulty = latching("300");
    faulty.sensor_fault = dec("1");
    let decision = device.send_after(5, faulty);
    assert!(changes(&decision).contains(&(Unlatched, AlarmLevel2)));
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
}

#[test]
fn a_returned_alarm_shows_the_level_that_governed_it() {
    let mut device = TestDevice::new();
    for (value, level) in [("600", "500"), ("600", "450"), ("10", "450")] {
        device.send_after(5, edited(value, |r| r.levels[1].level = Some(dec(level))));
    }
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Returned));
    let alarm = device.gas_alarm().expect("open");
    assert_eq!(alarm.threshold, Some(dec("450")));
}

#[test]
fn a_latched_alarm_whose_latching_is_switched_off_returns() {
    let mut device = TestDevice::new();
    device.send_after(5, latching("600"));
    device.send_after(5, latching("10"));
    let mut off = latching("10");
    for level in &mut off.levels {
        level.latching = Some(dec("0"));
    }
    device.send_after(5, off.clone());
    device.acknowledge_kind(Kind::SettingChanged);
    let decision = device.send_after(5, off);
    assert_eq!(changes(&decision), [(Returned, AlarmLevel2)]);
    let alarm = device.gas_alarm().expect("open");
    assert!(!alarm.latched && alarm.state() == AlarmState::Returned);
}

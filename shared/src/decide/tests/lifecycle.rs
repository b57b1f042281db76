//! The life of an alarm: levels, deadband, latching, acknowledgement, off-delay, faults and silence.

mod latching;

use super::*;
use crate::reading::Side;
use crate::settings::ZeroLevel;
use ChangeKind::{
    Acknowledged, Cleared, DeEscalated, Escalated, Latched, Raised, Returned, Unlatched,
};
use Condition::{
    AlarmLevel1, AlarmLevel2, AlarmLevel3, DeviceOffline, OverRange, ReadingInvalid, SensorFault,
    SettingChanged,
};

/// Sends values 5 s apart and compares the alarm changes after each.
#[track_caller]
fn expect_changes(device: &mut TestDevice, steps: &[(&str, &[(ChangeKind, Condition)])]) {
    for (value, expected) in steps {
        let decision = device.send_value(value);
        assert_eq!(changes(&decision), *expected, "after {value}");
    }
}

/// A reading of an oxygen detector, without a value. The value reaches a level by falling to it.
fn oxygen_reading(levels: [&str; 3]) -> Reading {
    let mut reading = reading(None);
    for (setting, level) in reading.levels.iter_mut().zip(levels) {
        setting.level = Some(dec(level));
        setting.side = Some(Side::Low);
    }
    reading.span_high = Some(dec("25"));
    reading
}

#[test]
fn one_alarm_moves_through_the_levels_with_one_change_per_transition() {
    let mut device = TestDevice::new();
    expect_changes(
        &mut device,
        &[
            ("100", &[]),
            ("250", &[(Raised, AlarmLevel1)]),
            ("300", &[]),
            ("600", &[(Escalated, AlarmLevel2)]),
            ("1000", &[(Escalated, AlarmLevel3)]),
            ("970", &[]),
            ("700", &[(DeEscalated, AlarmLevel2)]),
            ("300", &[(DeEscalated, AlarmLevel1)]),
            ("238", &[]),
            ("237", &[(Returned, AlarmLevel3)]),
        ],
    );
}

#[test]
fn an_escalation_keeps_the_id_and_shows_the_new_level() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let id = device.gas_alarm_id();
    assert_eq!(id, "alarm1_OTSM-0114_000000000abc_1");
    let decision = device.send_value("600");
    let alarm = &decision.changes[0].alarm;
    assert_eq!(alarm.id, id);
    assert_eq!(
        alarm.message,
        "Gas concentration above A2 threshold (500 ppm)"
    );
    assert_eq!(alarm.threshold, Some(dec("500")));
    assert_eq!(alarm.value, Some(dec("600")));
}

#[test]
fn with_levels_in_the_wrong_order_the_most_severe_reached_level_is_shown() {
    let mut device = TestDevice::new();
    let mut misordered = reading(Some("350"));
    misordered.levels[0].level = Some(dec("600"));
    misordered.levels[2].level = Some(dec("300"));
    let decision = device.send_reading(misordered);
    assert_eq!(changes(&decision), [(Raised, AlarmLevel3)]);
}

#[test]
fn a_low_level_is_reached_at_the_level_and_below() {
    let mut device = TestDevice::new();
    let reading_at = |value: &str| Reading {
        value: Some(dec(value)),
        ..oxygen_reading(["19.5", "18", "16"])
    };
    for (value, expected) in [
        ("20.9", vec![]),
        ("19.5", vec![(Raised, AlarmLevel1)]),
        ("10", vec![(Escalated, AlarmLevel3)]),
        ("16.4", vec![]),
        ("16.6", vec![(DeEscalated, AlarmLevel2)]),
        ("19.9", vec![(DeEscalated, AlarmLevel1)]),
        ("20", vec![]),
        ("20.1", vec![(Returned, AlarmLevel3)]),
    ] {
        device.advance(5);
        let decision = device.send_reading(reading_at(value));
        assert_eq!(changes(&decision), expected, "{value}");
    }
    device.advance(5);
    let message = device.send_reading(reading_at("10")).changes[0]
        .alarm
        .message
        .clone();
    assert_eq!(message, "Gas concentration below A3 threshold (16 ppm)");
}

#[test]
fn a_level_may_have_decimals_and_may_be_zero() {
    let mut device = TestDevice::new();
    let mut half = reading(Some("0.5"));
    half.levels[0].level = Some(dec("0.5"));
    assert_eq!(changes(&device.send_reading(half)), [(Raised, AlarmLevel1)]);

    let mut device = TestDevice::new();
    let mut zero = reading(Some("0"));
    zero.levels[0].level = Some(dec("0"));
    assert_eq!(
        changes(&device.send_reading(zero.clone())),
        [(Raised, AlarmLevel1)]
    );

    let mut device = TestDevice::new();
    device.settings.zero_level = ZeroLevel::Unused;
    assert_eq!(changes(&device.send_reading(zero)), []);
}

#[test]
fn without_a_span_the_deadband_is_a_percentage_of_the_level() {
    let mut device = TestDevice::new();
    let reading_at = |value: &str| Reading {
        span_high: None,
        span_low: None,
        ..reading(Some(value))
    };
    device.send_reading(reading_at("250"));
    device.advance(5);
    assert_eq!(changes(&device.send_reading(reading_at("245"))), []);
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(reading_at("244.9"))),
        [(Cleared, AlarmLevel1)]
    );
}

#[test]
fn the_hysteresis_of_the_device_overrides_the_configured_deadband() {
    let mut device = TestDevice::new();
    let reading_at = |value: &str| {
        let mut reading = reading(Some(value));
        reading.levels[0].hysteresis = Some(dec("10"));
        reading
    };
    device.send_reading(reading_at("250"));
    device.advance(5);
    assert_eq!(changes(&device.send_reading(reading_at("240"))), []);
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(reading_at("239"))),
        [(Cleared, AlarmLevel1)]
    );
}

#[test]
fn an_escalation_needs_a_new_acknowledgement_and_a_de_escalation_does_not() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let id = device.gas_alarm_id();
    assert_eq!(
        changes(&device.acknowledge(&id)),
        [(Acknowledged, AlarmLevel1)]
    );
    assert_eq!(
        device.acknowledge(&id).outcome,
        Outcome::AlreadyAcknowledged
    );
    device.send_value("600");
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
    device.acknowledge(&id);
    device.send_value("300");
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Acknowledged));
}

#[test]
fn an_acknowledgement_never_covers_a_level_that_was_not_seen() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let id = device.gas_alarm_id();
    let seen = device.stored.state.position;
    device.send_value("600");
    let decision = device.acknowledge_seen(&id, seen);
    assert_eq!(decision.outcome, Outcome::Escalated);
    assert!(decision.event.is_none());
    assert_eq!(decision.log[0].acknowledgement(), Some(("User", seen.seq)));
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
    let other_epoch = Position {
        epoch: Epoch::from_bits(1),
        seq: 99,
    };
    assert_eq!(
        device.acknowledge_seen(&id, other_epoch).outcome,
        Outcome::EscalatedBefore
    );
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
    assert_eq!(
        device.acknowledge("alarm1_nobody").outcome,
        Outcome::NotFound
    );
}

#[test]
fn a_closed_alarm_can_be_acknowledged_once() {
    let mut device = TestDevice::new();
    let raised = device.send_value("300").changes[0].alarm.clone();
    let closed = device.send_value("100").changes[0].alarm.clone();
    assert_eq!(closed.state(), AlarmState::Cleared);
    let input = Input::Acknowledge(AcknowledgeRequest {
        alarm_id: &raised.id,
        by: "User",
        note: None,
        seen: device.stored.state.position,
        closed: Some(&closed),
    });
    let decision = device.apply(input);
    assert_eq!(changes(&decision), [(Acknowledged, AlarmLevel1)]);
    assert_eq!(decision.changes[0].alarm.state(), AlarmState::Cleared);
    assert!(device.stored.state.alarms.is_empty());
}

#[test]
fn the_off_delay_starts_when_the_value_has_returned_and_survives_a_restart() {
    let mut device = TestDevice::new();
    device.settings.alarm_off_delay = Duration::from_secs(30);
    device.send_value("300");
    let decision = device.send_value("100");
    assert_eq!(changes(&decision), []);
    assert_eq!(
        decision.deadline,
        Deadline::At(device.now + Duration::from_secs(30))
    );
    device.restart();
    device.advance(29);
    let since = device.now;
    assert_eq!(changes(&device.run_timer(since)), []);
    device.advance(1);
    assert_eq!(changes(&device.run_timer(since)), [(Cleared, AlarmLevel1)]);

    device.send_value("300");
    device.send_value("100");
    device.send_value("240");
    device.send_value("100");
    device.advance(26);
    assert_eq!(
        changes(&device.run_timer(since)),
        [],
        "a value within the deadband restarts the delay"
    );
}

#[test]
fn the_off_delay_also_applies_to_a_de_escalation() {
    let mut device = TestDevice::new();
    device.settings.alarm_off_delay = Duration::from_secs(30);
    device.send_value("600");
    assert_eq!(changes(&device.send_value("300")), []);
    device.advance(30);
    let since = device.now;
    assert_eq!(
        changes(&device.run_timer(since)),
        [(DeEscalated, AlarmLevel1)]
    );
}

#[test]
fn a_reading_without_a_value_raises_its_own_alarm_and_never_lowers_gas() {
    let mut device = TestDevice::new();
    device.send_value("300");
    device.advance(5);
    let decision = device.send_reading(reading(None));
    assert_eq!(changes(&decision), [(Raised, ReadingInvalid)]);
    assert_eq!(device.quality(), Quality::Bad);
    assert!(device.gas_alarm().is_some());
    assert_eq!(
        changes(&device.send_value("300")),
        [(Cleared, ReadingInvalid)]
    );
}

#[test]
fn a_low_value_with_a_fault_never_lowers_a_gas_alarm() {
    let mut device = TestDevice::new();
    device.send_value("300");
    device.advance(5);
    let mut faulty = reading(Some("0"));
    faulty.sensor_fault = dec("1");
    assert_eq!(
        changes(&device.send_reading(faulty)),
        [(Raised, SensorFault)]
    );
    assert!(device.gas_alarm().is_some());
    assert_eq!(device.quality(), Quality::Uncertain);
    let decision = device.send_value("0");
    assert_eq!(
        changes(&decision),
        [(Cleared, SensorFault), (Cleared, AlarmLevel1)]
    );
}

#[test]
fn the_end_of_a_fault_is_published_before_the_gas_alarm_it_had_hidden() {
    let mut device = TestDevice::new();
    let mut faulty = reading(Some("0"));
    faulty.sensor_fault = dec("1");
    device.send_reading(faulty);
    let decision = device.send_value("300");
    assert_eq!(
        changes(&decision),
        [(Cleared, SensorFault), (Raised, AlarmLevel1)]
    );
}

#[test]
fn a_value_at_the_end_of_the_span_raises_over_range_and_gas() {
    let mut device = TestDevice::new();
    let decision = device.send_value("2000");
    assert_eq!(
        changes(&decision),
        [(Raised, AlarmLevel3), (Raised, OverRange)]
    );
    assert_eq!(changes(&device.send_value("1970")), []);
    assert_eq!(changes(&device.send_value("1950")), [(Latched, OverRange)]);
    let mut device = TestDevice::new();
    assert_eq!(
        changes(&device.send_value("1999.9")),
        [(Raised, AlarmLevel3)]
    );
}

#[test]
fn without_a_span_no_over_range_is_raised() {
    let mut device = TestDevice::new();
    let mut no_span = reading(Some("5000"));
    no_span.span_high = None;
    no_span.span_low = None;
    assert_eq!(
        changes(&device.send_reading(no_span)),
        [(Raised, AlarmLevel3)]
    );
}

#[test]
fn a_missing_level_keeps_the_last_known_one() {
    let mut device = TestDevice::new();
    let mut own = reading(Some("10"));
    own.levels[0].level = Some(dec("19.5"));
    device.send_reading(own);
    device.advance(5);
    let mut missing = reading(Some("20"));
    missing.levels[0].level = None;
    let decision = device.send_reading(missing.clone());
    assert_eq!(changes(&decision), [(Raised, AlarmLevel1)]);
    assert_eq!(device.quality(), Quality::Good);

    let mut device = TestDevice::new();
    device.send_reading(missing);
    assert_eq!(
        device.quality(),
        Quality::Uncertain,
        "a default level is not known"
    );
}

#[test]
fn silence_is_raised_after_the_limit_and_cleared_by_the_first_message() {
    let mut device = TestDevice::new();
    let since = device.now;
    device.send_value("100");
    device.advance(179);
    assert_eq!(changes(&device.run_timer(since)), []);
    device.advance(1);
    let decision = device.run_timer(since);
    assert_eq!(changes(&decision), [(Raised, DeviceOffline)]);
    let alarm = &decision.changes[0].alarm;
    assert_eq!(alarm.message, "No message from the detector for 180 s");
    assert_eq!(device.quality(), Quality::Offline);
    let event = decision.event.expect("an event").envelope;
    assert!(
        event.contains(r#""alarm_status":"ALARM""#)
            && event.contains(r#""data_quality":"offline""#)
    );
    assert_eq!(changes(&device.run_timer(since)), [], "raised once");
    assert_eq!(
        changes(&device.send_value("100")),
        [(Cleared, DeviceOffline)]
    );
    assert_eq!(device.quality(), Quality::Good);
}

#[test]
fn silence_begins_only_when_an_ingest_begins_to_listen() {
    let mut device = TestDevice::new();
    device.send_value("100");
    device.advance(10_000);
    let since = device.now;
    let decision = device.run_timer(since);
    assert_eq!(changes(&decision), []);
    assert_eq!(
        decision.deadline,
        Deadline::At(since + Duration::from_mins(3))
    );
    device.advance(180);
    assert_eq!(changes(&device.run_timer(since)), [(Raised, DeviceOffline)]);
}

#[test]
fn an_off_delay_never_lowers_while_the_device_is_silent() {
    let mut device = TestDevice::new();
    device.settings.alarm_off_delay = Duration::from_mins(10);
    let since = device.now;
    device.send_value("300");
    device.send_value("100");
    device.advance(180);
    assert_eq!(changes(&device.run_timer(since)), [(Raised, DeviceOffline)]);
    device.advance(600);
    assert_eq!(changes(&device.run_timer(since)), []);
    assert!(device.gas_alarm().is_some());
    assert_eq!(
        changes(&device.send_value("100")),
        [(Cleared, DeviceOffline)]
    );
    device.advance(100);
    device.send_value("100");
    device.advance(170);
    device.send_value("100");
    device.advance(170);
    device.send_value("100");
    device.advance(160);
    assert_eq!(changes(&device.run_timer(since)), [(Cleared, AlarmLevel1)]);
}

#[test]
fn a_lit_led_is_shown_as_alarm_at_any_value() {
    let mut device = TestDevice::new();
    let mut lit = reading(Some("100"));
    lit.leds[1] = dec("1");
    let event = device.send_reading(lit).event.expect("an event").envelope;
    assert!(event.contains(r#""alarm_status":"ALARM""#));
    let event = device.send_value("100").event.expect("an event").envelope;
    assert!(event.contains(r#""alarm_status":"NORMAL""#));
}

#[test]
fn a_duplicate_after_silence_that_no_timer_noticed_publishes_the_values_again() {
    let mut device = TestDevice::new();
    let mut first = reading(Some("100"));
    first.device_time = Some(device.device_time);
    device.send_with_fingerprint(first.clone(), 7, false);
    device.advance(500);
    let again = device.send_with_fingerprint(first, 7, false);
    assert_eq!(again.outcome, Outcome::Message(Class::Duplicate));
    let event = again.event.expect("an event").envelope;
    assert!(
        event.contains(r#""age_ms":500000"#),
        "the age has grown: {event}"
    );
}

#[test]
fn an_unreadable_side_keeps_the_last_known_one() {
    let mut device = TestDevice::new();
    let reading_at = |value: &str, side: Option<Side>| {
        let mut reading = oxygen_reading(["19.5", "18", "16"]);
        reading.value = Some(dec(value));
        for level in &mut reading.levels {
            level.side = side;
        }
        reading
    };
    assert_eq!(
        changes(&device.send_reading(reading_at("18.5", Some(Side::Low)))),
        [(Raised, AlarmLevel1)]
    );
    device.advance(5);
    assert_eq!(changes(&device.send_reading(reading_at("18.5", None))), []);
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(reading_at("10", None))),
        [(Escalated, AlarmLevel3)]
    );
}

#[test]
fn a_reading_with_an_unreadable_flag_clears_nothing() {
    let mut device = TestDevice::new();
    let mut faulty = reading(Some("300"));
    faulty.sensor_fault = dec("1");
    device.send_reading(faulty);
    device.advance(5);
    let mut unclear = reading(Some("0"));
    unclear.unclear = true;
    assert_eq!(changes(&device.send_reading(unclear)), []);
    let decision = device.send_value("0");
    assert_eq!(
        changes(&decision),
        [(Cleared, SensorFault), (Cleared, AlarmLevel1)]
    );
}

#[test]
fn a_tie_within_the_deadband_cancels_a_running_off_delay() {
    let mut device = TestDevice::new();
    device.settings.alarm_off_delay = Duration::from_mins(1);
    let since = device.now;
    device.send_value("300");
    device.send_value("100");
    let mut tie = reading(Some("240"));
    tie.device_time = Some(device.device_time);
    device.send_message(tie);
    device.advance(61);
    assert_eq!(changes(&device.run_timer(since)), []);
}

#[test]
fn the_deadband_of_a_wide_span_still_lets_a_small_level_clear() {
    let mut device = TestDevice::new();
    let reading_at = |value: &str| {
        let mut reading = reading(Some(value));
        reading.levels[0].level = Some(dec("35"));
        reading
    };
    // At most 5 % of the level.
    device.send_reading(reading_at("35"));
    device.advance(5);
    assert_eq!(changes(&device.send_reading(reading_at("33.25"))), []);
    device.advance(5);
    assert_eq!(
        changes(&device.send_reading(reading_at("33.2"))),
        [(Cleared, AlarmLevel1)]
    );
}

#[test]
fn a_repeated_acknowledgement_of_a_lower_level_is_logged_once() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let id = device.gas_alarm_id();
    let seen = device.stored.state.position;
    device.send_value("600");
    assert_eq!(
        device.acknowledge_seen(&id, seen).outcome,
        Outcome::Escalated
    );
    assert_eq!(
        device.acknowledge_seen(&id, seen).outcome,
        Outcome::EscalatedBefore
    );
}

//! The life of an alarm: levels, deadband, latching, acknowledgement, off-delay, faults and silence.

use super::*;
use ChangeKind::{Acknowledged, Cleared, DeEscalated, Escalated, Latched, Raised, Unlatched};
use Condition::{
    AlarmLevel1, AlarmLevel2, AlarmLevel3, DeviceOffline, OverRange, ReadingInvalid, SensorFault,
};

/// Sends values 5 s apart and compares the changes of each.
#[track_caller]
fn check(world: &mut World, steps: &[(&str, &[(ChangeKind, Condition)])]) {
    for (value, expected) in steps {
        let decision = world.value(value);
        assert_eq!(kinds(&decision), *expected, "after {value}");
    }
}

fn low(levels: [&str; 3]) -> Reading {
    let mut reading = reading(None);
    for (setting, level) in reading.levels.iter_mut().zip(levels) {
        setting.level = Some(dec(level));
        setting.side = Some(Side::Low);
    }
    reading.span_high = Some(dec("25"));
    reading
}

use crate::reading::Side;

#[test]
fn one_alarm_moves_through_the_levels_with_one_change_per_transition() {
    let mut world = World::new();
    check(
        &mut world,
        &[
            ("100", &[]),
            ("250", &[(Raised, AlarmLevel1)]),
            ("300", &[]),
            ("600", &[(Escalated, AlarmLevel2)]),
            ("1000", &[(Escalated, AlarmLevel3)]),
            ("970", &[]),
            ("700", &[(DeEscalated, AlarmLevel2)]),
            ("300", &[(DeEscalated, AlarmLevel1)]),
            ("211", &[]),
            ("209", &[(Cleared, AlarmLevel1)]),
        ],
    );
}

#[test]
fn an_escalation_keeps_the_id_and_shows_the_new_level() {
    let mut world = World::new();
    world.value("300");
    let id = world.gas_id();
    assert_eq!(id, "alarm1_OTSM-0114_000000000abc_1");
    let decision = world.value("600");
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
fn misordered_levels_are_evaluated_alone_and_the_most_severe_reached_one_counts() {
    let mut world = World::new();
    let mut misordered = reading(Some("350"));
    misordered.levels[0].level = Some(dec("600"));
    misordered.levels[2].level = Some(dec("300"));
    let decision = world.read(misordered);
    assert_eq!(kinds(&decision), [(Raised, AlarmLevel3)]);
}

#[test]
fn a_low_level_is_reached_at_the_level_and_below() {
    let mut world = World::new();
    let at = |value: &str| Reading {
        value: Some(dec(value)),
        ..low(["19.5", "18", "16"])
    };
    for (value, expected) in [
        ("20.9", vec![]),
        ("19.5", vec![(Raised, AlarmLevel1)]),
        ("10", vec![(Escalated, AlarmLevel3)]),
        ("16.4", vec![]),
        ("16.6", vec![(DeEscalated, AlarmLevel2)]),
        ("19.9", vec![(DeEscalated, AlarmLevel1)]),
        ("20", vec![]),
        ("20.1", vec![(Cleared, AlarmLevel1)]),
    ] {
        world.pass(5);
        let decision = world.read(at(value));
        assert_eq!(kinds(&decision), expected, "{value}");
    }
    world.pass(5);
    let message = world.read(at("10")).changes[0].alarm.message.clone();
    assert_eq!(message, "Gas concentration below A3 threshold (16 ppm)");
}

#[test]
fn levels_are_decimals_and_zero_is_a_level() {
    let mut world = World::new();
    let mut half = reading(Some("0.5"));
    half.levels[0].level = Some(dec("0.5"));
    assert_eq!(kinds(&world.read(half)), [(Raised, AlarmLevel1)]);

    let mut world = World::new();
    let mut zero = reading(Some("0"));
    zero.levels[0].level = Some(dec("0"));
    assert_eq!(kinds(&world.read(zero.clone())), [(Raised, AlarmLevel1)]);

    let mut world = World::new();
    world.settings.zero_level = ZeroLevel::Unused;
    assert_eq!(kinds(&world.read(zero)), []);
}

#[test]
fn without_a_span_the_deadband_is_a_percentage_of_the_level() {
    let mut world = World::new();
    let at = |value: &str| Reading {
        span_high: None,
        span_low: None,
        ..reading(Some(value))
    };
    world.read(at("250"));
    world.pass(5);
    assert_eq!(kinds(&world.read(at("245"))), []);
    world.pass(5);
    assert_eq!(kinds(&world.read(at("244.9"))), [(Cleared, AlarmLevel1)]);
}

#[test]
fn the_hysteresis_of_the_device_overrides_the_configured_deadband() {
    let mut world = World::new();
    let at = |value: &str| {
        let mut reading = reading(Some(value));
        reading.levels[0].hysteresis = dec("10");
        reading
    };
    world.read(at("250"));
    world.pass(5);
    assert_eq!(kinds(&world.read(at("240"))), []);
    world.pass(5);
    assert_eq!(kinds(&world.read(at("239"))), [(Cleared, AlarmLevel1)]);
}

fn latching(value: &str) -> Reading {
    let mut reading = reading(Some(value));
    for level in &mut reading.levels {
        level.latching = Some(dec("1"));
    }
    reading
}

#[test]
fn a_latching_level_stays_until_the_value_has_returned_and_it_was_acknowledged() {
    let mut world = World::new();
    world.read(latching("300"));
    world.pass(5);
    assert_eq!(
        kinds(&world.read(latching("100"))),
        [(Latched, AlarmLevel1)]
    );
    assert_eq!(state_of(&world), Some(AlarmState::Latched));
    world.pass(5);
    assert_eq!(
        kinds(&world.read(latching("300"))),
        [(Unlatched, AlarmLevel1)]
    );
    world.pass(5);
    assert_eq!(
        kinds(&world.read(latching("100"))),
        [(Latched, AlarmLevel1)]
    );
    let id = world.gas_id();
    let decision = world.acknowledge(&id);
    assert_eq!(
        kinds(&decision),
        [(Acknowledged, AlarmLevel1), (Cleared, AlarmLevel1)]
    );
    assert!(world.gas().is_none());

    world.pass(5);
    world.read(latching("300"));
    let id = world.gas_id();
    world.acknowledge(&id);
    world.pass(5);
    assert_eq!(
        kinds(&world.read(latching("100"))),
        [(Cleared, AlarmLevel1)]
    );
}

#[test]
fn an_escalation_needs_a_new_acknowledgement_and_a_de_escalation_none() {
    let mut world = World::new();
    world.value("300");
    let id = world.gas_id();
    assert_eq!(
        kinds(&world.acknowledge(&id)),
        [(Acknowledged, AlarmLevel1)]
    );
    assert_eq!(world.acknowledge(&id).outcome, Outcome::AlreadyAcknowledged);
    world.value("600");
    assert_eq!(state_of(&world), Some(AlarmState::Unacknowledged));
    world.acknowledge(&id);
    world.value("300");
    assert_eq!(state_of(&world), Some(AlarmState::Acknowledged));
}

#[test]
fn an_acknowledgement_never_covers_a_level_that_was_not_seen() {
    let mut world = World::new();
    world.value("300");
    let id = world.gas_id();
    let seen = world.stored.state.position;
    world.value("600");
    let decision = world.acknowledge_seen(&id, seen);
    assert_eq!(decision.outcome, Outcome::Escalated);
    assert!(decision.event.is_none());
    assert_eq!(decision.log[0].acknowledgement(), Some(("User", seen.seq)));
    assert_eq!(state_of(&world), Some(AlarmState::Unacknowledged));
    let other_epoch = Position {
        epoch: Epoch::from_bits(1),
        seq: 99,
    };
    assert_eq!(
        world.acknowledge_seen(&id, other_epoch).outcome,
        Outcome::EscalatedBefore
    );
    assert_eq!(state_of(&world), Some(AlarmState::Unacknowledged));
    assert_eq!(
        world.acknowledge("alarm1_nobody").outcome,
        Outcome::NotFound
    );
}

#[test]
fn a_closed_alarm_can_be_acknowledged_once() {
    let mut world = World::new();
    let raised = world.value("300").changes[0].alarm.clone();
    let closed = world.value("100").changes[0].alarm.clone();
    assert_eq!(closed.state(), AlarmState::Cleared);
    let input = Input::Acknowledgement(Acknowledgement {
        alarm_id: &raised.id,
        by: "User",
        seen: world.stored.state.position,
        closed: Some(&closed),
    });
    let decision = world.apply(input);
    assert_eq!(kinds(&decision), [(Acknowledged, AlarmLevel1)]);
    assert_eq!(decision.changes[0].alarm.state(), AlarmState::Cleared);
    assert!(world.stored.state.alarms.is_empty());
}

#[test]
fn the_off_delay_starts_when_the_value_is_back_and_survives_a_restart() {
    let mut world = World::new();
    world.settings.alarm_off_delay = Duration::from_secs(30);
    world.value("300");
    let decision = world.value("100");
    assert_eq!(kinds(&decision), []);
    assert_eq!(
        decision.deadline,
        Deadline::At(world.now + Duration::from_secs(30))
    );
    world.restart();
    world.pass(29);
    let since = world.now;
    assert_eq!(kinds(&world.timer(since)), []);
    world.pass(1);
    assert_eq!(kinds(&world.timer(since)), [(Cleared, AlarmLevel1)]);

    world.value("300");
    world.value("100");
    world.value("230");
    world.value("100");
    world.pass(26);
    assert_eq!(
        kinds(&world.timer(since)),
        [],
        "a value within the deadband restarts the delay"
    );
}

#[test]
fn the_off_delay_also_applies_to_a_de_escalation() {
    let mut world = World::new();
    world.settings.alarm_off_delay = Duration::from_secs(30);
    world.value("600");
    assert_eq!(kinds(&world.value("300")), []);
    world.pass(30);
    let since = world.now;
    assert_eq!(kinds(&world.timer(since)), [(DeEscalated, AlarmLevel1)]);
}

#[test]
fn a_reading_without_a_value_raises_its_own_alarm_and_never_lowers_gas() {
    let mut world = World::new();
    world.value("300");
    world.pass(5);
    let decision = world.read(reading(None));
    assert_eq!(kinds(&decision), [(Raised, ReadingInvalid)]);
    assert_eq!(world.quality(), Quality::Bad);
    assert!(world.gas().is_some());
    assert_eq!(kinds(&world.value("300")), [(Cleared, ReadingInvalid)]);
}

#[test]
fn a_low_value_with_a_fault_never_lowers_a_gas_alarm() {
    let mut world = World::new();
    world.value("300");
    world.pass(5);
    let mut faulty = reading(Some("0"));
    faulty.sensor_fault = dec("1");
    assert_eq!(kinds(&world.read(faulty)), [(Raised, SensorFault)]);
    assert!(world.gas().is_some());
    assert_eq!(world.quality(), Quality::Uncertain);
    let decision = world.value("0");
    assert_eq!(
        kinds(&decision),
        [(Cleared, SensorFault), (Cleared, AlarmLevel1)]
    );
}

#[test]
fn a_fault_is_cleared_before_the_gas_it_hid_is_raised() {
    let mut world = World::new();
    let mut faulty = reading(Some("0"));
    faulty.sensor_fault = dec("1");
    world.read(faulty);
    let decision = world.value("300");
    assert_eq!(
        kinds(&decision),
        [(Cleared, SensorFault), (Raised, AlarmLevel1)]
    );
}

#[test]
fn a_value_above_the_span_raises_over_range_and_gas() {
    let mut world = World::new();
    let decision = world.value("2001");
    assert_eq!(
        kinds(&decision),
        [(Raised, AlarmLevel3), (Raised, OverRange)]
    );
    assert_eq!(kinds(&world.value("1970")), []);
    assert_eq!(kinds(&world.value("1950")), [(Cleared, OverRange)]);
    let mut world = World::new();
    assert_eq!(kinds(&world.value("2000")), [(Raised, AlarmLevel3)]);
}

#[test]
fn a_default_span_raises_no_over_range() {
    let mut world = World::new();
    let mut no_span = reading(Some("5000"));
    no_span.span_high = None;
    no_span.span_low = None;
    assert_eq!(kinds(&world.read(no_span)), [(Raised, AlarmLevel3)]);
}

#[test]
fn a_missing_level_keeps_the_last_known_one() {
    let mut world = World::new();
    let mut own = reading(Some("10"));
    own.levels[0].level = Some(dec("19.5"));
    world.read(own);
    world.pass(5);
    let mut missing = reading(Some("20"));
    missing.levels[0].level = None;
    let decision = world.read(missing.clone());
    assert_eq!(kinds(&decision), [(Raised, AlarmLevel1)]);
    assert_eq!(world.quality(), Quality::Good);

    let mut world = World::new();
    world.read(missing);
    assert_eq!(
        world.quality(),
        Quality::Uncertain,
        "a default level is not known"
    );
}

#[test]
fn silence_is_raised_after_the_limit_and_cleared_by_the_first_message() {
    let mut world = World::new();
    let since = world.now;
    world.value("100");
    world.pass(179);
    assert_eq!(kinds(&world.timer(since)), []);
    world.pass(1);
    let decision = world.timer(since);
    assert_eq!(kinds(&decision), [(Raised, DeviceOffline)]);
    let alarm = &decision.changes[0].alarm;
    assert_eq!(alarm.message, "No message from the detector for 180 s");
    assert_eq!(world.quality(), Quality::Offline);
    let event = decision.event.expect("an event").envelope;
    assert!(
        event.contains(r#""alarm_status":"ALARM""#)
            && event.contains(r#""data_quality":"offline""#)
    );
    assert_eq!(kinds(&world.timer(since)), [], "raised once");
    assert_eq!(kinds(&world.value("100")), [(Cleared, DeviceOffline)]);
    assert_eq!(world.quality(), Quality::Good);
}

#[test]
fn silence_counts_from_the_moment_an_ingest_listens() {
    let mut world = World::new();
    world.value("100");
    world.pass(10_000);
    let since = world.now;
    let decision = world.timer(since);
    assert_eq!(kinds(&decision), []);
    assert_eq!(
        decision.deadline,
        Deadline::At(since + Duration::from_mins(3))
    );
    world.pass(180);
    assert_eq!(kinds(&world.timer(since)), [(Raised, DeviceOffline)]);
}

#[test]
fn an_off_delay_never_lowers_while_the_device_is_silent() {
    let mut world = World::new();
    world.settings.alarm_off_delay = Duration::from_mins(10);
    let since = world.now;
    world.value("300");
    world.value("100");
    world.pass(180);
    assert_eq!(kinds(&world.timer(since)), [(Raised, DeviceOffline)]);
    world.pass(600);
    assert_eq!(kinds(&world.timer(since)), []);
    assert!(world.gas().is_some());
    assert_eq!(kinds(&world.value("100")), [(Cleared, DeviceOffline)]);
    world.pass(100);
    world.value("100");
    world.pass(170);
    world.value("100");
    world.pass(170);
    world.value("100");
    world.pass(160);
    assert_eq!(kinds(&world.timer(since)), [(Cleared, AlarmLevel1)]);
}

#[test]
fn a_lit_led_is_shown_as_alarm_whatever_the_value() {
    let mut world = World::new();
    let mut lit = reading(Some("100"));
    lit.leds[1] = dec("1");
    let event = world.read(lit).event.expect("an event").envelope;
    assert!(event.contains(r#""alarm_status":"ALARM""#));
    let event = world.value("100").event.expect("an event").envelope;
    assert!(event.contains(r#""alarm_status":"NORMAL""#));
}

#[test]
fn a_duplicate_after_silence_that_no_timer_noticed_publishes_the_values_again() {
    let mut world = World::new();
    let mut first = reading(Some("100"));
    first.device_time = Some(world.device_time);
    world.send_fingerprint(first.clone(), 7, false, false);
    world.pass(500);
    let again = world.send_fingerprint(first, 7, false, false);
    assert_eq!(again.outcome, Outcome::Message(Class::Duplicate));
    let event = again.event.expect("an event").envelope;
    assert!(
        event.contains(r#""age_ms":500000"#),
        "the age has grown: {event}"
    );
}

#[test]
fn an_unreadable_side_keeps_the_last_known_one() {
    let mut world = World::new();
    let at = |value: &str, side: Option<Side>| {
        let mut reading = low(["19.5", "18", "16"]);
        reading.value = Some(dec(value));
        for level in &mut reading.levels {
            level.side = side;
        }
        reading
    };
    assert_eq!(
        kinds(&world.read(at("18.5", Some(Side::Low)))),
        [(Raised, AlarmLevel1)]
    );
    world.pass(5);
    assert_eq!(kinds(&world.read(at("18.5", None))), []);
    world.pass(5);
    assert_eq!(
        kinds(&world.read(at("10", None))),
        [(Escalated, AlarmLevel3)]
    );
}

#[test]
fn a_reading_with_an_unreadable_flag_clears_nothing() {
    let mut world = World::new();
    let mut faulty = reading(Some("300"));
    faulty.sensor_fault = dec("1");
    world.read(faulty);
    world.pass(5);
    let mut unclear = reading(Some("0"));
    unclear.unclear = true;
    assert_eq!(kinds(&world.read(unclear)), []);
    let decision = world.value("0");
    assert_eq!(
        kinds(&decision),
        [(Cleared, SensorFault), (Cleared, AlarmLevel1)]
    );
}

#[test]
fn a_reading_that_may_not_lower_does_not_end_latching() {
    let mut world = World::new();
    world.read(latching("300"));
    world.pass(5);
    world.read(latching("100"));
    world.pass(5);
    let mut faulty = reading(Some("100"));
    faulty.sensor_fault = dec("1");
    assert_eq!(kinds(&world.read(faulty)), [(Raised, SensorFault)]);
    assert_eq!(state_of(&world), Some(AlarmState::Latched));
}

#[test]
fn latching_ends_if_the_device_switches_it_off_and_not_if_it_omits_the_flag() {
    let mut world = World::new();
    world.read(latching("300"));
    world.pass(5);
    world.read(latching("100"));
    assert_eq!(kinds(&world.value("100")), []);
    world.pass(5);
    let mut ended = latching("100");
    for level in &mut ended.levels {
        level.latching = Some(Decimal::ZERO);
    }
    assert_eq!(kinds(&world.read(ended)), [(Cleared, AlarmLevel1)]);
}

#[test]
fn a_latching_flag_sent_before_the_alarm_still_applies() {
    let mut world = World::new();
    world.read(latching("100"));
    assert_eq!(kinds(&world.value("350")), [(Raised, AlarmLevel1)]);
    assert_eq!(kinds(&world.value("100")), [(Latched, AlarmLevel1)]);
}

#[test]
fn a_tie_within_the_deadband_cancels_a_running_off_delay() {
    let mut world = World::new();
    world.settings.alarm_off_delay = Duration::from_mins(1);
    let since = world.now;
    world.value("300");
    world.value("100");
    let mut tie = reading(Some("240"));
    tie.device_time = Some(world.device_time);
    world.send(tie, false, false);
    world.pass(61);
    assert_eq!(kinds(&world.timer(since)), []);
}

#[test]
fn the_deadband_of_a_wide_span_still_lets_a_small_level_clear() {
    let mut world = World::new();
    let at = |value: &str| {
        let mut reading = reading(Some(value));
        reading.levels[0].level = Some(dec("35"));
        reading
    };
    world.read(at("35"));
    world.pass(5);
    assert_eq!(kinds(&world.read(at("17.5"))), []);
    world.pass(5);
    assert_eq!(kinds(&world.read(at("17"))), [(Cleared, AlarmLevel1)]);
}

#[test]
fn a_repeated_acknowledgement_of_a_lower_level_is_logged_once() {
    let mut world = World::new();
    world.value("300");
    let id = world.gas_id();
    let seen = world.stored.state.position;
    world.value("600");
    assert_eq!(
        world.acknowledge_seen(&id, seen).outcome,
        Outcome::Escalated
    );
    assert_eq!(
        world.acknowledge_seen(&id, seen).outcome,
        Outcome::EscalatedBefore
    );
}

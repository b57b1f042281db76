//! The LEDs of a detector, and its own `Alarm Status`, against the levels that stand.

use super::*;
use crate::alarm::Severity;
use ChangeKind::{Cleared, Escalated, Raised};
use Condition::{AlarmLevel1, LedMismatch};

fn lit(value: &str, led: usize) -> Reading {
    edited(value, |reading| reading.leds[led] = dec("1"))
}

/// Sends a reading of a device that has LEDs.
fn send(device: &mut TestDevice, after_s: u64, reading: Reading) -> Decision {
    device.advance(after_s - 5);
    device.send_edited(reading, |message| message.facts.leds_sent = true)
}

#[test]
fn a_lit_led_above_the_levels_is_announced_after_ten_seconds_and_two_readings() {
    for (led, severity) in [
        (0, Severity::Warning),
        (1, Severity::Critical),
        (2, Severity::Critical),
    ] {
        let mut device = TestDevice::new();
        assert_eq!(changes(&send(&mut device, 5, lit("5", led))), []);
        assert_eq!(device.alarm_status(), "ALARM", "the LED counts at once");
        assert_eq!(changes(&send(&mut device, 9, lit("5", led))), []);
        device.advance(1);
        let decision = device.send_reading(lit("5", led));
        assert_eq!(changes(&decision), [(Raised, LedMismatch)]);
        let alarm = &decision.changes[0].alarm;
        assert_eq!(alarm.severity(), severity);
        assert_eq!(
            alarm.message,
            "Detector LEDs disagree with its alarm levels"
        );
    }
}

#[test]
fn two_readings_ten_seconds_apart_are_enough_and_one_is_not() {
    let mut device = TestDevice::new();
    send(&mut device, 5, lit("5", 2));
    send(&mut device, 5, reading(Some("5")));
    assert_eq!(changes(&send(&mut device, 30, lit("5", 2))), []);
    assert_eq!(
        changes(&send(&mut device, 10, lit("5", 2))),
        [(Raised, LedMismatch)]
    );
}

#[test]
fn the_alarm_status_of_the_detector_counts_like_an_led() {
    let mut device = TestDevice::new();
    let own_alarm = || edited("5", |reading| reading.own_alarm = true);
    device.send_after(5, own_alarm());
    assert_eq!(device.alarm_status(), "ALARM");
    let decision = device.send_after(10, own_alarm());
    assert_eq!(changes(&decision), [(Raised, LedMismatch)]);
    assert_eq!(decision.changes[0].alarm.severity(), Severity::Warning);
}

#[test]
fn three_readings_that_agree_clear_it() {
    let mut device = TestDevice::new();
    send(&mut device, 5, lit("5", 2));
    send(&mut device, 10, lit("5", 2));
    let dark = || reading(Some("5"));
    assert_eq!(changes(&send(&mut device, 5, dark())), []);
    assert_eq!(changes(&send(&mut device, 5, dark())), []);
    let faulty = edited("5", |reading| reading.sensor_fault = dec("1"));
    send(&mut device, 5, faulty);
    assert!(
        device.alarm(Kind::LedMismatch).is_some(),
        "a faulty reading agrees with nothing"
    );
    let decision = send(&mut device, 5, dark());
    assert!(changes(&decision).contains(&(Cleared, LedMismatch)));
}

#[test]
fn a_higher_led_makes_it_critical() {
    let mut device = TestDevice::new();
    send(&mut device, 5, lit("5", 0));
    send(&mut device, 10, lit("5", 0));
    device.acknowledge_kind(Kind::LedMismatch);
    let decision = send(&mut device, 5, lit("5", 1));
    assert_eq!(changes(&decision), [(Escalated, LedMismatch)]);
    let alarm = device.alarm(Kind::LedMismatch).expect("open");
    assert_eq!(alarm.severity(), Severity::Critical);
    assert_eq!(alarm.state(), AlarmState::Unacknowledged);
}

#[test]
fn an_led_that_stays_lit_after_its_alarm_has_half_an_hour() {
    let mut device = TestDevice::new();
    send(&mut device, 5, lit("300", 0));
    assert_eq!(
        changes(&send(&mut device, 5, lit("100", 0))),
        [(Cleared, AlarmLevel1)]
    );
    for _ in 0..29 {
        assert_eq!(changes(&send(&mut device, 60, lit("100", 0))), []);
    }
    assert_eq!(changes(&send(&mut device, 59, lit("100", 0))), []);
    device.advance(1);
    assert_eq!(
        changes(&device.send_reading(lit("100", 0))),
        [(Raised, LedMismatch)]
    );
}

#[test]
fn an_led_within_the_deadband_of_its_level_is_no_contradiction() {
    // The deadband of A1 ends at 237.5.
    for (value, is_raised) in [("249", false), ("237.5", false), ("237.4", true)] {
        let mut device = TestDevice::new();
        for _ in 0..10 {
            send(&mut device, 10, lit(value, 0));
        }
        let raised = device.alarm(Kind::LedMismatch).is_some();
        assert_eq!(raised, is_raised, "{value}");
    }
}

#[test]
fn a_level_without_its_led_is_announced_after_thirty_seconds_and_two_readings() {
    let mut device = TestDevice::new();
    send(&mut device, 5, reading(Some("300")));
    assert_eq!(changes(&send(&mut device, 29, reading(Some("300")))), []);
    device.advance(1);
    let decision = device.send_edited(reading(Some("300")), |message| {
        message.facts.leds_sent = true;
    });
    assert_eq!(changes(&decision), [(Raised, LedMismatch)]);
    assert_eq!(decision.changes[0].alarm.severity(), Severity::Warning);

    let mut device = TestDevice::new();
    send(&mut device, 5, lit("600", 0));
    assert_eq!(
        changes(&send(&mut device, 30, lit("600", 0))),
        [(Raised, LedMismatch)],
        "the LED of A1 does not show A2"
    );
}

#[test]
fn without_led_keys_a_level_needs_no_led() {
    let mut device = TestDevice::new();
    for _ in 0..20 {
        device.send_after(10, reading(Some("300")));
    }
    assert!(device.alarm(Kind::LedMismatch).is_none());
}

#[test]
fn an_led_that_shows_the_level_raises_nothing() {
    let mut device = TestDevice::new();
    for value in ["300", "260", "249", "240", "300"] {
        for _ in 0..10 {
            send(&mut device, 10, lit(value, 0));
        }
    }
    assert!(device.alarm(Kind::LedMismatch).is_none());
}

#[test]
fn a_blinking_led_is_announced() {
    for (own_alarm, led) in [(false, Some(2)), (true, None)] {
        let mut device = TestDevice::new();
        for (step, is_lit) in [true, false, true, false, false].into_iter().enumerate() {
            let reading = edited("5", |reading| {
                reading.own_alarm = own_alarm && is_lit;
                if let Some(led) = led.filter(|_| is_lit) {
                    reading.leds[led] = dec("1");
                }
            });
            assert_eq!(changes(&send(&mut device, 5, reading)), [], "{step}");
        }
        let reading = edited("5", |reading| reading.leds[led.unwrap_or(0)] = dec("1"));
        assert_eq!(
            changes(&send(&mut device, 5, reading)),
            [(Raised, LedMismatch)]
        );
    }
}

#[test]
fn three_readings_that_agree_end_a_contradiction_that_was_not_announced_yet() {
    let mut device = TestDevice::new();
    for _ in 0..5 {
        assert_eq!(changes(&send(&mut device, 5, lit("5", 2))), []);
        for _ in 0..3 {
            assert_eq!(changes(&send(&mut device, 5, reading(Some("5")))), []);
        }
    }
}

#[test]
fn an_led_that_shows_a_latched_alarm_is_no_contradiction() {
    let latching = |value: &str| {
        let mut reading = lit(value, 0);
        reading.levels[0].latching = Some(dec("1"));
        reading
    };
    let mut device = TestDevice::new();
    send(&mut device, 5, latching("300"));
    for _ in 0..40 {
        send(&mut device, 60, latching("5"));
    }
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Latched));
    assert!(device.alarm(Kind::LedMismatch).is_none());
}

#[test]
fn an_led_that_went_out_after_its_alarm_has_ten_seconds_again() {
    let mut device = TestDevice::new();
    send(&mut device, 5, lit("300", 0));
    send(&mut device, 5, lit("5", 0));
    send(&mut device, 5, reading(Some("5")));
    send(&mut device, 60, lit("5", 0));
    assert_eq!(
        changes(&send(&mut device, 10, lit("5", 0))),
        [(Raised, LedMismatch)]
    );
}

#[test]
fn a_missing_led_is_a_warning_whatever_led_is_lit() {
    let mut device = TestDevice::new();
    send(&mut device, 5, lit("1200", 1));
    let decision = send(&mut device, 30, lit("1200", 1));
    assert_eq!(changes(&decision), [(Raised, LedMismatch)]);
    assert_eq!(decision.changes[0].alarm.severity(), Severity::Warning);
}

#[test]
fn a_missing_led_is_announced_only_by_a_reading_without_it() {
    let mut device = TestDevice::new();
    for _ in 0..3 {
        send(&mut device, 5, reading(Some("300")));
    }
    send(&mut device, 40, lit("300", 0));
    assert!(device.alarm(Kind::LedMismatch).is_none());
}

#[test]
fn three_readings_that_agree_end_a_missing_led_that_was_not_announced_yet() {
    let mut device = TestDevice::new();
    for _ in 0..5 {
        send(&mut device, 5, reading(Some("300")));
        for _ in 0..3 {
            send(&mut device, 5, reading(Some("5")));
        }
    }
    assert!(device.alarm(Kind::LedMismatch).is_none());
}

#[test]
fn an_alarm_that_only_chatters_is_active_again_with_the_first_contradiction() {
    let mut device = TestDevice::new();
    for _ in 0..3 {
        send(&mut device, 5, lit("5", 2));
        send(&mut device, 10, lit("5", 2));
        for _ in 0..3 {
            send(&mut device, 5, reading(Some("5")));
        }
    }
    let is_active = |device: &TestDevice| device.alarm(Kind::LedMismatch).map(Alarm::is_active);
    assert_eq!(is_active(&device), Some(false));
    send(&mut device, 5, lit("5", 2));
    assert_eq!(is_active(&device), Some(true));
}

#[test]
fn an_alarm_that_has_returned_explains_no_led() {
    let mut device = TestDevice::new();
    send(&mut device, 5, lit("600", 1));
    send(&mut device, 5, reading(Some("5")));
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Returned));
    send(&mut device, 5, lit("5", 0));
    assert_eq!(
        changes(&send(&mut device, 10, lit("5", 0))),
        [(Raised, LedMismatch)]
    );
}

#[test]
fn an_acknowledgement_does_not_cover_a_higher_led_that_was_not_seen() {
    let mut device = TestDevice::new();
    send(&mut device, 5, lit("5", 0));
    send(&mut device, 10, lit("5", 0));
    let id = device.alarm(Kind::LedMismatch).expect("open").id.clone();
    let seen = device.stored.state.position;
    send(&mut device, 5, lit("5", 1));
    let decision = device.acknowledge_seen(&id, seen);
    assert_eq!(decision.outcome, Outcome::Escalated);
}

#[test]
fn single_flashes_between_readings_that_may_not_lower_are_not_in_a_row() {
    let mut device = TestDevice::new();
    send(&mut device, 5, lit("5", 2));
    let calibration = || {
        edited("5", |reading| {
            "CALIBRATION".clone_into(&mut reading.message_type);
        })
    };
    for _ in 0..20 {
        send(&mut device, 60, calibration());
    }
    assert_eq!(changes(&send(&mut device, 5, lit("5", 2))), []);
}

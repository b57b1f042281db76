//! Values outside the measuring range.

use super::*;
use crate::reading::Side;
use ChangeKind::{Acknowledged, Cleared, Latched, Raised, Returned};
use Condition::{AlarmLevel2, AlarmLevel3, OverRange, UnderRange};

fn with_span(value: &str, low: &str, high: &str) -> Reading {
    edited(value, |reading| {
        reading.span_low = Some(dec(low));
        reading.span_high = Some(dec(high));
    })
}

#[test]
fn an_impossible_value_lowers_nothing() {
    let mut device = TestDevice::new();
    device.send_value("600");
    let decision = device.send_value("-9999");
    assert_eq!(changes(&decision), [(Raised, UnderRange)]);
    let alarm = &decision.changes[0].alarm;
    assert_eq!(alarm.message, "Reading below span low (0 ppm)");
    assert_eq!(alarm.threshold, Some(dec("0")));
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
    assert_eq!(device.quality(), Quality::Uncertain);
    assert_eq!(device.alarm_status(), "ALARM");
    assert_eq!(
        changes(&device.send_value("10")),
        [(Cleared, UnderRange), (Returned, AlarmLevel2)]
    );
}

/// What a value is taken for.
#[derive(Debug, PartialEq)]
enum Judged {
    Good,
    Doubtful,
    UnderRange,
}

fn judged(reading: Reading) -> Judged {
    let mut device = TestDevice::new();
    device.send_after(5, reading);
    if device.alarm(Kind::UnderRange).is_some() {
        Judged::UnderRange
    } else if device.quality() == Quality::Uncertain {
        Judged::Doubtful
    } else {
        Judged::Good
    }
}

#[test]
fn the_lower_end_has_a_tolerance() {
    for (value, low, high, expected) in [
        ("0", "0", "2000", Judged::Good),
        ("-50", "0", "2000", Judged::Good),
        ("-50.1", "0", "2000", Judged::Doubtful),
        ("-100", "0", "2000", Judged::Doubtful),
        ("-100.1", "0", "2000", Judged::UnderRange),
        ("-300", "0", "2000", Judged::UnderRange),
        ("7.75", "10", "100", Judged::Good),
        ("7.7", "10", "100", Judged::Doubtful),
        ("5.5", "10", "100", Judged::Doubtful),
        ("5.4", "10", "100", Judged::UnderRange),
        ("3", "10", "100", Judged::UnderRange),
        ("-50", "-40", "10", Judged::UnderRange),
    ] {
        let reading = with_span(value, low, high);
        assert_eq!(judged(reading), expected, "{value} on {low}–{high}");
    }
}

#[test]
fn without_a_span_the_tolerance_is_half_of_a_high_a1() {
    for (value, expected) in [
        ("-62.5", Judged::Good),
        ("-62.6", Judged::Doubtful),
        ("-125", Judged::Doubtful),
        ("-125.1", Judged::UnderRange),
    ] {
        assert_eq!(judged(without_span(value)), expected, "{value}");
    }
    let mut oxygen = without_span("-300");
    oxygen.levels[0].side = Some(Side::Low);
    let mut device = TestDevice::new();
    device.send_after(5, oxygen);
    assert!(device.alarm(Kind::UnderRange).is_none());
    assert!(device.alarm(Kind::GasLow).is_some());
}

#[test]
fn a_doubtful_value_lowers_nothing() {
    let mut device = TestDevice::new();
    device.send_value("300");
    assert_eq!(changes(&device.send_value("-51")), []);
    assert!(device.gas_alarm().is_some());
}

#[test]
fn of_two_values_of_one_key_the_lower_one_is_judged_against_the_lower_end() {
    let mut device = TestDevice::new();
    let decision = device.send_edited(reading(Some("20")), |message| {
        message.facts.other_values = vec![dec("-9999")];
    });
    assert_eq!(changes(&decision), [(Raised, UnderRange)]);
}

#[test]
fn a_value_at_the_end_of_the_span_latches_and_is_gas_as_well() {
    for value in ["100", "110"] {
        let mut device = TestDevice::new();
        let mut lel = |value: &str| {
            let mut reading = with_span(value, "0", "100");
            for (setting, level) in reading.levels.iter_mut().zip(["10", "20", "40"]) {
                setting.level = Some(dec(level));
            }
            device.send_after(5, reading)
        };
        assert_eq!(changes(&lel("99.9")), [(Raised, AlarmLevel3)]);
        assert_eq!(changes(&lel(value)), [(Raised, OverRange)]);
        assert_eq!(changes(&lel("98.1")), [], "the deadband is 2 % of the span");
        assert_eq!(
            changes(&lel("3")),
            [(Returned, AlarmLevel3), (Latched, OverRange)]
        );
        assert_eq!(device.alarm_status(), "ALARM", "it has latched");
        assert_eq!(
            changes(&device.acknowledge_kind(Kind::OverRange)),
            [(Acknowledged, OverRange), (Cleared, OverRange)]
        );
    }
}

#[test]
fn an_acknowledged_value_over_range_ends_when_it_is_back() {
    let mut device = TestDevice::new();
    device.send_value("2001");
    device.acknowledge_kind(Kind::OverRange);
    assert_eq!(changes(&device.send_value("1960")), []);
    assert_eq!(
        changes(&device.send_value("1959.9")),
        [(Cleared, OverRange)]
    );
}

#[test]
fn a_span_whose_high_is_not_above_its_low_is_no_span() {
    for (low, high) in [("0", "0"), ("100", "50")] {
        let mut device = TestDevice::new();
        let decision = device.send_after(5, with_span("120", low, high));
        assert_eq!(changes(&decision), [], "{low}–{high}");
    }
}

#[test]
fn the_last_span_applies_when_the_other_payload_format_omits_it() {
    let mut device = TestDevice::new();
    device.send_after(5, with_span("10", "0", "100"));
    let decision = device.send_after(5, without_span("100"));
    assert_eq!(changes(&decision), [(Raised, OverRange)]);
}

#[test]
fn of_two_values_of_one_key_the_higher_one_is_judged_against_the_upper_end() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let decision = device.send_edited(reading(Some("10")), |message| {
        message.facts.other_values = vec![dec("2000")];
    });
    assert_eq!(
        changes(&decision),
        [(ChangeKind::Escalated, AlarmLevel3), (Raised, OverRange)]
    );
    let mut oxygen = with_span("25", "0", "25");
    oxygen.levels[0].level = Some(dec("19.5"));
    oxygen.levels[0].side = Some(Side::Low);
    oxygen.value = Some(dec("19"));
    let mut device = TestDevice::new();
    device.send_after(5, oxygen.clone());
    oxygen.value = Some(dec("20.9"));
    device.send_edited(oxygen, |message| {
        message.facts.other_values = vec![dec("25")];
    });
    assert!(
        device.alarm(Kind::GasLow).is_some(),
        "a reading that is over range lowers nothing"
    );
}

//! One excursion is one alarm, however noisy.

use super::*;
use ChangeKind::{Cleared, DeEscalated, Escalated, Latched, Raised, Returned};
use Condition::{AlarmLevel1, AlarmLevel2, AlarmLevel3, DeviceOffline, OverRange, SensorFault};

/// Raises and clears A1, at these times in seconds. Returns the id and the count of each raise.
fn peaks(device: &mut TestDevice, at: &[u64]) -> Vec<(String, u32)> {
    let mut raises = Vec::new();
    let mut passed = 0;
    for at in at {
        device.send_after(at - passed, reading(Some("300")));
        let alarm = device.gas_alarm().expect("raised");
        raises.push((alarm.id.clone(), alarm.count));
        device.send_after(1, reading(Some("100")));
        passed = at + 1;
    }
    raises
}

#[test]
fn a_raise_within_a_minute_of_the_clearing_reopens_the_alarm() {
    // Cleared at 1 s.
    for (second, is_same) in [(2, true), (60, true), (61, true), (62, false)] {
        let raises = peaks(&mut TestDevice::new(), &[0, second]);
        assert_eq!(raises[0].0 == raises[1].0, is_same, "{second}");
        assert_eq!(raises[1].1, if is_same { 2 } else { 1 }, "{second}");
    }
}

#[test]
fn from_the_third_raise_within_a_minute_the_alarm_stays_open() {
    for (at, stays) in [
        ([0, 30, 60], true),
        ([0, 30, 61], false),
        ([0, 2, 4], true),
        ([0, 59, 118], false),
    ] {
        let mut device = TestDevice::new();
        peaks(&mut device, &at);
        assert_eq!(device.gas_alarm().is_some(), stays, "{at:?}");
    }
}

#[test]
fn noise_around_a_level_is_one_alarm_that_counts() {
    let mut device = TestDevice::new();
    let mut rows_written = 0;
    for second in 0..300 {
        let value = if second % 2 == 0 { "260" } else { "240" };
        rows_written += rows(&device.send_after(1, without_span(value)));
    }
    assert_eq!(rows_written, 3, "two raises, and the third that chatters");
    let alarm = device.gas_alarm().expect("open");
    assert_eq!(alarm.count, 150);
    assert_eq!(device.alarm_status(), "ALARM");
}

#[test]
fn a_chattering_alarm_ends_once_it_was_calm_for_ten_minutes() {
    let mut device = TestDevice::new();
    peaks(&mut device, &[0, 2, 4]);
    let raised = device.now - Duration::from_secs(1);
    while device.now.millis_since(raised) < 590_000 {
        let decision = device.send_after(10, reading(Some("100")));
        assert_eq!(changes(&decision), []);
        assert!(
            matches!(decision.deadline, Deadline::At(at) if at <= raised + Duration::from_mins(10))
        );
    }
    device.now = raised + Duration::from_millis(599_999);
    assert_eq!(changes(&device.run_timer(raised)), []);
    device.now = raised + Duration::from_mins(10);
    assert_eq!(changes(&device.run_timer(raised)), [(Cleared, AlarmLevel1)]);
}

#[test]
fn a_raise_starts_the_calm_again_and_is_counted_without_a_row() {
    let mut device = TestDevice::new();
    peaks(&mut device, &[0, 2, 4]);
    device.send_after(120, reading(Some("100")));
    let decision = device.send_after(120, reading(Some("300")));
    assert_eq!(changes(&decision), []);
    assert_eq!(device.gas_alarm().map(|alarm| alarm.count), Some(4));
    for _ in 0..4 {
        assert_eq!(changes(&device.send_after(120, reading(Some("100")))), []);
    }
    assert_eq!(
        changes(&device.send_after(120, reading(Some("100")))),
        [(Cleared, AlarmLevel1)]
    );
}

#[test]
fn a_steady_rise_is_not_chattering() {
    let mut device = TestDevice::new();
    for value in ["300", "600", "1200"] {
        device.send_value(value);
    }
    assert_eq!(changes(&device.send_value("10")), [(Returned, AlarmLevel3)]);
}

#[test]
fn renewed_escalations_are_chattering_and_a_higher_level_is_still_announced() {
    let mut device = TestDevice::new();
    let mut send = |value: &str| changes(&device.send_value(value));
    assert_eq!(send("600"), [(Raised, AlarmLevel2)]);
    assert_eq!(send("300"), [(DeEscalated, AlarmLevel1)]);
    assert_eq!(send("600"), [(Escalated, AlarmLevel2)]);
    assert_eq!(send("300"), [(DeEscalated, AlarmLevel1)]);
    assert_eq!(send("600"), [(Escalated, AlarmLevel2)]);
    assert_eq!(send("300"), [], "it chatters");
    assert_eq!(send("600"), []);
    assert_eq!(send("10"), []);
    assert_eq!(send("1000"), [(Escalated, AlarmLevel3)]);
    assert_eq!(send("10"), []);
    assert_eq!(send("1000"), []);
}

#[test]
fn without_a_time_of_calm_nothing_chatters() {
    let mut device = TestDevice::new();
    device.settings.chatter_calm = Duration::ZERO;
    let mut ids = std::collections::BTreeSet::new();
    for (id, count) in peaks(&mut device, &[0, 2, 4, 6]) {
        assert!(ids.insert(id), "each raise is an alarm of its own");
        assert_eq!(count, 1);
    }
    assert!(device.gas_alarm().is_none());

    for value in ["600", "300", "600", "300", "600"] {
        device.send_value(value);
    }
    assert_eq!(
        changes(&device.send_value("300")),
        [(DeEscalated, AlarmLevel1)]
    );
    // Taken before the last escalation, and certainly old.
    let old = edited("1200", |reading| {
        reading.device_time = Some(device.device_time - Duration::from_secs(7));
    });
    assert_eq!(
        changes(&device.send_redelivered(old)),
        [(Escalated, AlarmLevel3), (DeEscalated, AlarmLevel1)]
    );
}

#[test]
fn an_acknowledged_alarm_that_chatters_is_not_announced_again() {
    let mut device = TestDevice::new();
    peaks(&mut device, &[0, 2, 4]);
    device.acknowledge_kind(Kind::GasHigh);
    assert_eq!(changes(&device.send_value("300")), []);
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Acknowledged));
    assert_eq!(
        changes(&device.send_value("500")),
        [(Escalated, AlarmLevel2)]
    );
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Unacknowledged));
}

#[test]
fn noise_around_the_end_of_the_span_is_bounded_though_the_alarm_latches() {
    let mut device = TestDevice::new();
    let mut told = Vec::new();
    for second in 0..100 {
        let value = if second % 2 == 0 { "2000" } else { "1900" };
        let decision = device.send_after(1, reading(Some(value)));
        let of_range = changes(&decision).into_iter();
        told.extend(of_range.filter(|(_, condition)| *condition == OverRange));
    }
    let kinds: Vec<_> = told.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Raised, Latched, Escalated, Latched, Escalated]);
    let alarm = device.alarm(Kind::OverRange).expect("open");
    assert_eq!(alarm.count, 48, "every peak from the third on");
}

/// A fault of one reading every so many minutes, with good readings between.
fn faults(device: &mut TestDevice, minutes: &[u64]) {
    let mut passed_s = 0;
    for minute in minutes {
        while passed_s + 60 < minute * 60 {
            device.send_after(60, reading(Some("10")));
            passed_s += 60;
        }
        let faulty = edited("10", |reading| reading.sensor_fault = dec("1"));
        device.send_after(minute * 60 - passed_s, faulty);
        device.send_after(1, reading(Some("10")));
        passed_s = minute * 60 + 1;
    }
}

#[test]
fn from_the_third_fault_within_half_an_hour_the_alarm_stays_open() {
    for (minutes, stays) in [
        ([0, 12, 24], true),
        ([0, 15, 30], true),
        ([0, 15, 31], false),
        ([0, 1, 2], true),
    ] {
        let mut device = TestDevice::new();
        faults(&mut device, &minutes);
        assert_eq!(
            device.alarm(Kind::SensorFault).is_some(),
            stays,
            "{minutes:?}"
        );
    }
}

#[test]
fn a_fault_that_comes_back_while_it_chatters_is_counted() {
    let mut device = TestDevice::new();
    faults(&mut device, &[0, 1, 2]);
    let faulty = edited("10", |reading| reading.sensor_fault = dec("1"));
    let count = |device: &TestDevice| device.alarm(Kind::SensorFault).map(|alarm| alarm.count);
    let before = count(&device);
    assert_eq!(changes(&device.send_after(60, faulty)), []);
    assert_eq!(count(&device), before.map(|before| before + 1));
    assert!(
        device
            .alarm(Kind::SensorFault)
            .is_some_and(Alarm::is_active)
    );
    for _ in 0..9 {
        assert_eq!(changes(&device.send_after(60, reading(Some("10")))), []);
    }
    assert_eq!(
        changes(&device.send_after(60, reading(Some("10")))),
        [(Cleared, SensorFault)]
    );
}

#[test]
fn a_silent_device_does_not_end_a_chattering_gas_alarm_and_is_not_looked_at_without_end() {
    let mut device = TestDevice::new();
    let since = device.now;
    peaks(&mut device, &[0, 2, 4]);
    for seconds in [180, 600, 10_000] {
        device.advance(seconds);
        let decision = device.run_timer(since);
        let cleared = decision.changes.iter().any(|c| c.kind == Cleared);
        assert!(!cleared, "nobody knows the value");
        let is_later = match decision.deadline {
            Deadline::At(at) => at > device.now,
            Deadline::Never => true,
            Deadline::Keep => false,
        };
        assert!(is_later, "{:?}", decision.deadline);
    }
    assert_eq!(
        changes(&device.send_value("10")),
        [(Cleared, AlarmLevel1), (Cleared, DeviceOffline)]
    );
}

#[test]
fn silence_is_noticed_while_the_alarm_of_the_last_silence_chatters() {
    let mut device = TestDevice::new();
    let since = device.now;
    device.send_value("10");
    for _ in 0..3 {
        device.advance(180);
        device.run_timer(since);
        device.send_value("10");
    }
    assert!(device.alarm(Kind::DeviceOffline).is_some(), "it chatters");
    assert_eq!(device.quality(), Quality::Good);
    let decision = device.send_value("10");
    let limit = device.now + Duration::from_mins(3);
    assert_eq!(decision.deadline, Deadline::At(limit));
    device.advance(180);
    device.run_timer(since);
    assert_eq!(device.quality(), Quality::Offline);
}

#[test]
fn the_fourth_raise_is_counted_with_the_two_before_it() {
    let mut device = TestDevice::new();
    peaks(&mut device, &[0, 50, 90, 110]);
    assert!(device.gas_alarm().is_some(), "50, 90 and 110");
}

#[test]
fn an_alarm_that_ceased_and_chatters_is_looked_at_when_its_calm_ends_and_not_before() {
    let mut device = TestDevice::new();
    device.settings.offline_after = Duration::from_hours(5);
    let since = device.now;
    faults(&mut device, &[0, 1, 2]);
    let fault = device.alarm(Kind::SensorFault).expect("it chatters");
    let calm_ends = fault.chatters_until.expect("it chatters");
    let decision = device.send_value("10");
    assert_eq!(decision.deadline, Deadline::At(calm_ends));
    device.now = calm_ends - Duration::from_millis(1);
    assert_eq!(changes(&device.run_timer(since)), []);
    device.now = calm_ends;
    assert_eq!(changes(&device.run_timer(since)), [(Cleared, SensorFault)]);
}

#[test]
fn a_peak_that_arrives_late_continues_the_excursion_it_belongs_to() {
    // The first of 41 peaks is at 0, the last at 2 360 s. A raise counts from half an hour before them.
    for (late_at_s, is_same) in [(-1_800, true), (-1_801, false), (300, true)] {
        let mut device = TestDevice::new();
        device.send_value("10");
        device.advance(5);
        let start = device.device_time;
        let at: Vec<u64> = (0..=40).map(|index| index * 59).collect();
        let raises = peaks(&mut device, &at);
        assert!(device.gas_alarm().is_none());
        assert!(raises.iter().all(|(id, _)| *id == raises[0].0));
        let late = edited("300", |r| {
            r.device_time = Some(Time::from_millis(start.as_millis() + late_at_s * 1_000));
        });
        assert_eq!(changes(&device.send_message(late)), [(Raised, AlarmLevel1)]);
        let is_same_alarm = device.gas_alarm_id() == raises[0].0;
        assert_eq!(is_same_alarm, is_same, "{late_at_s}");
    }
}

#[test]
fn silence_continues_by_our_clock_however_old_the_reading_was_that_ended_it() {
    let mut device = TestDevice::new();
    device.settings.offline_after = Duration::from_secs(30);
    let since = device.now;
    device.send_value("10");
    device.advance(30);
    device.run_timer(since);
    let id_of = |device: &TestDevice| device.alarm(Kind::DeviceOffline).map(|a| a.id.clone());
    let first = id_of(&device);
    assert!(first.is_some());
    let mut old = reading(Some("10"));
    old.device_time = Some(device.device_time - Duration::from_secs(20));
    device.send_message(old);
    assert_eq!(id_of(&device), None);
    device.advance(45);
    device.run_timer(since);
    assert_eq!(id_of(&device), first);
}

#[test]
fn a_lower_level_that_comes_back_starts_the_calm_again() {
    let mut device = TestDevice::new();
    for value in ["600", "10", "600", "10", "600", "10"] {
        device.send_value(value);
    }
    let calm_ends = |device: &TestDevice| device.gas_alarm().and_then(|a| a.chatters_until);
    let (before, count) = (calm_ends(&device), device.gas_alarm().map(|a| a.count));
    assert!(before.is_some());
    assert_eq!(changes(&device.send_value("300")), []);
    assert_eq!(
        calm_ends(&device),
        Some(device.now + Duration::from_mins(10))
    );
    let counted = device.gas_alarm().map(|a| a.count);
    assert_eq!(counted, count.map(|count| count + 1));
}

#[test]
fn a_late_reading_does_not_end_an_alarm_whose_calm_is_over() {
    let mut device = TestDevice::new();
    device.settings.offline_after = Duration::from_hours(1);
    peaks(&mut device, &[0, 2, 4]);
    device.advance(700);
    let mut late = reading(Some("5"));
    late.device_time = Some(device.device_time - Duration::from_secs(1_000));
    assert_eq!(changes(&device.send_message(late)), []);
    assert!(device.gas_alarm().is_some());
}

#[test]
fn the_calm_of_a_gas_alarm_ends_nothing_while_the_sensor_is_faulty() {
    let mut device = TestDevice::new();
    let since = device.now;
    peaks(&mut device, &[0, 2, 4]);
    for _ in 0..12 {
        device.send_after(60, edited("10", |r| r.sensor_fault = dec("1")));
        device.run_timer(since);
    }
    assert!(device.gas_alarm().is_some_and(Alarm::is_active));
    let decision = device.send_value("10");
    assert!(changes(&decision).contains(&(Cleared, AlarmLevel1)));
}

//! Order, duplicates and late readings, tested by their effect on alarms.

use super::*;
use crate::reading::Repair;
use ChangeKind::{Cleared, DeEscalated, Escalated, Raised, Returned};
use Condition::{AlarmLevel1, AlarmLevel2, AlarmLevel3};

fn class(decision: &Decision) -> &'static str {
    match decision.outcome {
        Outcome::Message(Class::Next(_)) => "next",
        Outcome::Message(Class::Tie(_)) => "tie",
        Outcome::Message(Class::Late(_)) => "late",
        Outcome::Message(Class::Duplicate) => "duplicate",
        Outcome::Message(Class::Ignored) => "ignored",
        _ => "none",
    }
}

#[test]
fn a_stuck_device_clock_keeps_the_alarm_until_the_order_of_arrival_is_used() {
    let mut device = TestDevice::new();
    let stuck = device.device_time;
    let send_stuck = |device: &mut TestDevice, value: &str, fingerprint: u64| {
        let mut reading = reading(Some(value));
        reading.device_time = Some(stuck);
        let decision = device.send_with_fingerprint(reading, fingerprint, false);
        device.advance(5);
        decision
    };
    let first = send_stuck(&mut device, "350", 1);
    assert_eq!(
        (class(&first), changes(&first)),
        ("next", vec![(Raised, AlarmLevel1)])
    );
    let second = send_stuck(&mut device, "10", 2);
    assert_eq!(
        (class(&second), changes(&second)),
        ("tie", vec![(Cleared, AlarmLevel1)]),
        "nothing worse has arrived for two seconds"
    );
    let third = send_stuck(&mut device, "350", 1);
    assert_eq!(
        (class(&third), changes(&third)),
        ("tie", vec![(Raised, AlarmLevel1)])
    );
    let fourth = send_stuck(&mut device, "350", 1);
    assert_eq!(
        (class(&fourth), changes(&fourth)),
        ("next", vec![]),
        "the device time repeats too often: the order of arrival counts"
    );
    let fifth = send_stuck(&mut device, "10", 2);
    assert_eq!(
        (class(&fifth), changes(&fifth)),
        ("next", vec![(Cleared, AlarmLevel1)])
    );
    assert!(
        device
            .stored
            .state
            .latest
            .as_ref()
            .is_some_and(|latest| latest.clock_suspect)
    );
}

#[test]
fn a_clock_set_back_four_minutes_hides_no_alarm_and_is_accepted_at_the_second_reading() {
    let mut device = TestDevice::new();
    for _ in 0..3 {
        device.send_value("10");
    }
    device.device_time = Time::from_millis(device.device_time.as_millis() - 240_000);
    let first = device.send_value("400");
    assert_eq!(class(&first), "late");
    assert_eq!(changes(&first), [(Raised, AlarmLevel1)]);
    let event = first.event.expect("an event").envelope;
    assert!(
        event.contains(r#""sensor_reading":10,"#),
        "the latest reading was replaced"
    );
    let second = device.send_value("400");
    assert_eq!(
        (class(&second), changes(&second)),
        ("next", vec![]),
        "the alarm stood from the first reading on"
    );
    assert!(
        device
            .stored
            .state
            .latest
            .as_ref()
            .is_some_and(|latest| latest.clock_suspect)
    );
    assert_eq!(class(&device.send_value("400")), "next");
}

#[test]
fn a_clock_25_hours_ahead_still_orders_readings_and_a_redelivered_old_one_changes_nothing() {
    let mut device = TestDevice::new();
    device.device_time = device.device_time + Duration::from_hours(25);
    let mut old = reading(Some("10"));
    old.device_time = Some(device.device_time);
    let first = device.send_with_fingerprint(old.clone(), 1, false);
    assert_eq!(class(&first), "next");
    device.fingerprints = 1;
    assert_eq!(changes(&device.send_value("400")), [(Raised, AlarmLevel1)]);
    assert!(
        device
            .stored
            .state
            .latest
            .as_ref()
            .is_some_and(|latest| latest.clock_suspect)
    );
    device.advance(1);
    for dup in [true, false] {
        let again = device.send_with_fingerprint(old.clone(), 1, dup);
        assert_eq!((class(&again), changes(&again)), ("duplicate", vec![]));
        assert!(again.event.is_none() && again.sample.is_none());
        assert_eq!(
            again.alive, !dup,
            "a redelivery does not prove the device alive"
        );
    }
    assert!(device.gas_alarm().is_some());
}

#[test]
fn a_late_peak_stands_until_the_next_reading_and_is_stored_in_the_history() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let peak_time = device.device_time + Duration::from_secs(5);
    device.advance(5);
    device.send_value("300");
    let mut peak = reading(Some("1200"));
    peak.device_time = Some(peak_time);
    let decision = device.send_message(peak);
    assert_eq!(class(&decision), "late");
    assert_eq!(changes(&decision), [(Escalated, AlarmLevel3)]);
    assert!(decision.sample.as_ref().is_some_and(|sample| sample.late));
    let latest = device.stored.state.latest.as_ref().expect("a latest");
    assert_eq!(
        latest.reading.value,
        Some(dec("300")),
        "an older reading became the latest"
    );
    assert_eq!(
        changes(&device.send_value("300")),
        [(DeEscalated, AlarmLevel1)]
    );
}

#[test]
fn a_late_reading_never_lowers() {
    let mut device = TestDevice::new();
    device.send_value("10");
    let old = device.device_time;
    device.advance(5);
    device.send_value("600");
    let mut late = reading(Some("5"));
    late.device_time = Some(Time::from_millis(old.as_millis() - 1_000));
    let decision = device.send_message(late);
    assert_eq!((class(&decision), changes(&decision)), ("late", vec![]));
    assert_eq!(
        device.gas_alarm().map(|alarm| alarm.condition),
        Some(AlarmLevel2)
    );
}

#[test]
fn a_late_peak_after_a_tie_stays_open_until_the_next_reading() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let mut tie = reading(Some("10"));
    tie.device_time = Some(device.device_time);
    assert_eq!(class(&device.send_message(tie)), "tie");
    let mut late = reading(Some("600"));
    late.device_time = Some(Time::from_millis(device.device_time.as_millis() - 500));
    let decision = device.send_message(late);
    assert_eq!(changes(&decision), [(Escalated, AlarmLevel2)]);
    assert_eq!(changes(&device.send_value("10")), [(Returned, AlarmLevel2)]);
}

#[test]
fn a_backlog_delivered_in_a_burst_does_not_count_as_a_clock_set_back() {
    let mut device = TestDevice::new();
    device.advance(1_000);
    device.send_value("10");
    let newest = device.device_time;
    for step in 0..50_u32 {
        let mut late = reading(Some("20"));
        let second = i64::from(step) * 1_000;
        late.device_time = Some(Time::from_millis(newest.as_millis() - 600_000 + second));
        device.now = device.now + Duration::from_millis(10);
        assert_eq!(class(&device.send_message(late)), "late", "{step}");
    }
}

#[test]
fn a_repeated_payload_is_a_duplicate_and_proves_the_device_alive() {
    let mut device = TestDevice::new();
    let mut same = reading(Some("300"));
    same.device_time = Some(device.device_time);
    device.send_with_fingerprint(same.clone(), 1, false);
    device.advance(5);
    let again = device.send_with_fingerprint(same, 1, false);
    assert_eq!((class(&again), again.alive), ("duplicate", true));
    assert!(again.event.is_none());
}

#[test]
fn without_a_usable_time_the_order_of_arrival_is_used_and_arrivals_within_two_seconds_are_a_tie() {
    let mut device = TestDevice::new();
    device.send_message(reading(Some("300")));
    device.now = device.now + Duration::from_secs(1);
    let tie = device.send_message(reading(Some("10")));
    assert_eq!((class(&tie), changes(&tie)), ("tie", vec![]));
    device.now = device.now + Duration::from_secs(3);
    let next = device.send_message(reading(Some("10")));
    assert_eq!(
        (class(&next), changes(&next)),
        ("next", vec![(Cleared, AlarmLevel1)])
    );
    device.now = device.now + Duration::from_secs(1);
    let fingerprint = device.fingerprints;
    let repeat = device.send_with_fingerprint(reading(Some("10")), fingerprint, false);
    assert_eq!(class(&repeat), "duplicate");
    device.now = device.now + Duration::from_secs(3);
    let repeat = device.send_with_fingerprint(reading(Some("10")), fingerprint, false);
    assert_eq!(
        class(&repeat),
        "next",
        "the same text later is a new reading"
    );
}

#[test]
fn a_retained_message_creates_an_unknown_device_and_does_not_prove_it_alive() {
    let mut device = TestDevice::new();
    let mut retained = reading(Some("100"));
    retained.device_time = Some(device.device_time);
    let decision = device.send_retained(retained.clone());
    assert_eq!((class(&decision), decision.alive), ("next", false));
    assert_eq!(device.quality(), Quality::Uncertain);
    let event = decision.event.expect("an event").envelope;
    assert!(event.contains(r#""data_quality":"uncertain""#), "{event}");
    assert!(
        event.contains(r#""alarm_status":"ALARM""#),
        "its age is unknown: {event}"
    );
    retained.value = Some(dec("5000"));
    let ignored = device.send_retained(retained);
    assert_eq!((class(&ignored), changes(&ignored)), ("ignored", vec![]));
    device.send_value("100");
    assert_eq!(device.quality(), Quality::Good);
}

#[test]
fn a_reading_that_was_delayed_longer_than_usual_shows_its_age() {
    let mut device = TestDevice::new();
    for _ in 0..4 {
        device.send_value("10");
    }
    device.now = device.now + Duration::from_secs(40);
    device.device_time = device.device_time + Duration::from_secs(5);
    let decision = device.send_reading(reading(Some("10")));
    let event = decision.event.expect("an event").envelope;
    assert!(event.contains(r#""age_ms":35000"#), "{event}");
    assert_eq!(device.quality(), Quality::Uncertain);
}

#[test]
fn the_time_of_decisions_never_goes_back() {
    let mut device = TestDevice::new();
    device.send_value("10");
    let before = device.now;
    device.now = Time::from_millis(before.as_millis() - 60_000);
    device.device_time = device.device_time + Duration::from_secs(5);
    let decision = device.send_reading(reading(Some("300")));
    assert_eq!(decision.changes[0].alarm.raised_at, before);
}

#[test]
fn a_lost_state_is_replaced_by_a_snapshot_with_a_seq_above_all_known_ones() {
    let mut device = TestDevice::new();
    device.stored.lost = true;
    device.stored.seq_floor = 41;
    let decision = device.send_value("300");
    assert_eq!(decision.state.position.seq, 42);
    assert_eq!(decision.log[0].change, None, "state_lost is in the log");
    let envelope = decision.event.expect("an event").envelope;
    assert_eq!(
        envelope.matches(r#""snapshot":true"#).count(),
        3,
        "{envelope}"
    );
}

#[test]
fn a_redelivery_without_usable_time_counts_as_arriving_now() {
    let mut device = TestDevice::new();
    device.send_message(reading(Some("400")));
    device.advance(1);
    let again = device.send_redelivered(reading(Some("10")));
    assert_eq!((class(&again), changes(&again)), ("tie", vec![]));
    device.advance(5);
    let later = device.send_redelivered(reading(Some("10")));
    assert_eq!(changes(&later), [(Cleared, AlarmLevel1)]);
}

#[test]
fn one_reading_from_the_future_does_not_freeze_a_device_that_sends_twice_a_second() {
    let mut device = TestDevice::new();
    let mut glitch = reading(Some("10"));
    glitch.device_time = Some(device.device_time + Duration::from_hours(24 * 365));
    device.send_message(glitch);
    let mut classes = Vec::new();
    for _ in 0..10 {
        device.now = device.now + Duration::from_millis(500);
        let mut next = reading(Some("20"));
        let full_seconds = device.now.as_millis() / 1_000 * 1_000;
        next.device_time = Some(Time::from_millis(full_seconds));
        let decision = device.send_message(next);
        classes.push(class(&decision));
    }
    assert!(classes.contains(&"next"), "{classes:?}");
}

#[test]
fn a_redelivered_reading_ends_nothing_by_a_latest_reading_that_is_no_longer_fresh() {
    let mut device = TestDevice::new();
    for second in 0..6 {
        let value = if second % 2 == 0 { "260" } else { "240" };
        device.send_after(1, without_span(value));
    }
    assert!(device.gas_alarm().is_some(), "it chatters");
    let start = device.now;
    device.advance(181);
    device.run_timer(start);
    device.advance(600);
    let mut old = without_span("100");
    old.device_time = Some(start - Duration::from_mins(1));
    device.send_redelivered(old);
    let alarm = device
        .gas_alarm()
        .expect("nothing showed that the gas is gone");
    assert_eq!(device.alarm_status(), "ALARM");
    assert!(alarm.is_active());
    // The next reading shows it.
    device.send_after(1, without_span("100"));
    assert_eq!(device.gas_alarm_state(), None);
}

#[test]
fn a_redelivered_message_that_was_never_processed_proves_the_device_alive() {
    for back_s in [0, 60] {
        let mut device = TestDevice::new();
        device.send_value("10");
        device.advance(5);
        let mut sent = reading(Some("10"));
        sent.device_time = Some(device.device_time - Duration::from_secs(back_s));
        assert!(device.send_redelivered(sent).alive, "{back_s}");
    }
}

#[test]
fn a_retained_message_of_an_unknown_device_begins_its_silence_and_teaches_no_settings() {
    let mut device = TestDevice::new();
    let decision = device.send_retained(reading(Some("10")));
    assert_eq!(
        decision.deadline,
        Deadline::At(device.now + Duration::from_mins(3))
    );
    let other_level = edited("10", |r| r.levels[0].level = Some(dec("280")));
    assert_eq!(changes(&device.send_after(5, other_level)), []);
    let decision = device.send_edited(reading(Some("10")), |m| m.retain = true);
    assert_eq!(decision.deadline, Deadline::Keep, "it is known");
}

#[test]
fn a_backlog_does_not_end_the_silence_until_it_reaches_the_present() {
    for (age_ms, is_ended) in [
        (600_000, false),
        (180_000, false),
        (179_999, true),
        (0, true),
    ] {
        let mut device = TestDevice::new();
        let since = device.now;
        device.send_value("10");
        device.advance(1_000);
        device.run_timer(since);
        assert_eq!(device.quality(), Quality::Offline);
        let mut old = reading(Some("10"));
        old.device_time = Some(device.device_time - Duration::from_millis(age_ms));
        assert_eq!(class(&device.send_message(old)), "next", "{age_ms}");
        let ended = device.alarm(Kind::DeviceOffline).is_none();
        assert_eq!(ended, is_ended, "{age_ms}");
    }
}

#[test]
fn a_reading_older_than_thirty_seconds_is_uncertain() {
    for (age_ms, quality) in [(30_000, Quality::Good), (30_001, Quality::Uncertain)] {
        let mut device = TestDevice::new();
        device.send_value("10");
        device.advance(40);
        let mut old = reading(Some("10"));
        old.device_time = Some(device.device_time - Duration::from_millis(age_ms));
        device.send_message(old);
        assert_eq!(device.quality(), quality, "{age_ms}");
    }
}

#[test]
fn a_heartbeat_behind_a_retained_message_shows_that_the_device_is_alive() {
    let mut device = TestDevice::new();
    let retained = device.send_retained(reading(Some("10")));
    let status = |decision: &Decision| {
        let event = decision.event.as_ref().expect("an event");
        event.envelope.contains(r#""alarm_status":"ALARM""#)
    };
    assert!(status(&retained), "nobody has heard of it");
    let mut heartbeat = reading(None);
    "HEARTBEAT".clone_into(&mut heartbeat.message_type);
    assert!(!status(&device.send_after(5, heartbeat)));
}

#[test]
fn alarms_of_a_lost_state_are_acknowledged_only_once_they_were_sent_again() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let (id, seen) = (device.gas_alarm_id(), device.stored.state.position);
    device.stored.lost = true;
    assert_eq!(
        device.acknowledge_seen(&id, seen).outcome,
        Outcome::NotFound
    );
    device.send_value("300");
    device.stored.lost = false;
    assert_eq!(
        device.acknowledge_seen(&id, seen).outcome,
        Outcome::Escalated
    );
    assert_eq!(device.acknowledge(&id).outcome, Outcome::Acknowledged);
}

#[test]
fn an_acknowledgement_of_a_lower_level_publishes_nothing_though_the_device_is_silent() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let (id, seen) = (device.gas_alarm_id(), device.stored.state.position);
    device.send_value("600");
    device.advance(500);
    let decision = device.acknowledge_seen(&id, seen);
    assert_eq!(decision.outcome, Outcome::Escalated);
    assert!(decision.event.is_none());
}

#[test]
fn a_late_message_does_not_end_a_frozen_reading() {
    let mut device = TestDevice::new();
    device.send_value("10");
    device.send_value("10");
    let mut same = reading(Some("11"));
    same.device_time = Some(device.device_time + Duration::from_secs(1));
    for _ in 0..30 {
        device.advance(10);
        device.send_with_fingerprint(same.clone(), 900, false);
    }
    assert!(device.alarm(Kind::ReadingFrozen).is_some());
    // An earlier release has written, so nobody knows what repeated.
    device.state_mut().order.same_bytes = None;
    let mut late = reading(Some("10"));
    late.device_time = same.device_time.map(|time| time - Duration::from_secs(3));
    assert_eq!(class(&device.send_message(late)), "late");
    assert!(device.alarm(Kind::ReadingFrozen).is_some());
    device.send_value("10");
    assert!(device.alarm(Kind::ReadingFrozen).is_none());
}

#[test]
fn a_payload_without_a_reading_that_is_repeated_is_no_frozen_reading() {
    for (name, repair, has_time) in [
        ("cannot be read", Repair::Unreadable, true),
        (
            "cannot be read, nor can its time",
            Repair::Unreadable,
            false,
        ),
        ("has no value", Repair::None, true),
        ("has no value and no time", Repair::None, false),
    ] {
        let mut device = TestDevice::new();
        device.send_value("10");
        device.send_value("10");
        let next = device.device_time + Duration::from_secs(1);
        let repeat = |device: &mut TestDevice, value: Option<&str>, fingerprint: u64| {
            device.advance(10);
            let mut same = message(reading(value), fingerprint);
            if value.is_none() {
                same.facts.repair = repair;
            }
            Arc::make_mut(&mut same.reading).device_time = has_time.then_some(next);
            device.decide_message(&same);
        };
        for _ in 0..30 {
            repeat(&mut device, None, 900);
        }
        assert!(device.alarm(Kind::ReadingInvalid).is_some(), "{name}");
        assert!(device.alarm(Kind::ReadingFrozen).is_none(), "{name}");
        // A reading that is repeated then is frozen since it came, if the device still has a clock.
        for _ in 0..19 {
            repeat(&mut device, Some("11"), 901);
        }
        assert!(device.alarm(Kind::ReadingFrozen).is_none(), "{name}");
        repeat(&mut device, Some("11"), 901);
        let is_frozen = device.alarm(Kind::ReadingFrozen).is_some();
        assert_eq!(is_frozen, has_time, "{name}");
    }
}

//! Order, duplicates and late readings, tested by their effect on alarms.

use super::*;
use ChangeKind::{Cleared, DeEscalated, Escalated, Raised};
use Condition::{AlarmLevel1, AlarmLevel2, AlarmLevel3};

fn class(decision: &Decision) -> &'static str {
    match decision.outcome {
        Outcome::Message(Class::Next(_)) => "next",
        Outcome::Message(Class::Tie(_)) => "tie",
        Outcome::Message(Class::Late) => "late",
        Outcome::Message(Class::Duplicate) => "duplicate",
        Outcome::Message(Class::Ignored) => "ignored",
        _ => "none",
    }
}

#[test]
fn a_stuck_device_clock_sending_350_10_350_350_keeps_the_alarm() {
    let mut world = World::new();
    let stuck = world.device_time;
    let send = |world: &mut World, value: &str, fingerprint: u64| {
        let mut reading = reading(Some(value));
        reading.device_time = Some(stuck);
        let decision = world.send_fingerprint(reading, fingerprint, false, false);
        world.pass(5);
        decision
    };
    let first = send(&mut world, "350", 1);
    assert_eq!(
        (class(&first), kinds(&first)),
        ("next", vec![(Raised, AlarmLevel1)])
    );
    let second = send(&mut world, "10", 2);
    assert_eq!(
        (class(&second), kinds(&second)),
        ("tie", vec![]),
        "a tie never lowers"
    );
    let third = send(&mut world, "350", 1);
    assert_eq!((class(&third), kinds(&third)), ("tie", vec![]));
    let fourth = send(&mut world, "350", 1);
    assert_eq!(
        (class(&fourth), kinds(&fourth)),
        ("next", vec![]),
        "arrival decides now"
    );
    let fifth = send(&mut world, "10", 2);
    assert_eq!(
        (class(&fifth), kinds(&fifth)),
        ("next", vec![(Cleared, AlarmLevel1)])
    );
    assert!(
        world
            .stored
            .state
            .latest
            .as_ref()
            .is_some_and(|latest| latest.clock_suspect)
    );
}

#[test]
fn a_clock_set_back_four_minutes_hides_no_alarm_and_is_followed_from_the_third_reading() {
    let mut world = World::new();
    for _ in 0..3 {
        world.value("10");
    }
    world.device_time = Time::from_millis(world.device_time.as_millis() - 240_000);
    let first = world.value("400");
    assert_eq!(class(&first), "late");
    assert_eq!(
        kinds(&first),
        [(Raised, AlarmLevel1), (Cleared, AlarmLevel1)]
    );
    let event = first.event.expect("an event").envelope;
    assert!(!event.contains(r#""data":"#), "the latest has not moved");
    assert_eq!(class(&world.value("400")), "late");
    let third = world.value("400");
    assert_eq!(
        (class(&third), kinds(&third)),
        ("next", vec![(Raised, AlarmLevel1)])
    );
    assert!(
        world
            .stored
            .state
            .latest
            .as_ref()
            .is_some_and(|latest| latest.clock_suspect)
    );
    assert_eq!(class(&world.value("400")), "next");
}

#[test]
fn a_clock_25_hours_off_orders_its_readings_and_a_redelivered_old_one_changes_nothing() {
    let mut world = World::new();
    world.device_time = world.device_time + Duration::from_hours(25);
    let mut old = reading(Some("10"));
    old.device_time = Some(world.device_time);
    let first = world.send_fingerprint(old.clone(), 1, false, false);
    assert_eq!(class(&first), "next");
    world.fingerprints = 1;
    assert_eq!(kinds(&world.value("400")), [(Raised, AlarmLevel1)]);
    assert!(
        world
            .stored
            .state
            .latest
            .as_ref()
            .is_some_and(|latest| latest.clock_suspect)
    );
    world.pass(1);
    for dup in [true, false] {
        let again = world.send_fingerprint(old.clone(), 1, dup, false);
        assert_eq!((class(&again), kinds(&again)), ("duplicate", vec![]));
        assert!(again.event.is_none() && again.sample.is_none());
        assert_eq!(
            again.alive, !dup,
            "a marked redelivery proves nothing alive"
        );
    }
    assert!(world.gas().is_some());
}

#[test]
fn a_peak_overtaken_by_the_next_reading_is_raised_lowered_and_sampled() {
    let mut world = World::new();
    world.value("300");
    let peak_time = world.device_time + Duration::from_secs(5);
    world.pass(5);
    world.value("300");
    let mut peak = reading(Some("1200"));
    peak.device_time = Some(peak_time);
    let decision = world.send(peak, false, false);
    assert_eq!(class(&decision), "late");
    assert_eq!(
        kinds(&decision),
        [(Escalated, AlarmLevel3), (DeEscalated, AlarmLevel1)]
    );
    assert!(
        decision
            .sample
            .as_deref()
            .is_some_and(|sample| sample.contains(r#""late":true"#))
    );
    let latest = world.stored.state.latest.as_ref().expect("a latest");
    assert_eq!(
        latest.reading.value,
        Some(dec("300")),
        "the latest never goes back"
    );
}

#[test]
fn a_late_reading_never_lowers() {
    let mut world = World::new();
    world.value("10");
    let old = world.device_time;
    world.pass(5);
    world.value("600");
    let mut late = reading(Some("5"));
    late.device_time = Some(Time::from_millis(old.as_millis() - 1_000));
    let decision = world.send(late, false, false);
    assert_eq!((class(&decision), kinds(&decision)), ("late", vec![]));
    assert_eq!(world.gas().map(|alarm| alarm.condition), Some(AlarmLevel2));
}

#[test]
fn a_late_peak_after_a_tie_stays_open_until_the_next_reading() {
    let mut world = World::new();
    world.value("300");
    let mut tie = reading(Some("10"));
    tie.device_time = Some(world.device_time);
    assert_eq!(class(&world.send(tie, false, false)), "tie");
    let mut late = reading(Some("600"));
    late.device_time = Some(Time::from_millis(world.device_time.as_millis() - 500));
    let decision = world.send(late, false, false);
    assert_eq!(kinds(&decision), [(Escalated, AlarmLevel2)]);
    assert_eq!(kinds(&world.value("10")), [(Cleared, AlarmLevel2)]);
}

#[test]
fn a_backlog_delivered_in_a_burst_is_not_a_clock_that_was_set() {
    let mut world = World::new();
    world.pass(1_000);
    world.value("10");
    let newest = world.device_time;
    for step in 0..50_u32 {
        let mut late = reading(Some("20"));
        let second = i64::from(step) * 1_000;
        late.device_time = Some(Time::from_millis(newest.as_millis() - 600_000 + second));
        world.now = world.now + Duration::from_millis(10);
        assert_eq!(class(&world.send(late, false, false)), "late", "{step}");
    }
}

#[test]
fn a_repeated_payload_is_a_duplicate_that_proves_the_device_alive() {
    let mut world = World::new();
    let mut same = reading(Some("300"));
    same.device_time = Some(world.device_time);
    world.send_fingerprint(same.clone(), 1, false, false);
    world.pass(5);
    let again = world.send_fingerprint(same, 1, false, false);
    assert_eq!((class(&again), again.alive), ("duplicate", true));
    assert!(again.event.is_none());
}

#[test]
fn without_usable_time_arrival_decides_and_arrivals_within_two_seconds_are_a_tie() {
    let mut world = World::new();
    world.send(reading(Some("300")), false, false);
    world.now = world.now + Duration::from_secs(1);
    let tie = world.send(reading(Some("10")), false, false);
    assert_eq!((class(&tie), kinds(&tie)), ("tie", vec![]));
    world.now = world.now + Duration::from_secs(3);
    let next = world.send(reading(Some("10")), false, false);
    assert_eq!(
        (class(&next), kinds(&next)),
        ("next", vec![(Cleared, AlarmLevel1)])
    );
    world.now = world.now + Duration::from_secs(1);
    let fingerprint = world.fingerprints;
    let repeat = world.send_fingerprint(reading(Some("10")), fingerprint, false, false);
    assert_eq!(class(&repeat), "duplicate");
    world.now = world.now + Duration::from_secs(3);
    let repeat = world.send_fingerprint(reading(Some("10")), fingerprint, false, false);
    assert_eq!(
        class(&repeat),
        "next",
        "the same text later is a new reading"
    );
}

#[test]
fn a_retained_message_creates_an_unknown_device_and_does_not_prove_it_alive() {
    let mut world = World::new();
    let mut retained = reading(Some("100"));
    retained.device_time = Some(world.device_time);
    let decision = world.send(retained.clone(), false, true);
    assert_eq!((class(&decision), decision.alive), ("next", false));
    assert_eq!(world.quality(), Quality::Uncertain);
    let event = decision.event.expect("an event").envelope;
    assert!(event.contains(r#""data_quality":"uncertain""#), "{event}");
    assert!(
        event.contains(r#""alarm_status":"ALARM""#),
        "nobody knows how old it is: {event}"
    );
    retained.value = Some(dec("5000"));
    let ignored = world.send(retained, false, true);
    assert_eq!((class(&ignored), kinds(&ignored)), ("ignored", vec![]));
    world.value("100");
    assert_eq!(world.quality(), Quality::Good);
}

#[test]
fn a_reading_that_waited_longer_than_usual_shows_its_age() {
    let mut world = World::new();
    for _ in 0..4 {
        world.value("10");
    }
    world.now = world.now + Duration::from_secs(40);
    world.device_time = world.device_time + Duration::from_secs(5);
    let decision = world.read(reading(Some("10")));
    let event = decision.event.expect("an event").envelope;
    assert!(event.contains(r#""age_ms":35000"#), "{event}");
    assert_eq!(world.quality(), Quality::Uncertain);
}

#[test]
fn time_never_runs_back_for_a_device() {
    let mut world = World::new();
    world.value("10");
    let before = world.now;
    world.now = Time::from_millis(before.as_millis() - 60_000);
    world.device_time = world.device_time + Duration::from_secs(5);
    let decision = world.read(reading(Some("300")));
    assert_eq!(decision.changes[0].alarm.raised_at, before);
}

#[test]
fn a_lost_state_is_replaced_by_a_snapshot_above_every_known_seq() {
    let mut world = World::new();
    world.stored.lost = true;
    world.stored.seq_floor = 41;
    let decision = world.value("300");
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
fn a_redelivery_without_usable_time_never_becomes_the_latest() {
    let mut world = World::new();
    world.send(reading(Some("400")), false, false);
    world.pass(5);
    let again = world.send(reading(Some("10")), true, false);
    assert_eq!((class(&again), kinds(&again)), ("late", vec![]));
    assert!(world.gas().is_some());
}

#[test]
fn one_reading_from_the_future_does_not_freeze_a_device_that_sends_twice_a_second() {
    let mut world = World::new();
    let mut glitch = reading(Some("10"));
    glitch.device_time = Some(world.device_time + Duration::from_hours(24 * 365));
    world.send(glitch, false, false);
    let mut classes = Vec::new();
    for _ in 0..10 {
        world.now = world.now + Duration::from_millis(500);
        let mut next = reading(Some("20"));
        let whole_seconds = world.now.as_millis() / 1_000 * 1_000;
        next.device_time = Some(Time::from_millis(whole_seconds));
        let decision = world.send(next, false, false);
        classes.push(class(&decision));
    }
    assert!(classes.contains(&"next"), "{classes:?}");
}

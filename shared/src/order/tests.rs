//! The order function against a naive model that evaluates the complete history for every arrival.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::settings::AlarmSettings;

/// One arrival of a generated sequence: device second, fingerprint, flags, pause before it.
type Step = (Option<i64>, u64, bool, bool, i64);

fn step() -> impl Strategy<Value = Step> {
    let second = prop_oneof![1 => Just(None), 8 => (0..40_i64).prop_map(Some)];
    let flag = || prop_oneof![5 => Just(false), 1 => Just(true)];
    let pause = prop_oneof![
        Just(10_i64),
        Just(900),
        Just(1_000),
        Just(2_500),
        Just(6_000)
    ];
    (second, 0..12_u64, flag(), flag(), pause)
}

#[derive(Clone, Copy, Debug)]
struct Past {
    arrival: Arrival,
    usable: bool,
    class: &'static str,
}

fn name(class: Class) -> &'static str {
    match class {
        Class::Next(_) => "next",
        Class::Tie(_) => "tie",
        Class::Late(_) => "late",
        Class::SignOfLife => "sign of life",
        Class::RetainedNewer => "retained newer",
        Class::Duplicate => "duplicate",
        Class::Ignored => "ignored",
    }
}

fn naive(history: &[Past], arrival: Arrival) -> (&'static str, bool) {
    let usable = arrival.device_time.is_some() && !naive_stuck(history, arrival);
    let was_latest = |past: &&Past| matches!(past.class, "next" | "tie");
    let Some(latest) = history.iter().rfind(was_latest) else {
        return ("next", usable);
    };
    let newest = history.iter().rfind(|past| was_latest(past) && past.usable);
    let newest = newest.and_then(|past| past.arrival.device_time);
    let seen = history
        .iter()
        .any(|past| past.class != "ignored" && past.arrival.fingerprint == arrival.fingerprint);
    let time = arrival.device_time.filter(|_| usable);
    let older = time.zip(newest).is_some_and(|(time, newest)| time < newest);
    let soon = arrival.at.millis_since(latest.arrival.at) <= 2_000;
    let repeats = latest.arrival.fingerprint == arrival.fingerprint;
    if seen && (arrival.dup || arrival.retain || older) || repeats && (usable || soon) {
        return ("duplicate", usable);
    }
    if arrival.retain {
        return ("ignored", usable);
    }
    let class = match (time, newest) {
        (None, _) if arrival.dup => "late",
        (None, _) if !latest.usable && soon => "tie",
        (Some(time), Some(newest)) if time == newest => "tie",
        (Some(time), Some(newest)) if time < newest => naive_late(history, time, arrival.at),
        _ => "next",
    };
    (class, usable)
}

/// The third arrival in a row of one device time, more than 10 s after the first.
fn naive_stuck(history: &[Past], arrival: Arrival) -> bool {
    let counts = |arrival: &Arrival| !arrival.dup && !arrival.retain;
    let mut arrivals: Vec<Arrival> = history
        .iter()
        .map(|past| past.arrival)
        .filter(counts)
        .collect();
    if counts(&arrival) {
        arrivals.push(arrival);
    }
    let same = |other: &&Arrival| other.device_time == arrival.device_time;
    let run: Vec<&Arrival> = arrivals.iter().rev().take_while(same).collect();
    run.len() >= 3
        && run
            .last()
            .is_some_and(|first| arrival.at.millis_since(first.at) > 10_000)
}

/// `late`, or `next` if three in a row advance as fast as they arrive.
fn naive_late(history: &[Past], time: Time, at: Time) -> &'static str {
    let since = history
        .iter()
        .rposition(|past| matches!(past.class, "next" | "tie"));
    let lates = history[since.map_or(0, |index| index + 1)..]
        .iter()
        .filter(|p| p.class == "late");
    let mut row: Vec<(Time, Time)> = Vec::new();
    let arrivals = lates.filter_map(|p| Some((p.arrival.device_time?, p.arrival.at)));
    for (time, at) in arrivals.chain([(time, at)]) {
        let again = row.last().is_some_and(|last| last.0 == time);
        let keeps = row.first().zip(row.last()).is_some_and(|(first, last)| {
            let drift = (time.millis_since(first.0) - at.millis_since(first.1)).abs();
            time >= last.0 && drift <= 1_500.max(at.millis_since(first.1) / 10)
        });
        if !keeps {
            row.clear();
        }
        if !keeps || !again {
            row.push((time, at));
        }
    }
    let spread = at.millis_since(row[0].1);
    if row.len() >= 3 && spread >= 2_000 {
        "next"
    } else {
        "late"
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_order_equals_a_naive_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut state = OrderState::default();
        let mut fingerprints = VecDeque::new();
        let mut history: Vec<Past> = Vec::new();
        let mut at = Time::from_millis(1_800_000_000_000);
        let base = at;
        for (second, fingerprint, dup, retain, pause) in steps {
            at = Time::from_millis(at.as_millis() + pause);
            // The payload contains the device time, so the same fingerprint always has the same time.
            let second = second.map(|second| second - second % 3 + i64::try_from(fingerprint % 3).unwrap_or(0));
            let fingerprint = second.map_or(1_000 + fingerprint, |second| second.unsigned_abs() * 10 + fingerprint % 2);
            let device_time = second.map(|s| Time::from_millis(base.as_millis() + s * 1_000));
            let arrival = Arrival { fingerprint, device_time, dup, retain, at };
            let known = history.iter().any(|past| matches!(past.class, "next" | "tie"));
            let (class, next) = classify(&state, &fingerprints, known, arrival, &AlarmSettings::default().order());
            let (expected, usable) = naive(&history, arrival);
            prop_assert_eq!(name(class), expected, "{:?} after {:?}", arrival, history);
            history.push(Past { arrival, usable, class: expected });
            if class != Class::Ignored {
                state = next;
                remember(&mut fingerprints, fingerprint);
            }
            if let Class::Next(clock) | Class::Tie(clock) = class {
                prop_assert_eq!(clock.age_ms.is_some(), usable);
            }
        }
    }
}

#[test]
fn the_newest_64_fingerprints_are_remembered() {
    let mut fingerprints = VecDeque::new();
    for fingerprint in 0..100 {
        remember(&mut fingerprints, fingerprint);
        remember(&mut fingerprints, fingerprint);
    }
    assert_eq!(fingerprints, (36..100).collect::<VecDeque<_>>());
}

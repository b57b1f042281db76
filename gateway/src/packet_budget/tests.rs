use std::time::Duration;

use super::*;

const RATE: PacketRate = PacketRate {
    per_second: 10,
    burst: 100,
};

fn pongs(number: usize) -> Vec<u8> {
    vec!["3"; number].join("\u{1e}").into_bytes()
}

#[test]
fn a_burst_is_admitted_and_comes_back_with_time() {
    let start = Instant::now();
    let mut budget = Budget::new(RATE, start);
    budget.admit(RATE, &pongs(60), start, || true).unwrap();
    budget.admit(RATE, &pongs(40), start, || true).unwrap();
    let refused = budget.admit(RATE, &pongs(1), start, || true).unwrap_err();
    assert_eq!(refused, CloseReason::TooManyPackets);
    let later = start + Duration::from_millis(1_500);
    budget.admit(RATE, &pongs(15), later, || true).unwrap();
    budget.admit(RATE, &pongs(1), later, || true).unwrap_err();
    let much_later = start + Duration::from_hours(1);
    budget
        .admit(RATE, &pongs(100), much_later, || true)
        .unwrap();
    budget
        .admit(RATE, &pongs(1), much_later, || true)
        .unwrap_err();
}

#[test]
fn requests_within_one_millisecond_do_not_lose_what_they_have_gained() {
    let start = Instant::now();
    let mut budget = Budget::new(RATE, start);
    budget.admit(RATE, &pongs(100), start, || true).unwrap();
    // Ten packets per second, one millisecond at a time.
    for millis in 1..=1_000 {
        let now = start + Duration::from_millis(millis);
        let admitted = budget.admit(RATE, &pongs(1), now, || true);
        assert_eq!(admitted.is_ok(), millis % 100 == 0, "{millis}");
    }
}

#[test]
fn every_namespace_is_joined_once() {
    let start = Instant::now();
    for root in ["40", "40{\"token\":1}", "40/,", "40/,{}", "40/"] {
        let mut budget = Budget::new(RATE, start);
        budget.admit(RATE, b"40", start, || true).unwrap();
        let refused = budget
            .admit(RATE, root.as_bytes(), start, || true)
            .unwrap_err();
        assert_eq!(refused, CloseReason::RepeatedConnect, "{root}");
    }
    let mut budget = Budget::new(RATE, start);
    for number in 0..OTHER_NAMESPACES {
        let packet = format!("40/{number},");
        budget
            .admit(RATE, packet.as_bytes(), start, || true)
            .unwrap();
    }
    budget.admit(RATE, b"40", start, || true).unwrap();
    budget.admit(RATE, b"40/more", start, || true).unwrap_err();
}

#[test]
fn only_a_connect_packet_joins() {
    for packet in ["42[\"40\"]", "3", "4", "41", "", "b40", "240"] {
        assert_eq!(joined_namespace(packet.as_bytes()), None, "{packet}");
    }
    assert_eq!(joined_namespace(b"40/admin,{}"), Some(&b"/admin"[..]));
}

#[test]
fn the_default_admits_every_subscription_at_once() {
    let rate = PacketRate::new(100, 1_000);
    assert_eq!((rate.per_second, rate.burst), (100, 3_000));
}

#[test]
fn a_rate_that_is_tried_out_is_asked_once_per_full_budget() {
    let start = Instant::now();
    let mut budget = Budget::new(RATE, start);
    let asked = std::cell::Cell::new(0);
    let refuses = || {
        asked.set(asked.get() + 1);
        false
    };
    budget.admit(RATE, &pongs(350), start, refuses).unwrap();
    assert_eq!(asked.get(), 3);
    // What else is forbidden still is.
    budget.admit(RATE, b"40", start, refuses).unwrap();
    let again = budget.admit(RATE, b"40", start, refuses);
    assert_eq!(again, Err(CloseReason::RepeatedConnect));
}

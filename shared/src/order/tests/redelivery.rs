//! Duplicates, redelivered and retained messages.

use super::*;

#[test]
fn the_newest_64_fingerprints_are_remembered() {
    let mut fingerprints = VecDeque::new();
    for fingerprint in 0..100 {
        remember(&mut fingerprints, fingerprint);
        remember(&mut fingerprints, fingerprint);
    }
    assert_eq!(fingerprints, (36..100).collect::<VecDeque<_>>());
}

#[test]
fn of_a_hundred_redelivered_messages_the_last_64_are_duplicates_and_the_others_are_proved_old() {
    let mut device = Device::new();
    for second in 0..100_u32 {
        let at = f64::from(second);
        device.send_flagged(at, Some(at), bytes(u64::from(second)));
    }
    for second in 0..100_u32 {
        let again = Flags {
            dup: true,
            ..bytes(u64::from(second))
        };
        // One per second: even so they show no clock that was set back.
        let at = 100.0 + f64::from(second);
        let class = device.send_flagged(at, Some(f64::from(second)), again);
        if second < 36 {
            assert_eq!(class, "late 100 old");
        } else if second >= 99 {
            assert_eq!(class, "duplicate");
        } else {
            assert!(class == "duplicate" || class == "late 100 old", "{class}");
        }
    }
    assert_eq!(device.send(200.0, 200.0), "next 0");
}

#[test]
fn a_redelivery_without_usable_time_counts_as_arriving_now_and_may_be_older_than_the_latest() {
    let mut device = Device::new();
    assert_eq!(device.send_flagged(0.0, None, DUP), "next ?!");
    assert_eq!(device.send_flagged(5.0, None, DUP), "tie ?!");
    assert_eq!(device.state.latest_arrival, time(5.0));
    assert_eq!(device.send_without_time(8.0), "next ?!");
}

#[test]
fn a_redelivery_that_is_newer_becomes_the_latest() {
    let mut device = Device::new();
    device.run_until(0.0);
    assert_eq!(device.send_flagged(9.0, Some(2.0), DUP), "next 7");
    assert_eq!(device.send_flagged(9.0, Some(1.0), DUP), "late 8 old");
    assert_eq!(device.send_flagged(9.0, Some(2.0), DUP), "tie 7");
}

#[test]
fn two_old_payloads_that_are_repeated_for_ever_are_no_new_readings() {
    for offset in [0.0, 2.0 * DAY] {
        let mut device = Device::new();
        device.run_until(0.0);
        device.send_flagged(1.0, Some(1.0 + offset), bytes(1));
        device.send_flagged(3.0, Some(3.0 + offset), bytes(2));
        for step in 0..40_000 {
            let at = 5.0 + f64::from(step) * 40.0;
            let first = device.send_flagged(at, Some(1.0 + offset), bytes(1));
            let second = device.send_flagged(at + 20.0, Some(3.0 + offset), bytes(2));
            for class in [first, second] {
                assert!(
                    ["duplicate", "repeated"].contains(&&*class),
                    "{class} at {at}"
                );
            }
        }
    }
}

#[test]
fn a_payload_without_time_is_a_duplicate_for_two_seconds_which_repeats_do_not_extend() {
    let mut device = Device::new();
    let mut send = |at: f64| device.send_flagged(at, None, bytes(1));
    assert_eq!(send(0.0), "next ?!");
    assert_eq!(send(1.5), "duplicate");
    assert_eq!(send(2.0), "duplicate");
    assert_eq!(send(2.001), "next ?!");
}

#[test]
fn the_same_bytes_as_the_latest_are_a_duplicate_at_any_time() {
    let mut device = Device::new();
    device.run_until(0.0);
    device.send_flagged(1.0, Some(1.0), bytes(1));
    assert_eq!(device.send_flagged(500.0, Some(1.0), bytes(1)), "duplicate");
    assert_eq!(device.state.latest_arrival, time(1.0));
}

#[test]
fn a_retained_message_of_last_week_says_nothing_about_live_ones() {
    let mut device = Device::new();
    assert_eq!(
        device.send_flagged(0.0, Some(-8.0 * DAY), RETAINED),
        "next 0!"
    );
    assert!(device.state.offset_minima.is_empty());
    check(&mut device, &[(5.0, 5.0, "next 0"), (10.0, 10.0, "next 0")]);
    assert_eq!(device.state.gap, None);
    assert_eq!(device.send(11.0, 6.0), "late 5");
}

#[test]
fn a_retained_message_with_a_wrong_clock_says_nothing_about_live_ones() {
    for wrong in [DAY, 400.0 * DAY] {
        let mut device = Device::new();
        assert_eq!(device.send_flagged(0.0, Some(wrong), RETAINED), "next 0!");
        check(&mut device, &[(5.0, 5.0, "next 0"), (10.0, 10.0, "next 0")]);

        let mut device = Device::new();
        device.send_flagged(0.0, Some(wrong), RETAINED);
        assert_eq!(device.send_without_time(1.0), "next ?!");
        check(&mut device, &[(5.0, 5.0, "next 0"), (10.0, 10.0, "next 0")]);
    }
}

#[test]
fn a_live_message_without_time_is_not_tied_with_a_retained_one() {
    let mut device = Device::new();
    assert_eq!(device.send_flagged(0.0, None, RETAINED), "next ?!");
    assert_eq!(device.send_flagged(1.0, None, RETAINED), "ignored");
    assert_eq!(device.send_flagged(1.0, Some(1.0), RETAINED), "ignored");
    assert_eq!(device.send_without_time(1.0), "next ?!");
}

#[test]
fn a_retained_message_of_a_known_device_changes_no_state() {
    let mut device = Device::new();
    device.run_until(0.0);
    let before = device.state.clone();
    assert_eq!(device.send_flagged(1.0, Some(0.0), RETAINED), "ignored");
    assert_eq!(device.send_flagged(1.0, Some(-5.0), RETAINED), "ignored");
    assert_eq!(device.send_flagged(1.0, None, RETAINED), "ignored");
    let newer = Flags {
        retain: true,
        ..bytes(1)
    };
    assert_eq!(device.send_flagged(1.0, Some(0.5), newer), "retained newer");
    assert_eq!(device.state, before);
    assert_eq!(device.send_flagged(1.0, Some(0.5), newer), "duplicate");
    let live = device.send_flagged(2.0, Some(0.5), bytes(1));
    assert_eq!(live, "next 1.5", "the same message comes as a live one");
}

/// A clock was an hour ahead for a while. What a bridge repeats of that time is not new, whatever came since.
#[test]
fn known_bytes_that_are_ahead_are_no_new_reading() {
    let mut device = Device::new();
    device.run_until(0.0);
    device.send_flagged(1.0, Some(HOUR), bytes(77));
    device.send(2.0, 2.0);
    assert_eq!(device.send_flagged(9.0, Some(HOUR), bytes(77)), "repeated");
    assert_eq!(device.send(10.0, 10.0), "next 0");
}

/// A clock without battery starts at one date after each reboot, so its payloads are known. What they say still counts.
#[test]
fn known_bytes_from_too_far_back_are_repeated() {
    let mut device = Device::new();
    device.run_until(0.0);
    let year = 365.0 * DAY;
    let first = device.send_flagged(10.0, Some(10.0 - year), bytes(77));
    assert_eq!(first, "next ?!");
    for at in [20.0, 30.0] {
        device.send(at, at);
        let again = device.send_flagged(at + 3.0, Some(10.0 - year), bytes(77));
        assert_eq!(again, "repeated");
        let redelivered = Flags {
            dup: true,
            ..bytes(77)
        };
        let again = device.send_flagged(at + 4.0, Some(10.0 - year), redelivered);
        assert_eq!(again, "duplicate");
    }
}

#[test]
fn known_bytes_do_not_replace_a_reading_without_time_that_came_after_them() {
    let mut device = Device::new();
    device.run_until(0.0);
    device.send_flagged(1.0, Some(1.0), bytes(77));
    device.send_without_time(10.0);
    assert_eq!(device.send_flagged(20.0, Some(1.0), bytes(77)), "duplicate");
    assert_eq!(device.send(21.0, 21.0), "next 0");
}

#[test]
fn a_payload_of_the_second_of_the_latest_is_a_duplicate_when_it_is_redelivered() {
    let mut device = Device::new();
    device.run_until(0.0);
    device.send_flagged(1.0, Some(1.0), bytes(5));
    device.send_flagged(1.5, Some(1.0), bytes(6));
    let redelivered = Flags {
        dup: true,
        ..bytes(5)
    };
    assert_eq!(
        device.send_flagged(2.0, Some(1.0), redelivered),
        "duplicate"
    );
}

#[test]
fn a_latest_payload_that_is_too_far_back_is_a_duplicate_for_ever() {
    let mut device = Device::new();
    device.run_until(0.0);
    let old = Some(-30.0 * DAY);
    assert_eq!(device.send_flagged(1.0, old, bytes(5)), "next ?!");
    for at in [2.0, 4.0, 9.0] {
        assert_eq!(device.send_flagged(at, old, bytes(5)), "duplicate", "{at}");
    }
}

fn may_be_old(device: &mut Device, at: f64, device_time: Option<f64>, bytes_of: u64) -> bool {
    let class = device.send_at(time(at), device_time.map(time), bytes(bytes_of));
    match class {
        Class::Next(clock) | Class::Tie(clock) => clock.may_be_old,
        other => panic!("{other:?}"),
    }
}

#[test]
fn known_bytes_whose_time_says_nothing_may_be_old() {
    let never_set = Some(-20.0 * 365.0 * DAY);
    for device_time in [never_set, None] {
        let mut device = Device::new();
        assert!(!may_be_old(&mut device, 0.0, device_time, 77));
        device.run_until(20.0);
        assert!(may_be_old(&mut device, 30.0, device_time, 77));
        assert!(!may_be_old(&mut device, 40.0, device_time, 78), "new bytes");
        // Of a device without a running clock nothing else can be expected.
        let mut device = Device::new();
        for at in [0.0, 10.0, 20.0] {
            assert!(!may_be_old(&mut device, at, device_time, 77));
        }
    }
}

#[test]
fn known_bytes_of_the_second_of_the_latest_may_be_old() {
    let mut device = Device::new();
    device.run_until(0.0);
    assert!(!may_be_old(&mut device, 1.0, Some(1.0), 77));
    assert!(!may_be_old(&mut device, 1.5, Some(1.0), 78));
    assert!(may_be_old(&mut device, 5.0, Some(1.0), 77));
}

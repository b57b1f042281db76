//! Clocks that are right, wrong, set, stuck or missing.

use super::*;

#[test]
fn right_times_follow_one_that_is_a_day_ahead() {
    let mut device = Device::new();
    check(
        &mut device,
        &[
            (0.0, 0.0, "next 0"),
            (4.0, DAY, "next 0!"),
            // A batch every 4 s. The first two may have been taken before the reading that is ahead arrived.
            (8.0, 2.0, "tie 6"),
            (8.0, 5.0, "next 3"),
            (8.0, 8.0, "next 0"),
            (12.0, 9.3, "next 2.7"),
            (12.0, 10.7, "next 1.3"),
            (12.0, 12.0, "next 0"),
        ],
    );
}

#[test]
fn a_repeat_of_the_reading_that_is_ahead_is_a_duplicate() {
    let mut device = Device::new();
    device.run_until(0.0);
    assert_eq!(device.send_flagged(1.0, Some(DAY), bytes(1)), "next 0!");
    assert_eq!(device.send_flagged(5.0, Some(DAY), bytes(1)), "duplicate");
    assert_eq!(device.send(6.0, 6.0), "next 0");
    assert_eq!(device.state.latest_time, Some(time(6.0)));
}

#[test]
fn a_reading_that_is_ahead_by_the_tolerance_is_learnt_and_one_more_millisecond_is_not() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (1.0, 6.001, "next 0!"),
            (2.0, 7.0, "next 0"),
            (3.0, 3.0, "late 5"),
            (4.0, 9.0, "next 0"),
        ],
    );
}

#[test]
fn two_readings_that_are_ahead_are_compared_with_each_other() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (1.0, DAY, "next 0!"),
            (2.0, DAY, "tie 0!"),
            (3.0, DAY - 1.0, "tie 0!"),
            (4.0, DAY, "next 0!"),
        ],
    );
}

#[test]
fn a_first_reading_that_is_a_day_ahead_delays_right_times_by_two_seconds() {
    let mut device = Device::new();
    check(
        &mut device,
        &[
            (0.0, DAY, "next 0!"),
            (4.0, 1.0, "late 86403"),
            (4.0, 4.0, "late 86400"),
            (8.0, 5.0, "next 0!"),
            (8.0, 8.0, "next 0"),
        ],
    );
}

#[test]
fn reboots_into_1970_are_ordered_by_arrival_and_right_times_go_on() {
    let mut device = Device::new();
    let boot = -1_800_000_000.0;
    for reboot in 0..5 {
        let start = f64::from(reboot) * 60.0;
        check(
            &mut device,
            &[
                (start, start, "next 0"),
                (start + 5.0, start + 5.0, "next 0"),
            ],
        );
        check(
            &mut device,
            &[
                (start + 30.0, boot, "next ?!"),
                (start + 31.0, boot + 1.0, "tie ?!"),
                (start + 34.0, boot + 4.0, "next ?!"),
            ],
        );
    }
}

#[test]
fn a_time_before_2015_is_unusable() {
    let mut device = Device::new();
    let first = 1_420_070_400_000;
    let mut send = |at: f64, millis: i64| {
        let device_time = Some(Time::from_millis(millis));
        let class = device.send_at(time(at), device_time, Flags::default());
        matches!(class, Class::Next(clock) if clock.age_ms.is_some())
    };
    assert!(!send(0.0, first - 1));
    assert!(send(10.0, first));
}

#[test]
fn a_reading_behind_one_without_usable_time_is_a_tie_if_it_may_be_older() {
    let mut device = Device::new();
    device.run_until(0.0);
    assert_eq!(device.send_without_time(10.0), "next ?!");
    check(
        &mut device,
        &[(11.0, 9.9, "tie 1.1"), (12.0, 12.0, "next 0")],
    );
    assert_eq!(device.send_without_time(13.0), "next ?!");
    check(
        &mut device,
        &[(13.5, 13.0, "next 0.5"), (14.0, 14.0, "next 0")],
    );
    assert_eq!(device.send_without_time(15.0), "next ?!");
    check(&mut device, &[(16.0, 13.5, "late 2.5")]);
}

#[test]
fn a_slow_clock_shows_a_growing_age() {
    let mut device = Device::new();
    for step in 0..400 {
        let device_time = f64::from(step);
        let at = device_time * 4.0;
        let age = (at - device_time).max(0.0);
        let class = device.send(at, device_time);
        // The first readings are within the tolerance, but only the smallest offset counts.
        let shown = class.strip_prefix("next ").expect("next");
        assert_eq!(shown, age.to_string(), "{step}");
    }
}

#[test]
fn a_clock_set_back_by_an_hour_in_bursts_of_three() {
    let mut device = Device::new();
    device.run_until(0.0);
    let hour = HOUR;
    check(
        &mut device,
        &[
            (12.0, 4.0 - hour, "late 3608"),
            (12.0, 8.0 - hour, "late 3604"),
            (12.0, 12.0 - hour, "late 3600"),
            (24.0, 16.0 - hour, "next 0!"),
            (24.0, 20.0 - hour, "next 0!"),
            (24.0, 24.0 - hour, "next 0!"),
            (36.0, 28.0 - hour, "next 8!"),
        ],
    );
}

#[test]
fn a_clock_set_forward_by_an_hour_is_learnt_after_thirty_seconds() {
    let mut device = Device::new();
    device.run_until(0.0);
    for second in 1..=30 {
        let at = f64::from(second);
        assert_eq!(device.send(at, at + HOUR), "next 0!", "{second}");
    }
    assert_eq!(device.send(31.0, 31.0 + HOUR), "next 0!");
    assert!(device.state.unusual.is_none(), "the new offset is usual");
    assert_eq!(device.send(33.0, 32.0 + HOUR), "next 1!");
    assert_eq!(device.state.gap, None, "no time passed unheard");
}

#[test]
fn a_clock_set_forward_is_learnt_from_bursts_too() {
    let mut device = Device::new();
    device.run_until(0.0);
    for burst in 1..=5 {
        let at = f64::from(burst) * 12.0;
        for back in [8.0, 4.0, 0.0] {
            assert!(device.send(at, at - back + HOUR).starts_with("next"));
        }
    }
    assert!(device.state.unusual.is_none(), "{:?}", device.state.unusual);
    assert_eq!(device.send(70.0, 70.0 + HOUR), "next 0!");
}

#[test]
fn a_clock_that_loses_four_minutes_during_a_silence_is_learnt_after_thirty_seconds() {
    let mut device = Device::new();
    device.run_until(0.0);
    for step in 0..3 {
        let at = HOUR + f64::from(step) * 10.0;
        assert_eq!(device.send(at, at - 240.0), "next 240");
    }
    assert_eq!(device.send(HOUR + 30.0, HOUR - 210.0), "next 0!");
    assert_eq!(device.send(HOUR + 40.0, HOUR - 200.0), "next 0");
}

#[test]
fn a_clock_set_back_during_an_outage_is_accepted_although_its_backlog_came_first() {
    let mut device = Device::new();
    device.run_until(0.0);
    for second in 0..600 {
        let stored = f64::from(second) - HOUR;
        assert!(device.send(600.0, stored).starts_with("late"));
    }
    let mut classes = Vec::new();
    for second in 601..=635 {
        classes.push(device.send(f64::from(second), f64::from(second) - HOUR));
    }
    assert_eq!(classes[0], "late 3600");
    assert!(classes.contains(&"next 0!".to_owned()), "{classes:?}");
    assert_eq!(device.send(636.0, 636.0 - HOUR), "next 0!");
}

#[test]
fn a_clock_that_flips_between_two_values_never_hides_the_right_times() {
    let mut device = Device::new();
    device.run_until(0.0);
    for step in 0..50 {
        let at = f64::from(step) * 4.0 + 4.0;
        assert_eq!(device.send(at, at + HOUR), "next 0!");
        assert_eq!(device.send(at + 2.0, at + 2.0), "next 0");
    }
    let mut device = Device::new();
    device.run_until(0.0);
    for step in 0..50 {
        let at = f64::from(step) * 4.0 + 4.0;
        assert_eq!(device.send(at, at - HOUR), "late 3600");
        assert_eq!(device.send(at + 2.0, at + 2.0), "next 0");
    }
}

#[test]
fn a_leap_of_a_year_in_either_direction_is_followed() {
    for leap in [365.0 * DAY, -365.0 * DAY] {
        let mut device = Device::new();
        device.run_until(0.0);
        for step in 1..=3 {
            let at = f64::from(step) * 10.0;
            let class = device.send(at, at + leap);
            assert!(class == "next 0!" || class == "next ?!", "{class}");
        }
        assert_eq!(device.send(40.0, 40.0 + leap), "next 0!");
        assert_eq!(device.send(51.0, 50.0 + leap), "next 1!");
        assert_eq!(device.state.latest_time, Some(time(50.0 + leap)));
    }
}

#[test]
fn a_device_without_time_is_ordered_by_arrival_and_is_tied_within_two_seconds() {
    let mut device = Device::new();
    assert_eq!(device.send_without_time(0.0), "next ?!");
    for second in 1..20 {
        assert_eq!(device.send_without_time(f64::from(second)), "tie ?!");
    }
    assert_eq!(device.send_without_time(21.0), "tie ?!");
    assert_eq!(device.send_without_time(23.001), "next ?!");
}

#[test]
fn a_time_that_stands_still_is_unusable_from_the_third_arrival_after_ten_seconds() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (5.0, 5.0, "next 0"),
            (10.0, 5.0, "tie 5"),
            (15.0, 5.0, "tie 10"),
            (15.001, 5.0, "next ?!"),
            (20.0, 5.0, "next ?!"),
            // The clock goes on where it stood.
            (25.0, 6.0, "tie 19"),
            (26.0, 7.0, "next 19"),
        ],
    );
    let again = Flags {
        dup: true,
        ..bytes(77)
    };
    let mut device = Device::new();
    device.run_until(0.0);
    check(&mut device, &[(1.0, 1.0, "next 0")]);
    for at in [5.0, 10.0, 15.0] {
        device.send_flagged(at, Some(1.0), again);
    }
    assert_eq!(
        device.send(15.0, 1.0),
        "tie 14",
        "redeliveries do not count"
    );
}

#[test]
fn readings_of_the_same_second_are_a_tie() {
    let mut device = Device::new();
    check(
        &mut device,
        &[
            (0.2, 0.0, "next 0"),
            (0.7, 0.0, "tie 0.5"),
            (1.2, 1.0, "next 0"),
            (1.2, 1.0, "tie 0"),
        ],
    );
}

#[test]
fn a_drift_of_a_second_per_hour_keeps_the_age_small_for_days() {
    for drift in [1.0 / HOUR, -1.0 / HOUR] {
        let mut device = Device::new();
        for minute in 0..7 * 24 * 60 {
            let at = f64::from(minute) * 60.0;
            let class = device.send(at, at * (1.0 + drift));
            let age = class.trim_end_matches('!').strip_prefix("next ");
            let age: f64 = age.and_then(|age| age.parse().ok()).expect("an age");
            assert!(age <= 5.1, "{age} after {minute} min");
        }
        assert!(device.state.offset_minima.len() <= MAX_OFFSET_MINIMA);
    }
}

#[test]
fn the_usual_offset_survives_three_days_of_silence() {
    let mut device = Device::new();
    for hour in 0..24 {
        let at = f64::from(hour) * HOUR;
        let delay = if hour == 0 { 0.0 } else { 3.0 };
        assert!(device.send(at + delay, at).starts_with("next"));
    }
    let after = 4.0 * DAY;
    assert_eq!(device.send(after + 3.0, after), "next 0", "24 h were heard");

    let mut device = Device::new();
    device.run_until(0.0);
    let after = 3.0 * DAY;
    assert_eq!(device.send(after + 3.0, after), "next 3");
    assert_eq!(device.send(after + 4.0, after + 4.0), "next 0");
}

#[test]
fn an_old_minimum_is_forgotten_after_24_hours_in_which_the_device_was_heard() {
    let mut device = Device::new();
    device.run_until(0.0);
    for minute in 1..=24 * 60 {
        let at = f64::from(minute) * 60.0;
        let class = device.send(at + 2.0, at);
        let expected = if minute < 24 * 60 { "next 2" } else { "next 0" };
        assert_eq!(class, expected, "{minute}");
    }
}

#[test]
fn a_backlog_in_order_shows_its_real_age_until_it_reaches_the_present() {
    let mut device = Device::new();
    device.run_until(0.0);
    let end = 2.0 * HOUR;
    for second in 1..7_200 {
        let device_time = f64::from(second);
        let at = end + device_time / 100.0;
        let class = device.send(at, device_time);
        let age = class.strip_prefix("next ").expect("next and not suspect");
        let age: f64 = age.parse().expect("an age");
        assert!((age - (at - device_time)).abs() < 0.002, "{class}");
    }
    check(&mut device, &[(7_300.0, 7_300.0, "next 0")]);
}

#[test]
fn a_backlog_beside_live_readings_is_late_however_slowly_it_comes() {
    let mut device = Device::new();
    device.run_until(0.0);
    let start = 2.0 * HOUR;
    assert_eq!(device.send(start, start), "next 0");
    for second in 1..120 {
        let at = start + f64::from(second);
        let class = device.send(at, f64::from(second));
        assert_eq!(class, "late 7200", "no live reading comes between");
    }
    assert_eq!(device.send(start + 120.0, start + 120.0), "next 0");
    assert_eq!(device.send(start + 121.0, 121.0), "late 7200");
}

#[test]
fn late_readings_outside_of_the_last_gap_show_a_clock_that_was_set_back() {
    let mut device = Device::new();
    device.run_until(-300.0);
    device.run_until(0.0);
    let gap = device.state.gap.clone().expect("a gap");
    assert_eq!((gap.from, gap.to), (time(-300.0), time(-9.0)));
    check(
        &mut device,
        &[
            (1.0, -299.0, "late 300"),
            (3.0, -297.0, "late 300"),
            (4.0, -300.0, "late 304"),
            (5.999, -298.0, "late 303.999"),
            (6.0, -305.0, "late 311"),
            (7.999, -304.0, "late 311.999"),
            (8.0, -300.999, "late 308.999"),
            (8.0, -301.0, "next 0!"),
        ],
    );
    assert_eq!(device.state.gap, None);
}

#[test]
fn a_reading_in_order_ends_a_run_of_late_ones() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (1.0, -20.0, "late 21"),
            (2.0, 2.0, "next 0"),
            (3.0, -18.0, "late 21"),
            (4.0, 4.0, "next 0"),
            (5.0, -16.0, "late 21"),
            (6.999, -14.0, "late 20.999"),
            (7.0, -14.0, "next 0!"),
        ],
    );
}

#[test]
fn late_readings_in_reverse_order_show_no_clock() {
    let mut device = Device::new();
    device.run_until(0.0);
    for step in 1..20 {
        let at = f64::from(step) * 5.0;
        assert!(device.send(at, -at - 10.0).starts_with("late"));
    }
}

#[test]
fn a_reading_that_was_overtaken_by_ten_seconds_is_late_and_the_next_is_next() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (2.0, 2.0, "next 0"),
            (10.0, 10.0, "next 0"),
            (11.0, 1.0, "late 10"),
            (11.0, 11.0, "next 0"),
            (12.0, 2.5, "late 9.5"),
            (12.0, 12.0, "next 0"),
        ],
    );
}

#[test]
fn a_time_further_back_than_a_backlog_may_be_is_unusable() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (1.0, 1.0 - 7.0 * DAY, "late 604800"),
            (2.0, 1.999 - 7.0 * DAY, "next ?!"),
            (3.0, 3.0, "next 0"),
        ],
    );
}

#[test]
fn any_time_is_handled() {
    let extremes = [
        i64::MIN,
        i64::MIN + 1,
        -1,
        0,
        BASE_MS,
        i64::MAX - 1,
        i64::MAX,
    ];
    for first in extremes {
        for second in extremes {
            for third in extremes {
                for at in [0, BASE_MS, i64::MAX] {
                    let mut device = Device::new();
                    for (index, millis) in [first, second, third, second].into_iter().enumerate() {
                        let at = Time::from_millis(at)
                            .max(time(f64::from(u8::try_from(index).expect("small") * 20)));
                        let class =
                            device.send_at(at, Some(Time::from_millis(millis)), Flags::default());
                        if let Class::Next(clock) | Class::Tie(clock) = class {
                            assert!(clock.age_ms.is_none_or(|age| age >= 0));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_reading_without_time_is_next_behind_one_that_was_ahead() {
    let mut device = Device::new();
    device.run_until(0.0);
    assert_eq!(device.send(1.0, HOUR), "next 0!");
    assert_eq!(device.send_without_time(2.0), "next ?!");
    assert_eq!(device.send_without_time(3.0), "tie ?!");
}

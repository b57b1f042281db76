//! The usual offset of a clock: what is learnt from, and when a clock was set.

use super::*;

#[test]
fn the_third_arrival_of_a_time_that_stands_still_is_unusable() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (5.0, 5.0, "next 0"),
            (20.0, 5.0, "tie 15"),
            (22.0, 5.0, "next ?!"),
        ],
    );
}

/// A device sends five readings in each second of its clock. The network is away for an hour, and two of the five come behind it.
#[test]
fn a_second_that_an_outage_divides_does_not_stand_still() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (5.0, 5.0, "next 0"),
            (5.2, 5.0, "tie 0.2"),
            (5.4, 5.0, "tie 0.4"),
            (3_605.4, 5.0, "tie 3600.4"),
            (3_605.5, 5.0, "tie 3600.5"),
            (3_605.6, 6.0, "next 3599.6"),
        ],
    );
}

#[test]
fn only_a_gap_longer_than_the_silence_limit_is_remembered() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(&mut device, &[(180.0, 180.0, "next 0")]);
    assert_eq!(device.state.gap, None);
    check(&mut device, &[(360.001, 360.001, "next 0")]);
    assert!(device.state.gap.is_some());
}

#[test]
fn a_clock_is_suspect_if_it_is_off_by_more_than_five_minutes() {
    check(&mut Device::new(), &[(300.0, 0.0, "next 0")]);
    check(&mut Device::new(), &[(300.001, 0.0, "next 0!")]);
    check(&mut Device::new(), &[(0.0, 300.001, "next 0!")]);
}

#[test]
fn an_offset_is_usual_up_to_the_tolerance() {
    let mut device = Device::new();
    device.run_until(0.0);
    for step in 1..10 {
        let at = f64::from(step) * 20.0;
        assert_eq!(device.send(at, at - 5.0), "next 5");
    }
    for step in 10..12 {
        let at = f64::from(step) * 20.0;
        assert_eq!(device.send(at, at - 5.001), "next 5.001");
    }
    assert_eq!(device.send(240.0, 234.999), "next 0!");
}

#[test]
fn three_readings_over_thirty_seconds_show_that_a_clock_was_set() {
    for (cadence, count) in [(60.0, 3), (15.0, 3), (10.0, 4), (5.0, 7), (40.0, 3)] {
        let mut device = Device::new();
        device.run_until(0.0);
        for step in 1..=count {
            assert!(device.state.latest_time == Some(time(0.0)), "{cadence}");
            let at = f64::from(step) * cadence;
            assert_eq!(device.send(at, at + HOUR), "next 0!");
        }
        assert!(device.state.latest_time > Some(time(HOUR)), "{cadence}");
    }
}

#[test]
fn the_newest_of_the_readings_gives_the_new_offset() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (20.0, 20.0 + HOUR, "next 0!"),
            (35.0, 36.0 + HOUR, "next 0!"),
            (50.0, 50.0 + HOUR, "next 1!"),
        ],
    );
}

#[test]
fn readings_on_both_sides_of_the_usual_offset_show_no_clock_that_was_set() {
    let mut device = Device::new();
    device.run_until(0.0);
    for step in 1..50 {
        let at = f64::from(step) * 60.0;
        assert_eq!(device.send(at, at + 6.0), "next 0!", "{step}");
        let behind = device.send(at + 30.0, at + 30.0 - 6.0);
        assert_eq!(behind, "next 6", "{step}");
    }
}

#[test]
fn two_bursts_of_a_backlog_that_overlap_in_age_show_no_clock_that_was_set() {
    let mut device = Device::new();
    device.run_until(0.0);
    let mut sent = 0.0;
    // Each burst has 60 s of readings, and there are 40 s between two bursts.
    for burst in 0..100 {
        let at = HOUR + f64::from(burst) * 40.0;
        for _ in 0..60 {
            sent += 1.0;
            assert_eq!(device.send(at, sent), format!("next {}", at - sent));
        }
    }
}

#[test]
fn delayed_readings_do_not_count_as_keeping_pace() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (HOUR, 100.0, "next 3500"),
            (HOUR + 10.0, 105.0, "next 3505"),
            (HOUR + 20.0, 110.0, "next 3510"),
            (HOUR + 30.0, 130.0, "next 3500"),
            (HOUR + 60.0, 160.0, "next 0!"),
        ],
    );
}

#[test]
fn a_delayed_reading_does_not_show_that_a_clock_was_set() {
    let mut device = Device::new();
    device.run_until(0.0);
    check(
        &mut device,
        &[
            (5.0, HOUR + 5.0, "next 0!"),
            (15.0, HOUR + 15.0, "next 0!"),
            (25.0, HOUR + 25.0, "next 0!"),
            // 10 s late. With an offset learnt from it, its age would be told.
            (36.0, HOUR + 26.0, "next 0!"),
        ],
    );
    assert_eq!(device.state.offset_minima.len(), 1);
    assert_eq!(device.state.offset_minima[0].offset_ms, 0);
}

use super::*;

fn at(ms: i64) -> Time {
    Time::from_millis(1_800_000_000_000 + ms)
}

/// Counts messages at these times, and returns how many are within the rate of 10 per second.
fn within(times: impl Iterator<Item = i64>) -> usize {
    let mut rate = None;
    times.filter(|ms| count(&mut rate, at(*ms), 10)).count()
}

#[test]
fn a_device_at_its_rate_is_always_within_it() {
    assert_eq!(within((0..10_000).map(|step| step * 100)), 10_000);
}

#[test]
fn a_burst_of_ten_seconds_is_within_and_what_follows_has_the_rate() {
    assert_eq!(within((0..1_000).map(|_| 0)), 100);
    // A thousand messages per second for a minute.
    let kept = within(0..60_000);
    assert!((690..=710).contains(&kept), "{kept}");
}

#[test]
fn the_allowance_ends_the_sooner_the_more_is_sent() {
    // The rate is 10 per second. Messages per second, and the seconds after which the first is too much.
    for (sent, expected) in [(2_000, 0.05), (110, 1.0), (20, 10.0), (15, 20.0)] {
        let mut rate = None;
        let mut times = (0_u32..).map(|number| f64::from(number) * 1_000.0 / f64::from(sent));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "some thousand milliseconds"
        )]
        let first = times.find(|ms| !count(&mut rate, at(*ms as i64), 10));
        let seconds = first.expect("it ends") / 1_000.0;
        assert!((seconds - expected).abs() < 0.5, "{sent}: {seconds}");
    }
}

#[test]
fn times_that_go_back_give_no_new_allowance() {
    assert_eq!(within((0..1_000).map(|step| 10_000 - step * 10)), 100);
}

#[test]
fn a_limit_of_zero_is_none() {
    let mut rate = None;
    assert!((0..1_000).all(|_| count(&mut rate, at(0), 0)));
    assert_eq!(rate, None);
}

#[test]
fn the_next_message_and_the_calm_are_known_in_advance() {
    let mut rate = None;
    for _ in 0..150 {
        count(&mut rate, at(0), 10);
    }
    let rate = rate.expect("counted");
    assert_eq!(next_at(&rate, 10), at(100));
    assert_eq!(calm_at(&rate, 10), at(5_000));
    let mut next = Some(rate.clone());
    assert!(!count(&mut next, at(99), 10));
    assert!(count(&mut Some(rate), at(100), 10));
}

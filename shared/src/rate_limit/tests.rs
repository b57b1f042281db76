use super::*;

fn at(ms: i64) -> Time {
    Time::from_millis(1_700_000_000_000 + ms)
}

fn device(number: u32) -> DeviceId {
    format!("OTSM-{number:04}").parse().expect("a serial")
}

#[test]
fn one_line_then_none_for_ten_seconds_and_the_next_carries_the_count() {
    let rare = RateLimit::one_per_ten_seconds();
    assert_eq!(rare.allow(at(0)), Some(0));
    assert_eq!(rare.allow(at(1)), None);
    assert_eq!(rare.allow(at(9_999)), None);
    assert_eq!(rare.allow(at(10_000)), Some(2));
    assert_eq!(rare.allow(at(20_000)), Some(0));
}

#[test]
fn a_noisy_device_is_suppressed_and_another_is_not() {
    let limit = DeviceRateLimit::default();
    let noisy = device(1);
    let allowed = (0..1_000).filter(|ms| limit.allow(&noisy, at(*ms)).is_some());
    assert_eq!(allowed.count(), 10);
    // Some other device shares its slot with one chance in a thousand: of three at least one is allowed.
    let others = [2, 3, 4].map(|number| limit.allow(&device(number), at(1_000)));
    assert!(
        others.iter().flatten().any(|held_back| *held_back >= 990),
        "{others:?}"
    );
}

#[test]
fn a_minute_later_a_line_is_allowed_with_the_suppressed_count() {
    let limit = DeviceRateLimit::default();
    for ms in 0..25 {
        limit.allow(&device(1), at(ms));
    }
    assert_eq!(limit.allow(&device(1), at(59_999)), None);
    assert_eq!(limit.allow(&device(1), at(60_000)), Some(16));
}

#[test]
fn the_total_is_limited_too() {
    let limit = DeviceRateLimit::default();
    let allowed = (0..5_000).filter(|number| limit.allow(&device(*number), at(0)).is_some());
    assert_eq!(allowed.count(), 600);
    assert_eq!(limit.allow(&device(1), at(60_000)), Some(4_400));
}

#[test]
fn a_clock_that_was_set_back_silences_nothing() {
    let rare = RateLimit::one_per_ten_seconds();
    assert_eq!(rare.allow(at(3_600_000)), Some(0));
    assert_eq!(rare.allow(at(0)), Some(0));
}

#[test]
fn lines_beyond_the_limit_are_suppressed() {
    let frequent = RateLimit::six_hundred_per_minute();
    let allowed = (0..1_000).filter(|ms| frequent.allow(at(*ms)).is_some());
    assert_eq!(allowed.count(), 600);
    assert_eq!(frequent.allow(at(60_000)), Some(400));
}

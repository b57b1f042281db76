use super::*;

fn at(ms: i64) -> Time {
    Time::from_millis(1_700_000_000_000 + ms)
}

fn device(number: u32) -> DeviceId {
    format!("OTSM-{number:04}").parse().expect("a serial")
}

#[test]
fn one_line_is_allowed_per_ten_seconds_and_carries_the_number_suppressed_before_it() {
    let limit = RateLimit::one_per_ten_seconds();
    assert_eq!(limit.allow(at(0)), Some(0));
    assert_eq!(limit.allow(at(1)), None);
    assert_eq!(limit.allow(at(9_999)), None);
    assert_eq!(limit.allow(at(10_000)), Some(2));
    assert_eq!(limit.allow(at(20_000)), Some(0));
}

#[test]
fn lines_of_a_noisy_device_are_suppressed_and_those_of_others_are_not() {
    let limit = DeviceRateLimit::default();
    let noisy = device(1);
    let allowed = (0..1_000).filter(|ms| limit.allow(&noisy, at(*ms)).is_some());
    assert_eq!(allowed.count(), 10);
    // Another device shares the slot of the noisy one with a probability of 1/1024. Of three, at least one is allowed.
    let others = [2, 3, 4].map(|number| limit.allow(&device(number), at(1_000)));
    assert!(
        others.iter().flatten().any(|suppressed| *suppressed >= 990),
        "{others:?}"
    );
}

#[test]
fn after_a_minute_a_device_gets_a_line_with_the_number_suppressed() {
    let limit = DeviceRateLimit::default();
    for ms in 0..25 {
        limit.allow(&device(1), at(ms));
    }
    assert_eq!(limit.allow(&device(1), at(59_999)), None);
    assert_eq!(limit.allow(&device(1), at(60_000)), Some(16));
}

#[test]
fn the_lines_of_all_devices_together_are_limited() {
    let limit = DeviceRateLimit::default();
    let allowed = (0..5_000).filter(|number| limit.allow(&device(*number), at(0)).is_some());
    assert_eq!(allowed.count(), 600);
    assert_eq!(limit.allow(&device(1), at(60_000)), Some(4_400));
}

#[test]
fn after_the_clock_was_set_back_a_line_is_allowed_at_once() {
    let limit = RateLimit::one_per_ten_seconds();
    assert_eq!(limit.allow(at(3_600_000)), Some(0));
    assert_eq!(limit.allow(at(0)), Some(0));
}

#[test]
fn six_hundred_lines_are_allowed_per_minute() {
    let limit = RateLimit::six_hundred_per_minute();
    let allowed = (0..1_000).filter(|ms| limit.allow(at(*ms)).is_some());
    assert_eq!(allowed.count(), 600);
    assert_eq!(limit.allow(at(60_000)), Some(400));
}

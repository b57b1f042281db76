use super::*;

fn at(ms: i64) -> Time {
    Time::from_millis(1_700_000_000_000 + ms)
}

fn device(number: u32) -> DeviceId {
    format!("OTSM-{number:04}").parse().expect("a serial")
}

#[test]
fn each_device_is_named_once_in_ten_minutes() {
    let mut dangers = RefusedDangers::default();
    for number in 0..500 {
        assert_eq!(dangers.allow(&device(number), at(0)), Some(0));
    }
    for ms in 1..100 {
        assert_eq!(dangers.allow(&device(1), at(ms)), None);
    }
    assert_eq!(dangers.allow(&device(500), at(100)), Some(99));
    assert_eq!(dangers.allow(&device(1), at(NAME_AGAIN_MS - 1)), None);
    assert_eq!(dangers.allow(&device(1), at(NAME_AGAIN_MS)), Some(1));
}

#[test]
fn a_noisy_device_takes_no_line_of_another() {
    let mut dangers = RefusedDangers::default();
    for ms in 0..10_000 {
        dangers.allow(&device(1), at(ms));
    }
    assert_eq!(dangers.allow(&device(2), at(10_000)), Some(9_999));
}

#[test]
fn a_flood_of_serials_is_bounded_and_counted() {
    let mut dangers = RefusedDangers::default();
    let mut lines = 0;
    let mut held_back = 0;
    // An hour of a hundred new serials per second.
    for number in 0..360_000_u32 {
        let now = at(i64::from(number) * 10);
        if let Some(before) = dangers.allow(&device(number), now) {
            lines += 1;
            held_back += before;
        }
        assert!(dangers.named.len() <= MAX_REMEMBERED);
    }
    assert!(lines <= 60 * u64::from(MAX_LINES_PER_MINUTE), "{lines}");
    assert_eq!(lines + held_back + dangers.held_back, 360_000);
    assert!(lines >= 6_000, "{lines}");
}

#[test]
fn after_the_clock_was_set_back_a_device_is_named_at_once() {
    let mut dangers = RefusedDangers::default();
    assert_eq!(dangers.allow(&device(1), at(3_600_000)), Some(0));
    assert_eq!(dangers.allow(&device(1), at(0)), Some(0));
}

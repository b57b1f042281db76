use super::*;

#[test]
fn the_last_time_that_can_be_written_can_be_read() {
    let last = Time::from_iso("9999-12-30T22:00:00.999Z").expect("a time");
    assert_eq!(last.to_iso(), "9999-12-30T22:00:00.999Z");
    assert_eq!(Time::from_iso(&last.to_iso()), Some(last));
}

fn at(ms: i64) -> Time {
    Time::from_millis(ms)
}

#[test]
fn a_measurement_moves_the_offset_only_as_far_as_it_must() {
    let clock = SystemClock::default();
    let offset = |redis: i64, asked: i64, answered: i64| {
        clock.adjust(at(redis), (at(asked), at(answered)));
        clock.offset_ms.load(Ordering::Relaxed)
    };
    assert_eq!(offset(5_000, 0, 10), 4_995, "the first one: the middle");
    assert_eq!(offset(6_001, 1_000, 1_010), 4_995, "still possible");
    assert_eq!(
        offset(9_000, 1_100, 9_100),
        4_995,
        "a long pause shows nothing"
    );
    assert_eq!(offset(15_020, 10_000, 10_010), 5_010, "at least this");
    assert_eq!(offset(20_000, 15_000, 15_010), 5_000, "at most this");
    assert_eq!(offset(20_000, 90_000, 90_004), -70_000, "our clock was set");
}

use super::*;

fn at(ms: i64) -> Time {
    Time::from_millis(1_700_000_000_000 + ms)
}

fn device(number: u32) -> DeviceId {
    format!("OTSM-{number:04}").parse().expect("a serial")
}

#[test]
fn one_line_then_none_for_ten_seconds_and_the_next_tells_how_many() {
    let rare = Limit::rare();
    assert_eq!(rare.take(at(0)), Some(0));
    assert_eq!(rare.take(at(1)), None);
    assert_eq!(rare.take(at(9_999)), None);
    assert_eq!(rare.take(at(10_000)), Some(2));
    assert_eq!(rare.take(at(20_000)), Some(0));
}

#[test]
fn a_noisy_device_is_held_back_and_another_is_not() {
    let quota = Quota::default();
    let noisy = device(1);
    let told = (0..1_000).filter(|ms| quota.take(&noisy, at(*ms)).is_some());
    assert_eq!(told.count(), 10);
    // Some other device shares its place with one chance in a thousand: of three one must be told.
    let others = [2, 3, 4].map(|number| quota.take(&device(number), at(1_000)));
    assert!(
        others.iter().flatten().any(|held_back| *held_back >= 990),
        "{others:?}"
    );
}

#[test]
fn a_minute_later_it_is_told_again_with_what_was_held_back() {
    let quota = Quota::default();
    for ms in 0..25 {
        quota.take(&device(1), at(ms));
    }
    assert_eq!(quota.take(&device(1), at(59_999)), None);
    assert_eq!(quota.take(&device(1), at(60_000)), Some(16));
}

#[test]
fn all_together_are_held_back_too() {
    let quota = Quota::default();
    let told = (0..5_000).filter(|number| quota.take(&device(*number), at(0)).is_some());
    assert_eq!(told.count(), 600);
    assert_eq!(quota.take(&device(1), at(60_000)), Some(4_400));
}

#[test]
fn a_clock_that_was_set_back_silences_nothing() {
    let rare = Limit::rare();
    assert_eq!(rare.take(at(3_600_000)), Some(0));
    assert_eq!(rare.take(at(0)), Some(0));
}

#[test]
fn lines_of_a_kind_are_held_back_beyond_their_number() {
    let frequent = Limit::frequent();
    let told = (0..1_000).filter(|ms| frequent.take(at(*ms)).is_some());
    assert_eq!(told.count(), 600);
    assert_eq!(frequent.take(at(60_000)), Some(400));
}

#[test]
fn an_error_is_told_with_its_causes_and_on_one_line() {
    let cause = std::io::Error::other("a reply that is none\r\nHTTP/1.1 400");
    let away = crate::redis::LinkError::Away(cause.into());
    assert_eq!(
        chain(&away),
        "redis is away: a reply that is none  HTTP/1.1 400"
    );
}

#[test]
fn a_device_cannot_be_taken_for_another_field() {
    assert_eq!(shown(&device(1)), "OTSM-0001");
    for forged in [
        "OTSM-0001 alarm.change=\"cleared\"",
        "OTSM\u{202e}1",
        "Büro",
    ] {
        let device: DeviceId = forged.parse().expect("a serial");
        let told = shown(&device);
        assert!(told.starts_with('"') && told.ends_with('"'), "{told}");
        assert!(!told.contains('\u{202e}'), "{told}");
    }
}

use super::*;

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn a_connection_is_deaf_after_three_seconds_of_silence_while_the_key_grows() {
    let start = Instant::now();
    let mut check = CanaryCheck::new(start);
    for second in 1..=2 {
        assert!(!check.is_deaf(false, at(start, second)), "{second}");
    }
    assert!(check.is_deaf(false, at(start, 3)));
}

#[test]
fn any_message_restarts_the_three_seconds() {
    let start = Instant::now();
    let mut check = CanaryCheck::new(start);
    assert!(!check.is_deaf(false, at(start, 2)));
    assert!(!check.is_deaf(true, at(start, 3)));
    for second in 4..=5 {
        assert!(!check.is_deaf(false, at(start, second)), "{second}");
    }
    assert!(check.is_deaf(false, at(start, 6)));
}

#[test]
fn a_pause_of_redis_itself_makes_no_connection_deaf() {
    let start = Instant::now();
    let mut check = CanaryCheck::new(start);
    assert!(!check.is_deaf(false, at(start, 10)));
    assert!(!check.is_deaf(true, at(start, 11)));
}

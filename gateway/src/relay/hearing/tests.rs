use super::*;

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn three_seconds_of_silence_while_the_key_moves_are_deafness() {
    let start = Instant::now();
    let mut hearing = Hearing::new(start);
    for second in 1..=2 {
        assert!(!hearing.is_deaf(false, at(start, second)), "{second}");
    }
    assert!(hearing.is_deaf(false, at(start, 3)));
}

#[test]
fn whatever_is_heard_begins_the_count_anew() {
    let start = Instant::now();
    let mut hearing = Hearing::new(start);
    assert!(!hearing.is_deaf(false, at(start, 2)));
    assert!(!hearing.is_deaf(true, at(start, 3)));
    for second in 4..=5 {
        assert!(!hearing.is_deaf(false, at(start, second)), "{second}");
    }
    assert!(hearing.is_deaf(false, at(start, 6)));
}

#[test]
fn a_redis_that_paused_makes_nobody_deaf() {
    let start = Instant::now();
    let mut hearing = Hearing::new(start);
    assert!(!hearing.is_deaf(false, at(start, 10)));
    assert!(!hearing.is_deaf(true, at(start, 11)));
}

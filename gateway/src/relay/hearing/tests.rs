use super::*;

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn three_seconds_of_silence_while_the_key_moves_are_deafness() {
    let start = Instant::now();
    let mut hearing = Hearing::default();
    assert!(!hearing.is_deaf(true, start));
    for second in 1..=3 {
        assert!(!hearing.is_deaf(false, at(start, second)), "{second}");
    }
    assert!(hearing.is_deaf(false, at(start, 4)));
}

#[test]
fn whatever_is_heard_begins_the_count_anew() {
    let start = Instant::now();
    let mut hearing = Hearing::default();
    for second in 0..=2 {
        assert!(!hearing.is_deaf(false, at(start, second)));
    }
    assert!(!hearing.is_deaf(true, at(start, 3)));
    for second in 4..=6 {
        assert!(!hearing.is_deaf(false, at(start, second)), "{second}");
    }
    assert!(hearing.is_deaf(false, at(start, 7)));
}

use super::*;

const FIRST: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn pauses_double_up_to_the_limit_and_are_shortened_by_at_most_half() {
    for seed in 0..200 {
        let backoff = Backoff::with_random(FIRST, LIMIT, fastrand::Rng::with_seed(seed));
        let mut full = FIRST;
        for pause in backoff.take(20) {
            assert!(pause <= full && pause >= full / 2, "{pause:?} of {full:?}");
            full = (full * 2).min(LIMIT);
        }
        assert_eq!(full, LIMIT);
    }
}

#[test]
fn after_a_reset_the_next_pause_is_the_shortest() {
    let mut backoff = Backoff::new(FIRST, LIMIT);
    for _ in 0..10 {
        backoff.pause();
    }
    backoff.reset();
    assert!(backoff.pause() <= FIRST);
}

#[test]
fn two_replicas_have_different_pauses() {
    let pauses = |seed| -> Vec<Duration> {
        Backoff::with_random(FIRST, LIMIT, fastrand::Rng::with_seed(seed))
            .take(5)
            .collect()
    };
    assert_ne!(pauses(1), pauses(2));
}

#[test]
fn the_first_pause_is_at_most_the_limit() {
    assert!(Backoff::new(LIMIT, FIRST).pause() <= FIRST);
}

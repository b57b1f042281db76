use proptest::prelude::*;

use super::*;

const PER_SECOND: usize = 20;

fn rate() -> Rate {
    Rate::new(PER_SECOND).unwrap()
}

/// Uses 1 if that is possible.
fn is_admitted(usages: &mut Usages<u32>, caller: u32, now: Instant) -> bool {
    let admitted = must_wait(usages.of(caller, now), 1.0, rate().burst).is_none();
    if admitted {
        usages.add(caller, 1.0, now);
    }
    admitted
}

#[test]
fn zero_is_no_limit() {
    assert!(Rate::new(0).is_none());
}

#[test]
fn a_burst_is_admitted_at_once_and_then_the_rate() {
    let start = Instant::now();
    let mut usages = Usages::new(8);
    let at_once = (0..1_000).filter(|_| is_admitted(&mut usages, 1, start));
    assert_eq!(at_once.count(), 200);
    // Asks a thousand times a second.
    let mut admitted = 0;
    for millis in 1..=60_000 {
        let now = start + Duration::from_millis(millis);
        admitted += usize::from(is_admitted(&mut usages, 1, now));
    }
    assert!(
        (59 * PER_SECOND..=60 * PER_SECOND).contains(&admitted),
        "{admitted}"
    );
    let much_later = start + Duration::from_hours(1);
    let at_once = (0..1_000).filter(|_| is_admitted(&mut usages, 1, much_later));
    assert_eq!(at_once.count(), 200);
}

#[test]
fn a_clock_that_stands_still_or_runs_backwards_gives_nothing_back() {
    let start = Instant::now() + Duration::from_mins(1);
    let mut usage = Usage::none(start);
    usage.add(4.0, start);
    usage.add(4.0, start.checked_sub(Duration::from_secs(9)).unwrap());
    assert!((usage.at(start) - 8.0).abs() < 1e-9, "{usage:?}");
}

#[test]
fn those_that_used_least_are_forgotten_when_there_are_too_many() {
    let now = Instant::now();
    let mut usages = Usages::new(8);
    for caller in 0..8 {
        usages.add(caller, f64::from(caller + 1), now);
    }
    usages.add(100, 1.0, now);
    assert_eq!(usages.callers.len(), 7);
    assert!(usages.of(0, now) < NOTHING && usages.of(1, now) < NOTHING);
    assert!(usages.of(2, now) > 2.9 && usages.of(7, now) > 7.9);
    // What the others used has faded: they go first, however much it was.
    let later = now + Duration::from_mins(2);
    for caller in 200..202 {
        usages.add(caller, 1.0, later);
    }
    assert_eq!(usages.callers.len(), 2, "{usages:?}");
}

proptest! {
    #[test]
    fn nobody_gets_more_than_a_burst_and_the_rate(
        pauses in prop::collection::vec(0_u64..400, 1..2_000),
        from in 0_usize..1_000,
    ) {
        let (mut usages, mut now) = (Usages::new(8), Instant::now());
        let mut admitted = Vec::new();
        for pause in pauses {
            now += Duration::from_millis(pause);
            if is_admitted(&mut usages, 1, now) {
                admitted.push(now);
            }
        }
        let window = &admitted[from.min(admitted.len() - 1)..];
        let seconds = (*window.last().unwrap() - window[0]).as_secs_f64();
        let most = rate().burst + seconds * f64::from(u32::try_from(PER_SECOND).unwrap());
        prop_assert!(f64::from(u32::try_from(window.len()).unwrap()) <= most + 1.0);
    }

    #[test]
    fn whoever_waits_as_long_as_asked_is_admitted_and_not_earlier(
        used in 0_u32..400,
        cost in 1_u32..50,
    ) {
        let start = Instant::now();
        let mut usage = Usage::none(start);
        usage.add(f64::from(used), start);
        let cost = f64::from(cost);
        let wait = |after: Duration| must_wait(usage.at(start + after), cost, rate().burst);
        if let Some(told) = wait(Duration::ZERO) {
            prop_assert!(wait(told + Duration::from_micros(1)).is_none());
            prop_assert!(wait(told.mul_f64(0.99)).is_some());
        } else {
            prop_assert!(f64::from(used) + cost <= rate().burst);
        }
    }

    #[test]
    fn there_are_never_more_callers_than_the_bound(
        callers in prop::collection::vec((0_u32..200, 0_u64..3_000), 1..500),
    ) {
        let (mut usages, mut now) = (Usages::new(16), Instant::now());
        for (caller, pause) in callers {
            now += Duration::from_millis(pause);
            usages.add(caller, 1.0, now);
            prop_assert!(usages.callers.len() <= 16);
            prop_assert!(usages.of(caller, now) >= 1.0);
        }
    }
}

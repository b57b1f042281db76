use proptest::prelude::*;

use super::*;

const OWN: usize = 20;
const ALL: usize = 100;

fn handshakes(own: usize, all: usize, now: Instant) -> Handshakes<u32> {
    Handshakes::new(Rate::new(own), Rate::new(all), 1_024, now)
}

/// Opens a session if no limit forbids it.
fn is_opened(handshakes: &mut Handshakes<u32>, caller: u32, now: Instant) -> bool {
    let excess = handshakes.excess(caller, now);
    let opened = excess == Excess::default();
    if opened {
        handshakes.add(caller, excess, now);
    }
    opened
}

/// Opens as many sessions as possible.
fn opened_at_once(handshakes: &mut Handshakes<u32>, caller: u32, now: Instant) -> usize {
    let tries = 0..100_000;
    tries
        .take_while(|_| is_opened(handshakes, caller, now))
        .count()
}

#[test]
fn without_limits_nobody_is_refused_and_nobody_is_remembered() {
    let now = Instant::now();
    let mut free = handshakes(0, 0, now);
    assert_eq!(opened_at_once(&mut free, 1, now), 100_000);
    assert!(free.callers.of(1, now) < 0.5);
}

#[test]
fn one_caller_takes_at_most_its_own_rate_and_two_thirds_of_that_of_all() {
    let now = Instant::now();
    assert_eq!(opened_at_once(&mut handshakes(OWN, 0, now), 1, now), 200);
    // With each session the bound sinks: 1000 * (1 - used / 2000) is reached at 667.
    assert_eq!(opened_at_once(&mut handshakes(0, ALL, now), 1, now), 667);
    assert_eq!(opened_at_once(&mut handshakes(ALL, 50, now), 1, now), 333);
    let mut both = handshakes(OWN, ALL, now);
    assert_eq!(opened_at_once(&mut both, 1, now), 200);
    assert!(both.excess(1, now).of_caller.is_some());
    assert_eq!(both.excess(2, now), Excess::default());
}

#[test]
fn who_opened_less_is_refused_later() {
    let now = Instant::now();
    let mut shared = handshakes(OWN, ALL, now);
    let first: Vec<usize> = (0..8)
        .map(|caller| opened_at_once(&mut shared, caller, now))
        .collect();
    assert!(
        first.is_sorted_by(|before, after| before >= after),
        "{first:?}"
    );
    assert!(first[7] > 0, "{first:?}");
    let excess = shared.excess(0, now);
    assert!(excess.of_all.is_some(), "{excess:?}");
    // Somebody who has opened nothing is admitted for as long as there is room at all.
    for newcomer in 100..110 {
        assert!(is_opened(&mut shared, newcomer, now), "{newcomer}");
    }
}

#[test]
fn what_exceeds_a_limit_and_is_admitted_does_not_count_towards_it() {
    let now = Instant::now();
    let mut tried = handshakes(1, ALL, now);
    for _ in 0..50 {
        let excess = tried.excess(1, now);
        tried.add(1, excess, now);
    }
    let (own, all) = (tried.callers.of(1, now), tried.all.at(now));
    assert!(
        (own - 10.0).abs() < 0.01 && (all - 50.0).abs() < 0.01,
        "{own} {all}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However many others open as many as they can, from the start and for ever: a caller that takes less than its fair part is
    /// never refused.
    #[test]
    fn the_excess_of_others_never_uses_the_share_of_a_modest_caller(
        greedy in 1_u32..40,
        tries in 1_usize..4,
        order in prop::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let start = Instant::now();
        let mut shared = handshakes(OWN, ALL, start);
        let fair = f64::from(u32::try_from(ALL).unwrap()) / f64::from(greedy + 1);
        let pause = Duration::from_secs_f64(2.0 / fair.min(20.0));
        let (mut next, mut refused) = (start, 0);
        for tick in 0..500_usize {
            let now = start + Duration::from_millis(50) * u32::try_from(tick).unwrap();
            for number in 0..usize::try_from(greedy).unwrap() {
                let caller = order[(tick + number) % order.len()].index(usize::try_from(greedy).unwrap());
                for _ in 0..tries {
                    refused += usize::from(!is_opened(&mut shared, u32::try_from(caller).unwrap(), now));
                }
            }
            if now >= next {
                next += pause;
                prop_assert!(is_opened(&mut shared, 1_000, now), "refused at {:?}", now - start);
            }
        }
        prop_assert!(greedy < 8 || refused > 0, "nobody was held");
    }
}

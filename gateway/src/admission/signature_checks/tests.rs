use std::sync::Arc;

use shared::metrics::{LabelledCount, Meters};

use super::*;
use crate::admission::limit_metrics::LimitMetrics;

const BAD: Caller = Caller::Subject(1);
const OTHER: Caller = Caller::Subject(2);

/// One signature per second may be checked in vain, ten at once.
fn checks(tried_out: &[&str]) -> (SignatureChecks, Arc<LimitMetrics>) {
    let metrics = Arc::new(LimitMetrics::new(&Meters::local("gateway").unwrap()));
    let tried_out: Vec<String> = tried_out.iter().map(|text| (*text).to_owned()).collect();
    let enforcement = Enforcement::new(&tried_out, Arc::clone(&metrics));
    (SignatureChecks::new(1, enforcement), metrics)
}

fn count(counts: &LabelledCount) -> u64 {
    let found = counts
        .get()
        .find(|(code, _)| *code == "wrong_signature_rate");
    found.map_or(0, |(_, count)| count)
}

/// Shows tokens that nobody has signed. Returns how many of them were checked.
fn try_bad(checks: &SignatureChecks, caller: Caller, tries: u32, now: Instant) -> u32 {
    let mut checked = 0;
    for number in 0..tries {
        let begun = checks.payer(caller).begin(&format!("bad {number}"), now);
        if let Ok(check) = begun {
            check.was_in_vain(1, now);
            checked += 1;
        }
    }
    checked
}

#[test]
fn a_caller_that_shows_many_bad_tokens_is_refused_without_a_check() {
    let (checks, metrics) = checks(&[]);
    let start = Instant::now();
    assert_eq!(try_bad(&checks, BAD, 50, start), 10);
    assert_eq!(count(&metrics.refused), 40);
    assert_eq!(count(&metrics.dry_run), 0);
    let payer = checks.payer(BAD);
    assert!(payer.begin_first("bad", start).is_none());
    assert_eq!(count(&metrics.refused), 40);
    // Nobody else.
    assert!(checks.payer(OTHER).begin_first("bad", start).is_some());
    assert_eq!(try_bad(&checks, OTHER, 5, start), 5);
    // What was used fades.
    assert_eq!(
        try_bad(&checks, BAD, 50, start + Duration::from_secs(1000)),
        10
    );
}

#[test]
fn each_signature_that_was_computed_counts() {
    let (checks, _) = checks(&[]);
    let start = Instant::now();
    let payer = checks.payer(BAD);
    payer.begin("bad", start).unwrap().was_in_vain(9, start);
    // It was refused before any.
    payer.begin("bad", start).unwrap().was_in_vain(0, start);
    payer.begin("bad", start).unwrap().was_in_vain(4, start);
    let limited = payer.begin("bad", start).unwrap_err();
    assert_eq!(limited.status(), 429);
    // It fades from 13 to 9 in 3.7 s.
    assert_eq!(limited.retry_after(), "4");
}

#[test]
fn a_token_that_was_good_lately_is_checked_all_the_same() {
    let (checks, metrics) = checks(&[]);
    let start = Instant::now();
    checks.payer(OTHER).begin("good", start).unwrap().was_good();
    try_bad(&checks, BAD, 20, start);
    let payer = checks.payer(BAD);
    assert!(payer.begin_first("good", start).is_some());
    payer.begin("good", start).unwrap();
    // One that nobody has shown before waits.
    payer.begin("good, too", start).unwrap_err();
    assert_eq!(count(&metrics.refused), 11);
}

#[test]
fn a_dry_run_counts_what_would_be_refused_and_checks_it() {
    let (checks, metrics) = checks(&["wrong-signature-rate"]);
    let start = Instant::now();
    assert_eq!(try_bad(&checks, BAD, 50, start), 50);
    assert_eq!(count(&metrics.dry_run), 40);
    assert_eq!(count(&metrics.refused), 0);
    assert!(checks.payer(BAD).begin_first("bad", start).is_some());
    // As if the 40 had been refused, they do not count.
    let later = start + Duration::from_secs(1000);
    assert_eq!(try_bad(&checks, BAD, 10, later), 10);
    assert_eq!(count(&metrics.dry_run), 40);
}

#[test]
fn without_a_rate_everything_is_checked() {
    let metrics = Arc::new(LimitMetrics::new(&Meters::local("gateway").unwrap()));
    let checks = SignatureChecks::new(0, Enforcement::new(&[], metrics));
    assert_eq!(try_bad(&checks, BAD, 10_000, Instant::now()), 10_000);
}

#[test]
fn good_tokens_are_known_until_as_many_others_were_shown() {
    let mut good = GoodTokens::new(4);
    for number in 0..8 {
        good.add(number);
    }
    assert!((0..8).all(|number| good.contains(number)));
    // Shown again.
    good.add(7);
    good.add(8);
    assert!(!good.contains(0));
    assert!((4..9).all(|number| good.contains(number)));
    assert!(good.newer.len() + good.older.len() <= 8);
}

use super::*;

const AWAY_AFTER: Duration = Duration::from_secs(3);

#[track_caller]
fn check(observed: PathObservation, age: Duration, expected: (Readiness, u16, bool)) {
    let now = Instant::now() + age;
    let status = PathStatus::evaluate(&observed, now, AWAY_AFTER);
    assert_eq!(
        (status.status, status.http_status(), status.is_degraded()),
        expected
    );
}

fn healthy() -> PathObservation {
    let now = Some(Instant::now());
    PathObservation {
        redis: now,
        ingest: now,
        subscribed: now,
        listening: Listening::Yes,
        ..PathObservation::default()
    }
}

#[test]
fn a_path_that_answers_is_ok() {
    check(healthy(), Duration::ZERO, (Readiness::Ok, 200, false));
}

#[test]
fn a_gateway_is_unready_until_redis_has_answered_once() {
    check(
        PathObservation::default(),
        Duration::ZERO,
        (Readiness::Unready, 503, true),
    );
}

/// A restart of the process would not help, so `/health` does not ask for one.
#[test]
fn a_gateway_that_can_admit_nobody_is_unready_and_says_why() {
    let observed = PathObservation {
        has_no_key: true,
        ..healthy()
    };
    check(observed, Duration::ZERO, (Readiness::Unready, 503, false));
    let status = PathStatus::evaluate(&observed, Instant::now(), AWAY_AFTER);
    let reason = status.dependencies.keys.and_then(|keys| keys.reason);
    assert_eq!(reason, Some(NO_KEY));
    assert!(status.is_serving);
    let healthy = PathStatus::evaluate(&healthy(), Instant::now(), AWAY_AFTER);
    assert_eq!(healthy.dependencies.keys, None);
}

#[test]
fn a_gateway_that_never_reached_redis_does_not_claim_its_subscriptions() {
    let now = Instant::now();
    let status = PathStatus::evaluate(&PathObservation::default(), now, AWAY_AFTER);
    let subscriptions = status.dependencies.subscriptions;
    let expected = (false, None, Some(NEVER_SUBSCRIBED));
    let found = (subscriptions.ok, subscriptions.age_ms, subscriptions.reason);
    assert_eq!(found, expected);
}

#[test]
fn losing_redis_later_makes_it_degraded_but_it_stays_ready() {
    check(
        healthy(),
        Duration::from_secs(4),
        (Readiness::Degraded, 200, true),
    );
}

#[test]
fn losing_every_ingest_makes_it_degraded_but_it_stays_ready() {
    let observed = PathObservation {
        listening: Listening::No,
        ..healthy()
    };
    check(observed, Duration::ZERO, (Readiness::Degraded, 200, true));
}

#[test]
fn an_ingest_that_receives_nothing_is_ok_and_says_so() {
    let observed = PathObservation {
        listening: Listening::Quiet,
        ..healthy()
    };
    check(observed, Duration::ZERO, (Readiness::Ok, 200, false));
    let status = PathStatus::evaluate(&observed, Instant::now(), AWAY_AFTER);
    let ingest = status.dependencies.ingest;
    assert_eq!((ingest.ok, ingest.reason), (true, Some(QUIET)));
}

#[test]
fn a_system_without_a_place_for_new_detectors_is_degraded_and_says_so() {
    for (places, reason) in [
        (PlacesLeft::ForDanger, PLACES_FOR_DANGER),
        (PlacesLeft::NoneLeft, NO_PLACES),
        (PlacesLeft::Uncounted, PLACES_UNCOUNTED),
    ] {
        let observed = PathObservation {
            places,
            ..healthy()
        };
        check(observed, Duration::ZERO, (Readiness::Degraded, 200, true));
        let status = PathStatus::evaluate(&observed, Instant::now(), AWAY_AFTER);
        let ingest = status.dependencies.ingest;
        // What is stored is current.
        assert_eq!((ingest.ok, ingest.reason), (true, Some(reason)));
        assert!(!status.is_stored_data_old());
    }
}

#[test]
fn a_draining_gateway_is_unready() {
    let observed = PathObservation {
        is_draining: true,
        ..healthy()
    };
    check(observed, Duration::ZERO, (Readiness::Unready, 503, false));
}

#[test]
fn a_gateway_with_a_broken_part_is_unready() {
    let observed = PathObservation {
        is_broken: true,
        ..healthy()
    };
    check(observed, Duration::ZERO, (Readiness::Unready, 503, true));
}

#[test]
fn a_redis_that_refuses_makes_it_degraded_at_once_and_the_status_says_why() {
    let observed = PathObservation {
        redis_problem: Some(RedisProblem::Refuses("OOM: Redis has no memory left")),
        ..healthy()
    };
    check(observed, Duration::ZERO, (Readiness::Degraded, 200, true));
    let status = PathStatus::evaluate(&observed, Instant::now(), AWAY_AFTER);
    let Dependencies {
        redis,
        broker,
        ingest,
        subscriptions,
        keys: _,
    } = status.dependencies;
    assert!(!redis.ok && !broker.ok && !ingest.ok && subscriptions.ok);
    assert_eq!(redis.reason, Some("OOM: Redis has no memory left"));
    assert_eq!(broker.reason, Some(INGEST_UNKNOWN));
}

#[test]
fn a_full_redis_makes_it_degraded_but_redis_is_ok_and_stored_data_is_not_old() {
    let observed = PathObservation {
        fullness: ObservedFullness {
            own: Fullness::Full,
            ingest: Fullness::Full,
        },
        ..healthy()
    };
    check(observed, Duration::ZERO, (Readiness::Degraded, 200, true));
    let now = Instant::now();
    let status = PathStatus::evaluate(&observed, now, AWAY_AFTER);
    let redis = status.dependencies.redis;
    assert!(redis.ok && redis.reason == Some(REDIS_FULL), "{redis:?}");
    let handle = StatusHandle::new(now);
    handle.replace(status, now);
    assert_eq!(handle.data_age(now), None);
    // A reason why Redis cannot be used at all comes first.
    let refused = PathObservation {
        redis_problem: Some(RedisProblem::Refuses("NOPERM")),
        ..observed
    };
    let status = PathStatus::evaluate(&refused, now, AWAY_AFTER);
    assert_eq!(status.dependencies.redis.reason, Some("NOPERM"));
}

#[test]
fn a_gateway_says_that_alarms_are_stored_only_if_an_ingest_reports_it() {
    use Fullness::{Free, Full, ReserveLow, ReserveUsedUp};
    for (own, ingest, listening, expected) in [
        (Free, Free, Listening::Yes, (true, None)),
        // Either may measure it first.
        (Full, Free, Listening::Yes, (true, Some(REDIS_FULL))),
        (Free, Full, Listening::Quiet, (true, Some(REDIS_FULL))),
        // Each has its own reserve.
        (ReserveLow, Full, Listening::Yes, (true, Some(REDIS_FULL))),
        (
            Full,
            ReserveLow,
            Listening::Yes,
            (true, Some(REDIS_RESERVE_LOW)),
        ),
        (
            ReserveUsedUp,
            Full,
            Listening::Yes,
            (true, Some(FULL_AND_OWN_USED_UP)),
        ),
        (
            ReserveUsedUp,
            ReserveLow,
            Listening::Yes,
            (true, Some(RESERVE_LOW_AND_OWN_USED_UP)),
        ),
        // An ingest whose reserve is used up does not report.
        (Full, Free, Listening::No, (true, Some(FULL_WITHOUT_INGEST))),
        (ReserveUsedUp, Free, Listening::No, (false, Some(NO_MEMORY))),
    ] {
        let observed = PathObservation {
            fullness: ObservedFullness { own, ingest },
            listening,
            ..healthy()
        };
        let status = PathStatus::evaluate(&observed, Instant::now(), AWAY_AFTER);
        let redis = status.dependencies.redis;
        assert_eq!(
            (redis.ok, redis.reason),
            expected,
            "{own:?} {ingest:?} {listening:?}"
        );
        assert_eq!(status.is_stored_data_old(), listening == Listening::No);
    }
}

#[test]
fn unconfirmed_subscriptions_make_it_degraded_but_stored_data_is_not_old() {
    let observed = PathObservation {
        unconfirmed: 3,
        ..healthy()
    };
    check(observed, Duration::ZERO, (Readiness::Degraded, 200, true));
    let now = Instant::now();
    let handle = StatusHandle::new(now);
    handle.replace(PathStatus::evaluate(&observed, now, AWAY_AFTER), now);
    assert_eq!(handle.data_age(now), None);
}

#[test]
fn data_has_an_age_while_the_data_path_does_not_work() {
    let start = Instant::now();
    let handle = StatusHandle::new(start);
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(handle.data_age(at(1)), Some(Duration::from_secs(1)));
    let observed = healthy();
    handle.replace(PathStatus::evaluate(&observed, at(1), AWAY_AFTER), at(1));
    assert_eq!(handle.data_age(at(2)), None);
    handle.replace(PathStatus::evaluate(&observed, at(9), AWAY_AFTER), at(9));
    assert_eq!(handle.data_age(at(10)), Some(Duration::from_secs(9)));
}

#[test]
fn one_missed_answer_does_not_count() {
    let observed = PathObservation {
        redis_problem: Some(RedisProblem::Silent),
        ..healthy()
    };
    check(
        observed,
        Duration::from_secs(1),
        (Readiness::Ok, 200, false),
    );
}

#[test]
fn the_body_has_the_documented_fields_in_order() {
    let status = PathStatus::evaluate(&PathObservation::default(), Instant::now(), AWAY_AFTER);
    let body = serde_json::to_string(&status).unwrap();
    assert_eq!(
        body,
        r#"{"status":"unready","dependencies":{"redis":{"ok":false,"age_ms":null,"reason":"no answer from Redis"},"broker":{"ok":false,"age_ms":null,"reason":"unknown while Redis cannot be used"},"ingest":{"ok":false,"age_ms":null,"reason":"unknown while Redis cannot be used"},"subscriptions":{"ok":false,"age_ms":null,"reason":"this gateway has not subscribed in Redis yet"}}}"#
    );
}

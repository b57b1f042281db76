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
        is_listening: true,
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
        is_listening: false,
        ..healthy()
    };
    check(observed, Duration::ZERO, (Readiness::Degraded, 200, true));
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
    check(observed, Duration::ZERO, (Readiness::Unready, 503, false));
}

#[test]
fn the_body_has_the_documented_fields_in_order() {
    let status = PathStatus::evaluate(&PathObservation::default(), Instant::now(), AWAY_AFTER);
    let body = serde_json::to_string(&status).unwrap();
    assert_eq!(
        body,
        r#"{"status":"unready","dependencies":{"redis":{"ok":false,"age_ms":null},"broker":{"ok":false,"age_ms":null},"ingest":{"ok":false,"age_ms":null}}}"#
    );
}

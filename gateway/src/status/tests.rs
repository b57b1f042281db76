use super::*;

const AWAY_AFTER: Duration = Duration::from_secs(3);

#[track_caller]
fn check(seen: Observation, age: Duration, expected: (Level, u16, bool)) {
    let now = Instant::now() + age;
    let status = Status::judge(&seen, now, AWAY_AFTER);
    assert_eq!(
        (status.status, status.http_status(), status.is_degraded()),
        expected
    );
}

fn healthy() -> Observation {
    let now = Some(Instant::now());
    Observation {
        redis: now,
        ingest: now,
        is_listening: true,
        ..Observation::default()
    }
}

#[test]
fn path_that_answers_is_ok() {
    check(healthy(), Duration::ZERO, (Level::Ok, 200, false));
}

#[test]
fn gateway_is_unready_until_redis_answered_once() {
    check(
        Observation::default(),
        Duration::ZERO,
        (Level::Unready, 503, true),
    );
}

#[test]
fn losing_redis_later_degrades_but_stays_ready() {
    check(
        healthy(),
        Duration::from_secs(4),
        (Level::Degraded, 200, true),
    );
}

#[test]
fn losing_every_ingest_degrades_but_stays_ready() {
    let seen = Observation {
        is_listening: false,
        ..healthy()
    };
    check(seen, Duration::ZERO, (Level::Degraded, 200, true));
}

#[test]
fn draining_gateway_is_unready() {
    let seen = Observation {
        is_draining: true,
        ..healthy()
    };
    check(seen, Duration::ZERO, (Level::Unready, 503, false));
}

#[test]
fn broken_part_of_its_own_makes_it_unready() {
    let seen = Observation {
        is_broken: true,
        ..healthy()
    };
    check(seen, Duration::ZERO, (Level::Unready, 503, false));
}

#[test]
fn body_is_the_one_of_the_contract() {
    let status = Status::judge(&Observation::default(), Instant::now(), AWAY_AFTER);
    let body = serde_json::to_string(&status).unwrap();
    assert_eq!(
        body,
        r#"{"status":"unready","dependencies":{"redis":{"ok":false,"age_ms":null},"broker":{"ok":false,"age_ms":null},"ingest":{"ok":false,"age_ms":null}}}"#
    );
}

use std::time::Duration;

use shared::args::Usage;

use super::*;

#[test]
fn since_is_a_time_or_an_age() {
    let time = |iso: &str| Since::At(Time::from_iso(iso).unwrap());
    for (text, expected) in [
        ("2026-01-28", time("2026-01-28T00:00:00Z")),
        ("2026-01-28T11:37:12Z", time("2026-01-28T11:37:12Z")),
        ("2026-01-28T11:37:12+05:30", time("2026-01-28T06:07:12Z")),
        (" 24h ", Since::Ago(Duration::from_hours(24))),
        ("35d", Since::Ago(Duration::from_hours(35 * 24))),
    ] {
        assert_eq!(since(text), Ok(expected), "{text}");
    }
    for bad in ["", "yesterday", "24", "2026-13-01", "-24h"] {
        assert!(
            since(bad).unwrap_err().starts_with("expected a time"),
            "{bad}"
        );
    }
}

#[test]
fn an_unreadable_line_is_exported_as_it_is_stored() {
    let line = ExportedLine::of(LoggedEntry {
        id: "log-3-1000-0".to_owned(),
        device: "D".to_owned(),
        written: Time::from_millis(1000),
        entry: Err("{half".to_owned()),
    });
    let line = serde_json::to_value(line).unwrap();
    assert_eq!(line["change"], "unreadable");
    assert_eq!(line["raw"], "{half");
    assert_eq!(line["timestamp"], "1970-01-01T00:00:01.000Z");
    assert_eq!(line["alarm_id"], serde_json::Value::Null);
}

#[test]
fn a_line_names_the_first_of_the_alarms_that_are_logged_together() {
    let exported = |log_group: Option<&str>| {
        let at = Time::from_millis(1000);
        let alarm = shared::alarm::Alarm {
            log_group: log_group.map(str::to_owned),
            ..shared::alarm::Alarm::new(
                "second".to_owned(),
                Condition::AlarmLevel1,
                at,
                shared::position::Position::default(),
            )
        };
        let entry = AlarmLogEntry {
            change: Some(ChangeKind::Raised),
            alarm: Some(alarm),
            ..AlarmLogEntry::empty(at)
        };
        let line = ExportedLine::of(LoggedEntry {
            id: "log-3-1000-0".to_owned(),
            device: "D".to_owned(),
            written: at,
            entry: Ok(entry),
        });
        serde_json::to_value(line).unwrap()
    };
    let line = exported(Some("first"));
    assert_eq!(
        (&line["alarm_id"], &line["first_alarm_id"]),
        (&"second".into(), &"first".into())
    );
    assert_eq!(exported(None).get("first_alarm_id"), None);
}

#[test]
fn only_the_settings_of_redis_are_needed() {
    let read = |args: &[&str]| {
        let args = ["ingest"].iter().chain(args).map(Into::into);
        commands::read_args(args.collect(), |args: &mut Args| &mut args.redis)
    };
    let args = read(&["--redis-url", "redis://h", "--since", "24h"]).unwrap();
    assert_eq!(args.since, Some(Since::Ago(Duration::from_hours(24))));
    let usage = read(&["--since", "soon"]).unwrap_err();
    let Usage::Problems(problems) = usage else {
        panic!("{usage:?}")
    };
    assert_eq!(problems.len(), 2, "{problems:?}");
}

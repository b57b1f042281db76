use super::*;

const TEMPLATE: &str = r#"{"template":"t","payload":{"v":"${value}","t":"${time}"}}"#;

fn error(lines: &[&str]) -> String {
    Script::parse(&lines.join("\n")).unwrap_err().to_string()
}

/// The payloads of the first entry, as they would be published at the start.
fn text_of(script: &Script) -> &TextPayload {
    match &script.entries[0].action {
        Action::Publish(Publish {
            payload: Payload::Text(text),
            ..
        }) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn comments_notes_and_blank_lines_say_nothing() {
    let script = Script::parse("// a comment\n# another\n\n{\"note\":\"n\"}\n").unwrap();
    assert!(script.entries.is_empty());
    assert_eq!(script.start, Time::from_iso(DEFAULT_START).unwrap());
}

#[test]
fn a_byte_order_mark_says_nothing() {
    let script = Script::parse("\u{feff}{\"at\":\"5s\"}\n").unwrap();
    assert_eq!(script.entries[0].at_ms, 5_000);
}

#[test]
fn every_flag_of_the_rules_is_a_setting() {
    let script = Script::parse(
        r#"{"settings":{"offline_after":"90s","alarm_deadband":"0.5","zero_level":"unused","device_utc_offset":"-03:00","unit_codes":["1=ppm","2=%LEL"],"max_devices":3}}"#,
    )
    .unwrap();
    let settings = script.settings;
    assert_eq!(settings.alarms.offline_after.as_secs(), 90);
    assert_eq!(settings.format.utc_offset_seconds, -10_800);
    assert_eq!(settings.format.unit_codes.lookup("2"), Some("%LEL"));
    assert_eq!(settings.max_devices, 3);
}

/// Checks the beginning of the error.
#[track_caller]
fn check_error(lines: &[&str], named: &str) {
    let found = error(lines);
    assert!(found.starts_with(named), "{lines:?}: {found}");
}

#[test]
fn a_line_that_cannot_be_read_is_named() {
    for (lines, named) in [
        (
            &[r#"{"settings":{"ofline_after":"3m"}}"#][..],
            "line 1: --ofline-after is no setting: did you mean --offline-after?",
        ),
        (
            &[r#"{"settings":{"offline_after":"3"}}"#],
            "line 1: --offline-after",
        ),
        (&["", "{"], "line 2: "),
        (&[r#"{"at":"5"}"#], "line 1: `5` is not a time"),
        (
            &[r#"{"at":"5s"}"#, r#"{"at":"4s"}"#],
            "line 2: `at` goes back",
        ),
        (
            &[r#"{"at":"0s","publish_like":"x"}"#],
            "line 1: there is no template `x`",
        ),
        (
            &[r#"{"at":"0s","publish":{},"publish_raw":""}"#],
            "line 1: one message",
        ),
        (
            &[r#"{"at":"0s","publish":{},"listening":false}"#],
            "line 1: one line says one thing",
        ),
        (
            &[r#"{"at":"0s","value":3}"#],
            "line 1: there is nothing to publish",
        ),
        (
            &[r#"{"at":"0s","every":"1s","publish":{}}"#],
            "line 1: `every` and `times`",
        ),
        (
            &[r#"{"at":"0s","publish_raw":{"base64":"?"}}"#],
            "line 1: base64",
        ),
        (
            &[
                TEMPLATE,
                r#"{"at":"0s","publish_raw":{"like":"t","apend":""}}"#,
            ],
            "line 2: publish_raw: unknown field `apend`",
        ),
        (
            &[r#"{"at":"0s","expect":{"opne":[]}}"#],
            "line 1: unknown field `opne`",
        ),
        (
            &[r#"{"at":"0s","always":{"open":[]}}"#],
            "line 1: `always` and `until`",
        ),
        (
            &[r#"{"at":"0s","until":"1s","always":{"changes":[]}}"#],
            "line 1: `always` cannot",
        ),
        (
            &[r#"{"at":"0s","acknowledge":{"alarm":null}}"#],
            "line 1: `alarm` is",
        ),
        (
            &[r#"{"at":"0s"}"#, r#"{"start":"2026-01-28"}"#],
            "line 2: `start` must come before",
        ),
        (&[r#"{"start":"soon"}"#], "line 1: `soon` is not a time"),
    ] {
        check_error(lines, named);
    }
}

#[test]
fn a_likely_mistake_is_explained() {
    for (lines, named) in [
        (
            &[r#"{"settings":{"mqtt_broker":"mqtt://h"}}"#][..],
            "line 1: `mqtt_broker` is a setting of ingest, but not of its rules. A replay has only: offline_after, ",
        ),
        (
            &[r#"{"settings":{"redis-url":"redis://h"}}"#],
            "line 1: `redis-url` is a setting of ingest, but not of its rules. A replay has only: offline_after, ",
        ),
        (
            &[r#"{"settings":{"http_port":1}}"#],
            "line 1: `http_port` is a setting of ingest, but not of its rules. A replay has only: offline_after, ",
        ),
        (
            &["{", "}"],
            "line 1: EOF while parsing an object at line 1 column 1: each object stands on one line",
        ),
        (&["[]"], "line 1: this is a JSON array, but"),
        (&["", "[", "{}", "]"], "line 2: this is a JSON array, but"),
        (
            &[r#"{"at":"0s","expect":{"data":{"alarm_statuss":null}}}"#],
            "line 1: unknown field `alarm_statuss` in `data`, expected one of `device_name`, ",
        ),
        (
            &[r#"{"at":"0s","until":"1s","always":{"data":{"quality":{"not":"bad"}}}}"#],
            "line 1: unknown field `quality` in `data`, expected one of `device_name`, ",
        ),
        (
            &[r#"{"at":"0s","expect":{"alarm":{"treshold":null}}}"#],
            "line 1: unknown field `treshold` in `alarm`, expected one of `number`, `id`, ",
        ),
    ] {
        check_error(lines, named);
    }
}

#[test]
fn a_payload_keeps_the_bytes_of_its_line() {
    let script = Script::parse(r#"{"at":"0s","publish":{ "a" : 1.50, "a":2 }}"#).unwrap();
    assert_eq!(text_of(&script).text, r#"{ "a" : 1.50, "a":2 }"#);
    let script = Script::parse(r#"{"at":"0s","publish":null}"#).unwrap();
    assert_eq!(text_of(&script).text, "null");
}

#[test]
fn a_template_is_changed_by_its_line() {
    let line = r#"{"at":"0s","publish_like":"t","value":null,"with":{"t":null,"n":{"m":1}}}"#;
    let script = Script::parse(&[TEMPLATE, line].join("\n")).unwrap();
    let text = text_of(&script);
    assert_eq!(text.text, r#"{"v":"${value}","n":{"m":1}}"#);
    assert_eq!(text.values, ["null"]);
}

#[test]
fn bytes_are_published_as_they_are() {
    let script = Script::parse(
        "{\"at\":\"0s\",\"publish_raw\":\"${x}\"}\n{\"at\":\"0s\",\"publish_raw\":{\"base64\":\"/wA=\"}}",
    )
    .unwrap();
    let bytes = |index: usize| match &script.entries[index].action {
        Action::Publish(Publish {
            payload: Payload::Bytes(bytes),
            ..
        }) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bytes(0), b"${x}");
    assert_eq!(bytes(1), [0xff, 0]);
}

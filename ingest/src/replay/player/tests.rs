use super::*;
use crate::replay::file::Script;

const TEMPLATE: &str = r#"{"template":"co","payload":{"OTSM-2 Serial Number":"OTSM-0114","timestamp":"${time}","Parameters":{"Live Sensor Readings ":"${value}","Alarm Level A1":250,"Alarm Level A2":500,"Alarm Level A3":1000}}}"#;

/// Plays these lines behind the template, and returns the changes and the differences as texts.
fn play(lines: &[&str]) -> (Vec<String>, Vec<String>) {
    let text = [&[TEMPLATE], lines].concat().join("\n");
    let script = Script::parse(&text).unwrap();
    let mut changes = Vec::new();
    let played = Player::new(&script, true).play(|output| {
        if let Output::Change(found) = output {
            let kind = found.change.kind.code();
            let at = found.at.millis_since(script.start);
            changes.push(format!(
                "{at} {kind} {}",
                found.change.alarm.condition.code()
            ));
        }
    });
    let differences = played.unwrap().into_iter();
    let differences = differences.map(|found| format!("{}: {}", found.line, found.text));
    (changes, differences.collect())
}

#[test]
fn deadlines_are_evaluated_at_their_time_before_what_comes_later() {
    let (changes, differences) = play(&[
        r#"{"at":"0s","publish_like":"co","value":300}"#,
        r#"{"at":"10m","publish_like":"co","value":5}"#,
        r#"{"at":"10m","expect":{"open":[]}}"#,
    ]);
    assert_eq!(
        changes[..2],
        ["0 raised alarm_level_1", "180000 raised device_offline"]
    );
    assert!(changes.contains(&"600000 cleared device_offline".to_owned()));
    assert!(differences.is_empty(), "{differences:?}");
}

#[test]
fn repetitions_and_later_lines_happen_in_the_order_of_time() {
    let (changes, differences) = play(&[
        r#"{"at":"0s","every":"10s","times":4,"publish_like":"co","values":[5,300]}"#,
        r#"{"at":"15s","expect":{"changes":["raised alarm_level_1"]}}"#,
        r#"{"at":"25s","expect":{"changes":["cleared alarm_level_1"]}}"#,
    ]);
    assert_eq!(changes[0], "10000 raised alarm_level_1");
    assert!(differences.is_empty(), "{differences:?}");
}

#[test]
fn what_is_not_as_expected_is_a_difference_with_its_line() {
    let (_, differences) = play(&[
        r#"{"at":"0s","publish_like":"co","value":300}"#,
        r#"{"at":"1s","expect":{"changes":[],"open":["alarm_level_1/unacknowledged"]}}"#,
        r#"{"at":"2s","acknowledge":{"alarm":2}}"#,
        r#"{"at":"3s","acknowledge":{"alarm":1,"answer":"not_found"}}"#,
    ]);
    assert_eq!(
        differences,
        [
            "3: changes: expected [], are [raised alarm_level_1]",
            "4: alarm 2 has not been raised",
            "5: answer: expected NotFound, is Acknowledged",
        ]
    );
}

#[test]
fn what_must_always_hold_is_checked_at_every_message_and_deadline() {
    let line = r#"{"at":"0s","until":"10m","always":{"data":{"data_quality":"good"}}}"#;
    let publish = r#"{"at":"0s","publish_like":"co","value":5}"#;
    let (_, differences) = play(&[publish, line, r#"{"at":"1m"}"#]);
    // It fails once, when the device becomes silent.
    assert_eq!(differences.len(), 1, "{differences:?}");
    assert!(differences[0].starts_with("3: data: `data_quality`"));
    let short = line.replace("10m", "2m");
    let (_, differences) = play(&[publish, &short, r#"{"at":"1m"}"#]);
    assert!(differences.is_empty(), "{differences:?}");
}

#[test]
fn an_acknowledgement_covers_what_was_seen() {
    let (_, differences) = play(&[
        r#"{"at":"0s","publish_like":"co","value":300}"#,
        r#"{"at":"5s","publish_like":"co","value":1200}"#,
        r#"{"at":"6s","acknowledge":{"alarm":1,"seen":{"at":"3s"},"answer":"escalated"}}"#,
        r#"{"at":"7s","acknowledge":{"alarm":{"type":"alarm_level_3"},"answer":"acknowledged"}}"#,
    ]);
    assert!(differences.is_empty(), "{differences:?}");
}

use serde_json::{Value, json};

use super::oracle::{Sample, changes};
use super::positions::check_positions;
use crate::browser::BrowserEvent;

#[test]
fn the_oracle_names_every_change_of_an_alarm() {
    let samples = [
        (0, false),
        (1, false),
        (3, false),
        (3, false),
        (2, false),
        (0, false),
        (0, true),
        (0, true),
        (0, false),
        (1, false),
        (0, true),
        (0, false),
    ];
    let changes = changes(
        samples
            .into_iter()
            .map(|(level, fault)| Sample { level, fault }),
    );
    assert_eq!(
        changes,
        [
            "raised alarm_level_1",
            "escalated alarm_level_3",
            "de_escalated alarm_level_2",
            "cleared alarm_level_2",
            "raised sensor_fault",
            "cleared sensor_fault",
            "raised alarm_level_1",
            "raised sensor_fault",
            "cleared sensor_fault",
            "cleared alarm_level_1",
        ]
    );
}

const SERIAL: &str = "OTSM-0001";

fn seen(what: &str, name: &str, body: &Value) -> BrowserEvent {
    let seen = json!({"what": what, "name": name, "body": body});
    serde_json::from_value(seen).expect("a line of a browser")
}

const DATA: &str = "device:data";
const ALERTS: &str = "device:alerts";
const CHANGED: &str = "device:alerts:changed";

/// Builds the body of an event of this position, with these further fields.
fn body(seq: u64, fields: &[&str]) -> Value {
    // Times of one length, so that they compare as texts.
    let data = json!({"timestamp": format!("{seq:04}")});
    let mut body = json!({"deviceId": SERIAL, "epoch": "e", "seq": seq, "data": data});
    for field in fields {
        body[*field] = json!(true);
    }
    body
}

/// An event that is the last one of its position.
fn last(name: &str, seq: u64) -> BrowserEvent {
    seen("event", name, &body(seq, &[]))
}

/// An event with `more`.
fn part(name: &str, seq: u64) -> BrowserEvent {
    seen("event", name, &body(seq, &["more"]))
}

fn again(name: &str, seq: u64) -> BrowserEvent {
    seen("again", name, &body(seq, &["more"]))
}

fn connect() -> BrowserEvent {
    seen("connect", "websocket", &Value::Null)
}

fn answer(seq: u64) -> BrowserEvent {
    let body = json!({"ok": true, "epoch": "e", "seq": seq, "recovered": true});
    seen("followed", SERIAL, &body)
}

fn snapshot(seq: u64) -> [BrowserEvent; 2] {
    [
        seen("event", DATA, &body(seq, &["snapshot", "more"])),
        seen("event", ALERTS, &body(seq, &["snapshot"])),
    ]
}

fn check(events: impl IntoIterator<Item = BrowserEvent>) -> Result<(), String> {
    let events: Vec<BrowserEvent> = events.into_iter().collect();
    let checked = check_positions(&events, SERIAL);
    checked.map(drop).map_err(|err| format!("{err:#}"))
}

#[track_caller]
fn refused(events: impl IntoIterator<Item = BrowserEvent>, why: &str) {
    let refused = check(events);
    assert!(
        refused.as_ref().is_err_and(|err| err.contains(why)),
        "{refused:?}"
    );
}

/// The events of a recovery with a gap, cut off after the changes of positions 3 and 5.
fn broken_off() -> Vec<BrowserEvent> {
    vec![last(DATA, 1), part(CHANGED, 3), part(CHANGED, 5)]
}

#[test]
fn a_client_whose_recovery_broke_off_continues_after_its_newest_whole_position() {
    let continued = |from: u64| {
        let events = (from..=6).map(|seq| last(DATA, seq));
        check(broken_off().into_iter().chain([connect()]).chain(events))
    };
    assert_eq!(continued(2), Ok(()));
    for wrong in [1, 3, 4, 5, 6] {
        assert!(continued(wrong).is_err(), "from {wrong}");
    }
    let repeated = [
        connect(),
        again(CHANGED, 3),
        again(CHANGED, 5),
        part(CHANGED, 7),
    ];
    let repeated = broken_off().into_iter().chain(repeated);
    assert_eq!(
        check(repeated.chain(snapshot(8)).chain([answer(8)])),
        Ok(())
    );
}

#[test]
fn a_snapshot_ends_a_gap_with_its_last_event() {
    let complete = broken_off().into_iter().chain(snapshot(6));
    assert_eq!(check(complete.chain([last(DATA, 7)])), Ok(()));
    refused(broken_off(), "no snapshot");
    let [data, _] = snapshot(6);
    let broken = broken_off().into_iter().chain([data]);
    refused(broken.clone().chain([last(DATA, 7)]), "are missing");
    refused(broken.clone().chain([answer(6)]), "before its last event");
    refused(broken.chain([connect(), last(DATA, 7)]), "a gap without");
}

#[test]
fn a_position_is_whole_with_its_last_event_and_not_before() {
    let whole = [part(DATA, 1), part(ALERTS, 1), last(CHANGED, 1)];
    assert_eq!(
        check(whole.clone().into_iter().chain([last(DATA, 2)])),
        Ok(())
    );
    refused([part(DATA, 1), last(DATA, 2)], "are missing");
    refused(
        whole.into_iter().chain([last(CHANGED, 1)]),
        "after the last",
    );
    refused([last(DATA, 1), last(CHANGED, 1)], "after the last");
    refused([part(DATA, 1), answer(1)], "before its last event");
}

#[test]
fn a_position_that_was_cut_comes_again() {
    let cut = [last(DATA, 1), part(DATA, 2), connect()];
    let again = [again(DATA, 2), part(ALERTS, 2), last(CHANGED, 2), answer(2)];
    assert_eq!(check(cut.clone().into_iter().chain(again)), Ok(()));
    // A client that took position 2 for whole.
    refused(
        cut.clone().into_iter().chain([last(DATA, 3)]),
        "a gap without",
    );
    refused(
        cut.into_iter().chain([part(DATA, 2)]),
        "the same event twice",
    );
}

#[test]
fn positions_do_not_go_back_on_one_connection() {
    let back = broken_off().into_iter().chain([last(DATA, 4)]);
    refused(back, "went back from 5");
}

use serde_json::{Value, json};

use super::oracle::{Sample, changes};
use super::verdict::check_positions;
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

fn event(name: &str, seq: u64) -> BrowserEvent {
    // Times of one length, so that they compare as texts.
    let data = json!({"timestamp": format!("{seq:04}")});
    let body = json!({"deviceId": SERIAL, "epoch": "e", "seq": seq, "data": data});
    seen("event", name, &body)
}

fn connect() -> BrowserEvent {
    seen("connect", "websocket", &Value::Null)
}

/// Returns the events of a recovery with a gap, cut off after the changes of positions 3 and 5.
fn broken_off() -> Vec<BrowserEvent> {
    let (data, changed) = ("device:data", "device:alerts:changed");
    vec![event(data, 1), event(changed, 3), event(changed, 5)]
}

fn verdict(more: Vec<BrowserEvent>) -> Result<(), String> {
    let all: Vec<BrowserEvent> = broken_off().into_iter().chain(more).collect();
    let checked = check_positions(&all, SERIAL);
    checked.map(drop).map_err(|err| format!("{err:#}"))
}

#[test]
fn a_client_whose_recovery_broke_off_resumes_from_its_last_complete_position() {
    let on = |from: u64| -> Vec<BrowserEvent> {
        let events = (from..=6).map(|seq| event("device:data", seq));
        std::iter::once(connect()).chain(events).collect()
    };
    assert_eq!(verdict(on(4)), Ok(()));
    // It may resume from no earlier position, and after it nothing may be missing.
    for wrong in [2, 5, 6] {
        assert!(verdict(on(wrong)).is_err(), "from {wrong}");
    }
}

#[test]
fn positions_do_not_go_back_on_one_connection() {
    let back = verdict(vec![event("device:data", 4)]);
    assert!(back.is_err_and(|err| err.contains("went back from 5")));
    let unfinished = verdict(Vec::new());
    assert!(unfinished.is_err_and(|err| err.contains("no snapshot")));
}

use serde_json::{Value, json};

use super::oracle::{Sample, changes};
use super::verdict::walk;
use crate::browser::Seen;

#[test]
fn the_oracle_tells_the_life_of_an_alarm() {
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
    let told = changes(
        samples
            .into_iter()
            .map(|(level, fault)| Sample { level, fault }),
    );
    assert_eq!(
        told,
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

fn seen(what: &str, name: &str, body: &Value) -> Seen {
    let seen = json!({"what": what, "name": name, "body": body});
    serde_json::from_value(seen).expect("a line of a browser")
}

fn event(name: &str, seq: u64) -> Seen {
    // Times of one length, so that they compare as texts.
    let data = json!({"timestamp": format!("{seq:04}")});
    let body = json!({"deviceId": SERIAL, "epoch": "e", "seq": seq, "data": data});
    seen("event", name, &body)
}

fn connect() -> Seen {
    seen("connect", "websocket", &Value::Null)
}

/// What a client saw whose answer with `recovered: false` told the changes of 3 and 5, and no more.
fn broken_off() -> Vec<Seen> {
    let (data, changed) = ("device:data", "device:alerts:changed");
    vec![event(data, 1), event(changed, 3), event(changed, 5)]
}

fn verdict(more: Vec<Seen>) -> Result<(), String> {
    let all: Vec<Seen> = broken_off().into_iter().chain(more).collect();
    let walked = walk(&all, SERIAL);
    walked.map(drop).map_err(|err| format!("{err:#}"))
}

#[test]
fn a_client_whose_answer_broke_off_goes_on_from_its_last_whole_position() {
    let on = |from: u64| -> Vec<Seen> {
        let events = (from..=6).map(|seq| event("device:data", seq));
        std::iter::once(connect()).chain(events).collect()
    };
    assert_eq!(verdict(on(4)), Ok(()));
    // Not from before what was whole, and nothing behind it may be missing.
    for wrong in [2, 5, 6] {
        assert!(verdict(on(wrong)).is_err(), "from {wrong}");
    }
}

#[test]
fn on_one_connection_nothing_goes_back() {
    let told = verdict(vec![event("device:data", 4)]);
    assert!(told.is_err_and(|told| told.contains("went back from 5")));
    let unfinished = verdict(Vec::new());
    assert!(unfinished.is_err_and(|told| told.contains("no snapshot")));
}

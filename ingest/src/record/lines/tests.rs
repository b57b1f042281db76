use std::time::Duration;

use super::*;
use crate::replay::file::Script;
use crate::replay::player::{Input, Player};

fn raw(after_ms: u64, payload: &[u8]) -> RawPayload {
    RawPayload {
        arrived: Time::from_millis(1_800_000_000_000) + Duration::from_millis(after_ms),
        topic: "SubTronics/data".to_owned(),
        payload: payload.to_vec(),
        size: payload.len(),
        retain: false,
        dup: false,
    }
}

/// Writes a file of these payloads and returns what a replay of it publishes, with the milliseconds from the start.
fn replayed(payloads: &[RawPayload], serial: Option<&str>) -> Vec<(i64, Input)> {
    let mut lines = Lines::new(serial.map(str::to_owned), payloads[0].arrived);
    let mut text = lines.head(Some(r#"{"offline_after":"90s"}"#));
    for payload in payloads {
        text.extend(lines.of(payload));
        text.push('\n');
    }
    let script = Script::parse(&text).unwrap();
    assert_eq!(script.settings.alarms.offline_after.as_secs(), 90);
    let mut player = Player::new(&script, false);
    let mut found = Vec::new();
    while let Some(step) = player.step().unwrap() {
        found.push((step.at.millis_since(script.start), step.input));
    }
    found
}

#[test]
fn a_replay_publishes_the_same_bytes() {
    let payloads: [&[u8]; 8] = [
        br#"{"a":1,"a":2}"#,
        b"{ \"a\" : 1.50 }",
        b" {}",
        b"{\n}",
        br#"{"a":"${time}"}"#,
        b"hello \"you\"",
        b"\xff\0",
        b"",
    ];
    let all: Vec<RawPayload> = (0..)
        .zip(payloads)
        .map(|(at, bytes)| raw(at * 1500, bytes))
        .collect();
    let found = replayed(&all, None);
    assert_eq!(found.len(), payloads.len());
    for ((at, input), expected) in found.iter().zip(&all) {
        let Input::Message { payload, .. } = input else {
            panic!("{input:?}")
        };
        assert_eq!(payload, &expected.payload);
        assert_eq!(*at, expected.arrived.millis_since(all[0].arrived));
    }
}

#[test]
fn flags_and_the_order_of_time_are_kept() {
    let late = RawPayload {
        retain: true,
        dup: true,
        ..raw(5, b"{}")
    };
    // Recorded by another replica.
    let found = replayed(&[raw(0, b"{}"), raw(9, b"{}"), late], None);
    assert_eq!(found[2].0, 9);
    let Input::Message { retain, dup, .. } = found[2].1 else {
        panic!("{:?}", found[2])
    };
    assert!(retain && dup);
}

#[test]
fn a_recording_of_one_device_has_what_names_it() {
    let found = replayed(
        &[
            raw(0, b"{\"x\":\"OTSM-1\"}"),
            raw(1, b"OTSM-2 broken"),
            raw(2, b"{}"),
        ],
        Some("OTSM-2"),
    );
    assert_eq!(found.len(), 1);
}

#[test]
fn a_payload_that_is_not_kept_whole_is_a_comment() {
    let cut = RawPayload {
        size: 100_000,
        ..raw(0, b"{\"a\"")
    };
    assert!(replayed(&[cut], None).is_empty());
}

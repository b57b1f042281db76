use proptest::collection::btree_map;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use shared::position::Epoch;

use super::*;

fn base() -> Position {
    Position {
        epoch: Epoch::from_bits(1),
        seq: 7,
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn difference(before: &Value, now: &Value) -> Option<Value> {
    let changed = render(&raw(before), base(), &raw(now))?;
    Some(serde_json::from_str(changed.get()).unwrap())
}

/// Does what a client does with the payload.
fn apply(before: &Value, changed: &Value) -> Value {
    let mut data = before["data"].as_object().unwrap().clone();
    for name in changed["removed"].as_array().into_iter().flatten() {
        data.remove(name.as_str().unwrap());
    }
    data.extend(changed["changed"].as_object().unwrap().clone());
    data.into()
}

#[test]
fn only_what_differs_is_sent() {
    let before = json!({"deviceId": "a", "data": {"gas": "CO", "offset": 1, "clock_suspect": true, "place": "here, there, and at further places, far away from all of them and from each other"},
        "timestamp": "t1", "epoch": "e", "seq": 7, "age_ms": 0});
    let now = json!({"deviceId": "a", "data": {"gas": "CO", "offset": 2, "place": "here, there, and at further places, far away from all of them and from each other", "new": [1]},
        "timestamp": "t2", "epoch": "e", "seq": 9, "age_ms": 5, "skipped": 1, "more": true});
    let changed = difference(&before, &now).unwrap();
    let expected = json!({"deviceId": "a", "changed": {"offset": 2, "new": [1]}, "removed": ["clock_suspect"],
        "base": {"epoch": "000000000001", "seq": 7},
        "timestamp": "t2", "epoch": "e", "seq": 9, "age_ms": 5, "skipped": 1, "more": true});
    assert_eq!(changed.to_string(), expected.to_string());
}

#[test]
fn a_snapshot_and_a_stale_reading_are_sent_in_full() {
    let before = json!({"data": {"a": "a text that makes the difference shorter than the whole reading", "b": 1}});
    let now = |field: &str| {
        let mut now = before.clone();
        now["data"]["b"] = json!(2);
        now[field] = json!(true);
        now
    };
    assert!(difference(&before, &now("more")).is_some());
    assert_eq!(difference(&before, &now("snapshot")), None);
    assert_eq!(difference(&before, &now("stale")), None);
}

#[test]
fn what_is_no_object_or_would_not_get_shorter_is_sent_in_full() {
    let small = json!({"data": {"a": 1}, "seq": 8});
    assert_eq!(
        difference(&json!({"data": {"a": 2}, "seq": 7}), &small),
        None
    );
    for odd in [json!(1), json!({}), json!({"data": 1}), json!([{}])] {
        assert_eq!(difference(&odd, &small), None);
        assert_eq!(difference(&small, &odd), None);
    }
}

proptest! {
    #[test]
    fn a_client_that_applies_it_has_the_reading(
        before in btree_map("[a-e\"\\\\é]{1,2}", 0..4_i32, 0..8),
        now in btree_map("[a-e\"\\\\é]{1,2}", 0..4_i32, 0..8),
    ) {
        let reading = |fields: std::collections::BTreeMap<String, i32>| {
            let mut data: Map<String, Value> = fields.into_iter().map(|(name, value)| (name, value.into())).collect();
            data.insert("always".to_owned(), json!("the same text, which is long enough to make the difference shorter than it is"));
            json!({"deviceId": "a", "data": data, "seq": 8})
        };
        let (before, now) = (reading(before), reading(now));
        if let Some(changed) = difference(&before, &now) {
            prop_assert_eq!(&apply(&before, &changed), &now["data"]);
        }
    }
}

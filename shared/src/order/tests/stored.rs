//! The stored form, which the previous release reads and writes too.

use super::*;

/// A state that the previous release wrote: a run of late readings, and the last eight offsets.
const PREVIOUS_RELEASE: &str = r#"{"latest_print":17323077291576332322,"latest_time":1800000000000,
    "latest_usable":true,"latest_arrival":1800000000240,"standing":{"time":1799999990000,"since":1800000000900,"count":2},
    "late":{"first_time":1799999990000,"first_arrival":1800000000900,"last_time":1799999990000,"count":1},
    "offsets_ms":[240,190,4000,250]}"#;
/// A state of the previous release for a device without time.
const PREVIOUS_RELEASE_WITHOUT_TIME: &str = r#"{"latest_print":5,"latest_time":null,"latest_usable":false,
    "latest_arrival":1800000000000,"standing":null,"late":null,"offsets_ms":[]}"#;

fn device(json: &str) -> Device {
    Device {
        state: serde_json::from_str(json).expect("a state"),
        known: true,
        ..Device::new()
    }
}

#[test]
fn states_of_the_previous_release_are_read() {
    let mut first = device(PREVIOUS_RELEASE);
    let again: OrderState =
        serde_json::from_str(&serde_json::to_string(&first.state).expect("JSON")).expect("a state");
    assert_eq!(again, first.state);
    assert_eq!(first.send(5.2, 5.0), "next 0.01");
    let minima = &first.state.offset_minima;
    assert_eq!(minima.len(), 1);
    assert_eq!(minima[0].offset_ms, 190);
    assert!(first.state.offsets_ms.is_empty());
    assert!(first.state.time_has_moved);

    let mut first = device(PREVIOUS_RELEASE);
    assert_eq!(first.send(3.0, -8.0), "next 0!", "the late run goes on");

    let mut second = device(PREVIOUS_RELEASE_WITHOUT_TIME);
    assert_eq!(second.send_without_time(1.0), "tie ?!");
    assert_eq!(second.send(2.0, 2.0), "next 0");
}

#[test]
fn the_previous_release_finds_every_field_it_needs() {
    let mut device = Device::new();
    device.run_until(0.0);
    device.send(1.0, -20.0);
    let json = serde_json::to_value(&device.state).expect("JSON");
    let expected = serde_json::json!({
        "latest_print": device.state.latest_fingerprint,
        "latest_time": BASE_MS,
        "latest_usable": true,
        "latest_arrival": BASE_MS,
        "standing": {"time": BASE_MS - 20_000, "since": BASE_MS + 1_000, "count": 1,
            "last": BASE_MS + 1_000},
        "late": {"first_time": BASE_MS - 20_000, "first_arrival": BASE_MS + 1_000,
            "last_time": BASE_MS - 20_000, "count": 1},
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(json.get(name), Some(value), "{name}");
    }
}

#[test]
fn facts_about_a_latest_that_an_older_release_replaced_do_not_count() {
    // The older release keeps the doubt, which it does not know.
    let replace_fingerprint: fn(&mut OrderState) = |state| state.latest_fingerprint = Some(3);
    let replace_arrival: fn(&mut OrderState) = |state| state.latest_arrival = time(10.2);
    for replace in [replace_fingerprint, replace_arrival] {
        let mut device = Device::new();
        device.run_until(0.0);
        assert_eq!(device.send(10.0, DAY), "next 0!");
        replace(&mut device.state);
        device.state.latest_time = Some(time(9.0));
        device.state.offsets_ms = VecDeque::from([-1_000]);
        assert_eq!(device.send(10.5, 9.5), "next 1");
        assert!(device.state.offsets_ms.is_empty());
    }
}

#[test]
fn fields_of_a_newer_release_are_kept() {
    let json = r#"{"latest_print":5,"new_field":{"a":1}}"#;
    let mut device = device(json);
    device.send(1.0, 1.0);
    let json = serde_json::to_value(&device.state).expect("JSON");
    assert_eq!(json.get("new_field"), Some(&serde_json::json!({"a": 1})));
}

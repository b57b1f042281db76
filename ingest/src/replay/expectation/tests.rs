use serde_json::json;

use super::*;
use crate::replay::settings;
use crate::replay::simulation::Delivery;
use shared::clock::Time;

/// One device with an alarm at A1.
fn simulation() -> Simulation {
    let settings = settings::from_json(&Map::new()).unwrap();
    let mut simulation = Simulation::new(settings, Time::from_millis(1_800_000_000_000));
    let payload = json!({
        "OTSM-2 Serial Number": "OTSM-0114",
        "Parameters": {"Live Sensor Readings ": 300.5, "Alarm Level A1": 250},
    });
    let payload = payload.to_string();
    let message = Delivery {
        payload: payload.as_bytes(),
        retain: false,
        dup: false,
    };
    simulation.publish(simulation.now(), message);
    simulation
}

#[test]
fn every_field_that_is_shown_can_be_expected() {
    let simulation = simulation();
    let device = "OTSM-0114".parse().unwrap();
    let data = parse(simulation.data(&device).unwrap().get());
    let alarm = &simulation.open_alarms(&device)[0];
    let alert = parse(event::alert(&device, alarm).get());
    for (shown, known) in [(data, &DATA_FIELDS[..]), (alert, &ALARM_FIELDS[..])] {
        let shown = shown.as_object().unwrap();
        let unknown: Vec<_> = shown
            .keys()
            .filter(|key| !known.contains(&key.as_str()))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

fn differences(expected: Value) -> Vec<String> {
    let expectation: Expectation = serde_json::from_value(expected).unwrap();
    let simulation = simulation();
    expectation.differences(&simulation, simulation.changes())
}

#[test]
fn everything_as_expected() {
    for expected in [
        json!({}),
        json!({"changes": ["raised alarm_level_1"], "open": ["alarm_level_1/unacknowledged"]}),
        json!({"changes_include": ["raised alarm_level_1"], "changes_exclude": ["cleared alarm_level_1"]}),
        json!({"open_include": ["alarm_level_1/unacknowledged"], "open_exclude": ["sensor_fault", "alarm_level_1/latched"]}),
        json!({"data": {"sensor_reading": 300.5, "alarm_status": {"not": "NORMAL"}, "data_quality": {"one_of": ["good", "uncertain"]}}}),
        json!({"alarm": {"threshold": 250, "message": {"contains": "above A1"}}}),
        json!({"alarm": {"number": 1, "state": "unacknowledged"}, "status": "warning"}),
        json!({"log_rows": 1, "alarms": {"at_least": 1, "at_most": 2}, "dead_letters": 0}),
        json!({"devices": ["OTSM-0114"], "device": "OTSM-0114", "open_include": []}),
    ] {
        assert_eq!(
            differences(expected.clone()),
            Vec::<String>::new(),
            "{expected}"
        );
    }
}

#[test]
fn everything_else_is_named() {
    for (expected, named) in [
        (
            json!({"changes": []}),
            "changes: expected [], are [raised alarm_level_1]",
        ),
        (
            json!({"changes_include": ["cleared alarm_level_1"]}),
            "changes include [cleared alarm_level_1], but are",
        ),
        (
            json!({"changes_exclude": ["raised alarm_level_1"]}),
            "changes do not include",
        ),
        (
            json!({"open": []}),
            "open alarms: expected [], are [alarm_level_1/unacknowledged]",
        ),
        (
            json!({"open_include": ["x/y"]}),
            "open alarms include [x/y], but are",
        ),
        (
            json!({"open_exclude": ["alarm_level_1"]}),
            "open alarms do not include",
        ),
        (
            json!({"data": {"sensor_reading": 300}}),
            "data: `sensor_reading`: expected 300, is 300.5",
        ),
        (
            json!({"data": {"clock_suspect": 1}}),
            "data: `clock_suspect`: expected 1, is true",
        ),
        (
            json!({"alarm": {"threshold": 1}}),
            "alarm: `threshold`: expected 1, is 250",
        ),
        (json!({"alarm": {"number": 2}}), "alarm: there is none"),
        (
            json!({"status": "online"}),
            "status: expected \"online\", is \"warning\"",
        ),
        (
            json!({"log_rows": 2}),
            "rows of the alarm log: expected 2, are 1",
        ),
        (
            json!({"alarms": {"at_most": 0}}),
            "alarms raised: expected 0 to 0, are 1",
        ),
        (
            json!({"dead_letters": {"at_least": 1}}),
            "dead letters: expected at least 1, are 0",
        ),
        (
            json!({"devices": []}),
            "devices: expected [], are [OTSM-0114]",
        ),
        (
            json!({"device": "x", "data": {}}),
            "data: the device is not known",
        ),
    ] {
        let found = differences(expected.clone());
        assert_eq!(found.len(), 1, "{expected}: {found:?}");
        assert!(found[0].starts_with(named), "{expected}: {found:?}");
    }
}

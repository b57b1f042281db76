//! Retiring a device.

use serde_json::Value;

use super::*;

/// `None` if there is nothing to retire.
fn retire(device: &TestDevice) -> Option<Decision> {
    let input = Input::Retirement { by: "Asha" };
    let decision = decide(&device.stored, input, device.now, None);
    (decision.outcome == Outcome::Retired).then_some(decision)
}

fn parsed_event(retirement: &Decision) -> Value {
    let event = retirement.event.as_ref().expect("an event");
    serde_json::from_str(&event.envelope).expect("JSON")
}

#[test]
fn every_open_alarm_is_closed_and_keeps_its_acknowledgement() {
    let mut device = TestDevice::new();
    let mut latching = reading(Some("2001"));
    latching.levels[2].latching = Some(dec("1"));
    latching.sensor_fault = dec("1");
    device.send_reading(latching.clone());
    latching.value = Some(dec("2000"));
    latching.sensor_fault = dec("0");
    device.advance(5);
    let decision = device.send_reading(latching);
    assert!(!decision.state.alarms.is_empty());
    device.acknowledge(&device.gas_alarm_id());
    let open = device.stored.state.alarms.clone();
    assert!(open.len() > 1, "{open:?}");
    let before = device.stored.state.position;
    device.advance(5);

    let retirement = retire(&device).expect("a known device");
    let closed: Vec<&Alarm> = retirement.changes.iter().map(|c| &c.alarm).collect();
    assert_eq!(closed.len(), open.len());
    for (closed, open) in closed.iter().zip(&open) {
        assert_eq!(closed.id, open.id);
        assert_eq!(closed.state(), AlarmState::Cleared);
        assert_eq!(closed.cleared_at, Some(device.now));
        assert_eq!(closed.acknowledged, open.acknowledged);
    }
    assert!(closed.iter().any(|alarm| alarm.acknowledged.is_some()));
    assert!(
        retirement
            .changes
            .iter()
            .all(|change| change.kind == ChangeKind::Retired)
    );
    for entry in &retirement.log {
        assert_eq!(entry.by.as_deref(), Some("Asha"));
        assert_eq!(entry.at, device.now);
    }
    assert_eq!(retirement.state.position.epoch, before.epoch);
    assert_eq!(retirement.state.position.seq, before.seq + 1);
}

#[test]
fn a_latched_alarm_is_closed_without_an_acknowledgement() {
    let mut device = TestDevice::new();
    let mut latching = reading(Some("300"));
    latching.levels[0].latching = Some(dec("1"));
    device.send_reading(latching.clone());
    device.advance(5);
    latching.value = Some(dec("10"));
    device.send_reading(latching);
    assert_eq!(device.gas_alarm_state(), Some(AlarmState::Latched));
    let retirement = retire(&device).expect("a known device");
    let alarm = &retirement.changes[0].alarm;
    assert_eq!(alarm.state(), AlarmState::Cleared);
    assert_eq!(alarm.acknowledged, None, "no person acknowledged it");
    assert!(alarm.active_levels.is_empty());
}

#[test]
fn the_event_contains_the_changes_and_no_data() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let event = parsed_event(&retire(&device).expect("a known device"));
    assert_eq!(event["retired"], true);
    assert_eq!(event["seq"], 2);
    assert_eq!(event.get("data"), None);
    assert_eq!(event.get("alerts"), None);
    assert_eq!(event.get("alive"), None);
    let alert = &event["changes"]["alerts"][0];
    assert_eq!(alert["change"], "retired");
    assert_eq!(alert["state"], "cleared");
    assert_eq!(event["changes"]["seq"], 2);

    device.send_value("10");
    let event = parsed_event(&retire(&device).expect("a known device"));
    assert_eq!(event["retired"], true);
    let alerts = event["changes"]["alerts"].as_array().map(Vec::len);
    assert_eq!(
        alerts,
        Some(0),
        "clients need the event for its position: {event}"
    );
}

#[test]
fn an_unknown_device_cannot_be_retired_and_one_whose_state_was_lost_can() {
    let mut device = TestDevice::new();
    device.stored.seq_floor = 7;
    assert!(retire(&device).is_none());
    device.stored.lost = true;
    let retirement = retire(&device).expect("something is stored");
    assert_eq!(retirement.state.position.seq, 8);
    assert!(retirement.changes.is_empty());
}

#[test]
fn the_time_of_a_retirement_never_goes_back() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let decided_at = device.now;
    device.now = Time::from_millis(decided_at.as_millis() - 60_000);
    assert_eq!(
        retire(&device).expect("a known device").log[0].at,
        decided_at
    );
}

#[test]
fn a_device_that_returns_starts_above_the_retired_seq_and_keeps_it() {
    let mut device = TestDevice::new();
    device.stored.seq_floor = 7;
    let decision = device.send_value("300");
    assert_eq!(decision.state.position.seq, 8);
    assert!(decision.changes[0].alarm.id.ends_with("_8"));
    assert_eq!(decision.state.memory.born_after, 7);
    device.restart();
    assert_eq!(device.send_value("300").state.memory.born_after, 7);
}

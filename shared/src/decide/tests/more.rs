//! Every event of a position but its last has `more: true`.

use serde_json::Value;

use super::*;

/// Returns the events of this decision, in the order in which clients get them: `+` after each one that has `more`.
///
/// Fails if `more` is anything but an absent field or `true`, or if the changes stream has other bytes than clients get.
fn events(decision: &Decision) -> Vec<String> {
    let Some(event) = &decision.event else {
        return Vec::new();
    };
    let envelope: Event<'_> = serde_json::from_str(&event.envelope).expect("an event");
    if let Some(stored) = &event.changes {
        assert_eq!(envelope.changes.map(RawValue::get), Some(stored.as_str()));
    }
    [
        ("data", envelope.data),
        ("alerts", envelope.alerts),
        ("changes", envelope.changes),
    ]
    .into_iter()
    .filter_map(|(name, payload)| Some((name, payload?)))
    .map(|(name, payload)| {
        let payload: Value = serde_json::from_str(payload.get()).expect("JSON");
        match payload.get("more") {
            None => name.to_owned(),
            Some(Value::Bool(true)) => format!("{name}+"),
            Some(other) => panic!("{name} has `more: {other}`"),
        }
    })
    .collect()
}

/// Checks that this decision's position is complete with its last event, and with no earlier one.
#[track_caller]
pub(super) fn check_more(decision: &Decision) {
    if decision.event.is_none() {
        return;
    }
    let events = events(decision);
    let (last, others) = events.split_last().expect("an event has a payload");
    assert!(!last.ends_with('+'), "{events:?}");
    assert!(others.iter().all(|name| name.ends_with('+')), "{events:?}");
}

#[test]
fn a_reading_alone_is_its_whole_position() {
    let mut device = TestDevice::new();
    assert_eq!(events(&device.send_value("10")), ["data"]);
}

#[test]
fn a_raise_is_whole_with_its_changes() {
    let mut device = TestDevice::new();
    let whole = ["data+", "alerts+", "changes"];
    assert_eq!(events(&device.send_value("300")), whole);
    assert_eq!(events(&device.send_value("600")), whole, "an escalation");
}

#[test]
fn a_change_without_a_raise_is_whole_with_its_changes() {
    let mut device = TestDevice::new();
    device.send_value("600");
    let whole = ["data+", "changes"];
    assert_eq!(events(&device.send_value("300")), whole, "de-escalated");
    assert_eq!(events(&device.send_value("10")), whole, "cleared");
}

#[test]
fn an_acknowledgement_and_a_retirement_have_no_other_event() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let id = device.gas_alarm_id();
    assert_eq!(events(&device.acknowledge(&id)), ["changes"]);
    let retired = device.apply(Input::Retirement { by: "Asha" });
    assert_eq!(retired.outcome, Outcome::Retired);
    assert_eq!(events(&retired), ["changes"]);
}

#[test]
fn a_late_reading_that_is_raised_and_cleared_has_no_data() {
    let mut device = TestDevice::new();
    device.send_value("10");
    device.send_value("11");
    let mut late = reading(Some("300"));
    late.device_time = Some(Time::from_millis(device.device_time.as_millis() - 1_000));
    // Redelivered with a usable time, it is certainly old.
    assert_eq!(
        events(&device.send_redelivered(late)),
        ["alerts+", "changes"]
    );
}

#[test]
fn the_snapshot_of_a_lost_state_is_whole_with_its_last_event() {
    let mut device = TestDevice::new();
    device.stored.lost = true;
    assert_eq!(events(&device.send_value("10")), ["data+", "alerts"]);
    let mut device = TestDevice::new();
    device.stored.lost = true;
    let whole = ["data+", "alerts+", "changes"];
    assert_eq!(events(&device.send_value("300")), whole);
}

#[test]
fn a_reasserted_state_is_whole_with_its_alarms() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let committed = CommittedState {
        epoch: device.stored.epoch,
        state: Arc::clone(&device.stored.state),
        last_message: device.stored.last_message,
        recently_cleared: Vec::new(),
    };
    let mut emptied = TestDevice::new();
    emptied.stored.epoch = Epoch::from_bits(0xdef);
    emptied.now = device.now;
    let reasserted = emptied.apply(Input::Reassertion(&committed));
    assert_eq!(reasserted.outcome, Outcome::Reasserted);
    assert_eq!(events(&reasserted), ["data+", "alerts"]);
}

#[test]
fn silence_and_its_end_are_whole_with_their_changes() {
    let mut device = TestDevice::new();
    let listening_since = device.now;
    device.send_value("10");
    device.advance(181);
    let silent = device.run_timer(listening_since);
    assert_eq!(events(&silent), ["data+", "alerts+", "changes"]);
    assert_eq!(events(&device.send_value("10")), ["data+", "changes"]);
}

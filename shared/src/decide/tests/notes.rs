//! What a person writes beside an acknowledgement.

use super::*;

fn note_of(alarm: &Alarm) -> Option<&str> {
    alarm.acknowledged.as_ref()?.note.as_deref()
}

/// The alerts of an event, as clients get them.
fn alerts(decision: &Decision) -> Vec<serde_json::Value> {
    let event = decision
        .event
        .as_ref()
        .and_then(|event| event.changes.as_ref());
    let payload: serde_json::Value = serde_json::from_str(event.expect("an event")).expect("JSON");
    payload["alerts"].as_array().expect("alerts").clone()
}

#[test]
fn a_note_stands_in_the_alarm_until_a_higher_level_is_reached() {
    let mut device = TestDevice::new();
    let raised = device.send_value("600");
    assert!(alerts(&raised)[0].get("acknowledged_note").is_none());
    let id = device.gas_alarm_id();
    let decision = device.acknowledge(&id);
    assert_eq!(alerts(&decision)[0]["acknowledged_note"], NOTE);
    assert_eq!(decision.log[0].note.as_deref(), Some(NOTE));
    let lower = device.send_value("300");
    assert_eq!(alerts(&lower)[0]["acknowledged_note"], NOTE);
    device.restart();
    assert_eq!(device.gas_alarm().and_then(note_of), Some(NOTE));

    let higher = device.send_value("1200");
    assert!(alerts(&higher)[0].get("acknowledged_note").is_none());
    let seen = device.stored.state.position;
    let decision = device.apply(Input::Acknowledge(AcknowledgeRequest {
        alarm_id: &id,
        by: "User",
        note: Some("Evacuated"),
        seen,
        closed: None,
    }));
    assert_eq!(alerts(&decision)[0]["acknowledged_note"], "Evacuated");
}

#[test]
fn a_repeated_acknowledgement_changes_no_note() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let id = device.gas_alarm_id();
    device.acknowledge(&id);
    let again = device.apply(Input::Acknowledge(AcknowledgeRequest {
        alarm_id: &id,
        by: "Somebody else",
        note: Some("Something else"),
        seen: device.stored.state.position,
        closed: None,
    }));
    assert_eq!(again.outcome, Outcome::AlreadyAcknowledged);
    assert_eq!(device.gas_alarm().and_then(note_of), Some(NOTE));
}

/// The log keeps what was said about the level that was seen. The level that was not seen has no note.
#[test]
fn the_note_of_an_acknowledgement_that_covers_nothing_is_in_the_log_alone() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let seen = device.stored.state.position;
    device.send_value("600");
    let id = device.gas_alarm_id();
    let decision = device.acknowledge_seen(&id, seen);
    assert_eq!(decision.outcome, Outcome::Escalated);
    assert_eq!(decision.log[0].note.as_deref(), Some(NOTE));
    assert_eq!(device.gas_alarm().and_then(note_of), None);
}

/// A note is once in the log, however long the alarm stands.
#[test]
fn later_transitions_do_not_repeat_the_note() {
    let mut device = TestDevice::new();
    device.send_value("600");
    device.acknowledge(&device.gas_alarm_id());
    for value in ["300", "20"] {
        let decision = device.send_value(value);
        let entry = decision.log.first().expect("an entry");
        let alarm = entry.alarm.as_ref().expect("an alarm");
        assert!(alarm.acknowledged.is_some());
        assert_eq!((entry.note.as_deref(), note_of(alarm)), (None, None));
    }
}

/// The note of a cleared alarm is told with the acknowledgement that comes late.
#[test]
fn a_cleared_alarm_is_acknowledged_with_a_note() {
    let mut device = TestDevice::new();
    device.send_value("300");
    let cleared = device.send_value("20").changes.pop().expect("a change");
    let decision = device.acknowledge_closed(&cleared.alarm);
    assert_eq!(decision.outcome, Outcome::Acknowledged);
    assert_eq!(alerts(&decision)[0]["acknowledged_note"], NOTE);
    assert_eq!(decision.log[0].note.as_deref(), Some(NOTE));
}

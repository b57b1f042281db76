//! Retiring a device.

use serde_json::Value;

use super::*;

fn retire(world: &World) -> Option<Decision> {
    let input = Input::Retirement { by: "Asha" };
    let decision = decide(&world.stored, input, world.now, None);
    (decision.outcome == Outcome::Retired).then_some(decision)
}

fn envelope(retirement: &Decision) -> Value {
    let event = retirement.event.as_ref().expect("an event");
    serde_json::from_str(&event.envelope).expect("JSON")
}

#[test]
fn every_open_alarm_is_closed_and_keeps_its_acknowledgement() {
    let mut world = World::new();
    let mut latching = reading(Some("2001"));
    latching.levels[2].latching = Some(dec("1"));
    latching.sensor_fault = dec("1");
    world.read(latching.clone());
    latching.value = Some(dec("2000"));
    latching.sensor_fault = dec("0");
    world.pass(5);
    let decision = world.read(latching);
    assert!(!decision.state.alarms.is_empty());
    world.acknowledge(&world.gas_id());
    let open = world.stored.state.alarms.clone();
    assert!(open.len() > 1, "{open:?}");
    let before = world.stored.state.position;
    world.pass(5);

    let retirement = retire(&world).expect("it is known");
    let closed: Vec<&Alarm> = retirement.changes.iter().map(|c| &c.alarm).collect();
    assert_eq!(closed.len(), open.len());
    for (closed, open) in closed.iter().zip(&open) {
        assert_eq!(closed.id, open.id);
        assert_eq!(closed.state(), AlarmState::Cleared);
        assert_eq!(closed.cleared_at, Some(world.now));
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
        assert_eq!(entry.at, world.now);
    }
    assert_eq!(retirement.state.position.epoch, before.epoch);
    assert_eq!(retirement.state.position.seq, before.seq + 1);
}

#[test]
fn a_latched_alarm_does_not_stay_latched() {
    let mut world = World::new();
    let mut latching = reading(Some("300"));
    latching.levels[0].latching = Some(dec("1"));
    world.read(latching.clone());
    world.pass(5);
    latching.value = Some(dec("10"));
    world.read(latching);
    assert_eq!(state_of(&world), Some(AlarmState::Latched));
    let retirement = retire(&world).expect("it is known");
    let alarm = &retirement.changes[0].alarm;
    assert_eq!(alarm.state(), AlarmState::Cleared);
    assert_eq!(alarm.acknowledged, None, "nobody acknowledged it");
    assert!(alarm.active_levels.is_empty());
}

#[test]
fn the_event_has_the_changes_and_no_data() {
    let mut world = World::new();
    world.value("300");
    let event = envelope(&retire(&world).expect("it is known"));
    assert_eq!(event["retired"], true);
    assert_eq!(event["seq"], 2);
    assert_eq!(event.get("data"), None);
    assert_eq!(event.get("alerts"), None);
    assert_eq!(event.get("alive"), None);
    let alert = &event["changes"]["alerts"][0];
    assert_eq!(alert["change"], "retired");
    assert_eq!(alert["state"], "cleared");
    assert_eq!(event["changes"]["seq"], 2);

    world.value("10");
    let event = envelope(&retire(&world).expect("it is known"));
    assert_eq!(event["retired"], true);
    let alerts = event["changes"]["alerts"].as_array().map(Vec::len);
    assert_eq!(alerts, Some(0), "clients need its position: {event}");
}

#[test]
fn an_unknown_device_cannot_be_retired_and_a_lost_one_can() {
    let mut world = World::new();
    world.stored.seq_floor = 7;
    assert!(retire(&world).is_none());
    world.stored.lost = true;
    let retirement = retire(&world).expect("something is stored");
    assert_eq!(retirement.state.position.seq, 8);
    assert!(retirement.changes.is_empty());
}

#[test]
fn the_time_of_a_retirement_never_runs_back() {
    let mut world = World::new();
    world.value("300");
    let decided_at = world.now;
    world.now = Time::from_millis(decided_at.as_millis() - 60_000);
    assert_eq!(retire(&world).expect("it is known").log[0].at, decided_at);
}

#[test]
fn a_device_that_returns_begins_above_the_floor_and_remembers_it() {
    let mut world = World::new();
    world.stored.seq_floor = 7;
    let decision = world.value("300");
    assert_eq!(decision.state.position.seq, 8);
    assert!(decision.changes[0].alarm.id.ends_with("_8"));
    assert_eq!(decision.state.memory.born_after, 7);
    world.restart();
    assert_eq!(world.value("300").state.memory.born_after, 7);
}

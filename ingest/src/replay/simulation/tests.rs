use serde_json::{Map, json};

use super::*;
use crate::replay::settings;

mod bytes;
mod clocks;
mod detector;
mod excursions;
mod forgotten;
mod freshness;
mod overtaken;
mod plant;
mod reached;
mod week;

fn default_settings() -> SimulationSettings {
    settings::from_json(&Map::new()).unwrap()
}

fn simulation() -> Simulation {
    Simulation::new(default_settings(), clocks::START)
}

fn payload(simulation: &Simulation, serial: &str, value: i32) -> Vec<u8> {
    let payload = json!({
        "OTSM-2 Serial Number": serial,
        "timestamp": simulation.now().to_iso(),
        "Parameters": {"Live Sensor Readings ": value, "Alarm Level A1": 250},
    });
    payload.to_string().into_bytes()
}

fn live(payload: &[u8]) -> Delivery<'_> {
    Delivery {
        payload,
        retain: false,
        dup: false,
    }
}

fn send(simulation: &mut Simulation, serial: &str, value: i32) {
    let payload = payload(simulation, serial, value);
    simulation.publish(simulation.now(), live(&payload));
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn kinds(simulation: &Simulation) -> Vec<String> {
    let changes = simulation.changes().iter().map(|found| &found.change);
    let text =
        |change: &Change| format!("{} {}", change.kind.code(), change.alarm.condition.code());
    changes.map(text).collect()
}

#[test]
fn deadlines_of_many_devices_are_evaluated_in_order_at_their_times() {
    let mut simulation = simulation();
    let start = simulation.start();
    send(&mut simulation, "B", 5);
    simulation.advance_to(start + seconds(10));
    send(&mut simulation, "A", 5);
    simulation.advance_to(start + seconds(3600));
    let found = simulation.changes().iter();
    let found: Vec<(String, i64)> = found
        .map(|found| (found.device.to_string(), found.at.millis_since(start)))
        .collect();
    assert_eq!(
        found,
        [("B".to_owned(), 180_000), ("A".to_owned(), 190_000)]
    );
    assert_eq!(simulation.now(), start + seconds(3600));
}

#[test]
fn while_no_ingest_listens_messages_wait_and_deadlines_rest() {
    let mut simulation = simulation();
    let start = simulation.start();
    let device: DeviceId = "A".parse().unwrap();
    send(&mut simulation, "A", 5);
    simulation.set_listening(start + seconds(10), false);
    simulation.advance_to(start + seconds(20));
    send(&mut simulation, "A", 300);
    simulation.advance_to(start + seconds(600));
    assert!(kinds(&simulation).is_empty());
    let shown = simulation.data(&device).unwrap();
    assert!(
        shown.get().contains(r#""data_quality":"offline""#),
        "{shown}"
    );
    simulation.set_listening(start + seconds(600), true);
    assert_eq!(kinds(&simulation), ["raised alarm_level_1"]);
    // Silence is counted anew from here.
    simulation.advance_to(start + seconds(779));
    assert_eq!(kinds(&simulation).len(), 1);
    simulation.advance_to(start + seconds(781));
    assert_eq!(kinds(&simulation)[1], "raised device_offline");
}

#[test]
fn a_redelivered_message_that_was_committed_is_skipped() {
    let mut simulation = simulation();
    let payload = payload(&simulation, "A", 5);
    let start = simulation.start();
    simulation.publish(start, live(&payload));
    let device: DeviceId = "A".parse().unwrap();
    let before = simulation.state(&device).unwrap().rev;
    let again = Delivery {
        dup: true,
        ..live(&payload)
    };
    simulation.publish(start + seconds(1), again);
    assert_eq!(simulation.state(&device).unwrap().rev, before);
    assert_eq!(simulation.samples(&device), 1);
}

#[test]
fn an_acknowledgement_names_an_alarm_and_what_was_seen() {
    let mut simulation = simulation();
    let start = simulation.start();
    send(&mut simulation, "A", 300);
    let (device, id) = simulation.alarm_of_number(1).cloned().unwrap();
    let unseen = simulation.position_seen_at(&device, Time::from_millis(0));
    let seen = simulation.position_seen_at(&device, start);
    let mut acknowledge = |id: &str, seen| simulation.acknowledge(start, &device, id, "User", seen);
    assert_eq!(acknowledge("nothing", None), Outcome::NotFound);
    assert_eq!(acknowledge(&id, Some(unseen)), Outcome::Escalated);
    assert_eq!(acknowledge(&id, Some(seen)), Outcome::Acknowledged);
    assert_eq!(acknowledge(&id, None), Outcome::AlreadyAcknowledged);
}

#[test]
fn a_message_that_cannot_be_processed_is_a_dead_letter() {
    let mut simulation = simulation();
    simulation.publish(simulation.now(), live(b"hello"));
    let reasons = simulation.dead_letters().iter().map(|letter| letter.reason);
    assert_eq!(reasons.collect::<Vec<_>>(), ["not_json"]);
    assert_eq!(simulation.devices().count(), 0);
}

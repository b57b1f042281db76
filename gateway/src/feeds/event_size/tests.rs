use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::{RawValue, to_raw_value};

use super::*;
use crate::client::outbox::{Outbox, OutboxLimits, Packet, SendOutcome};
use crate::event_names::{ALARMS_SNAPSHOT, DEVICE_DATA, FLEET_SNAPSHOT};

/// A client that reads slowly is not disconnected for what it is sent of all devices: the next event waits until this one has left.
#[test]
fn the_smallest_outbox_holds_an_event_with_rows_and_one_with_alarms_and_a_reading() {
    let mut outbox = Outbox::new(OutboxLimits {
        packets: 16,
        bytes: outbox::MIN_BYTES,
        deadline: Duration::from_secs(20),
    });
    let text = |bytes: usize| -> Arc<RawValue> {
        to_raw_value(&"x".repeat(bytes)).expect("a text").into()
    };
    // With the fields around the items.
    let event = text(MAX_BYTES + 256);
    let now = Instant::now();
    let full = |_: &Packet| SendOutcome::Full;
    let alarms = [Packet::event(ALARMS_SNAPSHOT, &event)];
    assert_eq!(outbox.push_alarms(None, alarms, now, full), Ok(true));
    let rows = outbox.push_telemetry(None, FLEET_SNAPSHOT, &event, now, full);
    assert_eq!(rows, Ok(true));
    let device = "OTSM-0114".parse().expect("a serial");
    let reading = outbox.push_telemetry(Some(&device), DEVICE_DATA, &text(8_192), now, full);
    assert_eq!(reading, Ok(true));
}

#[test]
fn an_event_has_room_up_to_its_bounds_and_always_for_one() {
    let mut long = EventSize::default();
    assert!(long.add(2 * MAX_BYTES));
    assert!(!long.add(1));
    let mut many = EventSize::default();
    assert_eq!((0..200).filter(|_| many.add(1)).count(), MAX_ITEMS);
    let mut exact = EventSize::default();
    assert!(exact.add(MAX_BYTES - 1) && exact.add(1) && !exact.add(1));
}

#[test]
fn a_text_has_no_more_bytes_than_are_counted() {
    for text in ["", "OTSM-0114", "\"\\\"", "Zürich"] {
        let json = serde_json::to_string(text).expect("a text");
        assert!(json.len() < text_bytes(text), "{json}");
    }
}

//! The event of a new reading alone is rendered in another way than others.

use super::*;
use crate::event::{PayloadKind, device_data, telemetry, to_raw};
use crate::state::Freshness;

#[test]
fn in_one_pass_an_event_has_the_same_bytes() {
    let mut device = TestDevice::new();
    let raw = serde_json::value::to_raw_value(&[1, 2]).expect("JSON");
    for (value, raw_message) in [("10.25", None), ("-3", Some(&*raw))] {
        let state = device.send_value(value).state;
        let event = Event {
            epoch: state.position.epoch,
            seq: state.position.seq,
            skipped: 0,
            snapshot: false,
            retired: false,
            at: state.memory.decided_at,
            alive: true,
            measured_at: raw_message.map(|_| state.memory.decided_at),
            traceparent: raw_message.map(|_| "00-a-b-01".into()),
            data: None,
            alerts: None,
            changes: None,
        };
        let fresh = Freshness::Fresh;
        let text = telemetry(&event, &state, fresh, raw_message).expect("an event");
        let data = device_data(&state, fresh, PayloadKind::Live, raw_message);
        let in_steps = to_raw(&Event {
            data: data.as_deref(),
            ..event
        });
        assert_eq!(text, in_steps.get());
    }
}

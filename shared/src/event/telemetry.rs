//! The event of what nearly every message is: a new reading, and nothing else. It is rendered in one pass.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Event, PayloadKind, device_data_of};
use crate::state::{DeviceState, Freshness};

/// The envelope around a payload that is not rendered yet. The payload is the last field.
#[derive(Serialize)]
struct WithData<'a, T: Serialize> {
    #[serde(flatten)]
    event: &'a Event<'a>,
    data: T,
}

/// Renders an event with the payload of `device:data` alone, as [`super::device_data`] renders it. `event` has no payloads. `None` for a
/// device without any reading.
#[must_use]
pub fn telemetry(
    event: &Event<'_>,
    state: &DeviceState,
    freshness: Freshness,
    raw_message: Option<&RawValue>,
) -> Option<String> {
    /// Nearly every event fits without growing.
    const CAPACITY: usize = 1280;
    let latest = state.latest.as_ref()?;
    let data = device_data_of(state, latest, freshness, PayloadKind::Live, raw_message);
    let mut text = Vec::with_capacity(CAPACITY);
    serde_json::to_writer(&mut text, &WithData { event, data }).ok()?;
    String::from_utf8(text).ok()
}

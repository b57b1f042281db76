//! One device as `/api/devices` shows it. Freshness and status are evaluated when it is rendered.

use serde::Serialize;
use serde_json::value::RawValue;
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::device_status::{DeviceStatus, device_status};
use shared::event::{self, iso, iso_option};
use shared::position::Epoch;
use shared::reading::{Coordinate, Quality};
use shared::state::{DeviceState, freshness};

/// One device: the keys of the replaced system, keys that its front end expected but never got, and the position.
#[derive(Debug, Serialize)]
pub(crate) struct DeviceItem<'a> {
    id: &'a DeviceId,
    device_id: &'a DeviceId,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    status: DeviceStatus,
    #[serde(serialize_with = "iso")]
    last_update: Time,
    data: Box<RawValue>,
    alarm_status: &'static str,
    /// The device is silent, or its reading is too old. Beside the status, which may show an alarm.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    offline: bool,
    #[serde(rename = "deviceId")]
    camel_case_device_id: &'a DeviceId,
    #[serde(rename = "sensorId")]
    sensor_id: &'a DeviceId,
    #[serde(rename = "lastSeen", serialize_with = "iso_option")]
    last_seen: Option<Time>,
    location: String,
    icon: &'static str,
    /// Always empty: the front end would print `%` after every value.
    metrics: [u8; 0],
    epoch: Epoch,
    seq: u64,
}

impl<'a> DeviceItem<'a> {
    /// Returns `None` for a device without a reading.
    pub(crate) fn of(
        state: &'a DeviceState,
        last_message: Option<Time>,
        now: Time,
    ) -> Option<Self> {
        let latest = state.latest.as_ref()?;
        let reading = &latest.reading;
        let freshness = freshness(state, last_message, now);
        let quality = event::data_quality(state, freshness);
        Some(Self {
            id: &reading.device,
            device_id: &reading.device,
            name: &reading.device_name,
            kind: "subtronics_gas_monitor",
            status: device_status(state, quality),
            last_update: latest.taken_at,
            data: event::data(state, freshness, None)?,
            alarm_status: event::alarm_status(state, freshness),
            offline: quality == Quality::Offline,
            camel_case_device_id: &reading.device,
            sensor_id: &reading.device,
            last_seen: last_message,
            location: location(&reading.latitude, &reading.longitude),
            icon: "bi bi-cloud-fog",
            metrics: [],
            epoch: state.position.epoch,
            seq: state.position.seq,
        })
    }
}

/// Renders `<lat>, <long>` as received. Empty if unknown, out of range or `0, 0`: the map draws every text that it can
/// parse.
fn location(latitude: &Coordinate, longitude: &Coordinate) -> String {
    let (lat, long) = (text_of(latitude), text_of(longitude));
    let within = |text: &str, bound: i32| {
        let degrees: Decimal = text.parse().ok()?;
        let bound = Decimal::from_int(bound);
        (degrees <= bound && Decimal::ZERO - degrees <= bound).then_some(degrees)
    };
    match (within(&lat, 90), within(&long, 180)) {
        (Some(north), Some(east)) if north != Decimal::ZERO || east != Decimal::ZERO => {
            format!("{lat}, {long}")
        }
        _ => String::new(),
    }
}

fn text_of(coordinate: &Coordinate) -> String {
    match coordinate {
        Coordinate::Number(number) => number.to_string(),
        Coordinate::Text(text) => text.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests;

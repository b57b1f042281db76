//! The REST endpoints of devices. Freshness and status are evaluated at the time of the request.

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::apply::{self, Retired};
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::device_status::{DeviceStatus, device_status};
use shared::event::{self, iso, iso_option};
use shared::position::Epoch;
use shared::reading::{Coordinate, Quality};
use shared::state::{DeviceState, freshness};

use super::context::RestContext;
use super::path::DevicePath;
use super::{body, reply};
use crate::error::ApiError;

/// The number of device states read in one round trip. Larger reads could exceed the timeout or delay other reads.
const CHUNK: usize = 500;

/// `GET /api/devices`
pub(crate) async fn list(State(context): State<RestContext>) -> Result<Response, ApiError> {
    let _permit = context.begin_large_read().await?;
    let reader = &context.reader;
    let devices = reader.with_timeout(reader.store.devices()).await;
    let mut devices: Vec<DeviceId> = devices
        .map_err(ApiError::unavailable)?
        .into_iter()
        .map(|(device, _)| device)
        .collect();
    devices.sort_unstable();
    context.remember_device_count(devices.len());
    let mut items = Vec::new();
    let mut count = 0_usize;
    for chunk in devices.chunks(CHUNK) {
        let states = reader.with_timeout(reader.store.states(chunk)).await;
        let states = states.map_err(ApiError::unavailable)?;
        let now = context.now();
        for (state, last_message) in states.into_iter().flatten() {
            let Some(item) = DeviceItem::of(&state, last_message, now) else {
                continue;
            };
            if count > 0 {
                items.push(b',');
            }
            count += 1;
            let item = serde_json::to_vec(&item);
            items.extend(item.expect("structs of strings and numbers always serialise"));
        }
    }
    let mut body = format!(r#"{{"success":true,"count":{count},"devices":["#).into_bytes();
    body.append(&mut items);
    body.extend_from_slice(b"]}");
    Ok(reply::bytes_of_json(StatusCode::OK, Bytes::from(body)))
}

#[derive(Serialize)]
struct DeviceReply<'a> {
    success: bool,
    #[serde(flatten)]
    item: DeviceItem<'a>,
}

/// `GET /api/devices/{deviceId}`
pub(crate) async fn one(
    State(context): State<RestContext>,
    DevicePath(device): DevicePath,
) -> Result<Response, ApiError> {
    let stored = context.reader.device(&device).await;
    let (state, last_message) = stored
        .map_err(ApiError::unavailable)?
        .ok_or(ApiError::UnknownDevice)?;
    let item = DeviceItem::of(&state, last_message, context.now());
    Ok(reply::ok(&DeviceReply {
        success: true,
        item: item.ok_or(ApiError::UnknownDevice)?,
    }))
}

/// The body of a retirement. The field is optional, and so is the body.
#[derive(Debug, Default, Deserialize)]
struct RetireBody {
    retired_by: Option<String>,
}

#[derive(Serialize)]
struct RetireReply {
    success: bool,
}

/// `DELETE /api/devices/{deviceId}` on the main port. Anybody who reaches it may read and acknowledge, and nothing more.
pub(crate) async fn refuse_to_retire() -> ApiError {
    ApiError::OperatorsOnly
}

/// `DELETE /api/devices/{deviceId}`: closes the device's alarms and deletes it. Its next message creates a new device.
pub(crate) async fn retire(
    State(context): State<RestContext>,
    DevicePath(device): DevicePath,
    request: Request,
) -> Result<Response, ApiError> {
    let body: RetireBody = body::parse(&body::read(request).await?)?;
    let name = body::name("retired_by", body.retired_by.as_deref())?;
    let reader = &context.reader;
    let answer = apply::retire(&reader.store, &device, name);
    let answer = reader
        .with_timeout(answer)
        .await
        .map_err(ApiError::unavailable)?;
    context.record_changes(&device, &answer.changes);
    match answer.answer {
        Retired::NotFound => Err(ApiError::UnknownDevice),
        Retired::Done => {
            context.metrics.rest.retired.increment();
            tracing::info!(device.id = %device.for_log(), "device retired");
            Ok(reply::ok(&RetireReply { success: true }))
        }
    }
}

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

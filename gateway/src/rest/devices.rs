//! The devices: one item of contract 4.3 each, judged at the moment it is shown.

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::alarm::Condition;
use shared::apply::{self, Retired};
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::event::{self, iso, iso_option};

use shared::position::Epoch;
use shared::reading::{Coordinate, Quality};
use shared::state::{DeviceState, freshness};

use crate::error::ApiError;
use crate::rest::path::Device;
use crate::rest::{Rest, body, reply};

/// States read in one round trip, so that a large fleet neither exceeds the deadline nor holds up others.
const CHUNK: usize = 500;

/// `GET /api/devices`
pub(crate) async fn list(State(rest): State<Rest>) -> Result<Response, ApiError> {
    let _turn = rest.turn().await?;
    let devices = rest.reads.within(rest.reads.store.devices()).await;
    let mut devices: Vec<DeviceId> = devices
        .map_err(ApiError::away)?
        .into_iter()
        .map(|(device, _)| device)
        .collect();
    devices.sort_unstable();
    rest.remember_devices(devices.len());
    let mut items = Vec::new();
    let mut count = 0_usize;
    for chunk in devices.chunks(CHUNK) {
        let states = rest.reads.within(rest.reads.store.states(chunk)).await;
        let states = states.map_err(ApiError::away)?;
        let now = rest.now();
        for (state, last_message) in states.into_iter().flatten() {
            let Some(item) = Item::of(&state, last_message, now) else {
                continue;
            };
            if count > 0 {
                items.push(b',');
            }
            count += 1;
            let item = serde_json::to_vec(&item);
            items.extend(item.expect("structs of texts and numbers always serialise"));
        }
    }
    let mut body = format!(r#"{{"success":true,"count":{count},"devices":["#).into_bytes();
    body.append(&mut items);
    body.extend_from_slice(b"]}");
    Ok(reply::bytes_of_json(StatusCode::OK, Bytes::from(body)))
}

#[derive(Serialize)]
struct Single<'a> {
    success: bool,
    #[serde(flatten)]
    item: Item<'a>,
}

/// `GET /api/devices/{deviceId}`
pub(crate) async fn one(
    State(rest): State<Rest>,
    Device(device): Device,
) -> Result<Response, ApiError> {
    let stored = rest.reads.device(&device).await.map_err(ApiError::away)?;
    let (state, last_message) = stored.ok_or(ApiError::UnknownDevice)?;
    let item = Item::of(&state, last_message, rest.now()).ok_or(ApiError::UnknownDevice)?;
    Ok(reply::ok(&Single {
        success: true,
        item,
    }))
}

/// What may stand in the body of a retirement; the whole of it is optional.
#[derive(Debug, Default, Deserialize)]
struct Retire {
    retired_by: Option<String>,
}

#[derive(Serialize)]
struct RetireReply {
    success: bool,
}

/// `DELETE /api/devices/{deviceId}`: closes its alarms and forgets it; its next message makes a new device.
pub(crate) async fn retire(
    State(rest): State<Rest>,
    Device(device): Device,
    request: Request,
) -> Result<Response, ApiError> {
    let body: Retire = body::parse(&body::read(request).await?)?;
    let name = body::name("retired_by", body.retired_by.as_deref())?;
    let answer = apply::retire(&rest.reads.store, &device, name);
    let answer = rest.reads.within(answer).await.map_err(ApiError::away)?;
    rest.tell_changes(&device, &answer.changes);
    match answer.answer {
        Retired::NotFound => Err(ApiError::UnknownDevice),
        Retired::Done => {
            rest.metrics.retired.increment();
            tracing::info!(device.id = %device.for_log(), "device retired");
            Ok(reply::ok(&RetireReply { success: true }))
        }
    }
}

/// One device of the contract (4.3): the original's keys, those its screens were written for, and the position.
#[derive(Debug, Serialize)]
pub(crate) struct Item<'a> {
    id: &'a DeviceId,
    device_id: &'a DeviceId,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    status: Status,
    #[serde(serialize_with = "iso")]
    last_update: Time,
    data: Box<RawValue>,
    alarm_status: &'static str,
    #[serde(rename = "deviceId")]
    device_id_again: &'a DeviceId,
    #[serde(rename = "sensorId")]
    sensor_id: &'a DeviceId,
    #[serde(rename = "lastSeen", serialize_with = "iso_option")]
    last_seen: Option<Time>,
    location: String,
    icon: &'static str,
    /// Always empty: the cards print `%` behind any value.
    metrics: [u8; 0],
    epoch: Epoch,
    seq: u64,
}

impl<'a> Item<'a> {
    /// `None` for a device that was never heard of.
    pub(crate) fn of(
        state: &'a DeviceState,
        last_message: Option<Time>,
        now: Time,
    ) -> Option<Self> {
        let latest = state.latest.as_ref()?;
        let reading = &latest.reading;
        let freshness = freshness(state, last_message, now);
        Some(Self {
            id: &reading.device,
            device_id: &reading.device,
            name: &reading.device_name,
            kind: "subtronics_gas_monitor",
            status: status(state, event::data_quality(state, freshness)),
            last_update: latest.taken_at,
            data: event::data(state, freshness, None)?,
            alarm_status: event::alarm_status(state, freshness),
            device_id_again: &reading.device,
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

/// The words that cards, filters and the map test (contract D11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Critical,
    Warning,
    Offline,
    Online,
}

/// Neither a fault nor silence hides a gas alarm, and only what is known and fresh is `online`.
fn status(state: &DeviceState, quality: Quality) -> Status {
    let has = |wanted: &[Condition]| {
        let mut alarms = state.alarms.iter();
        alarms.any(|alarm| wanted.contains(&alarm.condition))
    };
    let led = state
        .latest
        .as_ref()
        .is_some_and(|latest| latest.reading.has_led());
    if has(&[
        Condition::AlarmLevel2,
        Condition::AlarmLevel3,
        Condition::OverRange,
        Condition::SensorFault,
        Condition::ReadingInvalid,
    ]) {
        Status::Critical
    } else if has(&[Condition::AlarmLevel1]) {
        Status::Warning
    } else if quality == Quality::Offline {
        Status::Offline
    } else if led || quality != Quality::Good || !state.alarms.is_empty() {
        Status::Warning
    } else {
        Status::Online
    }
}

/// `<lat>, <long>` as received; empty when unknown, since the map draws whatever it can parse.
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

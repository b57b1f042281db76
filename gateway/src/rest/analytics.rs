//! Who watches how many: per device and replica, and all replicas together.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::iso;

use crate::error::ApiError;
use crate::fleet::Totals;
use crate::rest::{Rest, reply};

/// Devices that are named, those with the most watchers first.
const MAX_DEVICES: usize = 1_000;

#[derive(Serialize)]
struct Analytics<'a> {
    /// Clients of all replicas.
    connections: u64,
    subscriptions: u64,
    devices_watched: usize,
    replicas: Vec<OfReplica<'a>>,
    devices: Vec<OfDevice<'a>>,
    /// More devices are watched than are named.
    more: bool,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
}

/// One gateway, as it reported last.
#[derive(Serialize)]
struct OfReplica<'a> {
    replica: &'a str,
    connections: u64,
    websocket: u64,
    polling: u64,
    subscriptions: u64,
    devices_watched: u64,
    age_ms: i64,
}

#[derive(Serialize)]
struct OfDevice<'a> {
    device_id: &'a DeviceId,
    watchers: u64,
    replicas: &'a BTreeMap<String, u64>,
}

/// `GET /api/analytics/connections`: as the replicas reported within the last intervals, this one included.
pub(crate) async fn connections(State(rest): State<Rest>) -> Result<Response, ApiError> {
    let _turn = rest.turn().await?;
    let reports = rest.reads.within(rest.reads.store.watchers()).await;
    let reports = reports.map_err(ApiError::away)?;
    let now = rest.now();
    let totals = Totals::of(&reports);
    let replicas = reports.iter().map(|(replica, report)| OfReplica {
        replica,
        connections: report.websocket + report.polling,
        websocket: report.websocket,
        polling: report.polling,
        subscriptions: report.subscriptions,
        devices_watched: report.rooms,
        age_ms: now.millis_since(report.at).max(0),
    });
    let named = totals.devices.iter().map(|(device_id, replicas)| OfDevice {
        device_id,
        watchers: replicas.values().sum(),
        replicas,
    });
    let mut devices: Vec<OfDevice<'_>> = named.collect();
    devices.sort_by_key(|device| Reverse(device.watchers));
    let is_named = reports
        .values()
        .all(|report| report.rooms == report.devices.len() as u64);
    let more = devices.len() > MAX_DEVICES || !is_named;
    devices.truncate(MAX_DEVICES);
    Ok(reply::ok(&Analytics {
        connections: totals.connections,
        subscriptions: totals.subscriptions,
        devices_watched: totals.devices.len(),
        replicas: replicas.collect(),
        devices,
        more,
        timestamp: now,
    }))
}

//! How many clients watch what: per device, per replica, and in total.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::iso;

use super::context::RestContext;
use super::reply;
use crate::client_address::ClientAddress;
use crate::error::ApiError;
use crate::fleet::totals::{FleetTotals, watchers_by_device};

/// Maximum number of devices in the answer: those with the most watchers.
const MAX_DEVICES: usize = 1_000;

#[derive(Serialize)]
struct Analytics<'a> {
    /// Clients of all replicas.
    connections: u64,
    subscriptions: u64,
    devices_watched: u64,
    replicas: Vec<ReplicaItem<'a>>,
    devices: Vec<WatchedItem<'a>>,
    /// More devices are watched than are listed.
    more: bool,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
}

/// One gateway, as it reported last.
#[derive(Serialize)]
struct ReplicaItem<'a> {
    replica: &'a str,
    connections: u64,
    websocket: u64,
    polling: u64,
    subscriptions: u64,
    devices_watched: u64,
    /// Age of the report.
    age_ms: i64,
}

#[derive(Serialize)]
struct WatchedItem<'a> {
    device_id: &'a DeviceId,
    watchers: u64,
    replicas: BTreeMap<&'a str, u64>,
}

/// `GET /api/analytics/connections`: the latest reports of all replicas, including this one.
pub(crate) async fn connections(
    State(context): State<RestContext>,
    client: ClientAddress,
) -> Result<Response, ApiError> {
    let _turn = context.large_reads.wait(client).await?;
    let reader = &context.reader;
    let reports = reader.with_timeout(reader.store.watchers()).await;
    let reports = reports.map_err(ApiError::unavailable)?;
    let now = context.now();
    let totals = FleetTotals::of(&reports);
    let replicas = reports.iter().map(|(replica, report)| ReplicaItem {
        replica,
        connections: report.websocket + report.polling,
        websocket: report.websocket,
        polling: report.polling,
        subscriptions: report.subscriptions,
        devices_watched: report.rooms,
        age_ms: now.millis_since(report.at).max(0),
    });
    let items = watchers_by_device(&reports).into_iter();
    let items = items.map(|(device_id, replicas)| WatchedItem {
        device_id,
        watchers: replicas.values().sum(),
        replicas,
    });
    let mut devices: Vec<WatchedItem<'_>> = items.collect();
    devices.sort_by_key(|device| Reverse(device.watchers));
    let is_complete = reports
        .values()
        .all(|report| report.rooms == report.devices.len() as u64);
    let more = devices.len() > MAX_DEVICES || !is_complete;
    devices.truncate(MAX_DEVICES);
    Ok(reply::ok(&Analytics {
        connections: totals.connections,
        subscriptions: totals.subscriptions,
        devices_watched: totals.rooms,
        replicas: replicas.collect(),
        devices,
        more,
        timestamp: now,
    }))
}

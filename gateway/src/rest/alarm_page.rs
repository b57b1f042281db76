//! The alarm page of the existing front end: the alarms that are open, and the rows of the log, in the shapes that it expects.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use shared::alarm::{Condition, Severity};
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::iso;

use super::access_check::Requester;
use super::alarm_log;
use super::context::RestContext;
use super::open_alarms::Urgent;
use super::query::Query;
use super::reply;
use crate::client_address::ClientAddress;
use crate::error::ApiError;
use crate::feeds::filter::AlarmFilter;
use crate::location::Location;

/// Maximum number of open alarms in an answer.
const MAX_ALARMS: usize = 1000;
/// Number of devices that are read in one round trip.
const CHUNK: usize = 500;
/// How many days of the log are answered if the request does not say, and at most.
const DAYS: (u64, u64) = (30, 3650);

#[derive(Serialize)]
struct Answer<T> {
    success: bool,
    data: Vec<T>,
}

/// An open alarm.
#[derive(Serialize)]
struct AlarmRow {
    #[serde(rename = "_id")]
    id: String,
    name: String,
    device_name: String,
    parameter: String,
    status: &'static str,
    severity: Severity,
}

/// A row of the log.
#[derive(Serialize)]
struct HistoryRow {
    #[serde(rename = "_id")]
    id: String,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
    alarm_type: Condition,
    device_name: String,
    device_id: DeviceId,
    location: String,
    reason: String,
}

/// `GET /api/alarms`: the most urgent open alarms. One whose condition no longer holds is `Inactive`.
pub(crate) async fn alarms(
    State(context): State<RestContext>,
    requester: Requester,
    client: ClientAddress,
) -> Result<Response, ApiError> {
    let filter = AlarmFilter::default();
    let urgent = Urgent::new(MAX_ALARMS, None);
    let found = urgent.read(&context, &requester, client, &filter, |_, _, alarm| {
        AlarmRow {
            id: alarm.id.clone(),
            name: alarm.message.clone(),
            device_name: alarm.device_name.clone(),
            parameter: alarm.gas_type.clone(),
            status: if alarm.is_active() {
                "Active"
            } else {
                "Inactive"
            },
            severity: alarm.severity(),
        }
    });
    let (data, _) = found.await?.into_alarms();
    let success = true;
    Ok(reply::ok(&Answer { success, data }))
}

/// `GET /api/alarms/history/log`: the newest rows of the log, of so many days.
pub(crate) async fn history(
    State(context): State<RestContext>,
    requester: Requester,
    client: ClientAddress,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let days = query.whole_number("days")?.unwrap_or(DAYS.0);
    let since = context.now() - Duration::from_hours(24 * days.clamp(1, DAYS.1));
    let rows = alarm_log::rows_since(&context, client, &query, since, requester.limited());
    let rows = rows.await?;
    let devices: BTreeSet<&DeviceId> = rows.iter().map(|row| &row.device_id).collect();
    let locations = locations(&context, devices.into_iter().cloned().collect()).await?;
    let data = rows.into_iter().map(|row| HistoryRow {
        location: locations.get(&row.device_id).cloned().unwrap_or_default(),
        id: row.id,
        timestamp: row.timestamp,
        alarm_type: row.alarm_type,
        device_name: row.device_name,
        device_id: row.device_id,
        reason: row.message,
    });
    Ok(reply::ok(&Answer {
        success: true,
        data: data.collect(),
    }))
}

/// Returns where these devices are now. Those that are gone are missing.
async fn locations(
    context: &RestContext,
    devices: Vec<DeviceId>,
) -> Result<HashMap<DeviceId, String>, ApiError> {
    let reader = &context.reader;
    let mut found = HashMap::new();
    for chunk in devices.chunks(CHUNK) {
        let asked: Vec<_> = chunk.iter().map(|device| (device.clone(), None)).collect();
        let shown = reader
            .with_timeout(reader.store.shown_devices(&asked))
            .await;
        let shown = shown.map_err(ApiError::unavailable)?;
        for (device, (shown, _)) in chunk.iter().zip(shown) {
            if let Some(shown) = shown
                && let Some(latest) = &shown.state.latest
            {
                let location = Location::of(&shown.profile, &latest.reading);
                found.insert(device.clone(), location.text());
            }
        }
    }
    Ok(found)
}

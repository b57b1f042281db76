//! Samples of one device, for charts.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::device::DeviceId;

use crate::error::ApiError;
use crate::rest::path::Device;
use crate::rest::query::Query;
use crate::rest::{Rest, reply};

#[derive(Serialize)]
struct History {
    device_id: DeviceId,
    count: usize,
    samples: Vec<Box<RawValue>>,
}

/// `GET /api/devices/{deviceId}/history`: the newest samples within the bounds, oldest first, by server time.
pub(crate) async fn samples(
    State(rest): State<Rest>,
    Device(device): Device,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let (since, until) = (query.moment("since")?, query.moment("until")?);
    let history = rest
        .reads
        .store
        .history(&device, since, until, query.limit()?);
    let stored = rest.reads.within(history).await.map_err(ApiError::away)?;
    if stored.is_empty() {
        // No sample in this time is an answer, a device never heard of is none.
        let known = rest.reads.device(&device).await.map_err(ApiError::away)?;
        known.ok_or(ApiError::UnknownDevice)?;
    }
    let samples: Vec<_> = stored.into_iter().filter_map(as_json).collect();
    Ok(reply::ok(&History {
        device_id: device,
        count: samples.len(),
        samples,
    }))
}

/// A sample that cannot be read must not hide the others.
fn as_json(bytes: Vec<u8>) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(bytes).ok()?).ok()
}

//! Samples of one device, for charts.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::device::DeviceId;

use super::context::RestContext;
use super::path::DevicePath;
use super::query::Query;
use super::reply;
use crate::error::ApiError;

#[derive(Serialize)]
struct History {
    device_id: DeviceId,
    count: usize,
    samples: Vec<Box<RawValue>>,
}

/// `GET /api/devices/{deviceId}/history`: the newest samples between `since` and `until`, oldest first, by server time.
pub(crate) async fn samples(
    State(context): State<RestContext>,
    DevicePath(device): DevicePath,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let (since, until) = (
        query.date_or_millis("since")?,
        query.date_or_millis("until")?,
    );
    let reader = &context.reader;
    let history = reader.store.history(&device, since, until, query.limit()?);
    let samples = reader
        .with_timeout(history)
        .await
        .map_err(ApiError::unavailable)?;
    if samples.is_empty() {
        // A known device without samples in this time answers with an empty list, an unknown device with 404.
        let known = reader
            .device(&device)
            .await
            .map_err(ApiError::unavailable)?;
        known.ok_or(ApiError::UnknownDevice)?;
    }
    Ok(reply::ok(&History {
        device_id: device,
        count: samples.len(),
        samples,
    }))
}

//! The latest reading of one device.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use shared::event;
use shared::state::freshness;

use crate::error::ApiError;
use crate::rest::path::Device;
use crate::rest::{Rest, reply};

/// `GET /devices/{deviceId}/subtronics/telemetry/latest`: the bare object, with the payload it came from.
pub(crate) async fn latest(
    State(rest): State<Rest>,
    Device(device): Device,
) -> Result<Response, ApiError> {
    let stored = rest.reads.device_with_raw(&device).await;
    let stored = stored.map_err(ApiError::away)?;
    let stored = stored.ok_or(ApiError::UnknownDevice)?;
    let freshness = freshness(&stored.state, stored.last_message, rest.now());
    let data = event::data(&stored.state, freshness, stored.raw.as_deref());
    let data = data.ok_or(ApiError::UnknownDevice)?;
    Ok(reply::bytes_of_json(StatusCode::OK, data.get().to_owned()))
}

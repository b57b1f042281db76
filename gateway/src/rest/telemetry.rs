//! The latest reading of one device.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use shared::event;
use shared::state::freshness;

use super::context::RestContext;
use super::path::DevicePath;
use super::reply;
use crate::error::ApiError;

/// `GET /devices/{deviceId}/subtronics/telemetry/latest`: the latest reading, normalised, with its original payload.
pub(crate) async fn latest(
    State(context): State<RestContext>,
    DevicePath(device): DevicePath,
) -> Result<Response, ApiError> {
    let stored = context.reader.device_with_payload(&device).await;
    let stored = stored.map_err(ApiError::unavailable)?;
    let stored = stored.ok_or(ApiError::UnknownDevice)?;
    let freshness = freshness(&stored.state, stored.last_message, context.now());
    let data = event::data(&stored.state, freshness, stored.payload.as_deref());
    let data = data.ok_or(ApiError::UnknownDevice)?;
    Ok(reply::bytes_of_json(StatusCode::OK, data.get().to_owned()))
}

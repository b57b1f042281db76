//! The path parameters of routes: percent-decoded, case-sensitive.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use shared::device::DeviceId;

use crate::error::ApiError;

/// The `{deviceId}` of a route. An invalid device id is answered like an unknown device.
pub(crate) struct DevicePath(pub(crate) DeviceId);

/// The `{deviceId}` and `{alertId}` of a route. An invalid device id is answered like an unknown alert.
pub(crate) struct AlertPath {
    pub(crate) device: DeviceId,
    pub(crate) id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for DevicePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = decode(parts, state).await?;
        let device = device_text(&params).and_then(|text| text.parse().ok());
        device.map(Self).ok_or(ApiError::UnknownDevice)
    }
}

/// The `{planId}` of a route.
pub(crate) struct PlanPath(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PlanPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = decode(parts, state).await?;
        let id = parameter(&params, "planId").map(str::to_owned);
        id.map(Self).ok_or(ApiError::UnknownPlan)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AlertPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = decode(parts, state).await?;
        let device = device_text(&params).and_then(|text| text.parse().ok());
        let id = parameter(&params, "alertId").map(str::to_owned);
        match (device, id) {
            (Some(device), Some(id)) => Ok(Self { device, id }),
            _ => Err(ApiError::UnknownAlert),
        }
    }
}

/// Returns the `{deviceId}` of a route as it stands in the path.
pub(super) fn device_text(params: &RawPathParams) -> Option<&str> {
    parameter(params, "deviceId")
}

/// Reads the parameters of the path.
pub(super) async fn decode<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<RawPathParams, ApiError> {
    let params = RawPathParams::from_request_parts(parts, state).await;
    params.map_err(|_| ApiError::Unreadable {
        problem: "the path is not percent-encoded UTF-8".to_owned(),
    })
}

fn parameter<'a>(params: &'a RawPathParams, name: &str) -> Option<&'a str> {
    let mut params = params.iter();
    params.find_map(|(key, value)| (key == name).then_some(value))
}

//! The alarms of one device, and their acknowledgement.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::apply::{self, Acknowledged};
use shared::event;
use shared::state::Position;

use crate::error::ApiError;
use crate::rest::path::{Alert, Device};
use crate::rest::{Rest, reply};

/// The longest name of who acknowledges, in characters.
const MAX_NAME: usize = 128;
/// Who acknowledges without giving a name (contract D7).
const NO_NAME: &str = "unknown";

/// `GET /devices/{deviceId}/subtronics/alerts`: the bare array, oldest first.
pub(crate) async fn list(
    State(rest): State<Rest>,
    Device(device): Device,
) -> Result<Response, ApiError> {
    let alarms = rest.reads.store.alarms(&device, rest.alerts_bound);
    let alarms = rest.reads.within(alarms).await.map_err(ApiError::away)?;
    let alarms = alarms.ok_or(ApiError::UnknownDevice)?;
    let alerts: Vec<Box<RawValue>> = alarms
        .iter()
        .map(|alarm| event::alert(&device, alarm))
        .collect();
    Ok(reply::ok(&alerts))
}

#[derive(Serialize)]
struct AcknowledgeReply {
    success: bool,
    /// The alarm reached a level that had not been seen: it stays unacknowledged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    escalated: bool,
}

/// `POST /devices/{deviceId}/subtronics/alerts/{alertId}/acknowledge`
pub(crate) async fn acknowledge(
    State(rest): State<Rest>,
    alert: Alert,
    request: Request,
) -> Result<Response, ApiError> {
    let bytes = Bytes::from_request(request, &rest).await;
    let body = Body::parse(&bytes.map_err(|rejection| unread(&rejection))?)?;
    let name = body.name()?;
    let answer = apply::acknowledge(&rest.reads.store, &alert.device, &alert.id, name, body.seen);
    match rest.reads.within(answer).await.map_err(ApiError::away)? {
        Acknowledged::NotFound => Err(ApiError::UnknownAlert),
        answer => Ok(reply::ok(&AcknowledgeReply {
            success: true,
            escalated: answer == Acknowledged::Escalated,
        })),
    }
}

/// What may stand in the body; the whole of it is optional.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct Body {
    acknowledged_by: Option<String>,
    /// Position of the last event the operator had seen.
    seen: Option<Position>,
}

impl Body {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        if !bytes.trim_ascii_start().starts_with(b"{") && bytes.trim_ascii() != b"null" {
            return Err(ApiError::Unreadable {
                problem: "the body cannot be read: it is not a JSON object".to_owned(),
            });
        }
        let body: Result<Option<Self>, _> = serde_json::from_slice(bytes);
        match body {
            Ok(body) => Ok(body.unwrap_or_default()),
            Err(error) => Err(ApiError::Unreadable {
                problem: format!("the body cannot be read: {error}"),
            }),
        }
    }

    fn name(&self) -> Result<&str, ApiError> {
        let name = self.acknowledged_by.as_deref().unwrap_or_default().trim();
        if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(ApiError::Unreadable {
                problem: format!(
                    "`acknowledged_by` is longer than {MAX_NAME} characters or has control characters"
                ),
            });
        }
        Ok(if name.is_empty() { NO_NAME } else { name })
    }
}

fn unread(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::TooLarge;
    }
    ApiError::Unreadable {
        problem: "the body did not arrive whole".to_owned(),
    }
}

#[cfg(test)]
mod tests;

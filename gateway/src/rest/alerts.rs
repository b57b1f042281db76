//! The alarms of one device, and their acknowledgement.

use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::apply::{self, Acknowledged};
use shared::event;
use shared::position::Position;

use crate::error::ApiError;
use crate::rest::path::{Alert, Device};
use crate::rest::{Rest, body, reply};

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
    let body = Body::parse(&body::read(request).await?)?;
    let name = body.name()?;
    let answer = apply::acknowledge(&rest.reads.store, &alert.device, &alert.id, name, body.seen);
    let answer = rest.reads.within(answer).await.map_err(ApiError::away)?;
    rest.metrics.acknowledged.increment(match answer.answer {
        Acknowledged::Covered => "covered",
        Acknowledged::Escalated => "escalated",
        Acknowledged::NotFound => "not_found",
    });
    rest.tell_changes(&alert.device, &answer.changes);
    match answer.answer {
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
        body::parse(bytes)
    }

    fn name(&self) -> Result<&str, ApiError> {
        body::name("acknowledged_by", self.acknowledged_by.as_deref())
    }
}

#[cfg(test)]
mod tests;

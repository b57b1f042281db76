//! The alarms of one device, and their acknowledgement.

use std::borrow::Cow;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::alarm::Acknowledgement;
use shared::apply::{self, Acknowledged, Acknowledging};
use shared::event;
use shared::position::Position;

use super::access_check::Requester;
use super::context::RestContext;
use super::path::{AlertPath, DevicePath};
use super::{body, reply};
use crate::audit::Done;
use crate::client_address::ClientAddress;
use crate::error::ApiError;

/// Bytes of alerts of one device in an answer, beside which closed ones are left out.
const ALERT_BYTES: usize = 64 * 1024;

/// `GET /devices/{deviceId}/subtronics/alerts`: a bare array, oldest alarm first.
pub(crate) async fn list(
    State(context): State<RestContext>,
    client: ClientAddress,
    DevicePath(device): DevicePath,
) -> Result<Response, ApiError> {
    let _turn = context.alert_reads.wait(client).await?;
    let reader = &context.reader;
    let alarms = reader.store.alarms(&device, context.alerts_bound);
    let alarms = reader
        .with_timeout(alarms)
        .await
        .map_err(ApiError::unavailable)?;
    let alarms = alarms.ok_or(ApiError::UnknownDevice)?;
    let alerts = alarms.iter().map(|alarm| Rendered {
        is_open: alarm.cleared_at.is_none(),
        alert: event::alert(&device, alarm),
    });
    Ok(reply::ok(&within_bytes(alerts.collect(), ALERT_BYTES)))
}

/// An alarm as it is sent.
struct Rendered {
    is_open: bool,
    alert: Box<RawValue>,
}

/// Leaves out the oldest closed alarms of these, which are in order, until the others have so many bytes. Every open one stays.
fn within_bytes(alerts: Vec<Rendered>, max_bytes: usize) -> Vec<Box<RawValue>> {
    let size = |rendered: &Rendered| rendered.alert.get().len();
    let total: usize = alerts.iter().map(size).sum();
    let mut excess = total.saturating_sub(max_bytes);
    let mut kept = alerts;
    kept.retain(|rendered| {
        let stays = rendered.is_open || excess == 0;
        if !stays {
            excess = excess.saturating_sub(size(rendered));
        }
        stays
    });
    kept.into_iter().map(|rendered| rendered.alert).collect()
}

#[derive(Serialize)]
struct AcknowledgeReply {
    success: bool,
    /// The alarm had reached a level that the operator had not seen, so it stays unacknowledged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    escalated: bool,
}

/// `POST /devices/{deviceId}/subtronics/alerts/{alertId}/acknowledge`
pub(crate) async fn acknowledge(
    State(context): State<RestContext>,
    requester: Requester,
    client: ClientAddress,
    alert: AlertPath,
    request: Request,
) -> Result<Response, ApiError> {
    let body = AcknowledgeBody::parse(&body::read(request).await?)?;
    let name = body.name(requester.name())?;
    let note = body.note()?;
    let reader = &context.reader;
    let request = Acknowledging {
        alarm_id: &alert.id,
        by: &name,
        note: note.as_deref(),
        seen: body.seen,
    };
    let answer = apply::acknowledge(&reader.store, &alert.device, request);
    let answer = reader
        .with_timeout(answer)
        .await
        .map_err(ApiError::unavailable)?;
    let counts = &context.metrics.rest.acknowledgements;
    let count = match answer.answer {
        Acknowledged::Covered => &counts.covered,
        Acknowledged::Escalated => &counts.escalated,
        Acknowledged::NotFound => &counts.not_found,
    };
    count.increment();
    context.record_changes(&alert.device, &answer.changes);
    if answer.answer != Acknowledged::NotFound {
        let done = Done {
            action: "acknowledged",
            name: &name,
            device: &alert.device,
            detail: Some(&alert.id),
            note: note.as_deref(),
        };
        context.audit.done(requester.at(client), done);
    }
    match answer.answer {
        Acknowledged::NotFound => Err(ApiError::UnknownAlert),
        answer => Ok(reply::ok(&AcknowledgeReply {
            success: true,
            escalated: answer == Acknowledged::Escalated,
        })),
    }
}

/// The body of an acknowledgement. All fields are optional, and so is the body.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct AcknowledgeBody {
    acknowledged_by: Option<String>,
    /// What the operator writes beside it.
    note: Option<String>,
    /// Position of the last event that the operator had seen.
    seen: Option<Position>,
}

impl AcknowledgeBody {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        body::parse(bytes)
    }

    /// Returns who acknowledges. `holder`: the name of the holder of a token, beside which the word of the body does not count.
    fn name<'a>(&'a self, holder: Option<&'a str>) -> Result<Cow<'a, str>, ApiError> {
        let name = holder.or(self.acknowledged_by.as_deref());
        body::name("acknowledged_by", name)
    }

    fn note(&self) -> Result<Option<String>, ApiError> {
        body::remark("note", self.note.as_deref(), Acknowledgement::MAX_NOTE)
    }
}

#[cfg(test)]
mod tests;

//! The audit trail: what people did, what was refused, and who signed in and out.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use shared::store::{AuditEntry, AuditPart, is_entry_id};

use super::context::RestContext;
use super::query::Query;
use super::reply;
use crate::client_address::ClientAddress;
use crate::error::ApiError;

#[derive(Serialize)]
struct Audit {
    count: usize,
    entries: Vec<Value>,
    /// `before` of the request for older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /api/audit`: the newest entries of one part, newest first.
pub(crate) async fn list(
    State(context): State<RestContext>,
    client: ClientAddress,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let before = query.text("before");
    if before.is_some_and(|before| !is_entry_id(before)) {
        return Err(ApiError::Unreadable {
            problem: "`before` is not the `next` of an answer".to_owned(),
        });
    }
    let part = match query.text("part") {
        None | Some("done") => AuditPart::Done,
        Some("refused") => AuditPart::Refused,
        Some("sessions") => AuditPart::Sessions,
        Some(_) => {
            return Err(ApiError::Unreadable {
                problem: "`part` is not `done`, `refused` or `sessions`".to_owned(),
            });
        }
    };
    let limit = query.limit()?;
    let _turn = context.large_reads.wait(client).await?;
    let reader = &context.reader;
    let page = reader
        .with_timeout(reader.store.audit(part, before, limit))
        .await;
    let page = page.map_err(ApiError::unavailable)?;
    Ok(reply::ok(&Audit {
        count: page.entries.len(),
        entries: page.entries.iter().map(render).collect(),
        next: page.before,
    }))
}

/// Renders an entry as it is stored, with its time as a text.
fn render(entry: &AuditEntry) -> Value {
    let mut fields = match serde_json::to_value(entry) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.insert("at".to_owned(), Value::String(entry.at.to_iso()));
    Value::Object(fields)
}

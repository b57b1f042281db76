//! The REST endpoints of devices. Freshness and status are evaluated at the time of the request.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use shared::apply::{self, Retired};

use super::access_check::Requester;
use super::answers::Counted;
use super::context::RestContext;
use super::device_item::DeviceItem;
use super::device_list::{self, DeviceListBody, Part};
use super::path::DevicePath;
use super::query::Query;
use super::{body, reply};
use crate::audit::Done;
use crate::client_address::ClientAddress;
use crate::error::ApiError;

/// `GET /api/devices`: all devices, or one page of them with `limit` or `after`.
pub(crate) async fn list(
    State(context): State<RestContext>,
    requester: Requester,
    client: ClientAddress,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let after = query.text("after").map(str::to_owned);
    let is_whole = after.is_none() && query.text("limit").is_none();
    let limited = requester.limited();
    let (list, of_client) = if is_whole && limited.is_none() {
        let shared = context.device_lists.current(client).await?;
        (shared.list, Some(shared.of_client))
    } else {
        let limit = if is_whole { None } else { Some(query.limit()?) };
        let part = Part {
            limit,
            after,
            client,
            reader: limited.map(Arc::clone),
        };
        let _turn = context.large_reads.wait(client).await?;
        let page = device_list::render(&context.list_source, Some(&part)).await?;
        (Arc::new(page), None)
    };
    if limited.is_none() {
        context.remember_device_count(list.known_devices);
    }
    let etag = HeaderValue::from_str(&list.etag).expect("hexadecimal digits in quotes");
    let mut response = if has_already(&headers, &list.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let bytes = Arc::clone(&list.held);
        let body = Body::new(DeviceListBody::new(list));
        let mut response = reply::bytes_of_json(StatusCode::OK, body);
        let counted = Counted {
            bytes,
            _of_client: of_client,
        };
        response.extensions_mut().insert(counted);
        response
    };
    response.headers_mut().insert(ETAG, etag);
    Ok(response)
}

/// Returns whether the client has the answer with this `ETag`.
fn has_already(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut tags = texts.flat_map(|text| text.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

#[derive(Serialize)]
struct DeviceReply<'a> {
    success: bool,
    #[serde(flatten)]
    item: DeviceItem<'a>,
}

/// `GET /api/devices/{deviceId}`
pub(crate) async fn one(
    State(context): State<RestContext>,
    DevicePath(device): DevicePath,
) -> Result<Response, ApiError> {
    let stored = context.reader.device(&device).await;
    let (state, last_message) = stored
        .map_err(ApiError::unavailable)?
        .ok_or(ApiError::UnknownDevice)?;
    let store = &context.reader.store;
    let profile = context.reader.with_timeout(store.profile(&device)).await;
    let profile = profile.map_err(ApiError::unavailable)?.unwrap_or_default();
    let item = DeviceItem::of(&state, &profile.profile, last_message, context.now());
    Ok(reply::ok(&DeviceReply {
        success: true,
        item: item.ok_or(ApiError::UnknownDevice)?,
    }))
}

/// The body of a retirement. The field is optional, and so is the body.
#[derive(Debug, Default, Deserialize)]
struct RetireBody {
    retired_by: Option<String>,
}

#[derive(Serialize)]
struct RetireReply {
    success: bool,
}

/// `DELETE /api/devices/{deviceId}` on the main port, if nobody can have a token.
pub(crate) async fn refuse_to_retire() -> ApiError {
    ApiError::OperatorsOnly
}

/// `DELETE /api/devices/{deviceId}`: closes the device's alarms and deletes it. Its next message creates a new device.
pub(crate) async fn retire(
    State(context): State<RestContext>,
    requester: Requester,
    client: ClientAddress,
    DevicePath(device): DevicePath,
    request: Request,
) -> Result<Response, ApiError> {
    let body: RetireBody = body::parse(&body::read(request).await?)?;
    let name = body::name(
        "retired_by",
        requester.name().or(body.retired_by.as_deref()),
    )?;
    let reader = &context.reader;
    let answer = apply::retire(&reader.store, &device, &name);
    let answer = reader
        .with_timeout(answer)
        .await
        .map_err(ApiError::unavailable)?;
    context.record_changes(&device, &answer.changes);
    match answer.answer {
        Retired::NotFound => Err(ApiError::UnknownDevice),
        Retired::Done => {
            context.metrics.rest.retired.increment();
            let done = Done {
                action: "retired",
                name: &name,
                device: &device,
                detail: None,
                note: None,
            };
            context.audit.done(requester.at(client), done);
            tracing::info!(device.id = %device.for_log(), "device retired");
            Ok(reply::ok(&RetireReply { success: true }))
        }
    }
}

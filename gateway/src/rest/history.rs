//! Samples of one device, for charts and spreadsheets.

mod buckets;
mod chart;
mod csv;
mod sources;
mod stretch;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::alarm::Alarm;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::store::StoredSample;

use super::answers::Counted;
use super::context::RestContext;
use super::path::DevicePath;
use super::query::{Query, in_order};
use super::reply;
use crate::client_address::ClientAddress;
use crate::error::ApiError;
use buckets::MAX_POINTS;
use chart::Charted;

/// The time that is shown, unless the client says when it begins.
const DEFAULT_TIME: Duration = Duration::from_hours(24);
/// Beside a table of buckets: the oldest time of which anything is stored. A line of its own would not be part of a table.
const REACHES_FROM: HeaderName = HeaderName::from_static("reaches-from");

#[derive(Serialize)]
struct History {
    device_id: DeviceId,
    count: usize,
    samples: Vec<Box<RawValue>>,
}

/// `GET /api/devices/{deviceId}/history`: the newest samples between `from` (or `since`) and `until`, oldest first, by server time. With
/// `points`, also so many buckets of all samples, also of those that only rollups tell, and when alarms stood.
pub(crate) async fn samples(
    State(context): State<RestContext>,
    client: ClientAddress,
    DevicePath(device): DevicePath,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let (since, until) = bounds(&query)?;
    let limit = query.limit()?;
    if let Some(points) = points(&query)? {
        let bounds = complete(since, until, context.now());
        return chart::chart(&context, client, device, bounds, points, limit).await;
    }
    let reader = &context.reader;
    let history = reader.store.history(&device, since, until, limit);
    let samples = reader
        .with_timeout(history)
        .await
        .map_err(ApiError::unavailable)?;
    if samples.is_empty() {
        // A known device without samples in this time answers with an empty list, an unknown device with 404.
        open_alarms(&context, &device)
            .await?
            .ok_or(ApiError::UnknownDevice)?;
    }
    Ok(reply::ok(&History {
        device_id: device,
        count: samples.len(),
        samples,
    }))
}

/// `GET /api/devices/{deviceId}/history.csv`: all samples between `from` and `until`. With `points`, so many buckets of them instead, also of
/// those that only rollups tell.
pub(crate) async fn table(
    State(context): State<RestContext>,
    client: ClientAddress,
    DevicePath(device): DevicePath,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let (since, until) = bounds(&query)?;
    let bounds = complete(since, until, context.now());
    if let Some(points) = points(&query)? {
        return buckets_table(&context, client, &device, bounds, points).await;
    }
    let _turn = context.large_reads.wait(client).await?;
    let known = open_alarms(&context, &device).await?;
    let mut held = context.answers.begin(client);
    let mut table = csv::HEADER.to_owned();
    let mut counted = 0;
    read(&context, &device, bounds, |samples| {
        for sample in samples {
            csv::push(&mut table, &sample.sample);
        }
        let added = table.len() - counted;
        counted = table.len();
        held.add(added as u64)
    })
    .await?;
    if table.len() == csv::HEADER.len() && known.is_none() {
        return Err(ApiError::UnknownDevice);
    }
    let mut response = file(&device, table);
    response.extensions_mut().insert(Counted {
        bytes: Arc::new(held),
        _of_client: None,
    });
    Ok(response)
}

/// [`MAX_POINTS`] bounds the rows.
async fn buckets_table(
    context: &RestContext,
    client: ClientAddress,
    device: &DeviceId,
    bounds: (Time, Time),
    points: usize,
) -> Result<Response, ApiError> {
    let _turn = context.large_reads.wait(client).await?;
    let known = open_alarms(context, device).await?;
    let charted = Charted::read(context, device, bounds, points).await?;
    if charted.buckets.is_empty() && known.is_none() {
        return Err(ApiError::UnknownDevice);
    }
    let mut table = csv::BUCKETS_HEADER.to_owned();
    for bucket in &charted.buckets {
        csv::push_bucket(&mut table, bucket);
    }
    let mut response = file(device, table);
    let reaches_from = HeaderValue::from_str(&charted.reaches_from.to_iso());
    let reaches_from = reaches_from.expect("digits and signs");
    response.headers_mut().insert(REACHES_FROM, reaches_from);
    Ok(response)
}

/// Returns from when and until when samples are wanted, as far as the query says it.
fn bounds(query: &Query) -> Result<(Option<Time>, Option<Time>), ApiError> {
    let from = query.date_or_millis("from")?;
    let since = query.date_or_millis("since")?;
    let (begin, until) = (from.or(since), query.date_or_millis("until")?);
    in_order(("from", begin), ("until", until))?;
    Ok((begin, until))
}

/// Returns into how many buckets the time is divided, if it is.
fn points(query: &Query) -> Result<Option<usize>, ApiError> {
    query.number("points", 1..=MAX_POINTS)
}

/// Returns the bounds, with defaults for those that are missing.
fn complete(since: Option<Time>, until: Option<Time>, now: Time) -> (Time, Time) {
    let until = until.unwrap_or(now);
    (since.unwrap_or(until - DEFAULT_TIME), until)
}

/// Returns the open alarms of a device; `None` for an unknown one.
async fn open_alarms(
    context: &RestContext,
    device: &DeviceId,
) -> Result<Option<Vec<Alarm>>, ApiError> {
    let known = context.reader.device(device).await;
    let known = known.map_err(ApiError::unavailable)?;
    Ok(known.map(|(state, _)| state.alarms))
}

/// Reads all samples, oldest first, piece by piece: Redis does nothing else while it answers. `--history-max` bounds them.
async fn read(
    context: &RestContext,
    device: &DeviceId,
    bounds: (Time, Time),
    mut take: impl FnMut(Vec<StoredSample>) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let reader = &context.reader;
    let mut place = None;
    loop {
        let piece = reader.store.history_piece(device, bounds, place.as_ref());
        let piece = reader.with_timeout(piece).await;
        let piece = piece.map_err(ApiError::unavailable)?;
        take(piece.samples)?;
        place = piece.next;
        if place.is_none() {
            return Ok(());
        }
    }
}

/// Builds the answer with a table that is saved as a file.
fn file(device: &DeviceId, table: String) -> Response {
    let mut response = Response::new(Body::from(table));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/csv; charset=utf-8; header=present"),
    );
    headers.insert(CONTENT_DISPOSITION, attachment(device));
    response
}

/// Names the file. A serial may have any character.
fn attachment(device: &DeviceId) -> HeaderValue {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let plain: String = device
        .as_str()
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    HeaderValue::from_str(&format!("attachment; filename=\"{plain}.csv\""))
        .expect("letters and digits")
}

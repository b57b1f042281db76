//! The alarm log: the rows of one device or of all devices, and counts of rows.

mod counts;
mod filter;
mod fold;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod index;
pub(crate) mod known_logs;
mod place;
mod search;
pub(super) mod spans;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::iso_option;

use super::access_check::Requester;
use super::context::RestContext;
use super::path::DevicePath;
use super::query::Query;
use super::reply;
use crate::access::identity::Identity;
use crate::client_address::ClientAddress;
use crate::error::ApiError;
use counts::Statistics;
use filter::{Choice, LogFilter, partitions};
use fold::LogRow;
use place::{NotAPlace, Place};
use search::{CONCURRENT_PARTITIONS, Found, Search};

const LOGS_UNAVAILABLE: &str = "Failed to fetch alarm logs";
const STATISTICS_UNAVAILABLE: &str = "Failed to fetch statistics";

#[derive(Serialize)]
struct DeviceLogs {
    device_id: DeviceId,
    #[serde(flatten)]
    logs: Logs,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the answer")]
struct Logs {
    total_count: usize,
    logs: Vec<LogRow>,
    /// Rows up to this time were not looked for. Absent if all were.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "iso_option")]
    incomplete_before: Option<Time>,
    /// `before` of the request for the next rows. Absent if there are certainly none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Logs {
    fn of(found: Found) -> Self {
        Self {
            total_count: found.rows.len(),
            logs: found.rows,
            incomplete_before: found.incomplete_before,
            next: found.next.map(|next| next.to_string()),
        }
    }
}

/// `GET /devices/{deviceId}/alarm-logs`
pub(crate) async fn of_device(
    State(context): State<RestContext>,
    DevicePath(device): DevicePath,
    client: ClientAddress,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let filter = LogFilter {
        device: Choice::Only(device.clone()),
        ..LogFilter::of_rows(&query)?
    };
    let found = search(&context, client, &query, &filter).await?;
    Ok(reply::ok(&DeviceLogs {
        device_id: device,
        logs: Logs::of(found),
    }))
}

/// `GET /alarm-logs`
pub(crate) async fn of_all(
    State(context): State<RestContext>,
    requester: Requester,
    client: ClientAddress,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let filter = LogFilter::of_rows(&query)?.for_reader(requester.limited());
    let found = search(&context, client, &query, &filter).await?;
    Ok(reply::ok(&Logs::of(found)))
}

/// `GET /alarm-logs/statistics`
pub(crate) async fn statistics(
    State(context): State<RestContext>,
    requester: Requester,
    client: ClientAddress,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let filter = LogFilter::of_counts(&query)?.for_reader(requester.limited());
    let unavailable = ApiError::unavailable_with(STATISTICS_UNAVAILABLE);
    let _turn = context.large_reads.wait(client).await?;
    let rows = filter.rows(None);
    let (reader, known) = (&context.reader, &context.known_logs);
    let counts: Vec<Statistics> = stream::iter(partitions(reader, &filter))
        .map(|number| known.count(reader, number, &rows))
        .buffer_unordered(CONCURRENT_PARTITIONS)
        .try_collect()
        .await
        .map_err(unavailable)?;
    let mut statistics = Statistics::default();
    for part in counts {
        statistics.merge(part);
    }
    Ok(reply::ok(&statistics))
}

/// Returns the newest rows from this time on that this client may read, as many as the query wants.
pub(super) async fn rows_since(
    context: &RestContext,
    client: ClientAddress,
    query: &Query,
    since: Time,
    reader: Option<&Arc<Identity>>,
) -> Result<Vec<LogRow>, ApiError> {
    let filter = LogFilter {
        since: Some(since),
        ..LogFilter::of_rows(query)?.for_reader(reader)
    };
    let found = search(context, client, query, &filter).await?;
    Ok(found.rows)
}

/// Finds the rows that a query wants.
async fn search(
    context: &RestContext,
    client: ClientAddress,
    query: &Query,
    filter: &LogFilter,
) -> Result<Found, ApiError> {
    let search = Search {
        filter,
        before: place(query)?,
        limit: query.limit()?,
    };
    let partitions = partitions(&context.reader, filter);
    if partitions.is_empty() {
        return Ok(Found::default());
    }
    let unavailable = ApiError::unavailable_with(LOGS_UNAVAILABLE);
    let _turn = context.large_reads.wait(client).await?;
    let found = search.run(&context.reader, &context.known_logs, partitions);
    found.await.map_err(unavailable)
}

/// Returns the place behind which the rows are wanted.
fn place(query: &Query) -> Result<Option<Place>, ApiError> {
    let read = |text: &str| {
        text.parse().map_err(|NotAPlace| ApiError::Unreadable {
            problem: "`before` is not the `next` of an answer".to_owned(),
        })
    };
    query.text("before").map(read).transpose()
}

#[cfg(test)]
mod tests;

//! The alarm log: the rows of one device or of all devices, and counts of rows.

mod counts;
mod filter;
mod fold;
pub(crate) mod statistics;

use std::cmp::Reverse;
use std::collections::VecDeque;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::iso_option;

use super::context::RestContext;
use super::path::DevicePath;
use super::query::Query;
use super::reply;
use crate::client_address::ClientAddress;
use crate::error::ApiError;
use crate::store_reader::{ReadError, StoreReader};
use counts::{CountFilter, Statistics};
use filter::{Choice, LogFilter, partitions};
use fold::{LogFold, LogRow};

const LOGS_UNAVAILABLE: &str = "Failed to fetch alarm logs";
const STATISTICS_UNAVAILABLE: &str = "Failed to fetch statistics";

/// Number of partitions that one request reads at the same time.
const CONCURRENT_PARTITIONS: usize = 8;
/// Maximum number of entries that one request for rows reads. Then it answers with the rows found so far. The complete log of
/// one partition, where all rows of a device are, is shorter by default. The first page of every partition is always read.
const MAX_ENTRIES: usize = 100_000;
/// How far the time of a row and the time at which Redis wrote it may differ, in milliseconds.
const CLOCK_MARGIN_MS: i64 = 5_000;

#[derive(Serialize)]
struct DeviceLogs {
    device_id: DeviceId,
    total_count: usize,
    logs: Vec<LogRow>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "iso_option")]
    incomplete_before: Option<Time>,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the answer")]
struct Logs {
    total_count: usize,
    logs: Vec<LogRow>,
    /// Older rows were not looked for, because [`MAX_ENTRIES`] were read. Absent if everything was.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "iso_option")]
    incomplete_before: Option<Time>,
}

/// The rows that a query found.
struct Found {
    rows: Vec<LogRow>,
    incomplete_before: Option<Time>,
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
    let found = newest(&context, client, &filter, query.limit()?).await?;
    Ok(reply::ok(&DeviceLogs {
        device_id: device,
        total_count: found.rows.len(),
        logs: found.rows,
        incomplete_before: found.incomplete_before,
    }))
}

/// `GET /alarm-logs`
pub(crate) async fn of_all(
    State(context): State<RestContext>,
    client: ClientAddress,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let found = newest(
        &context,
        client,
        &LogFilter::of_rows(&query)?,
        query.limit()?,
    )
    .await?;
    Ok(reply::ok(&Logs {
        total_count: found.rows.len(),
        logs: found.rows,
        incomplete_before: found.incomplete_before,
    }))
}

/// `GET /alarm-logs/statistics`
pub(crate) async fn statistics(
    State(context): State<RestContext>,
    client: ClientAddress,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let filter = LogFilter::of_counts(&query)?;
    let unavailable = ApiError::unavailable_with(STATISTICS_UNAVAILABLE);
    let _turn = context.large_reads.wait(client).await?;
    let rows = CountFilter {
        since: filter.since,
        until: filter.until,
        device: match &filter.device {
            Choice::Only(device) => Some(device),
            Choice::Any | Choice::Nothing => None,
        },
    };
    let (reader, known) = (&context.reader, &context.log_statistics);
    let counts: Vec<Statistics> = stream::iter(partitions(reader, &filter))
        .map(|number| known.of_partition(reader, number, rows))
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

/// Reads the newest matching rows of all partitions, newest first, until [`MAX_ENTRIES`] were read.
async fn newest(
    context: &RestContext,
    client: ClientAddress,
    filter: &LogFilter,
    limit: usize,
) -> Result<Found, ApiError> {
    let mut found = Found {
        rows: Vec::new(),
        incomplete_before: None,
    };
    let partitions = partitions(&context.reader, filter);
    if partitions.is_empty() {
        return Ok(found);
    }
    let unavailable = ApiError::unavailable_with(LOGS_UNAVAILABLE);
    let _turn = context.large_reads.wait(client).await?;
    let mut cursors: Vec<Cursor> = partitions.into_iter().map(Cursor::new).collect();
    let mut left = MAX_ENTRIES;
    while found.rows.len() < limit {
        let newest = cursors.iter().filter_map(Cursor::head).max();
        let newest = newest.map(|(time, id)| (time, id.to_owned()));
        let mut behind: Vec<&mut Cursor> = cursors
            .iter_mut()
            .filter(|cursor| cursor.may_precede(newest.as_ref().map(|(time, _)| *time)))
            .collect();
        if behind.is_empty() {
            let Some((_, id)) = newest else { break };
            let has_it = |cursor: &&mut Cursor| cursor.head().is_some_and(|(_, own)| own == id);
            let cursor = cursors.iter_mut().find(has_it);
            found
                .rows
                .extend(cursor.and_then(|cursor| cursor.rows.pop_front()));
            continue;
        }
        // The one that was read least far decides how far the search is complete, so it is next. Unread ones come first.
        behind.sort_by_key(|cursor| cursor.read_until.map(Reverse));
        if left == 0
            && let Some(until) = behind[0].read_until
        {
            found.incomplete_before = Some(until);
            break;
        }
        behind.truncate(CONCURRENT_PARTITIONS);
        let pages = behind
            .into_iter()
            .map(|cursor| cursor.read_page(&context.reader, filter));
        let sizes = futures_util::future::try_join_all(pages).await;
        let size: usize = sizes.map_err(unavailable)?.into_iter().sum();
        left = left.saturating_sub(size);
    }
    Ok(found)
}

/// How far one partition's log has been read, newest first.
#[derive(Default)]
struct Cursor {
    /// Number of the partition.
    number: u16,
    /// Id of the oldest entry that was read.
    before: Option<String>,
    /// When that entry was written; `None` if none was read.
    read_until: Option<Time>,
    at_end: bool,
    fold: LogFold,
    /// Matching rows that were not returned yet.
    rows: VecDeque<LogRow>,
}

impl Cursor {
    fn new(number: u16) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// Orders the next row among those of other partitions.
    fn head(&self) -> Option<(Time, &str)> {
        self.rows
            .front()
            .map(|row| (row.timestamp, row.id.as_str()))
    }

    /// Returns whether its next row is not known, and may be newer than the newest known row of all partitions.
    fn may_precede(&self, newest: Option<Time>) -> bool {
        let is_behind = match (self.read_until, newest) {
            (Some(until), Some(newest)) => newest.millis_since(until) <= CLOCK_MARGIN_MS,
            _ => true,
        };
        self.rows.is_empty() && !self.at_end && is_behind
    }

    /// Reads the next older page, and returns the number of its entries.
    ///
    /// Reading always begins with the newest entry, not at the filter's end, because rows show acknowledgements and
    /// clearings that came later.
    async fn read_page(
        &mut self,
        reader: &StoreReader,
        filter: &LogFilter,
    ) -> Result<usize, ReadError> {
        let before = self.before.as_deref();
        let page = reader.store.alarm_log(self.number, before, filter.since);
        let page = reader.with_timeout(page).await?;
        match page.last() {
            Some(oldest) => {
                self.before = Some(oldest.id.clone());
                self.read_until = Some(oldest.written);
            }
            None => self.at_end = true,
        }
        let size = page.len();
        let fold = &mut self.fold;
        let rows = page.into_iter().filter_map(|entry| fold.add(entry));
        self.rows.extend(rows.filter(|row| filter.admits(row)));
        Ok(size)
    }
}

#[cfg(test)]
mod tests;

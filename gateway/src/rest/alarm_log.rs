//! The alarm log: the rows of one device or of all devices, and counts of rows.

mod fold;

use std::collections::{BTreeMap, VecDeque};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::de::IntoDeserializer;
use serde::de::value::Error as UnknownValue;
use serde::{Deserialize, Serialize};
use shared::alarm::{Condition, Severity};
use shared::clock::Time;
use shared::device::DeviceId;

use super::context::RestContext;
use super::path::DevicePath;
use super::query::Query;
use super::reply;
use crate::error::ApiError;
use crate::store_reader::{ReadError, StoreReader};
use fold::{LogFold, LogRow};

const LOGS_UNAVAILABLE: &str = "Failed to fetch alarm logs";
const STATISTICS_UNAVAILABLE: &str = "Failed to fetch statistics";

/// Number of partitions that one request reads at the same time.
const CONCURRENT_PARTITIONS: usize = 8;

#[derive(Serialize)]
struct DeviceLogs {
    device_id: DeviceId,
    total_count: usize,
    logs: Vec<LogRow>,
}

#[derive(Serialize)]
struct Logs {
    total_count: usize,
    logs: Vec<LogRow>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Statistics {
    total_alarms: u64,
    by_type: BTreeMap<Condition, u64>,
    by_severity: BTreeMap<Severity, u64>,
    by_device: BTreeMap<DeviceId, u64>,
    acknowledged_count: u64,
    unacknowledged_count: u64,
}

/// `GET /devices/{deviceId}/alarm-logs`
pub(crate) async fn of_device(
    State(context): State<RestContext>,
    DevicePath(device): DevicePath,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let filter = LogFilter {
        device: Choice::Only(device.clone()),
        ..LogFilter::of_rows(&query)?
    };
    let logs = newest(&context, &filter, query.limit()?).await?;
    Ok(reply::ok(&DeviceLogs {
        device_id: device,
        total_count: logs.len(),
        logs,
    }))
}

/// `GET /alarm-logs`
pub(crate) async fn of_all(
    State(context): State<RestContext>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let logs = newest(&context, &LogFilter::of_rows(&query)?, query.limit()?).await?;
    Ok(reply::ok(&Logs {
        total_count: logs.len(),
        logs,
    }))
}

/// `GET /alarm-logs/statistics`
pub(crate) async fn statistics(
    State(context): State<RestContext>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(raw.as_deref());
    let filter = LogFilter::of_counts(&query)?;
    let unavailable = ApiError::unavailable_with(STATISTICS_UNAVAILABLE);
    let _permit = context.begin_large_read().await?;
    let counts: Vec<Statistics> = stream::iter(partitions(&context.reader, &filter))
        .map(|number| count(&context.reader, &filter, number))
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

/// Which rows a query wants.
#[derive(Debug)]
struct LogFilter {
    since: Option<Time>,
    until: Option<Time>,
    device: Choice<DeviceId>,
    /// As spelled in the query. It is not parsed into a [`Condition`]: for each condition that this release does not know
    /// that would keep the client's word for ever.
    alarm_type: Option<String>,
    severity: Choice<Severity>,
}

#[derive(Debug, PartialEq)]
enum Choice<T> {
    Any,
    Only(T),
    /// The text in the query names no existing value, so no row matches.
    Nothing,
}

impl<T: PartialEq> Choice<T> {
    fn admits(&self, value: &T) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => only == value,
            Self::Nothing => false,
        }
    }
}

impl<'de, T: Deserialize<'de>> Choice<T> {
    /// Parses a filter. Its text is compared with the values as answers spell them. Without a text, every value matches.
    fn of_text(text: Option<&'de str>) -> Self {
        let Some(text) = text else {
            return Self::Any;
        };
        let value: Result<T, UnknownValue> = T::deserialize(text.into_deserializer());
        value.map_or(Self::Nothing, Self::Only)
    }
}

impl LogFilter {
    fn of_counts(query: &Query) -> Result<Self, ApiError> {
        Ok(Self {
            since: query.date("start_date")?,
            until: query.date("end_date")?,
            device: Choice::of_text(query.text("device_id")),
            alarm_type: None,
            severity: Choice::Any,
        })
    }

    fn of_rows(query: &Query) -> Result<Self, ApiError> {
        Ok(Self {
            alarm_type: query.text("alarm_type").map(str::to_owned),
            severity: Choice::of_text(query.text("severity")),
            ..Self::of_counts(query)?
        })
    }

    /// Returns whether the row matches. Both ends of the time are inclusive.
    fn admits(&self, row: &LogRow) -> bool {
        self.since.is_none_or(|since| row.timestamp >= since)
            && self.until.is_none_or(|until| row.timestamp <= until)
            && self.device.admits(&row.device_id)
            && self
                .alarm_type
                .as_ref()
                .is_none_or(|code| code == row.alarm_type.code())
            && self.severity.admits(&row.severity)
    }
}

/// Returns the partitions that may hold matching rows.
fn partitions(reader: &StoreReader, filter: &LogFilter) -> Vec<u16> {
    let number = reader.store.partitions();
    match &filter.device {
        Choice::Any => (0..number).collect(),
        Choice::Only(device) => vec![device.partition(number)],
        Choice::Nothing => Vec::new(),
    }
}

/// Reads the newest matching rows of all partitions, newest first.
async fn newest(
    context: &RestContext,
    filter: &LogFilter,
    limit: usize,
) -> Result<Vec<LogRow>, ApiError> {
    let unavailable = ApiError::unavailable_with(LOGS_UNAVAILABLE);
    let _permit = context.begin_large_read().await?;
    let mut cursors: Vec<Cursor> = stream::iter(partitions(&context.reader, filter))
        .map(|number| async move {
            let mut cursor = Cursor::new(number);
            cursor.fill(&context.reader, filter).await.map(|()| cursor)
        })
        .buffer_unordered(CONCURRENT_PARTITIONS)
        .try_collect()
        .await
        .map_err(unavailable)?;
    let mut rows = Vec::new();
    while rows.len() < limit {
        let heads = cursors.iter_mut().filter(|cursor| !cursor.rows.is_empty());
        let Some(cursor) = heads.max_by(|a, b| a.head().cmp(&b.head())) else {
            break;
        };
        rows.extend(cursor.rows.pop_front());
        if cursor.rows.is_empty() {
            cursor
                .fill(&context.reader, filter)
                .await
                .map_err(unavailable)?;
        }
    }
    Ok(rows)
}

async fn count(
    reader: &StoreReader,
    filter: &LogFilter,
    number: u16,
) -> Result<Statistics, ReadError> {
    let mut statistics = Statistics::default();
    let mut cursor = Cursor::new(number);
    loop {
        cursor.fill(reader, filter).await?;
        if cursor.rows.is_empty() {
            return Ok(statistics);
        }
        for row in cursor.rows.drain(..) {
            statistics.add(row);
        }
    }
}

/// How far one partition's log has been read, newest first.
#[derive(Default)]
struct Cursor {
    /// Number of the partition.
    number: u16,
    /// Id of the oldest entry that was read.
    before: Option<String>,
    at_end: bool,
    fold: LogFold,
    /// Matching rows of the last page that were not returned yet.
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

    /// Reads older pages until there is a matching row, or none is left.
    ///
    /// Reading always begins with the newest entry, not at the filter's end, because rows show acknowledgements and
    /// clearings that came later.
    async fn fill(&mut self, reader: &StoreReader, filter: &LogFilter) -> Result<(), ReadError> {
        while self.rows.is_empty() && !self.at_end {
            let before = self.before.as_deref();
            let page = reader.store.alarm_log(self.number, before, filter.since);
            let page = reader.with_timeout(page).await?;
            match page.last() {
                Some(oldest) => self.before = Some(oldest.id.clone()),
                None => self.at_end = true,
            }
            let fold = &mut self.fold;
            let rows = page.into_iter().filter_map(|entry| fold.add(entry));
            self.rows.extend(rows.filter(|row| filter.admits(row)));
        }
        Ok(())
    }
}

impl Statistics {
    fn add(&mut self, row: LogRow) {
        self.total_alarms += 1;
        *self.by_type.entry(row.alarm_type).or_default() += 1;
        *self.by_severity.entry(row.severity).or_default() += 1;
        *self.by_device.entry(row.device_id).or_default() += 1;
        if row.acknowledged {
            self.acknowledged_count += 1;
        } else {
            self.unacknowledged_count += 1;
        }
    }

    fn merge(&mut self, other: Self) {
        self.total_alarms += other.total_alarms;
        add_counts(&mut self.by_type, other.by_type);
        add_counts(&mut self.by_severity, other.by_severity);
        add_counts(&mut self.by_device, other.by_device);
        self.acknowledged_count += other.acknowledged_count;
        self.unacknowledged_count += other.unacknowledged_count;
    }
}

fn add_counts<K: Ord>(counts: &mut BTreeMap<K, u64>, others: BTreeMap<K, u64>) {
    for (key, count) in others {
        *counts.entry(key).or_default() += count;
    }
}

#[cfg(test)]
mod tests;

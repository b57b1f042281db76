//! When the alarms of one device stood, for a chart.

use std::collections::HashMap;

use serde::Serialize;
use shared::alarm::{Alarm, Condition, Severity};
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::{iso, iso_option};

use super::filter::{Choice, LogFilter, partitions};
use super::fold::LogRow;
use super::search::Search;
use crate::rest::context::RestContext;
use crate::store_reader::ReadError;

/// The most raises and escalations within the time that are shown.
const MAX_ROWS: usize = 1000;
/// The most of those before it, of which the alarms may still have stood. A device has an alarm of each kind at most.
const MAX_EARLIER_ROWS: usize = 200;

/// When alarms stood.
#[derive(Debug, Default, Serialize)]
pub(in crate::rest) struct Spans {
    /// Oldest first.
    spans: Vec<Span>,
    /// Raises and escalations up to this time were not looked for, because there are too many behind it. Alarms that are open now are in
    /// the list all the same.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "iso_option")]
    spans_incomplete_before: Option<Time>,
}

/// How long an alarm stood at one level.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Span {
    /// Id of the alarm. One that was escalated has a span for each level.
    id: String,
    #[serde(rename = "type")]
    condition: Condition,
    severity: Severity,
    #[serde(serialize_with = "iso")]
    from: Time,
    /// `None`: it is open.
    #[serde(serialize_with = "iso_option")]
    until: Option<Time>,
}

/// Finds the spans that are not before or after this time. `open`: the alarms that are open now.
pub(in crate::rest) async fn read(
    context: &RestContext,
    device: &DeviceId,
    (from, until): (Time, Time),
    open: &[Alarm],
) -> Result<Spans, ReadError> {
    let rows = |since: Option<Time>, until: Time, limit: usize| async move {
        let filter = LogFilter {
            since,
            until: Some(until),
            device: Choice::Only(device.clone()),
            alarm_type: Choice::Any,
            severity: Choice::Any,
            reader: None,
        };
        let search = Search {
            filter: &filter,
            before: None,
            limit,
        };
        let partitions = partitions(&context.reader, &filter);
        search
            .run(&context.reader, &context.known_logs, partitions)
            .await
    };
    let mut found = rows(Some(from), until, MAX_ROWS).await?;
    let mut cut_at = found.next.map(|next| next.at);
    if cut_at.is_none() {
        let before = Time::from_millis(from.as_millis().saturating_sub(1));
        let earlier = rows(None, before, MAX_EARLIER_ROWS).await?;
        cut_at = earlier.next.map(|next| next.at);
        found.rows.extend(earlier.rows);
    }
    Ok(Spans {
        spans: spans(found.rows, (from, until), open),
        spans_incomplete_before: cut_at,
    })
}

/// `rows`: newest first.
fn spans(rows: Vec<LogRow>, (from, until): (Time, Time), open: &[Alarm]) -> Vec<Span> {
    // When the next level of an alarm was reached.
    let mut next_level: HashMap<String, Time> = HashMap::new();
    let mut spans = Vec::new();
    for row in rows {
        let begins = row
            .folded
            .as_ref()
            .map_or(row.timestamp, |folded| folded.since);
        let next = next_level.insert(row.alarm_id.clone(), begins);
        spans.push(Span {
            id: row.alarm_id,
            condition: row.alarm_type,
            severity: row.severity,
            from: begins,
            until: next.or(row.cleared_at),
        });
    }
    // They may have been raised before everything that is in the log.
    for alarm in open {
        let is_known = spans
            .iter()
            .any(|span| span.id == alarm.id && span.until.is_none());
        if !is_known {
            spans.push(Span {
                id: alarm.id.clone(),
                condition: alarm.condition,
                severity: alarm.severity(),
                from: alarm.raised_at,
                until: None,
            });
        }
    }
    spans.retain(|span| span.from <= until && span.until.is_none_or(|end| end >= from));
    spans.sort_by(|a, b| (a.from, &a.id).cmp(&(b.from, &b.id)));
    spans
}

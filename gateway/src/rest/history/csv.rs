//! Samples, or buckets of them, as a table (RFC 4180), for spreadsheets.

use std::fmt::Write as _;

use shared::decimal::Decimal;
use shared::event::word_of;
use shared::sample::Sample;

use super::buckets::Bucket;

/// The names of the columns, which are those of a sample in JSON.
pub(super) const HEADER: &str =
    "timestamp,reading_timestamp,sensor_reading,unit,alarm_status,data_quality,late\r\n";
/// The names of the columns, which are those of a bucket in JSON.
pub(super) const BUCKETS_HEADER: &str =
    "from,until,min,max,mean,count,unknown,late,unit,alarm_status,data_quality\r\n";

/// Adds the row of a sample.
pub(super) fn push(table: &mut String, sample: &Sample) {
    table.push_str(&sample.timestamp.to_iso());
    table.push(',');
    push_text(
        table,
        sample.reading_timestamp.as_deref().unwrap_or_default(),
    );
    table.push(',');
    push_value(table, sample.value);
    table.push(',');
    push_text(table, &sample.unit);
    let status = word_of(sample.in_alarm);
    let (quality, late) = (sample.quality.code(), u8::from(sample.late));
    write!(table, ",{status},{quality},{late}\r\n").expect("a text has room");
}

/// Adds the row of a bucket.
pub(super) fn push_bucket(table: &mut String, bucket: &Bucket) {
    table.push_str(&bucket.from.to_iso());
    table.push(',');
    table.push_str(&bucket.until.to_iso());
    for value in [bucket.min, bucket.max, bucket.mean] {
        table.push(',');
        push_value(table, value);
    }
    for number in [bucket.count, bucket.unknown, bucket.late] {
        write!(table, ",{number}").expect("a text has room");
    }
    table.push(',');
    push_text(table, bucket.unit.as_deref().unwrap_or_default());
    let (status, quality) = (word_of(bucket.in_alarm), bucket.quality.code());
    write!(table, ",{status},{quality}\r\n").expect("a text has room");
}

/// A cell without a value is empty: it is not 0.
fn push_value(table: &mut String, value: Option<Decimal>) {
    if let Some(value) = value {
        write!(table, "{value}").expect("a text has room");
    }
}

/// Adds a text that a detector has sent. A spreadsheet must not take it for a formula.
fn push_text(table: &mut String, text: &str) {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let needs_quotes = is_formula || text.contains([',', '"', '\r', '\n']);
    if !needs_quotes {
        table.push_str(text);
        return;
    }
    table.push('"');
    if is_formula {
        table.push('\'');
    }
    table.push_str(&text.replace('"', "\"\""));
    table.push('"');
}

#[cfg(test)]
mod tests;

//! Samples as a table (RFC 4180), for spreadsheets.

use std::fmt::Write as _;

use shared::sample::Sample;

/// The names of the columns, which are those of a sample in JSON.
pub(super) const HEADER: &str =
    "timestamp,reading_timestamp,sensor_reading,unit,alarm_status,data_quality,late\r\n";

/// Adds a row.
pub(super) fn push(table: &mut String, sample: &Sample) {
    let status = if sample.in_alarm { "ALARM" } else { "NORMAL" };
    table.push_str(&sample.timestamp.to_iso());
    table.push(',');
    push_text(
        table,
        sample.reading_timestamp.as_deref().unwrap_or_default(),
    );
    table.push(',');
    if let Some(value) = sample.value {
        write!(table, "{value}").expect("a text has room");
    }
    table.push(',');
    push_text(table, &sample.unit);
    let (quality, late) = (sample.quality.code(), u8::from(sample.late));
    write!(table, ",{status},{quality},{late}\r\n").expect("a text has room");
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

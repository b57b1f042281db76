//! The device's own time: `2026-01-28 11:37:12`, or ISO with `Z` or an offset.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use shared::clock::Time;

use super::MAX_TEXT_BYTES;

/// Length of `2026-01-28T11:37:12`. A fraction and a time zone may follow.
const SECONDS_END: usize = 19;

/// Parses a date and time. `utc_offset_seconds` applies only if the text has no time zone.
pub(super) fn parse(text: &str, utc_offset_seconds: i32) -> Option<Time> {
    let text = text.trim();
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    let (clock, rest) = text.split_at_checked(SECONDS_END)?;
    let has_date_and_time = matches!(clock.as_bytes().get(10), Some(b'T' | b't' | b' '));
    if !has_date_and_time {
        return None;
    }
    let fraction_end = rest.find(|c: char| !matches!(c, '.' | ',' | '0'..='9'));
    let (fraction, zone) = rest.split_at(fraction_end.unwrap_or(rest.len()));
    let zone = zone.trim_start();
    let timestamp = if zone.is_empty() {
        let civil: DateTime = format!("{clock}{fraction}").parse().ok()?;
        let offset = Offset::from_seconds(utc_offset_seconds).ok()?;
        offset.to_timestamp(civil).ok()?
    } else {
        format!("{clock}{fraction}{zone}").parse().ok()?
    };
    Some(Time::from_millis(timestamp.as_millisecond()))
}

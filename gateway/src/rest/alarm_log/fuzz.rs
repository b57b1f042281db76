//! What must hold for whatever stands behind the `?` of a request.

use shared::clock::Time;
use shared::store::is_entry_id;

use super::filter::LogFilter;
use super::place::Place;
use crate::rest::query::Query;

/// Input: a query.
pub(crate) fn check(input: &[u8]) {
    let Ok(raw) = std::str::from_utf8(input) else {
        return;
    };
    let query = Query::parse(Some(raw));
    if let Ok(limit) = query.limit() {
        assert!((1..=1000).contains(&limit), "{limit} rows");
    }
    for key in ["start_date", "end_date", "since", "until"] {
        check_time(&query, key);
    }
    if let Ok(filter) = LogFilter::of_rows(&query) {
        let is_empty =
            matches!((filter.since, filter.until), (Some(since), Some(until)) if since > until);
        assert!(!is_empty || filter.admits_nothing());
    }
    if let Some(text) = query.text("before") {
        check_place(text);
    }
}

/// A time is read as it is written, by both readers.
fn check_time(query: &Query, key: &str) {
    if let Some(text) = query.text(key) {
        assert_eq!(text, text.trim());
        assert!(!text.is_empty());
    }
    let Ok(Some(time)) = query.date(key) else {
        return;
    };
    assert_eq!(Time::from_iso(&time.to_iso()), Some(time));
    let either = query.date_or_millis(key);
    assert!(matches!(either, Ok(Some(_))), "a date is no date");
}

/// A place has one text, and is not behind those of its time.
fn check_place(text: &str) {
    if let Ok(place) = text.parse::<Place>() {
        assert_eq!(place.to_string(), text);
        assert!(place <= Place::after_all_at(place.at));
    }
    if is_entry_id(text) {
        assert!(text.len() <= 41 && text.is_ascii());
    }
}

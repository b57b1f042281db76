use super::*;

#[track_caller]
fn check_limit(raw: &str, expected: Option<usize>) {
    assert_eq!(Query::parse(Some(raw)).limit().ok(), expected, "{raw}");
}

#[track_caller]
fn check_date(value: &str, expected: Option<&str>) {
    let query = format!("start_date={value}");
    let date = Query::parse(Some(&query)).date("start_date");
    let found = date
        .ok()
        .map(|date| date.map_or_else(String::new, Time::to_iso));
    assert_eq!(found.as_deref(), expected, "{value}");
}

#[track_caller]
fn check_time(value: &str, expected: Option<&str>) {
    let query = format!("since={value}");
    let found = Query::parse(Some(&query))
        .date_or_millis("since")
        .ok()
        .flatten()
        .map(Time::to_iso);
    assert_eq!(found.as_deref(), expected, "{value}");
}

#[test]
fn a_limit_is_read_leniently_and_kept_within_its_bounds() {
    check_limit("", Some(100));
    check_limit("limit=", Some(100));
    check_limit("other=7", Some(100));
    check_limit("limit=30", Some(30));
    check_limit("limit=30/", Some(30));
    check_limit("limit=%2030%20", Some(30));
    check_limit("limit=2.9", Some(2));
    check_limit("limit=0", Some(1));
    check_limit("limit=-5", Some(1));
    check_limit("limit=1000", Some(1000));
    check_limit("limit=1001", Some(1000));
    check_limit("limit=99999999999999999999999", Some(1000));
    check_limit("limit=1e9", Some(1000));
    check_limit("limit=5&limit=6", Some(6));
    check_limit("limit=many", None);
    check_limit("limit=-", None);
    check_limit("limit=/30", None);
    check_limit("limit=%FF", None);
}

#[test]
fn dates_are_instants_or_the_first_moment_of_a_day_in_utc() {
    check_date("", Some(""));
    check_date("2026-01-28", Some("2026-01-28T00:00:00.000Z"));
    check_date("2026-01-28/", Some("2026-01-28T00:00:00.000Z"));
    check_date("2026-01-28T11:37:12Z", Some("2026-01-28T11:37:12.000Z"));
    check_date("2026-01-28T11:37:12.345Z", Some("2026-01-28T11:37:12.345Z"));
    check_date(
        "2026-01-28T11:37:12%2B05:30",
        Some("2026-01-28T06:07:12.000Z"),
    );
    check_date(
        "2026-01-28T11:37:12+05:30",
        Some("2026-01-28T06:07:12.000Z"),
    );
    check_date(
        "2026-01-28T11:37:12-05:00",
        Some("2026-01-28T16:37:12.000Z"),
    );
    check_date("2026-01-28T11:37:12", Some("2026-01-28T11:37:12.000Z"));
    check_date("2026-01-28 11:37", Some("2026-01-28T11:37:00.000Z"));
    check_date("2024-02-29", Some("2024-02-29T00:00:00.000Z"));
    check_date("2026-02-29", None);
    check_date("2026-13-01", None);
    check_date("2026-01-28T25:00:00Z", None);
    check_date("yesterday", None);
    check_date("2026", None);
    check_date("1769600232000", None);
    check_date("%F0%9F%92%A3%F0%9F%92%A3%F0%9F%92%A3", None);
    check_date("99999-01-01", None);
}

#[test]
fn a_moment_may_be_milliseconds() {
    check_time("1769600232123", Some("2026-01-28T11:37:12.123Z"));
    check_time("1769600232123/", Some("2026-01-28T11:37:12.123Z"));
    check_time("2026-01-28", Some("2026-01-28T00:00:00.000Z"));
    check_time("2026-01-28T11:37:12Z", Some("2026-01-28T11:37:12.000Z"));
    check_time("2026", None);
    check_time("20260128", None);
    check_time("99999999999999999", None);
    check_time("now", None);
}

use shared::store::LogId;

use super::*;

fn merged(limit: usize) -> Merged {
    Merged {
        rows: Vec::new(),
        limit,
        unread: Vec::new(),
        since: None,
    }
}

/// A part of a search that found rows of these times, and did not read those up to `unread`.
fn part(partition: u16, times: &[i64], unread: Option<i64>) -> PartOfSearch {
    let rows = times.iter().map(|at| {
        FoundRow::alone(Place {
            at: Time::from_millis(*at),
            id: LogId {
                millis: at.unsigned_abs(),
                number: 0,
            },
            partition,
        })
    });
    PartOfSearch {
        partition,
        rows: rows.collect(),
        unread: unread.map(Time::from_millis),
        next_piece: 64,
        read: 0,
    }
}

fn sizes(readings: &[(u16, Reading)]) -> Vec<(u16, usize)> {
    let size = |reading: &Reading| match reading {
        Reading::New(size) | Reading::Older(size) => *size,
    };
    readings
        .iter()
        .map(|(partition, reading)| (*partition, size(reading)))
        .collect()
}

#[test]
fn the_newest_rows_of_all_partitions_are_kept() {
    let mut merged = merged(2);
    merged.add(part(0, &[50, 30, 10], None));
    merged.add(part(1, &[40, 20], None));
    let times = |merged: &Merged| -> Vec<i64> {
        let rows = merged.rows.iter();
        rows.map(|row| row.place.at.as_millis()).collect()
    };
    assert_eq!(times(&merged), [50, 40, 30]);
    // A partition that was read further has the rows that it had before, and others.
    merged.add(part(1, &[45, 40, 20], None));
    assert_eq!(times(&merged), [50, 45, 40]);
    assert!(merged.may_have_more());
}

#[test]
fn only_logs_that_may_have_newer_rows_are_read_on() {
    let mut merged = merged(2);
    merged.add(part(0, &[50], Some(45)));
    merged.add(part(1, &[40], Some(30)));
    merged.add(part(2, &[], Some(48)));
    assert_eq!(merged.newest_unread(), Some(Time::from_millis(48)));
    // The one that was read least far is first.
    assert_eq!(sizes(&merged.next_readings(1000)), [(2, 64), (0, 64)]);
    merged.add(part(2, &[], None));
    merged.add(part(0, &[50], Some(39)));
    assert_eq!(merged.newest_unread(), None);
    assert_eq!(sizes(&merged.next_readings(1000)), []);
    assert!(merged.may_have_more());
    // Nothing was left out.
    merged.add(part(0, &[50], None));
    merged.add(part(1, &[40], None));
    assert!(!merged.may_have_more());
}

#[test]
fn while_rows_are_missing_all_logs_are_read_on_within_the_bound() {
    let mut merged = merged(2);
    for partition in 0..3 {
        merged.add(part(partition, &[], Some(50 - i64::from(partition))));
    }
    assert_eq!(
        sizes(&merged.next_readings(1000)),
        [(0, 64), (1, 64), (2, 64)]
    );
    assert_eq!(sizes(&merged.next_readings(100)), [(0, 64), (1, 36)]);
    assert_eq!(sizes(&merged.next_readings(0)), []);
    // Rows before the time that is wanted are not looked for.
    merged.since = Some(Time::from_millis(50));
    assert_eq!(sizes(&merged.next_readings(1000)), [(0, 64)]);
}

use shared::clock::Time;
use shared::reading::Quality;

use super::*;

fn row(unit: &str, reading_timestamp: Option<&str>) -> String {
    let mut table = String::new();
    let sample = Sample {
        timestamp: Time::from_millis(1_795_466_059_773),
        reading_timestamp: reading_timestamp.map(str::to_owned),
        value: "-12.5".parse().ok(),
        unit: unit.to_owned(),
        in_alarm: true,
        quality: Quality::Uncertain,
        late: true,
    };
    push(&mut table, &sample);
    table
}

#[test]
fn a_row_has_a_cell_for_each_column() {
    let found = row("ppm", Some("2026-11-23 20:34:19"));
    assert_eq!(
        found,
        "2026-11-23T20:34:19.773Z,2026-11-23 20:34:19,-12.5,ppm,ALARM,uncertain,1\r\n"
    );
    assert_eq!(found.split(',').count(), HEADER.split(',').count());
}

#[test]
fn what_a_detector_sends_is_one_cell_and_no_formula() {
    for (unit, cell) in [
        ("%LEL", "%LEL"),
        ("a,b", "\"a,b\""),
        ("say \"x\"", "\"say \"\"x\"\"\""),
        ("a\r\nb", "\"a\r\nb\""),
        ("=1+1", "\"'=1+1\""),
        ("@SUM(A1)", "\"'@SUM(A1)\""),
        ("-x", "\"'-x\""),
    ] {
        let found = row(unit, None);
        assert_eq!(
            found,
            format!("2026-11-23T20:34:19.773Z,,-12.5,{cell},ALARM,uncertain,1\r\n")
        );
    }
}

fn bucket_row(change: impl FnOnce(&mut Bucket)) -> String {
    let mut bucket = Bucket {
        from: Time::from_millis(1_795_466_040_000),
        until: Time::from_millis(1_795_466_099_999),
        min: "-1.5".parse().ok(),
        max: "612.5".parse().ok(),
        mean: "18.005".parse().ok(),
        count: 60,
        unknown: 0,
        late: 0,
        unit: Some("ppm".to_owned()),
        in_alarm: false,
        quality: Quality::Good,
    };
    change(&mut bucket);
    let mut table = String::new();
    push_bucket(&mut table, &bucket);
    table
}

#[test]
fn a_row_of_a_bucket_has_the_columns_of_its_json() {
    type Change = fn(&mut Bucket);
    const TIME: &str = "2026-11-23T20:34:00.000Z,2026-11-23T20:34:59.999Z";
    let cases: [(Change, &str); 6] = [
        (|_| {}, "-1.5,612.5,18.005,60,0,0,ppm,NORMAL,good"),
        (
            |bucket| (bucket.unknown, bucket.late, bucket.in_alarm) = (2, 1, true),
            "-1.5,612.5,18.005,60,2,1,ppm,ALARM,good",
        ),
        // No reading of it has a value, which is not the same as 0.
        (
            |bucket| {
                (bucket.min, bucket.max, bucket.mean) = (None, None, None);
                (bucket.count, bucket.unknown, bucket.quality) = (0, 3, Quality::Bad);
            },
            ",,,0,3,0,ppm,NORMAL,bad",
        ),
        (
            |bucket| bucket.unit = None,
            "-1.5,612.5,18.005,60,0,0,,NORMAL,good",
        ),
        (
            |bucket| bucket.unit = Some("=1+1".to_owned()),
            "-1.5,612.5,18.005,60,0,0,\"'=1+1\",NORMAL,good",
        ),
        (
            |bucket| bucket.unit = Some("a,\"b".to_owned()),
            "-1.5,612.5,18.005,60,0,0,\"a,\"\"b\",NORMAL,good",
        ),
    ];
    for (change, cells) in cases {
        assert_eq!(bucket_row(change), format!("{TIME},{cells}\r\n"));
    }
    let names = BUCKETS_HEADER.trim_end().split(',').count();
    assert_eq!(bucket_row(|_| {}).split(',').count(), names);
}

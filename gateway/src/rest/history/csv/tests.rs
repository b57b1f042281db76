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

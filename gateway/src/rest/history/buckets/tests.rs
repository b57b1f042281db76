use proptest::prelude::*;
use serde_json::json;

use super::*;

fn dec(text: &str) -> Decimal {
    text.parse().expect("a number")
}

fn sample(at: i64, value: Option<&str>) -> Sample {
    Sample {
        timestamp: Time::from_millis(at),
        reading_timestamp: None,
        value: value.map(dec),
        unit: "ppm".to_owned(),
        in_alarm: false,
        quality: Quality::Good,
        late: false,
    }
}

fn buckets(bounds: (i64, i64), points: usize, samples: &[Sample]) -> Vec<Bucket> {
    let (from, until) = bounds;
    let frame = Frame::new((Time::from_millis(from), Time::from_millis(until)), points);
    let mut buckets = Buckets::new(frame.expect("a time"));
    for sample in samples {
        buckets.add(sample.timestamp, sample);
    }
    buckets.finish()
}

#[test]
fn a_bucket_has_the_lowest_the_highest_the_mean_and_the_worst() {
    let samples = [
        sample(0, Some("1")),
        Sample {
            quality: Quality::Uncertain,
            in_alarm: true,
            late: true,
            ..sample(400, Some("999.5"))
        },
        sample(999, Some("2")),
        Sample {
            quality: Quality::Bad,
            ..sample(1_000, None)
        },
        sample(3_000, Some("-7")),
    ];
    let found = serde_json::to_value(buckets((0, 3_999), 4, &samples)).expect("JSON");
    let at = |second: i64| Time::from_millis(second * 1_000).to_iso();
    let end = |second: i64| Time::from_millis(second * 1_000 + 999).to_iso();
    assert_eq!(
        found,
        json!([
            {"from": at(0), "until": end(0), "min": 1, "max": 999.5, "mean": 334.167, "count": 3, "late": 1, "unit": "ppm",
             "alarm_status": "ALARM", "data_quality": "uncertain"},
            {"from": at(1), "until": end(1), "min": null, "max": null, "mean": null, "count": 0, "unknown": 1, "unit": "ppm",
             "alarm_status": "NORMAL", "data_quality": "bad"},
            {"from": at(3), "until": end(3), "min": -7, "max": -7, "mean": -7, "count": 1, "unit": "ppm",
             "alarm_status": "NORMAL", "data_quality": "good"},
        ])
    );
}

#[test]
fn a_time_that_ends_before_it_begins_has_no_buckets() {
    for (from, until) in [(5, 4), (i64::MIN, i64::MAX), (0, i64::MAX)] {
        let bounds = (Time::from_millis(from), Time::from_millis(until));
        assert!(Frame::new(bounds, 1).is_none(), "{bounds:?}");
    }
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let value = prop_oneof![
        8 => (-1_000_000_i128..1_000_000, 0_u8..6).prop_map(|(digits, places)| Decimal::from_parts(digits, places)),
        1 => Just(Decimal::from_parts(1_000_000_000_000, 0)),
        1 => Just(None),
    ];
    let sample = (
        0_i64..5_000,
        value,
        prop::sample::select(vec!["ppm", "%LEL"]),
    );
    let sample = sample.prop_map(|(at, value, unit)| Sample {
        value,
        unit: unit.to_owned(),
        ..sample_at(at)
    });
    prop::collection::vec(sample, 0..60)
}

fn sample_at(at: i64) -> Sample {
    sample(at, None)
}

proptest! {
    #[test]
    fn no_peak_is_hidden_nothing_is_invented_and_there_are_no_more_than_asked_for(
        samples in samples(),
        points in 1_usize..80,
    ) {
        let found = buckets((0, 4_999), points, &samples);
        let mut indices: Vec<_> = found.iter().map(|bucket| bucket.from).collect();
        prop_assert!(indices.is_sorted());
        indices.dedup();
        prop_assert!(indices.len() <= points);
        let counted: u64 = found.iter().map(|bucket| bucket.count + bucket.unknown).sum();
        prop_assert_eq!(counted, samples.len() as u64);
        for sample in &samples {
            let own = found.iter().find(|bucket| {
                bucket.from <= sample.timestamp
                    && sample.timestamp <= bucket.until
                    && bucket.unit.as_deref() == Some(&*sample.unit)
            });
            let own = own.expect("its bucket");
            if let Some(value) = sample.value {
                prop_assert!(own.min <= Some(value) && Some(value) <= own.max);
            }
        }
        for bucket in &found {
            let is_of_it = |value: Option<Decimal>| {
                samples.iter().any(|sample| sample.value == value)
            };
            prop_assert!(is_of_it(bucket.min) && is_of_it(bucket.max));
            prop_assert!(bucket.min <= bucket.mean && bucket.mean <= bucket.max);
        }
    }
}

use proptest::prelude::*;

use super::*;
use crate::packing::UNITS;

const NOW: i64 = 1_795_703_997_308;

fn sample() -> Sample {
    Sample {
        timestamp: Time::from_millis(NOW),
        reading_timestamp: Some("2026-11-26 20:09:55".to_owned()),
        value: "300".parse().ok(),
        unit: "ppm".to_owned(),
        in_alarm: true,
        quality: Quality::Good,
        late: false,
    }
}

fn json(sample: &Sample) -> String {
    serde_json::to_string(sample).expect("JSON")
}

#[test]
fn a_sample_is_the_json_that_rest_has_always_sent() {
    assert_eq!(
        json(&sample()),
        r#"{"timestamp":"2026-11-26T14:39:57.308Z","reading_timestamp":"2026-11-26 20:09:55","sensor_reading":300,"unit":"ppm","alarm_status":"ALARM","data_quality":"good"}"#
    );
    let late = Sample {
        reading_timestamp: None,
        value: None,
        in_alarm: false,
        late: true,
        ..sample()
    };
    assert_eq!(
        json(&late),
        r#"{"timestamp":"2026-11-26T14:39:57.308Z","reading_timestamp":null,"sensor_reading":null,"unit":"ppm","alarm_status":"NORMAL","data_quality":"good","late":true}"#
    );
}

/// The compact form is stored: it must never change.
#[test]
fn the_compact_form_is_frozen() {
    let frozen = [1, 39, 0, 124, 131, 76, 24, 172, 181, 2, 216, 4];
    let bytes = sample().encode();
    assert_eq!(bytes, frozen);
    assert_eq!(
        Sample::decode(&bytes, Time::from_millis(NOW)),
        Some(sample())
    );
}

#[test]
fn a_release_that_expects_json_skips_it() {
    let bytes = sample().encode();
    assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_err());
}

#[test]
fn what_this_release_does_not_write_is_not_read() {
    let bytes = sample().encode();
    let now = Time::from_millis(NOW);
    for length in 0..bytes.len() {
        assert_eq!(Sample::decode(&bytes[..length], now), None, "{length}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Sample::decode(&longer, now), None);
    let mut newer = bytes;
    newer[0] = 2;
    assert_eq!(Sample::decode(&newer, now), None);
}

fn times() -> impl Strategy<Value = Option<String>> {
    let of_millis = (0..4_102_444_800_000_i64, 0..FORMS.len())
        .prop_map(|(millis, form)| write_time(Time::from_millis(millis), FORMS[form]));
    prop_oneof![
        Just(None),
        of_millis,
        Just(Some("2026-01-28 11:37:12 +05:30".to_owned())),
        Just(Some("2026-01-28T11:37:12.5Z".to_owned())),
        Just(Some("2026-01-28T11:37:60Z".to_owned())),
        Just(Some("2026-01-28T24:00:00".to_owned())),
        Just(Some("0000-01-01 00:00:00".to_owned())),
        ".{0,80}".prop_map(Some),
    ]
}

fn values() -> impl Strategy<Value = Option<Decimal>> {
    let digits = (-1_000_000_000_000_i64..=1_000_000_000_000, 0..=12_u32);
    let scaled = digits.prop_map(|(digits, places)| {
        let digits: Decimal = digits.to_string().parse().expect("a number");
        Some(digits.scale_down(places))
    });
    let long = (0..=999_999_999_999_i64, 0..=999_999_999_999_i64)
        .prop_map(|(whole, part)| format!("-{whole}.{part:012}").parse().ok());
    prop_oneof![Just(None), scaled, long]
}

proptest! {
    /// Also if the entry was stored long after the decision.
    #[test]
    fn every_sample_comes_back_exactly(
        millis in 0..4_102_444_800_000_i64,
        stored_after in -1_000_000_i64..2_000_000_000,
        reading_timestamp in times(),
        value in values(),
        unit in prop_oneof![prop::sample::select(UNITS.as_slice()).prop_map(str::to_owned), ".{0,20}"],
        quality in prop::sample::select(&[Quality::Offline, Quality::Bad, Quality::Uncertain, Quality::Good][..]),
        in_alarm: bool,
        late: bool,
    ) {
        let timestamp = Time::from_millis(millis);
        let sample = Sample { timestamp, reading_timestamp, value, unit, in_alarm, quality, late };
        let read = Sample::decode(&sample.encode(), Time::from_millis(millis + stored_after));
        prop_assert_eq!(read.as_ref(), Some(&sample));
        prop_assert_eq!(read.as_ref().map(json), Some(json(&sample)));
    }

    #[test]
    fn any_bytes_are_read_or_not_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..40), stored: i64) {
        let bytes = [&[VERSION][..], &bytes].concat();
        drop(Sample::decode(&bytes, Time::from_millis(stored)).as_ref().map(json));
    }
}

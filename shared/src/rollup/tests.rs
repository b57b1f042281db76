use proptest::prelude::*;

use super::*;
use crate::clock::Time;

pub(crate) fn dec(text: &str) -> Decimal {
    text.parse().expect("a number")
}

pub(crate) fn sample(value: Option<&str>) -> Sample {
    Sample {
        timestamp: Time::from_millis(0),
        reading_timestamp: None,
        value: value.map(dec),
        unit: "ppm".to_owned(),
        in_alarm: false,
        quality: Quality::Good,
        late: false,
    }
}

pub(super) fn sums_of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Sums {
    let mut sums = Sums::default();
    for sample in samples {
        sums.add(sample);
    }
    sums
}

#[test]
fn a_sum_has_the_lowest_the_highest_the_mean_and_the_worst() {
    let samples = [
        sample(Some("1")),
        Sample {
            quality: Quality::Uncertain,
            in_alarm: true,
            late: true,
            ..sample(Some("999.5"))
        },
        sample(Some("2")),
        sample(None),
    ];
    let sums = sums_of(&samples);
    let [sum] = &sums.0[..] else {
        panic!("{sums:?}")
    };
    assert_eq!((sum.min, sum.max), (Some(dec("1")), Some(dec("999.5"))));
    assert_eq!(sum.mean(), Some(dec("334.167")));
    assert_eq!((sum.count, sum.unknown, sum.late), (3, 1, 1));
    assert_eq!((sum.in_alarm, sum.quality), (true, Quality::Uncertain));
    assert_eq!(sum.unit.as_deref(), Some("ppm"));
}

#[test]
fn a_mean_has_no_more_places_than_its_numbers_need() {
    for (values, mean) in [
        (&["0.1", "0.2"][..], "0.15"),
        (&["1", "1", "2"], "1.33"),
        (&["-1", "-1", "-2"], "-1.33"),
        (&["0.001", "0.001"], "0.001"),
        (
            &["1000000000000", "0.000000000001"],
            "500000000000.000000000001",
        ),
    ] {
        let samples: Vec<Sample> = values.iter().map(|value| sample(Some(value))).collect();
        let sums = sums_of(&samples);
        assert_eq!(sums.0[0].mean(), Some(dec(mean)), "{values:?}");
    }
    assert_eq!(sums_of(&[sample(None)]).0[0].mean(), None);
}

#[test]
fn values_in_different_units_are_not_put_together_unless_there_are_too_many() {
    let units = ["ppm", "%LEL", "ppm", "mg/m3", "ppb", "a", "b", "%LEL"];
    let samples: Vec<Sample> = (1..)
        .zip(units)
        .map(|(value, unit)| Sample {
            unit: unit.to_owned(),
            ..sample(Some(&i32::to_string(&value)))
        })
        .collect();
    let sums = sums_of(&samples);
    let found: Vec<_> = sums
        .iter()
        .map(|sum| (sum.unit.as_deref(), sum.min, sum.max))
        .collect();
    let range = |min: &str, max: &str| (Some(dec(min)), Some(dec(max)));
    let expected = [
        (Some("ppm"), range("1", "3")),
        (Some("%LEL"), range("2", "8")),
        (Some("mg/m3"), range("4", "4")),
        (Some("ppb"), range("5", "5")),
        (None, range("6", "7")),
    ];
    let expected = expected.map(|(unit, (min, max))| (unit, min, max));
    assert_eq!(found, expected);
}

/// Units that are told apart in one bucket.
pub(super) const UNITS: [&str; 4] = ["ppm", "%LEL", "", "µg"];
/// More of them.
pub(super) const MANY_UNITS: [&str; 7] = ["ppm", "%LEL", "", "µg", "counts", "a b", "ppb"];

/// Any sample that a device may cause.
pub(super) fn any_sample(units: &'static [&'static str]) -> impl Strategy<Value = Sample> {
    let number = |(digits, places)| Decimal::from_parts(digits, places);
    let value = prop_oneof![
        6 => (0_i128..100, 0_u8..2).prop_map(number),
        4 => (-1_000_000_i128..1_000_000, 0_u8..6).prop_map(number),
        1 => (any::<u64>().prop_map(i128::from), 12_u8..13).prop_map(number),
        1 => Just(Decimal::from_parts(1_000_000_000_000, 0)),
        1 => Just(Decimal::from_parts(-999_999_999_999_999_999_999_999, 12)),
        2 => Just(None),
    ];
    let quality = prop::sample::select(vec![
        Quality::Good,
        Quality::Good,
        Quality::Uncertain,
        Quality::Bad,
        Quality::Offline,
    ]);
    let unit = prop_oneof![3 => Just("ppm"), 2 => prop::sample::select(units)];
    let flags = (any::<bool>(), any::<bool>());
    let parts = (value, quality, unit, flags);
    parts.prop_map(|(value, quality, unit, (in_alarm, late))| Sample {
        value,
        quality,
        unit: unit.to_owned(),
        in_alarm,
        late,
        ..sample(None)
    })
}

/// Cuts the samples into stretches, puts those together, and then the stretches.
fn merged(samples: &[Sample], cuts: &[usize]) -> Sums {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&samples.len())).collect();
    cuts.extend([0, samples.len()]);
    cuts.sort_unstable();
    let mut merged = Sums::default();
    for pair in cuts.windows(2) {
        merged.merge(&sums_of(&samples[pair[0]..pair[1]]));
    }
    merged
}

proptest! {
    #[test]
    fn it_does_not_matter_what_was_put_together_first(
        samples in prop::collection::vec(any_sample(&UNITS), 0..60),
        cuts in prop::collection::vec(0_usize..60, 0..6),
    ) {
        let merged = merged(&samples, &cuts);
        prop_assert_eq!(&merged, &sums_of(&samples));
        for sum in &merged {
            prop_assert!(sum.min <= sum.mean() && sum.mean() <= sum.max);
        }
    }

    #[test]
    fn with_too_many_units_no_sample_is_lost_and_no_peak(
        samples in prop::collection::vec(any_sample(&MANY_UNITS), 0..60),
        cuts in prop::collection::vec(0_usize..60, 0..6),
    ) {
        let all = |sums: &Sums| {
            let max = sums.iter().filter_map(|sum| sum.max).max();
            let min = sums.iter().filter_map(|sum| sum.min).min();
            let counted = sums.iter().map(|sum| sum.count + sum.unknown);
            let total: i128 = sums.iter().map(|sum| sum.total).sum();
            (min, max, counted.sum::<u64>(), total)
        };
        let merged = merged(&samples, &cuts);
        prop_assert_eq!(all(&merged), all(&sums_of(&samples)));
        prop_assert!(merged.0.len() <= MAX_UNITS + 1);
    }
}

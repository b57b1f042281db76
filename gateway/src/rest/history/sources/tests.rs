use std::time::Duration;

use proptest::prelude::*;
use shared::reading::Quality;
use shared::rollup::{Block, BlockBuilder};
use shared::sample::Sample;

use super::super::buckets::{Bucket, Buckets};
use super::super::stretch::Stretch;
use super::*;

/// Where a block of every width begins.
const START: i64 = 1_795_500_000_000;
const MINUTE: i64 = 60_000;

fn width(seconds: u32) -> Width {
    Width::from_seconds(seconds).expect("a width")
}

fn at(minutes: i64) -> Time {
    Time::from_millis(START + minutes * MINUTE)
}

fn begin(samples: Option<i64>, levels: &[Option<i64>]) -> HistoryBegin {
    HistoryBegin {
        samples: samples.map(at),
        levels: levels.iter().map(|start| start.map(at)).collect(),
    }
}

/// Chooses for the usual levels: the widths of what is read in seconds, and the width of the buckets in minutes.
fn chosen(from: i64, until: i64, points: usize, begin: &HistoryBegin) -> (Vec<u32>, i64) {
    let widths = [width(60), width(900)];
    let until = Time::from_millis(at(until).as_millis() - 1);
    let now = at(100_000);
    let sources = Sources::choose((at(from), until), points, (&widths, begin), now);
    let sources = sources.expect("a time");
    let rollups = sources.rollups.iter().map(|(width, _)| width.seconds());
    (rollups.collect(), sources.frame.width_ms() / MINUTE)
}

#[test]
fn the_coarsest_rollup_that_is_fine_enough_is_read_and_what_it_lacks_from_finer_ones() {
    const DAY: i64 = 1_440;
    // Samples of one day, minutes of seven, quarters of 30.
    let now = 30 * DAY;
    let kept = begin(Some(now - DAY), &[Some(now - 7 * DAY), Some(0)]);
    for (from, points, expected) in [
        // A month: 21.6 minutes.
        (0, 2_000, (vec![900, 60], 30)),
        (0, 300, (vec![900, 60], 150)),
        // A week: 5.04 minutes.
        (now - 7 * DAY, 2_000, (vec![60], 6)),
        // Eight days: nothing finer reaches back so far, although 5.76 minutes are asked for.
        (now - 8 * DAY, 2_000, (vec![900, 60], 15)),
        // A day.
        (now - DAY, 288, (vec![60], 5)),
        // An hour in less than minutes.
        (now - 60, 120, (vec![], 0)),
        // A day and a bit: the samples do not reach back so far.
        (now - DAY - 2, 2_000, (vec![60], 1)),
    ] {
        assert_eq!(
            chosen(from, now, points, &kept),
            expected,
            "{from} {points}"
        );
    }
}

#[test]
fn a_device_that_is_younger_than_its_samples_are_kept_is_shown_by_them() {
    // Its first sample was in the middle of a minute.
    let widths = [width(60), width(900)];
    let first = Time::from_millis(at(107).as_millis() + 3_000);
    let young = HistoryBegin {
        samples: Some(first),
        levels: vec![Some(at(107)), Some(at(105))],
    };
    let sources = Sources::choose((at(0), at(200)), 2_000, (&widths, &young), at(200));
    let sources = sources.expect("a time");
    assert_eq!(sources.rollups, []);
    assert_eq!(sources.reaches_from, Some(at(105)));
    assert_eq!(
        chosen(0, 200, 10, &begin(None, &[None, None])),
        (vec![], 20)
    );
    let none = Sources::choose((at(0), at(1)), 5, (&[], &HistoryBegin::default()), at(1));
    assert_eq!(none.expect("a time").reaches_from, None);
    assert!(Sources::choose((at(1), at(0)), 5, (&[], &young), at(1)).is_none());
}

#[test]
fn the_left_edge_has_what_only_a_coarser_rollup_has() {
    let widths = [width(60), width(3_600)];
    // Minutes begin in the middle of an hour.
    let kept = begin(None, &[Some(6_030), Some(0)]);
    let choose = |from: i64| {
        let bounds = (at(from), at(6_050));
        let sources = Sources::choose(bounds, 45, (&widths, &kept), at(9_999));
        let rollups = sources.expect("a time").rollups;
        let widths = rollups.iter().map(|(width, _)| width.seconds());
        widths.collect::<Vec<u32>>()
    };
    assert_eq!(choose(6_005), [3_600, 60]);
    assert_eq!(choose(6_030), [60]);
}

#[test]
fn widths_of_an_earlier_setting_are_only_used_where_they_fit() {
    let widths = [width(60), width(120), width(180), width(900)];
    let all = begin(Some(0), &[Some(0); 4]);
    let found = |points: usize| {
        let until = Time::from_millis(at(3_600).as_millis() - 1);
        let sources = Sources::choose((at(0), until), points, (&widths, &all), at(9_999));
        let sources = sources.expect("a time");
        let rollups = sources.rollups.iter().map(|(width, _)| width.seconds());
        rollups.collect::<Vec<u32>>()
    };
    assert_eq!(
        found(240),
        [900, 180, 60],
        "two minutes do not divide three"
    );
    assert_eq!(found(1_200), [180, 60]);
    assert_eq!(found(1_800), [120, 60]);
}

#[test]
fn buckets_begin_and_end_with_those_of_the_rollup() {
    let widths = [width(60)];
    let all = begin(Some(0), &[Some(0)]);
    let bounds = (
        Time::from_millis(at(10).as_millis() + 30_000),
        Time::from_millis(at(20).as_millis() + 30_000),
    );
    let choose = |now| Sources::choose(bounds, 4, (&widths, &all), now).expect("a time");
    let frame = choose(at(500)).frame;
    let (start, end) = (at(10), at(21));
    assert_eq!(frame.stretch(), Stretch { start, end });
    assert_eq!(frame.width_ms(), 3 * MINUTE);
    for extreme in [i64::MIN, i64::MAX] {
        let extreme = Time::from_millis(extreme);
        let bounds = (bounds.0.min(extreme), bounds.1.max(extreme));
        let chosen = Sources::choose(bounds, 4, (&widths, &all), at(500));
        assert!(chosen.is_none_or(|chosen| chosen.frame.width_ms() > 0));
    }
}

#[test]
fn what_no_block_has_is_left() {
    let stretch = |start: i64, end: i64| Stretch {
        start: at(start),
        end: at(end),
    };
    let blocks = [stretch(-5, 10), stretch(20, 30), stretch(30, 40)];
    for (whole, expected) in [
        (stretch(0, 60), vec![stretch(10, 20), stretch(40, 60)]),
        (stretch(0, 35), vec![stretch(10, 20)]),
        (stretch(25, 35), vec![]),
        (stretch(12, 15), vec![stretch(12, 15)]),
    ] {
        let overlapping: Vec<Stretch> = blocks
            .iter()
            .filter(|block| block.end > whole.start && block.start < whole.end)
            .copied()
            .collect();
        assert_eq!(whole.without(&overlapping), expected, "{whole:?}");
    }
    assert_eq!(stretch(0, 5).without(&[]), [stretch(0, 5)]);
}

/// What is stored of a device.
#[derive(Debug)]
struct Stored {
    /// Those that are still there.
    samples: Vec<(Time, Sample)>,
    levels: Vec<(Width, Vec<Block>)>,
}

impl Stored {
    fn begin(&self) -> HistoryBegin {
        let first = |blocks: &[Block]| {
            let first = blocks.first()?;
            first.buckets().next().map(|(start, _)| start)
        };
        HistoryBegin {
            samples: self.samples.first().map(|(at, _)| *at),
            levels: self
                .levels
                .iter()
                .map(|(_, blocks)| first(blocks))
                .collect(),
        }
    }

    /// Does what the chart does with Redis.
    fn chart(&self, sources: &Sources) -> Vec<Bucket> {
        let mut buckets = Buckets::new(sources.frame);
        let mut left = vec![sources.frame.stretch()];
        for (width, start) in &sources.rollups {
            let level = self.levels.iter().find(|(known, _)| known == width);
            let (_, blocks) = level.expect("a stored width");
            let (mut earlier, since) = Stretch::split(&left, *start);
            let rest = since.into_iter().flat_map(|stretch| {
                let overlapping = blocks
                    .iter()
                    .filter(|block| block.end() > stretch.start && block.start() < stretch.end);
                for (at, sums) in overlapping.clone().flat_map(Block::buckets) {
                    if stretch.contains(at) {
                        buckets.merge(at, sums);
                    }
                }
                let times: Vec<Stretch> = overlapping.map(Stretch::of).collect();
                stretch.without(&times)
            });
            earlier.extend(rest);
            left = earlier;
        }
        let samples = sources.samples.map(|start| Stretch::split(&left, start).1);
        let left = samples.unwrap_or_default();
        for (at, sample) in &self.samples {
            if left.iter().any(|stretch| stretch.contains(*at)) {
                buckets.add(*at, sample);
            }
        }
        buckets.finish()
    }
}

fn sample(number: u32) -> Sample {
    Sample {
        timestamp: Time::from_millis(0),
        reading_timestamp: None,
        // Each is known by its value.
        value: format!("0.{number:06}1").parse().ok(),
        unit: "ppm".to_owned(),
        in_alarm: false,
        quality: Quality::Good,
        late: false,
    }
}

fn blocks(width: Width, samples: &[(Time, Sample)], until: Time) -> Vec<Block> {
    let mut builder = BlockBuilder::new(width);
    let until = width.block_start(until);
    let closed = samples.iter().take_while(|(at, _)| *at < until);
    let mut blocks: Vec<Block> = closed
        .filter_map(|(at, sample)| builder.add_sample(*at, sample))
        .collect();
    blocks.extend(builder.finish());
    blocks
}

proptest! {
    #[test]
    fn each_sample_counts_once_whatever_is_stored(
        times in prop::collection::btree_set(0_i64..6_000_000, 1..120),
        (from, length) in (-500_000_i64..6_000_000, 1_i64..8_000_000),
        points in prop_oneof![1_usize..40, 1_usize..2_000],
        // From where on samples are left, and which blocks are missing: of how many, and one in so many.
        trimmed in prop_oneof![Just(0_i64), 0_i64..6_000_000],
        (missing_before, missing_each) in (0_usize..6, 1_usize..5),
        has_gaps in any::<bool>(),
        // From where on there was what each level was made of.
        begun in prop::array::uniform3(prop_oneof![Just(0_i64), 0_i64..200]),
    ) {
        let all: Vec<(Time, Sample)> = (0..)
            .zip(&times)
            .map(|(number, after)| (Time::from_millis(START + after), sample(number)))
            .collect();
        let now = Time::from_millis(START + 6_000_000);
        let widths = [1, 5, 30].map(width);
        let begun = begun.map(|number| Time::from_millis(START + if has_gaps { number * 30_000 } else { 0 }));
        let mut begins = widths.iter().zip(begun);
        let levels = widths.map(|width| {
            let (_, begun) = begins.next().expect("a time for each");
            let first = all.partition_point(|(at, _)| *at < begun);
            let mut blocks = blocks(width, &all[first..], now);
            if has_gaps {
                let mut index = 0;
                blocks.retain(|_| {
                    index += 1;
                    index > missing_before || index % missing_each == 0
                });
            }
            (width, blocks)
        });
        let trimmed = Time::from_millis(START + trimmed);
        let left = all.iter().filter(|(at, _)| *at >= trimmed);
        let stored = Stored {
            samples: left.cloned().collect(),
            levels: levels.into(),
        };
        let bounds = (Time::from_millis(START + from), Time::from_millis(START + from + length));
        let sources = Sources::choose(bounds, points, (&widths, &stored.begin()), now);
        let sources = sources.expect("a time");
        let stretch = sources.frame.stretch();
        prop_assert!(stretch.start <= bounds.0 && bounds.1 < stretch.end);
        let found = serde_json::to_value(stored.chart(&sources)).expect("JSON");
        let found = found.as_array().expect("buckets");
        prop_assert!(found.len() <= points);

        // What is stored in the sources that are read.
        let is_stored = |at: Time| {
            let in_samples = stored.samples.iter().any(|(other, _)| *other == at);
            let has = |blocks: &[Block]| blocks.iter().any(|block| Stretch::of(block).contains(at));
            let mut levels = stored.levels.iter().zip(begun);
            let is_read = |width: &Width| sources.rollups.iter().any(|(read, _)| read == width);
            in_samples || levels.any(|((width, blocks), begun)| is_read(width) && begun <= at && has(blocks))
        };
        // Without gaps nothing is overlooked either: only what was not in a block yet when it was trimmed, and, of a device that is younger
        // than the chart, what was in one second with the first sample that is left.
        let closed = width(1).block_start(now);
        let first_left = stored.samples.first().map(|(at, _)| width(1).bucket_start(*at));
        let must_be_read = |at: Time| {
            let is_apart = Some(width(1).bucket_start(at)) != first_left;
            let is_apart = is_apart || all.first().is_some_and(|(first, _)| *first < bounds.0);
            !has_gaps && bounds.0 <= at && at < closed && is_apart
        };
        let expected: Vec<&(Time, Sample)> = all
            .iter()
            .filter(|(at, _)| stretch.contains(*at) && (is_stored(*at) || must_be_read(*at)))
            .collect();
        let counted: u64 = found.iter().filter_map(|bucket| bucket["count"].as_u64()).sum();
        prop_assert_eq!(counted, expected.len() as u64, "{:?}", sources);
        for (at, sample) in expected {
            let time = |name: &serde_json::Value| {
                Time::from_iso(name.as_str().expect("a text")).expect("a time")
            };
            let own = found.iter().find(|bucket| {
                time(&bucket["from"]) <= *at
                    && *at < time(&bucket["from"]) + Duration::from_millis(sources.frame.width_ms().unsigned_abs())
            });
            let own = own.expect("its bucket");
            let number = |name: &str| own[name].as_f64().expect("a number");
            let value: f64 = sample.value.expect("a value").to_string().parse().expect("a number");
            prop_assert!(number("min") <= value && value <= number("max"));
        }
    }
}

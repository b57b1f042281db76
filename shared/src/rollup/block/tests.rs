use proptest::prelude::*;

use super::super::tests::{MANY_UNITS, UNITS, any_sample, sample, sums_of};
use super::*;
use crate::reading::Quality;

const START: i64 = 1_795_466_700_000;

fn minute() -> Width {
    Width::from_seconds(60).expect("a width")
}

/// Makes blocks of these samples, which are in the order of their times.
fn blocks<'a>(width: Width, samples: impl IntoIterator<Item = &'a (i64, Sample)>) -> Vec<Block> {
    let mut builder = BlockBuilder::new(width);
    let mut blocks: Vec<Block> = samples
        .into_iter()
        .filter_map(|(at, sample)| builder.add_sample(Time::from_millis(*at), sample))
        .collect();
    blocks.extend(builder.finish());
    blocks
}

fn coarser(width: Width, finer: &[Block]) -> Vec<Block> {
    let mut builder = BlockBuilder::new(width);
    let mut blocks: Vec<Block> = finer
        .iter()
        .filter_map(|block| builder.add_block(block))
        .collect();
    blocks.extend(builder.finish());
    blocks
}

#[test]
fn the_form_of_a_steady_detector_is_short() {
    // One sample a second, with a noise of a few tenths.
    let samples: Vec<(i64, Sample)> = (0..900)
        .map(|second| {
            let value = format!("20.{}", 5 + second % 4);
            (START + second * 1_000, sample(Some(&value)))
        })
        .collect();
    let found = blocks(minute(), &samples);
    let [block] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(block.buckets().count(), BUCKETS);
    assert_eq!(block.end(), Time::from_millis(START + 900_000));
    let bytes = block.encode();
    // 4, then 1 flags, 1 count, 1 lowest (2 in the first), 1 highest, 1 total in each bucket.
    assert_eq!(bytes.len(), 4 + 15 * 5 + 1, "{bytes:?}");
    let constant: Vec<(i64, Sample)> = samples
        .iter()
        .map(|(at, _)| (*at, sample(Some("0"))))
        .collect();
    assert_eq!(blocks(minute(), &constant)[0].encode().len(), 4 + 15 * 4);
}

#[test]
fn the_form_is_what_is_documented() {
    let mut samples = vec![
        (START, sample(Some("1.5"))),
        (START + 1, sample(Some("2"))),
        (START + 120_000, sample(None)),
    ];
    let other = Sample {
        unit: "µg".to_owned(),
        quality: Quality::Bad,
        in_alarm: true,
        late: true,
        ..sample(Some("-1"))
    };
    samples.push((START + 120_001, other));
    let block = blocks(minute(), &samples).remove(0);
    let expected = [
        vec![1, 1, 0b101, 0],
        // Good; 2 values, from 15 tenths on, 5 above, 5 above 30 in all.
        vec![3, 4, 30, 5, 5],
        // No values, one unknown, one more unit.
        vec![3 | NO_VALUES | SOME_UNKNOWN | MORE, 1],
        // Bad, in alarm, late, a unit of its own: 1 value, 25 tenths less, and no other one.
        vec![1 | 4 | SOME_LATE | OTHER_UNIT, 15, 6],
        "µg".into(),
        vec![1, 1, 49, 0],
    ];
    assert_eq!(block.encode(), expected.concat());
}

#[test]
fn what_nobody_wrote_is_not_read() {
    let end = Time::from_millis(START + 900_000);
    let bytes = blocks(minute(), &[(START, sample(Some("1.5")))])[0].encode();
    assert!(Block::decode(&bytes, end, minute()).is_some());
    let changed = |index: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[index] = byte;
        Block::decode(&bytes, end, minute())
    };
    assert_eq!(changed(0, 2), None, "another version");
    assert_eq!(changed(1, 13), None, "too many places");
    assert_eq!(changed(3, 0x80), None, "a sixteenth bucket");
    assert_eq!(changed(2, 3), None, "a bucket is missing");
    assert_eq!(changed(5, 1), None, "no count below 0");
    assert_eq!(Block::decode(&bytes[..7], end, minute()), None);
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Block::decode(&longer, end, minute()), None);
    let elsewhere = Time::from_millis(START + 1);
    assert_eq!(Block::decode(&bytes, elsewhere, minute()), None);
    let before = Time::from_millis(i64::MIN);
    assert_eq!(Block::decode(&bytes, before, minute()), None);
}

proptest! {
    #[test]
    fn nothing_is_lost_on_the_way_to_redis_and_to_a_coarser_level(
        samples in any::<bool>().prop_flat_map(|many| {
            let units = if many { &MANY_UNITS[..] } else { &UNITS[..] };
            prop::collection::vec((0_i64..20_000_000, any_sample(units)), 0..80)
        }),
    ) {
        let mut samples = samples;
        samples.sort_by_key(|(after, _)| *after);
        for (after, _) in &mut samples {
            *after += START;
        }
        let fine = blocks(minute(), &samples);
        prop_assert!(fine.is_sorted_by(|a, b| a.end() <= b.start()));
        for block in &fine {
            let read = Block::decode(&block.encode(), block.end(), minute());
            prop_assert_eq!(read.as_ref(), Some(block));
            for (start, sums) in block.buckets() {
                let own = samples.iter().filter(|(at, _)| {
                    (0..60_000).contains(&(at - start.as_millis()))
                });
                prop_assert_eq!(sums, &sums_of(own.map(|(_, sample)| sample)));
            }
        }
        let buckets = fine.iter().flat_map(Block::buckets).flat_map(|(_, sums)| sums);
        let counted: u64 = buckets.map(|sum| sum.count + sum.unknown).sum();
        prop_assert_eq!(counted, samples.len() as u64);
        let has_few_units = samples.iter().all(|(_, sample)| UNITS.contains(&&*sample.unit));
        for seconds in [300, 900].into_iter().filter(|_| has_few_units) {
            let width = Width::from_seconds(seconds).expect("a width");
            prop_assert_eq!(coarser(width, &fine), blocks(width, &samples));
        }
    }

    #[test]
    fn whatever_can_be_read_is_written_as_it_was_read(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let bytes = [&[VERSION, 1][..], &bytes].concat();
        let end = Time::from_millis(START);
        if let Some(block) = Block::decode(&bytes, end, minute()) {
            prop_assert_eq!(Block::decode(&block.encode(), end, minute()), Some(block));
        }
    }
}

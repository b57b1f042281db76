use proptest::prelude::*;

use super::*;

fn found(samples: &[u64]) -> Found {
    Found {
        samples: samples.to_vec(),
        bytes: samples.iter().sum::<u64>() * 30,
        ..Found::default()
    }
}

fn memory(used: u64, max: u64) -> MemoryUse {
    MemoryUse { used, max }
}

fn plan(found: &Found, limit: u64, memory: MemoryUse) -> Plan {
    super::plan(found, limit, memory, Plan::default())
}

#[test]
fn nothing_is_planned_while_there_is_room() {
    let free = memory(94, 100);
    assert_eq!(plan(&found(&[1_000, 5]), 40_000, free), Plan::default());
    assert_eq!(plan(&Found::default(), 0, free), Plan::default());
    assert_eq!(plan(&Found::default(), 0, memory(5, 0)), Plan::default());
}

#[test]
fn the_longest_histories_give_first() {
    // 90 % of 48 000 bytes are 1440 samples of 30 bytes.
    let plan = plan(&found(&[200, 300, 5_000, 6_000]), 48_000, memory(1, 0));
    assert_eq!(plan.max_samples, Some(470), "200 + 300 + 2 * 470");
    assert!(!plan.trims_events);
}

#[test]
fn a_redis_that_others_fill_takes_from_the_history_and_then_from_the_events() {
    let histories = found(&[10_000; 10]);
    // 3 000 000 bytes of history; 1 000 000 bytes too many are used.
    let some = plan(&histories, u64::MAX, memory(10_000_000, 10_000_000));
    assert_eq!(
        some,
        Plan {
            max_samples: Some(6_666),
            trims_events: false,
            max_blocks: None,
        }
    );
    let all = plan(&histories, u64::MAX, memory(13_000_000, 10_000_000));
    assert_eq!(
        all,
        Plan {
            max_samples: Some(100),
            trims_events: true,
            max_blocks: None,
        }
    );
}

#[test]
fn without_any_history_the_events_go_when_redis_is_nearly_full() {
    let one = plan(&found(&[0]), 1_000, memory(9_900, 10_000));
    assert!(one.trims_events);
}

#[test]
fn rollups_leave_less_to_the_samples_and_give_beyond_half_of_the_limit() {
    let with_rollups = |rollup_bytes: u64| Found {
        rollup_bytes,
        blocks: vec![100; 10],
        ..found(&[1_000, 1_000])
    };
    let free = memory(1, 0);
    // 60 000 bytes of samples in 100 000.
    assert_eq!(plan(&with_rollups(30_000), 100_000, free), Plan::default());
    let samples_give = plan(&with_rollups(40_000), 100_000, free);
    assert_eq!(
        samples_give,
        Plan {
            max_samples: Some(900),
            ..Plan::default()
        }
    );
    let both_give = plan(&with_rollups(100_000), 100_000, free);
    assert_eq!(
        both_give,
        Plan {
            max_samples: Some(750),
            max_blocks: Some(45),
            ..Plan::default()
        }
    );
}

#[test]
fn a_redis_that_others_fill_takes_from_the_rollups_last() {
    let all = Found {
        rollup_bytes: 1_000_000,
        blocks: vec![100; 100],
        ..found(&[10_000; 10])
    };
    let full = memory(13_000_000, 10_000_000);
    let first = plan(&all, u64::MAX, full);
    assert!(first.trims_events, "{first:?}");
    assert_eq!(first.max_blocks, None, "the events may be enough");
    // 4 000 000 bytes too many, of which samples can give 2 970 000.
    let second = super::plan(&all, u64::MAX, full, first);
    assert_eq!(second.max_blocks, Some(1), "{second:?}");
    let less = memory(12_500_000, 10_000_000);
    let second = super::plan(&all, u64::MAX, less, first);
    assert_eq!(second.max_blocks, Some(47), "{second:?}");
    let healed = super::plan(&all, u64::MAX, memory(5, 100), second);
    assert_eq!(healed, Plan::default());
}

#[test]
fn rollups_are_cut_once_however_many_replicas_have_found_them_too_long() {
    let with_blocks = |blocks: &[u64]| Found {
        rollup_bytes: blocks.iter().sum::<u64>() * 100,
        blocks: blocks.to_vec(),
        ..Found::default()
    };
    let blocks = [1_000, 600, 600, 20];
    let plan_of = |blocks: &[u64]| plan(&with_blocks(blocks), 222_000, memory(1, 0));
    let plans = [plan_of(&blocks), plan_of(&blocks)];
    let cut = |blocks: &[u64], plan: &Plan| -> Vec<u64> {
        let max = plan.max_blocks.expect("too long");
        blocks.iter().map(|length| *length.min(&max)).collect()
    };
    // 90 % of 111 000 bytes are 999 blocks.
    let once = cut(&blocks, &plans[0]);
    assert_eq!(once, [326, 326, 326, 20]);
    assert_eq!(cut(&once, &plans[1]), once);
    assert_eq!(plan_of(&once), Plan::default());
}

#[test]
fn what_was_dropped_since_it_was_measured_does_not_count() {
    let mut found = Found::default();
    for (samples, bytes, dropped) in [(1_000, 30_000, 0), (400, 12_000, 300), (0, 90, 0)] {
        found.add(HistoryUse { samples, bytes }, dropped);
    }
    assert_eq!(found.samples, [1_000, 100, 0]);
    assert_eq!(found.bytes, 33_000);
}

proptest! {
    #[test]
    fn what_stays_fits_into_the_room_and_nothing_is_wasted(
        samples in prop::collection::vec(0..20_000_u64, 1..50),
        room in 0..1_000_000_u64,
    ) {
        let level = level(&samples, room);
        let kept = |level: u64| samples.iter().map(|length| *length.min(&level)).sum::<u64>();
        prop_assert!(kept(level) <= room);
        prop_assert!(level == u64::MAX || kept(level + 1) > room);
    }
}

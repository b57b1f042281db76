use proptest::prelude::*;

use super::*;

fn found(samples: &[u64]) -> Found {
    Found {
        samples: samples.to_vec(),
        bytes: samples.iter().sum::<u64>() * 30,
    }
}

fn memory(used: u64, max: u64) -> MemoryUse {
    MemoryUse { used, max }
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
            trims_events: false
        }
    );
    let all = plan(&histories, u64::MAX, memory(13_000_000, 10_000_000));
    assert_eq!(
        all,
        Plan {
            max_samples: Some(100),
            trims_events: true
        }
    );
}

#[test]
fn without_any_history_the_events_go_when_redis_is_nearly_full() {
    let one = plan(&found(&[0]), 1_000, memory(9_900, 10_000));
    assert!(one.trims_events);
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

use super::*;

const MB: u64 = 1 << 20;

fn memory(used: u64, max: u64) -> MemoryUse {
    MemoryUse { used, max }
}

#[test]
fn memory_that_redis_does_not_count_is_left_out() {
    let info = "# Memory\r\nused_memory:1500\r\nused_memory_human:1.46K\r\nmaxmemory:1000\r\nmaxmemory_policy:noeviction\r\n\
                mem_not_counted_for_evict:600\r\n";
    assert_eq!(MemoryUse::parse(info), Some(memory(900, 1000)));
    assert_eq!(MemoryUse::parse("used_memory:1\r\n"), None);
}

#[test]
fn the_reserve_is_a_twentieth_and_at_least_16_mb_unless_it_is_set() {
    assert_eq!(memory(0, 1000 * MB).reserve(None), 50 * MB);
    assert_eq!(memory(0, 100 * MB).reserve(None), 16 * MB);
    assert_eq!(memory(0, 1000 * MB).reserve(Some(0)), 0);
    assert!(memory(1050 * MB, 1000 * MB).is_within_reserve(None));
    assert!(!memory(1050 * MB + 1, 1000 * MB).is_within_reserve(None));
    assert!(memory(u64::MAX, 0).is_within_reserve(Some(0)), "no limit");
}

#[test]
fn half_of_the_reserve_is_for_alarms_alone() {
    let left = |used| memory(used, 1000 * MB).reserve_left(None);
    assert_eq!(left(1025 * MB), ReserveLeft::ForAll);
    assert_eq!(left(1025 * MB + 1), ReserveLeft::ForAlarms);
    assert_eq!(left(1050 * MB), ReserveLeft::ForAlarms);
    assert_eq!(left(1050 * MB + 1), ReserveLeft::Nothing);
    assert_eq!(
        memory(5, 4).reserve_left(Some(0)),
        ReserveLeft::Nothing,
        "there is no reserve"
    );
    assert_eq!(memory(5, 0).reserve_left(None), ReserveLeft::ForAll);
}

#[test]
fn a_low_reserve_is_reported_until_redis_has_memory_again() {
    let watch = MemoryWatch::default();
    let after = |used| {
        watch.measured(memory(used, 1000), Some(100));
        watch.known().is_reserve_low
    };
    assert!(!after(1050));
    assert!(after(1051));
    assert!(after(1040), "it would be low again at once");
    assert!(!after(900));
    assert!(!after(1040));
}

#[test]
fn a_full_redis_is_healed_once_a_hundredth_is_free() {
    let watch = MemoryWatch::default();
    let after = |used| {
        watch.measured(memory(used, 1000), None);
        watch.known().is_full
    };
    assert!(!after(1000), "Redis accepts writes up to its limit");
    assert!(after(1001));
    assert!(after(995), "it would be full again at once");
    assert!(!after(989));
    assert!(!after(995), "and was not full before");
}

#[test]
fn a_refusal_counts_for_a_while_whatever_is_measured() {
    let watch = MemoryWatch::default();
    watch.refused();
    assert!(watch.known().is_full);
    // A server that does not tell its limit.
    watch.measured(memory(5, 0), None);
    assert!(watch.known().is_full);
}

use super::*;

fn bounds() -> StoredBounds {
    StoredBounds {
        devices: 1_000,
        payload_bytes: 1_024,
        live_raw_message: false,
        history_max: 20_000,
        history_bytes: None,
        rollups: 0,
        rollup_buckets: 0,
        log_max: 20_000,
        partitions: 64,
        dead_letters: 1_000,
        dead_letter_payload_bytes: 16 * 1024,
        recorded: 0,
    }
}

#[test]
fn the_arithmetic_is_printed_line_by_line() {
    let lines = report(&bounds(), 1 << 30);
    assert_eq!(
        lines,
        [
            "memory of Redis: 7000 KB for state = 1000 devices x 1 state x 7168 B per device",
            "memory of Redis: 40 MB for open alarms = 1000 devices x 16 alarms x 2560 B per alarm",
            "memory of Redis: 47 MB for entries that wait for the alarm log = 1000 devices x 16 groups x 3072 B per group",
            "memory of Redis: 282 MB for events = 1000 devices x 96 events x 3072 B per event",
            "memory of Redis: 586 MB for alarm changes = 1000 devices x 200 changes x 3072 B per change",
            "memory of Redis: 512 MB for history and rollups = 512 MB, half of maxmemory, or 200 samples and two nodes of each rollup of each device if that is more",
            "memory of Redis: 1250 MB for alarm log = 64 partitions x 20000 lines x 1024 B per line",
            "memory of Redis: 21 MB for dead letters = 1000 letters x 1 stream x 21 KB per letter",
            "memory of Redis: 0 B for recorded payloads = 0 payloads x 1 stream x 6144 B per payload",
            "memory of Redis: 147 MB for audit trail = 50000 entries x 3 streams x 1024 B per entry",
            "memory of Redis: 25 MB for revoked tokens and subjects = 100000 entries x 1 set x 256 B per entry",
            "memory of Redis: 2914 MB in the worst case",
        ]
    );
}

#[test]
fn the_history_is_at_most_what_the_devices_may_have_and_never_nothing() {
    let history = |bounds: StoredBounds| {
        let needs = needs(&bounds, 0);
        needs
            .iter()
            .find(|need| need.what == "history and rollups")
            .map(|need| need.bytes)
    };
    assert_eq!(
        history(bounds()),
        Some(1_000 * 20_000 * 40),
        "less than 1 GiB"
    );
    let with_rollups = StoredBounds {
        rollups: 2,
        rollup_buckets: 10_000,
        ..bounds()
    };
    assert_eq!(
        history(with_rollups),
        Some(1_000 * (20_000 * 40 + 10_000 * BUCKET_BYTES))
    );
    let nothing_allowed = StoredBounds {
        history_bytes: Some(0),
        ..with_rollups
    };
    assert_eq!(
        history(nothing_allowed),
        Some(1_000 * (200 * 40 + 2 * 2 * 4_096))
    );
    let small = StoredBounds {
        history_bytes: Some(0),
        ..bounds()
    };
    assert_eq!(history(small), Some(1_000 * 200 * 40));
    let big = StoredBounds {
        devices: 20_000,
        ..bounds()
    };
    assert_eq!(history(big), Some(1 << 30));
}

#[test]
fn the_limit_of_the_history_is_half_of_maxmemory_unless_it_is_set() {
    assert_eq!(history_limit(None, 600), 300);
    assert_eq!(history_limit(None, 0), 1 << 30);
    assert_eq!(history_limit(Some(5), 600), 5);
}

#[test]
fn maxmemory_is_compared_with_the_worst_case() {
    assert!(compare(&bounds(), 0).starts_with("warning: maxmemory is not set"));
    assert!(
        compare(&bounds(), 1 << 30)
            .starts_with("warning: maxmemory is 1024 MB, the worst case is 2914 MB")
    );
    assert!(compare(&bounds(), 8 << 30).starts_with("maxmemory is 8192 MB, enough"));
}

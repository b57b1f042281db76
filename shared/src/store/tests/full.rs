//! A Redis whose memory is full. What must not be lost is stored all the same, within the reserve.

use test_support::eventually::eventually;

use super::*;
use crate::apply::retire;
use crate::keys;

/// Less than an empty Redis uses.
const FULL: &str = "256kb";

async fn history_length(store: &Store, redis: &mut MultiplexedConnection) -> u64 {
    stream_length(redis, &store.keys(&device()).history(&device())).await
}

async fn alarms_of(store: &Store, device: &DeviceId) -> Vec<crate::alarm::Alarm> {
    let snapshot = store.snapshot(device, None).await.expect("an answer");
    snapshot.state.expect("a state").alarms
}

fn letter(payload: &[u8]) -> DeadLetter<'_> {
    DeadLetter {
        reason: "test",
        detail: "",
        topic: "t",
        payload,
        size: payload.len(),
    }
}

#[tokio::test]
async fn readings_alarms_acknowledgements_and_retirements_go_on_and_history_does_not() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    commit_reading(&store, DEVICE, "100", 0).await;
    assert_eq!(store.full(), None);

    server.config_set("maxmemory", FULL).await;
    let raised = commit_reading(&store, DEVICE, "300", 5).await;
    assert_eq!(raised.decision.changes.len(), 1);
    assert_eq!(store.full(), Some(REDIS_FULL));
    assert_eq!(history_length(&store, &mut redis).await, 1);
    assert_eq!(store.unstored_samples(), 1);
    store.check_writes(0).await.expect("usable");
    assert_eq!(store.recent_refusal(), None);

    let id = alarms_of(&store, &device()).await[0].id.clone();
    let gateway = server.store();
    let answer = acknowledge(&gateway, &device(), acknowledging(&id, "User", None)).await;
    assert_eq!(answer.expect("stored").answer, Acknowledged::Covered);
    assert!(alarms_of(&store, &device()).await[0].acknowledged.is_some());
    // A detector that was never seen before.
    commit_reading(&store, "OTSM-0115", "600", 5).await;
    let other: DeviceId = "OTSM-0115".parse().expect("a serial");
    assert_eq!(alarms_of(&store, &other).await.len(), 1);
    retire(&gateway, &other, "User").await.expect("retired");
    assert_eq!(store.count_devices().await.expect("an answer"), 1);

    server.config_set("maxmemory", "0").await;
    eventually("Redis has memory again", async || {
        store.check_writes(0).await?;
        anyhow::ensure!(store.full().is_none());
        Ok(())
    })
    .await
    .expect("it heals");
    commit_reading(&store, DEVICE, "301", 10).await;
    assert_eq!(history_length(&store, &mut redis).await, 2);
    let log = log_of(&store, device().partition(8)).await;
    let kinds: Vec<_> = log.iter().map(|e| readable_entry(e).change).collect();
    let of_device = [Some(ChangeKind::Acknowledged), Some(ChangeKind::Raised)];
    assert!(kinds.ends_with(&of_device), "{kinds:?}");
}

#[tokio::test]
async fn while_redis_is_full_a_device_keeps_few_events_and_every_alarm_change() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let own = store.keys(&device());
    for second in 0..20 {
        commit_reading(&store, DEVICE, &second.to_string(), second * 5).await;
    }
    assert_eq!(stream_length(&mut redis, &own.events(&device())).await, 20);
    server.config_set("maxmemory", FULL).await;
    let mut with_changes = 0;
    for second in 20..40 {
        let value = if second % 2 == 0 { "300" } else { "700" };
        let applied = commit_reading(&store, DEVICE, value, second * 5).await;
        with_changes += u64::from(!applied.decision.changes.is_empty());
    }
    assert!(with_changes > 1, "{with_changes} commits with changes");
    let events = stream_length(&mut redis, &own.events(&device())).await;
    assert_eq!(events, keys::MIN_EVENTS as u64);
    let changes = stream_length(&mut redis, &own.changes(&device())).await;
    assert_eq!(changes, with_changes);
}

#[tokio::test]
async fn a_service_starts_and_reports_on_a_full_redis() {
    let server = RedisServer::start().await;
    server.config_set("maxmemory", FULL).await;
    let store = server.store();
    store.ping().await.expect("connected, with epochs");
    let before = store.survey().await.expect("an answer");
    assert_eq!(
        store.increment_canary().await.expect("counted"),
        before.canary + 1
    );
    store.measure_memory().await.expect("measured");
    store
        .report("one", Report::default())
        .await
        .expect("reported");
    let status = store.ingest_status().await.expect("an answer");
    assert!(status.is_listening());
    assert_eq!(status.fullness, Fullness::Full);
    commit_reading(&store, DEVICE, "300", 0).await;
    store
        .postpone(&device(), Time::from_millis(5))
        .await
        .expect("moved");
    let due = store
        .due(Time::from_millis(10), 10)
        .await
        .expect("an answer");
    assert_eq!(due, [(device(), Time::from_millis(5))]);
    // Epochs of a server that was restarted.
    let epoch = before.epochs[0].expect("an epoch");
    store.give_up_epoch(&device(), epoch).await.expect("opened");
    // Scripts that the server has forgotten are loaded again.
    let mut redis = server.connect().await;
    let flushed: redis::RedisResult<()> = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async(&mut redis)
        .await;
    flushed.expect("flushed");
    commit_reading(&store, DEVICE, "600", 5).await;
    assert_eq!(alarms_of(&store, &device()).await.len(), 1);
    store.withdraw("one").await.expect("withdrawn");
    assert_eq!(store.full(), Some(REDIS_FULL));
}

#[tokio::test]
async fn dead_letters_are_stored_and_soon_replace_the_oldest() {
    let server = RedisServer::start().await;
    let store = server.store();
    store.ping().await.expect("connected");
    server.config_set("maxmemory", FULL).await;
    let mut redis = server.connect().await;
    for number in 0..150 {
        let payload = format!("letter {number}");
        store
            .dead_letter(&[letter(payload.as_bytes())], 10_000)
            .await
            .expect("stored");
    }
    assert_eq!(
        stream_length(&mut redis, crate::keys::DEAD_LETTERS).await,
        100
    );
    let mut read = redis::cmd("XREVRANGE");
    read.arg(crate::keys::DEAD_LETTERS).arg("+").arg("-");
    let answer: Value = read.query_async(&mut redis).await.expect("an answer");
    let newest = reply::entries(answer).expect("entries");
    assert_eq!(newest[0].text("payload"), Some("letter 149"));
    assert!(store.full().is_some());
}

#[tokio::test]
async fn beyond_the_reserve_nothing_is_stored_and_redis_says_why() {
    let server = RedisServer::start().await;
    let store = server.store_with_reserve(0);
    commit_reading(&store, DEVICE, "300", 0).await;
    server.config_set("maxmemory", FULL).await;
    let reading = reading_of(DEVICE, "600", 5);
    let refused = [
        apply_reading(&store, &reading)
            .await
            .map(drop)
            .expect_err("refused"),
        store.check_writes(0).await.expect_err("refused"),
        store
            .dead_letter(&[letter(b"")], 10)
            .await
            .expect_err("refused"),
    ];
    for err in refused {
        assert!(err.is_transient() && !err.is_in_doubt(), "{err:?}");
        assert!(err.reason().starts_with("OOM"), "{}", err.reason());
    }
    assert!(store.recent_refusal().is_some());
    // A retirement frees memory.
    retire(&store, &device(), "User").await.expect("retired");
}

#[tokio::test]
async fn writes_that_may_fail_do_not_make_redis_unusable() {
    let server = RedisServer::start().await;
    let store = server.store();
    commit_reading(&store, DEVICE, "300", 0).await;
    server.config_set("maxmemory", FULL).await;
    let counted = store.fleet(Duration::ZERO).await.expect("counted");
    assert_eq!(counted.devices.warning, 1);
    let report = WatchReport::default();
    let reported = store
        .report_watchers("one", &report, Duration::from_secs(9))
        .await;
    assert!(reported.is_err_and(|err| err.is_transient()));
    let recorded = store.record_raw(&[], 10, "{}").await;
    assert!(recorded.is_err_and(|err| err.is_transient()));
    assert_eq!(store.recent_refusal(), None);
    store.check_writes(0).await.expect("usable");
}

/// Leaves Redis full by three quarters of the reserve of 16 MB.
async fn use_three_quarters_of_the_reserve(server: &RedisServer) {
    const MB: u64 = 1 << 20;
    let mut redis = server.connect().await;
    // A value that Redis makes, so that no buffer of a connection counts.
    let _: usize = redis
        .setrange("foreign", 32 << 20, "x")
        .await
        .expect("written");
    let used = server.store().measure_memory().await.expect("measured");
    let maxmemory = used.used - 12 * MB;
    server.config_set("maxmemory", &maxmemory.to_string()).await;
}

#[tokio::test]
async fn while_redis_is_full_no_payload_is_stored_and_none_stands_beside_another_reading() {
    let server = RedisServer::start().await;
    let store = server.store();
    let payload = async || store.raw_payload(&device()).await.expect("an answer");
    commit_reading(&store, DEVICE, "100", 0).await;
    assert!(payload().await.is_some());
    server.config_set("maxmemory", FULL).await;
    for (value, second) in [("101", 5), ("300", 10)] {
        commit_reading(&store, DEVICE, value, second).await;
        assert_eq!(payload().await, None, "of {value}");
    }
    commit_reading(&store, "NEW", "300", 0).await;
    let new: DeviceId = "NEW".parse().expect("a serial");
    assert_eq!(store.raw_payload(&new).await.expect("an answer"), None);
    server.config_set("maxmemory", "0").await;
    commit_reading(&store, DEVICE, "301", 15).await;
    assert!(payload().await.is_some());
}

#[tokio::test]
async fn the_second_half_of_the_reserve_is_for_alarms() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    for second in 0..3 {
        commit_reading(&store, DEVICE, "100", second * 5).await;
    }
    use_three_quarters_of_the_reserve(&server).await;

    // A known device goes on. What it stores replaces what there is.
    let events = store.keys(&device()).events(&device());
    for second in 3..6 {
        commit_reading(&store, DEVICE, "101", second * 5).await;
    }
    assert_eq!(stream_length(&mut redis, &events).await, 3);
    let snapshot = store.snapshot(&device(), None).await.expect("an answer");
    let latest = snapshot.state.and_then(|state| state.latest);
    assert_eq!(latest.expect("a reading").reading.value, dec("101").into());

    // A device without an alarm is not added, and takes no place. It is not tried again.
    let config = ApplyConfig {
        places: Some(Places {
            devices: 100,
            reserve: 0,
        }),
        ..apply_config()
    };
    // Without a limit of devices there is no look at the memory before the commit.
    for config in [&config, &apply_config()] {
        let work = [
            message_work(&reading_of("NEW", "10", 0)),
            message_work(&reading_of("GAS", "300", 0)),
        ];
        let results = apply(&store, &work, config).await;
        let refused = results[0].as_ref().expect_err("refused");
        assert_eq!(refused.code(), "redis_full", "{refused:?}");
        assert!(!refused.is_transient());
        assert!(results[1].is_ok(), "{:?}", results[1]);
    }
    assert_eq!(store.count_devices().await.expect("an answer"), 2);
    assert_eq!(store.count_places().await.expect("an answer"), 2);

    // The alarm of the known device, the acknowledgement and the retirement go on too.
    commit_reading(&store, DEVICE, "300", 30).await;
    assert_eq!(stream_length(&mut redis, &events).await, 4);
    let id = alarms_of(&store, &device()).await[0].id.clone();
    let answer = acknowledge(&store, &device(), acknowledging(&id, "User", None)).await;
    assert_eq!(answer.expect("stored").answer, Acknowledged::Covered);
    let told = store.full().expect("it is full");
    assert!(
        told.starts_with("redis full") && told != REDIS_FULL,
        "{told}"
    );
    assert_eq!(store.recent_refusal(), None);
    retire(&store, &device(), "User").await.expect("retired");
}

#[tokio::test]
async fn in_the_second_half_of_the_reserve_each_dead_letter_replaces_older_ones() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    for _ in 0..50 {
        let stored = store.dead_letter(&[letter(&[b'a'; 100])], 10_000).await;
        stored.expect("stored");
    }
    use_three_quarters_of_the_reserve(&server).await;
    let large = [b'b'; 2_000];
    for _ in 0..3 {
        let stored = store.dead_letter(&[letter(&large)], 10_000).await;
        stored.expect("stored");
    }
    let left = stream_length(&mut redis, keys::DEAD_LETTERS).await;
    assert!((3..20).contains(&left), "{left} letters");
}

#[tokio::test]
async fn a_large_dead_letter_replaces_several_small_ones() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    for _ in 0..120 {
        let stored = store.dead_letter(&[letter(&[b'a'; 100])], 10_000).await;
        stored.expect("stored");
    }
    server.config_set("maxmemory", FULL).await;
    let stored = store.dead_letter(&[letter(&[b'b'; 2_000])], 10_000).await;
    stored.expect("stored");
    let left = stream_length(&mut redis, keys::DEAD_LETTERS).await;
    assert!((100..=115).contains(&left), "{left} letters");
}

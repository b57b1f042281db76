//! The store against a real redis-server.

mod in_doubt;
mod newer_release;
mod reassert;
mod retire;

use std::sync::Arc;
use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use test_support::server::OwnRedis;

use super::*;
use crate::alarm::ChangeKind;
use crate::alarm_log::AlarmLogEntry;
use crate::apply::{Acknowledged, Applied, ApplyConfig, Cause, Work, acknowledge, apply};
use crate::clock::Time;
use crate::decide::tests::{dec, reading};
use crate::decide::{Decision, Input, Message, decide};
use crate::position::Position;
use crate::reading::Reading;
use crate::state::{AlarmSettings, ZeroLevel};

/// A Redis for one test.
struct Server {
    redis: OwnRedis,
}

impl Server {
    async fn start() -> Self {
        let redis = OwnRedis::start(&[]).await;
        Self { redis }
    }

    fn store(&self) -> Store {
        let config = RedisConfig {
            redis_url: self.redis.url().parse().expect("a URL"),
            redis_timeout: Duration::from_secs(2),
            redis_watch: Duration::from_secs(1),
            partitions: 8,
        };
        Store::new(config, Arc::new(SystemClock::default()))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "looks at the server past the store"
    )]
    async fn raw(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.redis.url());
        let client = client.expect("a URL");
        client
            .get_multiplexed_async_connection()
            .await
            .expect("connects")
    }
}

fn rules() -> ApplyConfig {
    ApplyConfig {
        settings: AlarmSettings {
            offline_after: Duration::from_mins(3),
            alarm_deadband: dec("2"),
            alarm_off_delay: Duration::ZERO,
            zero_level: ZeroLevel::Value,
        },
        bounds: Bounds {
            history_max: 1_000,
            history_age_ms: 86_400_000,
            log_max: 1_000,
            log_age_ms: 86_400_000,
        },
        accept_new: true,
    }
}

fn of(device: &str, value: &str, second: i64) -> Reading {
    Reading {
        device: device.parse().expect("a serial"),
        device_time: Some(Time::from_millis(1_800_000_000_000 + second * 1_000)),
        ..reading(Some(value))
    }
}

fn work(reading: &Reading, fingerprint: u64) -> Work<'static> {
    Work {
        device: reading.device.clone(),
        cause: Cause::Message {
            message: Message {
                reading: reading.clone(),
                fingerprint,
                dup: false,
                retain: false,
                live_raw_message: None,
            },
            raw: b"{}",
        },
        trace: None,
    }
}

async fn send(store: &Store, reading: &Reading, fingerprint: u64) -> Result<Applied, StoreError> {
    let work = [work(reading, fingerprint)];
    let mut results = apply(store, &work, &rules()).await;
    results.pop().expect("one result")
}

fn entry(logged: &LoggedEntry) -> &AlarmLogEntry {
    logged.entry.as_ref().expect("readable")
}

/// What a message decides for a device.
fn decide_message(stored: &StoredDevice, work: &Work<'_>, now: Time) -> Decision {
    let Cause::Message { message, .. } = &work.cause else {
        panic!("{work:?}");
    };
    let settings = &rules().settings;
    decide(stored, Input::Message { message, settings }, now, None)
}

async fn length(redis: &mut MultiplexedConnection, stream: &str) -> u64 {
    redis::cmd("XLEN")
        .arg(stream)
        .query_async(redis)
        .await
        .expect("asks")
}

#[tokio::test]
async fn a_commit_writes_state_streams_log_and_indexes_together() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    send(&store, &of("OTSM-0114", "100", 0), 1)
        .await
        .expect("committed");
    send(&store, &of("OTSM-0114", "300", 5), 2)
        .await
        .expect("committed");

    let snapshot = store.snapshot(&device, Some(1)).await.expect("reads");
    let state = snapshot.state.expect("known");
    assert_eq!(state.position.seq, 2);
    assert_eq!(state.position.epoch, snapshot.epoch);
    assert_eq!(state.alarms.len(), 1);
    assert!(snapshot.last_message.is_some());
    let seqs: Vec<_> = snapshot
        .events
        .iter()
        .map(|event| event.position.seq)
        .collect();
    assert_eq!(seqs, [1, 2]);
    assert_eq!(snapshot.changes.len(), 1);
    assert_eq!(snapshot.changes[0].alarms[0].id, state.alarms[0].id);
    let devices = store.devices().await.expect("reads");
    assert_eq!(devices.len(), 1);
    let log = store
        .alarm_log(device.partition(8), None, None, None)
        .await
        .expect("reads");
    assert_eq!(log.len(), 1);
    assert_eq!(entry(&log[0]).change, Some(ChangeKind::Raised));
    let samples = store.history(&device, None, None, 10).await.expect("reads");
    assert_eq!(samples.len(), 2);
    assert_eq!(
        store.raw_payload(&device).await.expect("reads").as_deref(),
        Some(&b"{}"[..])
    );
    let before = store
        .alarm_log(device.partition(8), Some(&log[0].id), None, None)
        .await;
    assert!(
        before.expect("reads").is_empty(),
        "nothing is older than the oldest"
    );
}

#[tokio::test]
async fn the_published_bytes_are_those_of_the_stream() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    let (heard, mut hear) = tokio::sync::mpsc::channel::<PushInfo>(16);
    let mut subscriber = store
        .subscriber(move |push| heard.try_send(push).expect("room"))
        .await
        .expect("connects");
    let channel = store.channel(&device);
    let mut subscribe = redis::cmd("SSUBSCRIBE");
    subscribe
        .arg(&channel)
        .exec_async(&mut subscriber.connection)
        .await
        .expect("subscribes");
    send(&store, &of("OTSM-0114", "300", 0), 1)
        .await
        .expect("committed");
    let message = loop {
        let push = hear.recv().await.expect("a push");
        if push.kind == redis::PushKind::SMessage {
            break push.data;
        }
    };
    let snapshot = store.snapshot(&device, Some(1)).await.expect("reads");
    let expected = [channel.into_bytes(), snapshot.events[0].bytes.clone()];
    assert_eq!(message, expected.map(Value::BulkString));
}

#[tokio::test]
async fn writers_that_race_on_one_device_lose_nothing() {
    let server = Server::start().await;
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u64 {
        let store = server.store();
        writers.spawn(async move {
            let mut conflicts = 0;
            for step in 0..100_u64 {
                let second = i64::try_from(step * 4 + writer).expect("small");
                let reading = of("OTSM-0114", "100", second);
                let applied = send(&store, &reading, second.unsigned_abs()).await;
                conflicts += applied.expect("committed").conflicts;
            }
            conflicts
        });
    }
    let conflicts: u32 = writers.join_all().await.into_iter().sum();
    assert!(conflicts > 0, "the test must see writers that race");
    let store = server.store();
    let samples = store
        .history(&device, None, None, 1_000)
        .await
        .expect("reads");
    assert_eq!(samples.len(), 400, "every reading is in the history once");
    let snapshot = store.snapshot(&device, Some(0)).await.expect("reads");
    let seqs: Vec<_> = snapshot
        .events
        .iter()
        .map(|event| event.position.seq)
        .collect();
    let last = *seqs.last().expect("events");
    assert_eq!(seqs, (last + 1 - 64..=last).collect::<Vec<_>>(), "no hole");
}

#[tokio::test]
async fn an_acknowledgement_and_an_escalation_never_lose_each_other() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    let other = server.store();
    other.ping().await.expect("connected");
    let (mut escalated, mut covered) = (0, 0);
    // How long the reading waits, or below zero the acknowledgement: it follows the outcomes, so that most rounds are
    // decided within one round trip.
    let mut head_start_us = 0_i64;
    let wait =
        |micros: i64| tokio::time::sleep(Duration::from_micros(micros.max(0).unsigned_abs()));
    for round in 0..300_i64 {
        let second = round * 30;
        let fingerprint = u64::try_from(round * 10).expect("small");
        send(&store, &of("OTSM-0114", "300", second), fingerprint)
            .await
            .expect("committed");
        let state = store
            .snapshot(&device, None)
            .await
            .expect("reads")
            .state
            .expect("known");
        let id = state.alarms[0].id.clone();
        let reading = of("OTSM-0114", "600", second + 5);
        let (answer, applied) = tokio::join!(
            async {
                wait(-head_start_us).await;
                acknowledge(&other, &device, &id, "User", Some(state.position)).await
            },
            async {
                wait(head_start_us).await;
                send(&store, &reading, fingerprint + 1).await
            },
        );
        applied.expect("committed");
        let alarm = store
            .snapshot(&device, None)
            .await
            .expect("reads")
            .state
            .expect("known");
        let alarm = &alarm.alarms[0];
        match answer.expect("answered").answer {
            Acknowledged::Escalated => {
                escalated += 1;
                head_start_us += 150;
            }
            Acknowledged::Covered => {
                covered += 1;
                head_start_us -= 150;
            }
            Acknowledged::NotFound => panic!("the alarm stands"),
        }
        assert!(
            alarm.acknowledged.is_none(),
            "a level reached later is never covered"
        );
        send(&store, &of("OTSM-0114", "10", second + 10), fingerprint + 2)
            .await
            .expect("committed");
    }
    assert!(
        escalated > 0 && covered > 0,
        "{escalated} after, {covered} before the escalation"
    );
    let log = store
        .alarm_log(device.partition(8), None, None, None)
        .await
        .expect("reads");
    let acknowledged = log
        .iter()
        .filter(|logged| entry(logged).acknowledgement().is_some())
        .count();
    assert!(
        acknowledged > 100,
        "every acknowledgement is in the log: {acknowledged}"
    );
}

#[tokio::test]
async fn one_device_with_keys_of_the_wrong_type_does_not_stop_the_others() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    let keys = |device: &str| {
        let device: DeviceId = device.parse().expect("a serial");
        (store.keys(&device), device)
    };
    let (hash, one) = keys("OTSM-1");
    let (events, two) = keys("OTSM-2");
    let (history, three) = keys("OTSM-3");
    let _: () = raw.set(hash.device(&one), "x").await.expect("set");
    let _: () = raw.set(events.events(&two), "x").await.expect("set");
    let _: () = raw.set(history.history(&three), "x").await.expect("set");
    let readings: Vec<_> = (1..=4)
        .map(|n| of(&format!("OTSM-{n}"), "300", 0))
        .collect();
    let work: Vec<_> = readings.iter().map(|reading| work(reading, 1)).collect();
    let results = apply(&store, &work, &rules()).await;
    let fates: Vec<_> = results
        .iter()
        .map(|r| r.as_ref().map(|_| ()).map_err(StoreError::code))
        .collect();
    let refused = Err("device_refused");
    assert_eq!(fates, [refused, refused, refused, Ok(())]);
    let untouched: bool = raw.exists(events.device(&two)).await.expect("asks");
    assert!(!untouched, "a refused commit writes nothing at all");
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_kept_aside_and_replaced_by_the_next_reading() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    for second in 0..3 {
        send(
            &store,
            &of("OTSM-0114", "300", second * 5),
            second.unsigned_abs(),
        )
        .await
        .expect("ok");
    }
    let mut raw = server.raw().await;
    let keys = store.keys(&device);
    let epoch = store.snapshot(&device, None).await.expect("reads").epoch;
    // A number to Lua is not yet one to the reader.
    for (field, garbage) in [
        ("latest", "{"),
        ("rev", "?"),
        ("seq", "?"),
        ("seq", "1e3"),
        ("seq", "99999999999999999999"),
    ] {
        let _: () = raw
            .hset(keys.device(&device), field, garbage)
            .await
            .expect("set");
        let unread = store.snapshot(&device, None).await;
        assert_eq!(unread.expect_err("not shown").code(), "device_refused");
        let before = length(&mut raw, &keys.events(&device)).await;
        let later = i64::try_from(before * 100).expect("small");
        send(&store, &of("OTSM-0114", "300", later), 1_000 + before)
            .await
            .expect("replaced");
        let snapshot = store
            .snapshot(&device, Some(before + 1))
            .await
            .expect("reads");
        assert_eq!(
            snapshot.state.expect("known").position.seq,
            before + 1,
            "after {field}"
        );
        assert_eq!(snapshot.epoch, epoch, "the streams know the number");
        let envelope = String::from_utf8_lossy(&snapshot.events[0].bytes).into_owned();
        assert!(envelope.contains(r#""snapshot":true"#), "{envelope}");
    }
    assert_eq!(length(&mut raw, &keys.quarantine()).await, 5);
    let log = store
        .alarm_log(device.partition(8), None, None, None)
        .await
        .expect("reads");
    assert_eq!(
        log.iter()
            .filter(|logged| entry(logged).change.is_none())
            .count(),
        5,
        "state_lost"
    );
}

#[tokio::test]
async fn fields_that_a_newer_release_added_are_kept() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    send(&store, &of("OTSM-0114", "300", 0), 1)
        .await
        .expect("committed");
    let mut raw = server.raw().await;
    let key = store.keys(&device).device(&device);
    let _: () = raw.hset(&key, "added_later", "7").await.expect("set");
    send(&store, &of("OTSM-0114", "301", 5), 2)
        .await
        .expect("committed");
    let kept: String = raw.hget(&key, "added_later").await.expect("asks");
    assert_eq!(kept, "7");
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_loaded_again() {
    let server = Server::start().await;
    let store = server.store();
    send(&store, &of("OTSM-0114", "300", 0), 1)
        .await
        .expect("committed");
    let mut raw = server.raw().await;
    redis::cmd("SCRIPT")
        .arg("FLUSH")
        .exec_async(&mut raw)
        .await
        .expect("flushed");
    let applied = send(&store, &of("OTSM-0114", "301", 5), 2)
        .await
        .expect("committed");
    assert_eq!(applied.decision.state.position.seq, 2);
}

#[tokio::test]
async fn an_emptied_server_gets_new_epochs() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    send(&store, &of("OTSM-0114", "300", 0), 1)
        .await
        .expect("committed");
    let before = store.snapshot(&device, None).await.expect("reads").epoch;
    let mut raw = server.raw().await;
    redis::cmd("FLUSHALL")
        .exec_async(&mut raw)
        .await
        .expect("flushed");
    let reading = of("OTSM-0114", "301", 5);
    let first = send(&store, &reading, 2).await;
    assert!(
        matches!(first, Err(StoreError::Unavailable(_))),
        "nothing is committed without an epoch"
    );
    send(&store, &reading, 2)
        .await
        .expect("a new epoch was opened");
    let after = store.snapshot(&device, None).await.expect("reads").epoch;
    assert_ne!(before, after);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let server = Server::start().await;
    server.store().ping().await.expect("recorded");
    let config = RedisConfig {
        partitions: 16,
        ..server.store().link.config().clone()
    };
    let other = Store::new(config, Arc::new(SystemClock::default()));
    let refused = other.ping().await.expect_err("refused");
    assert_eq!(refused.code(), "redis_unusable");
    assert_eq!(
        refused.to_string(),
        "redis cannot be used: its data has 8 partitions, --partitions is 16"
    );
}

#[tokio::test]
async fn the_report_tells_since_when_somebody_listens() {
    let server = Server::start().await;
    let store = server.store();
    assert!(!store.ingest_status().await.expect("reads").is_listening());
    let topics = ["SubTronics/data".to_owned()];
    let since = store.report("a", &topics).await.expect("reported");
    assert_eq!(store.report("b", &topics).await.expect("reported"), since);
    let status = store.ingest_status().await.expect("reads");
    assert!(status.is_listening());
    assert_eq!(status.topics, topics);
    store.withdraw("a").await.expect("withdrawn");
    store.withdraw("b").await.expect("withdrawn");
    assert!(!store.ingest_status().await.expect("reads").is_listening());
}

#[tokio::test]
async fn tls_is_spoken_where_the_url_says_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let config = RedisConfig {
        redis_url: format!("rediss://127.0.0.1:{port}").parse().expect("a URL"),
        redis_timeout: Duration::from_secs(2),
        redis_watch: Duration::from_secs(1),
        partitions: 8,
    };
    let store = Store::new(config, Arc::new(SystemClock::default()));
    let first_byte = async {
        let (mut stream, _) = listener.accept().await.expect("a client");
        tokio::io::AsyncReadExt::read_u8(&mut stream)
            .await
            .expect("a byte")
    };
    let (answer, byte) = tokio::join!(store.ping(), first_byte);
    assert_eq!(byte, 0x16, "a TLS handshake record");
    assert_eq!(answer.expect_err("the peer hangs up").code(), "redis_away");
}

#[tokio::test]
async fn a_lost_state_without_streams_goes_on_in_a_new_epoch() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    send(&store, &of("OTSM-0114", "300", 0), 1)
        .await
        .expect("committed");
    let before = store.snapshot(&device, None).await.expect("reads").epoch;
    let mut raw = server.raw().await;
    let keys = store.keys(&device);
    for field in ["rev", "seq", "latest"] {
        let _: () = raw
            .hset(keys.device(&device), field, "?")
            .await
            .expect("set");
    }
    let _: () = raw.del(keys.events(&device)).await.expect("deleted");
    let _: () = raw.del(keys.changes(&device)).await.expect("deleted");
    send(&store, &of("OTSM-0114", "300", 5), 2)
        .await
        .expect("replaced");
    let after = store.snapshot(&device, None).await.expect("reads");
    assert_ne!(after.epoch, before);
    assert_eq!(after.state.expect("known").position.epoch, after.epoch);
}

#[tokio::test]
async fn a_stream_that_is_ahead_of_the_state_is_followed() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    send(&store, &of("OTSM-0114", "300", 0), 1)
        .await
        .expect("committed");
    let mut raw = server.raw().await;
    let events = store.keys(&device).events(&device);
    let mut ahead = redis::cmd("XADD");
    ahead.arg(&events).arg("7-0").arg("epoch").arg("x");
    ahead.exec_async(&mut raw).await.expect("added");
    let applied = send(&store, &of("OTSM-0114", "301", 5), 2)
        .await
        .expect("committed");
    assert_eq!(applied.decision.state.position.seq, 8);
}

#[tokio::test]
async fn a_position_from_the_future_covers_no_more_than_what_was_read() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    send(&store, &of("OTSM-0114", "300", 0), 1)
        .await
        .expect("committed");
    let state = store.snapshot(&device, None).await.expect("reads").state;
    let state = state.expect("known");
    let future = Position {
        seq: 999,
        ..state.position
    };
    let id = &state.alarms[0].id;
    let answer = acknowledge(&store, &device, id, "User", Some(future)).await;
    assert_eq!(answer.expect("answered").answer, Acknowledged::Covered);
    let log = store
        .alarm_log(device.partition(8), None, None, None)
        .await
        .expect("reads");
    assert_eq!(
        entry(&log[0]).acknowledgement(),
        Some(("User", state.position.seq))
    );
}

#[tokio::test]
async fn a_partition_of_the_wrong_type_does_not_stop_the_others() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    let other = (0..100)
        .map(|n| format!("OTSM-{n}"))
        .find(|name| {
            let other: DeviceId = name.parse().expect("a serial");
            other.partition(8) != device.partition(8)
        })
        .expect("eight partitions");
    let broken = server.store().keys(&device).partition();
    redis::cmd("DEL")
        .arg(&broken)
        .exec_async(&mut raw)
        .await
        .expect("deleted");
    let _: () = raw.set(&broken, "x").await.expect("set");
    let store = server.store();
    let refused = send(&store, &of("OTSM-0114", "300", 0), 1).await;
    assert_eq!(refused.expect_err("refused").code(), "device_refused");
    send(&store, &of(&other, "300", 0), 1)
        .await
        .expect("committed");
}

#[tokio::test]
async fn dead_letters_find_their_stream_even_where_another_key_stands() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    let _: () = raw.set(crate::keys::DEAD_LETTERS, "x").await.expect("set");
    let letter = DeadLetter {
        reason: "not_json",
        detail: "",
        topic: "t",
        payload: b"{",
        size: 1,
    };
    store
        .dead_letter(&[letter], 10)
        .await
        .expect_err("told once");
    store.dead_letter(&[letter], 10).await.expect("kept");
    assert_eq!(length(&mut raw, crate::keys::DEAD_LETTERS).await, 1);
}

#[tokio::test]
async fn a_replica_that_reports_often_forgets_none_that_reports_seldom() {
    let server = Server::start().await;
    let store = server.store();
    let report = WatchReport {
        websocket: 5,
        ..WatchReport::default()
    };
    let (seldom, often) = (Duration::from_mins(1), Duration::from_millis(1));
    let reported = store.report_watchers("seldom", &report, seldom).await;
    reported.expect("written");
    let before = store.clock().now();
    // Each of them later than the life of its reports.
    while store.clock().now().millis_since(before) < 20 {
        let reported = store.report_watchers("often", &report, often).await;
        reported.expect("written");
    }
    let told = store.watchers().await.expect("read");
    assert_eq!(told["seldom"].websocket, 5);
    assert!(told["seldom"].at <= before);
}

//! Tests the store with a real redis-server.

mod earlier_release;
mod full;
mod history;
mod in_doubt;
mod lost_state;
mod memory_need;
mod newer_release;
mod places;
mod reassert;
mod refusal;
mod retire;
mod runs;
mod shown_devices;
mod stored_events;
mod usual;
mod without_load;

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig};
use test_support::eventually::LATE;
use test_support::server::OwnRedis;

use super::*;
use crate::alarm::ChangeKind;
use crate::alarm_log::AlarmLogEntry;
use crate::apply::{Acknowledged, Applied, ApplyConfig, Cause, Work, acknowledge, apply};
use crate::clock::Time;
use crate::decide::tests::{dec, reading};
use crate::decide::{Decision, Input, Message, decide};
use crate::listening::Listening;
use crate::position::Position;
use crate::reading::{PayloadFacts, Reading};
use crate::settings::{AlarmSettings, SerialPatterns};

const DEVICE: &str = "OTSM-0114";

fn device() -> DeviceId {
    DEVICE.parse().expect("a serial")
}

/// The redis-server of one test.
struct RedisServer {
    redis: OwnRedis,
}

impl RedisServer {
    async fn start() -> Self {
        let redis = OwnRedis::start(&[]).await;
        Self { redis }
    }

    fn store(&self) -> Store {
        self.store_with(None)
    }

    /// A store that may exceed `maxmemory` by so many bytes.
    fn store_with_reserve(&self, memory_reserve: u64) -> Store {
        self.store_with(Some(memory_reserve))
    }

    fn store_with(&self, memory_reserve: Option<u64>) -> Store {
        Self::store_at(&self.redis.url(), memory_reserve)
    }

    fn store_at(url: &str, memory_reserve: Option<u64>) -> Store {
        let config = RedisConfig {
            memory_reserve,
            ..RedisConfig::at(url)
        };
        Store::new(
            config,
            ServiceRole::Ingest,
            Arc::new(SystemClock::default()),
        )
    }

    /// A connection for commands that the store does not have.
    #[expect(
        clippy::disallowed_methods,
        reason = "reads and writes keys without the store"
    )]
    async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.redis.url());
        let client = client.expect("a URL");
        // By default the library waits half a second for an answer, and a busy machine may need more.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LATE))
            .set_response_timeout(Some(LATE));
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .expect("connects")
    }
}

fn apply_config() -> ApplyConfig {
    ApplyConfig {
        settings: AlarmSettings {
            // Several writers send far more than a detector.
            device_rate: 0,
            ..AlarmSettings::default()
        },
        bounds: Bounds {
            history_max: 1_000,
            history_age_ms: 86_400_000,
            log_max: 1_000,
            log_age_ms: 86_400_000,
        },
        admit: SerialPatterns::new("*"),
        places: None,
    }
}

/// A reading of this device, taken at this second of the test.
fn reading_of(device: &str, value: &str, second: i64) -> Reading {
    Reading {
        device: device.parse().expect("a serial"),
        device_time: Some(Time::from_millis(1_800_000_000_000 + second * 1_000)),
        ..reading(Some(value))
    }
}

/// A message with this reading. Its fingerprint is the time of the reading.
fn message_work(reading: &Reading) -> Work<'static> {
    let time = reading.device_time.expect("a time");
    Work {
        device: reading.device.clone(),
        cause: Cause::Message {
            message: Message {
                reading: Arc::new(reading.clone()),
                fingerprint: time.as_millis().unsigned_abs(),
                dup: false,
                retain: false,
                live_raw_message: None,
                facts: PayloadFacts::default(),
            },
            raw: b"{}",
        },
        trace: None,
    }
}

/// Applies one message with this reading, as ingest does.
async fn apply_reading(store: &Store, reading: &Reading) -> Result<Applied, StoreError> {
    let work = [message_work(reading)];
    let mut results = apply(store, &work, &apply_config()).await;
    results.pop().expect("one result")
}

async fn commit_reading(store: &Store, device: &str, value: &str, second: i64) -> Applied {
    let applied = apply_reading(store, &reading_of(device, value, second)).await;
    applied.expect("committed")
}

/// Reads the newest entries of a partition's alarm log, newest first.
async fn newest_entries(store: &Store, partition: u16) -> Vec<(LogId, LoggedEntry)> {
    let piece = store.alarm_log_before(partition, None, PIECE).await;
    piece.expect("an answer").entries
}

/// The same without their places.
async fn log_of(store: &Store, partition: u16) -> Vec<LoggedEntry> {
    let entries = newest_entries(store, partition).await.into_iter();
    entries.map(|(_, logged)| logged).collect()
}

fn readable_entry(logged: &LoggedEntry) -> &AlarmLogEntry {
    logged.entry.as_ref().expect("readable")
}

/// Decides about the message without committing it.
fn decide_message(stored: &StoredDevice, work: &Work<'_>, now: Time) -> Decision {
    let Cause::Message { message, .. } = &work.cause else {
        panic!("{work:?}");
    };
    let settings = &apply_config().settings;
    decide(stored, Input::Message { message, settings }, now, None)
}

async fn stream_length(redis: &mut MultiplexedConnection, stream: &str) -> u64 {
    redis::cmd("XLEN")
        .arg(stream)
        .query_async(redis)
        .await
        .expect("an answer")
}

#[tokio::test]
async fn a_commit_writes_state_streams_log_and_indexes_together() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    commit_reading(&store, DEVICE, "100", 0).await;
    commit_reading(&store, DEVICE, "300", 5).await;

    let snapshot = store.snapshot(&device, Some(1)).await.expect("an answer");
    let state = snapshot.state.expect("a state");
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
    let devices = store.devices().await.expect("an answer");
    assert_eq!(devices.len(), 1);
    let log = log_of(&store, device.partition(8)).await;
    assert_eq!(log.len(), 1);
    assert_eq!(readable_entry(&log[0]).change, Some(ChangeKind::Raised));
    let samples = store
        .history(&device, None, None, 10)
        .await
        .expect("an answer");
    assert_eq!(samples.len(), 2);
    assert_eq!(
        store
            .raw_payload(&device)
            .await
            .expect("an answer")
            .as_deref(),
        Some(&b"{}"[..])
    );
    // The same by id, and one that is not there.
    let (id, _) = newest_entries(&store, device.partition(8)).await[0];
    let absent = LogId {
        number: id.number + 1,
        ..id
    };
    let ids = [absent, id].map(|id| (device.partition(8), id));
    let found = store.alarm_log_entries(&ids).await.expect("an answer");
    let found: Vec<_> = found
        .iter()
        .map(|found| found.as_ref().map(|entry| &entry.id))
        .collect();
    assert_eq!(found, [None, Some(&log[0].id)]);
    let before = store.alarm_log_before(device.partition(8), Some(id), 9);
    assert!(
        before.await.expect("an answer").entries.is_empty(),
        "nothing is older than the oldest"
    );
}

/// Waits for the next message. Returns its channel and its bytes.
async fn next_message(connection: &mut PushConnection) -> (String, Vec<u8>) {
    let message = async {
        loop {
            match connection.next_value().expect("RESP3") {
                Some(crate::resp::Value::Message { channel, payload }) => {
                    let channel = String::from_utf8_lossy(channel).into_owned();
                    return (channel, payload.to_vec());
                }
                Some(_) => {}
                None => connection.receive().await.expect("an open connection"),
            }
        }
    };
    let message = tokio::time::timeout(LATE, message).await;
    message.expect("a message in time")
}

#[tokio::test]
async fn the_published_bytes_equal_the_bytes_in_the_events_stream() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    let channel = store.channel(&device);
    let mut connection = store.push_connection(&channel).await.expect("subscribes");
    commit_reading(&store, DEVICE, "300", 0).await;
    let message = next_message(&mut connection).await;
    let snapshot = store.snapshot(&device, Some(1)).await.expect("an answer");
    assert_eq!(message, (channel, snapshot.events[0].bytes.clone()));
}

#[tokio::test]
async fn four_concurrent_writers_of_one_device_lose_no_reading() {
    let server = RedisServer::start().await;
    let device = device();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u64 {
        let store = server.store();
        writers.spawn(async move {
            let mut conflicts = 0;
            for step in 0..100_u64 {
                let second = i64::try_from(step * 4 + writer).expect("it fits");
                conflicts += commit_reading(&store, DEVICE, "100", second)
                    .await
                    .conflicts;
            }
            conflicts
        });
    }
    let conflicts: u32 = writers.join_all().await.into_iter().sum();
    assert!(conflicts > 0, "the writers never conflicted");
    let store = server.store();
    let samples = store
        .history(&device, None, None, 1_000)
        .await
        .expect("an answer");
    assert_eq!(samples.len(), 400, "every reading is in the history once");
    let snapshot = store.snapshot(&device, Some(0)).await.expect("an answer");
    let seqs: Vec<_> = snapshot
        .events
        .iter()
        .map(|event| event.position.seq)
        .collect();
    let last = *seqs.last().expect("events");
    assert!(seqs.len() >= 64, "{seqs:?}");
    assert_eq!(
        seqs,
        (seqs[0]..=last).collect::<Vec<_>>(),
        "no seq is missing"
    );
}

#[tokio::test]
async fn an_acknowledgement_never_covers_an_escalation_that_happens_at_the_same_time() {
    let server = RedisServer::start().await;
    let store = server.store();
    let other = server.store();
    other.ping().await.expect("connected");
    let (mut escalated, mut covered) = (0, 0);
    // How long the reading waits; if negative, how long the acknowledgement waits. It is adjusted after each round, so that
    // both usually reach Redis within one round trip.
    let mut reading_delay_us = 0_i64;
    let wait =
        |micros: i64| tokio::time::sleep(Duration::from_micros(micros.max(0).unsigned_abs()));
    for round in 0..300 {
        // A device of its own, so that the alarm does not chatter.
        let serial = format!("OTSM-{round}");
        let device: DeviceId = serial.parse().expect("a serial");
        commit_reading(&store, &serial, "300", 0).await;
        let state = store
            .snapshot(&device, None)
            .await
            .expect("an answer")
            .state
            .expect("a state");
        let id = state.alarms[0].id.clone();
        let reading = reading_of(&serial, "600", 5);
        let (answer, applied) = tokio::join!(
            async {
                wait(-reading_delay_us).await;
                acknowledge(&other, &device, &id, "User", Some(state.position)).await
            },
            async {
                wait(reading_delay_us).await;
                apply_reading(&store, &reading).await
            },
        );
        applied.expect("committed");
        let state = store
            .snapshot(&device, None)
            .await
            .expect("an answer")
            .state
            .expect("a state");
        let alarm = &state.alarms[0];
        match answer.expect("an answer").answer {
            Acknowledged::Escalated => {
                escalated += 1;
                reading_delay_us += 150;
            }
            Acknowledged::Covered => {
                covered += 1;
                reading_delay_us -= 150;
            }
            Acknowledged::NotFound => panic!("the alarm is open"),
        }
        assert!(
            alarm.acknowledged.is_none(),
            "the acknowledgement covered a level reached later"
        );
    }
    assert!(
        escalated > 0 && covered > 0,
        "acknowledged {escalated} times after and {covered} times before the escalation"
    );
    let mut acknowledged = 0;
    for partition in 0..8 {
        let log = log_of(&store, partition).await;
        acknowledged += log
            .iter()
            .filter(|logged| readable_entry(logged).acknowledgement().is_some())
            .count();
    }
    assert!(
        acknowledged > 100,
        "acknowledgements are missing in the log: {acknowledged}"
    );
}

#[tokio::test]
async fn a_device_with_a_key_of_the_wrong_type_is_refused_and_other_devices_are_committed() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let keys = |device: &str| {
        let device: DeviceId = device.parse().expect("a serial");
        (store.keys(&device), device)
    };
    let (hash, one) = keys("OTSM-1");
    let (events, two) = keys("OTSM-2");
    let (history, three) = keys("OTSM-3");
    let _: () = redis.set(hash.device(&one), "x").await.expect("set");
    let _: () = redis.set(events.events(&two), "x").await.expect("set");
    let _: () = redis.set(history.history(&three), "x").await.expect("set");
    let readings: Vec<_> = (1..=4)
        .map(|n| reading_of(&format!("OTSM-{n}"), "300", 0))
        .collect();
    let work: Vec<_> = readings.iter().map(message_work).collect();
    let results = apply(&store, &work, &apply_config()).await;
    let outcomes: Vec<_> = results
        .iter()
        .map(|r| r.as_ref().map(|_| ()).map_err(StoreError::code))
        .collect();
    let refused = Err("device_refused");
    assert_eq!(outcomes, [refused, refused, refused, Ok(())]);
    let is_written: bool = redis.exists(events.device(&two)).await.expect("an answer");
    assert!(!is_written, "a refused commit wrote something");
}

#[tokio::test]
async fn a_commit_keeps_fields_that_a_newer_release_added() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    commit_reading(&store, DEVICE, "300", 0).await;
    let mut redis = server.connect().await;
    let key = store.keys(&device).device(&device);
    let _: () = redis.hset(&key, "added_later", "7").await.expect("set");
    commit_reading(&store, DEVICE, "301", 5).await;
    let kept: String = redis.hget(&key, "added_later").await.expect("an answer");
    assert_eq!(kept, "7");
}

#[tokio::test]
async fn scripts_that_the_server_has_lost_are_loaded_again() {
    let server = RedisServer::start().await;
    let store = server.store();
    commit_reading(&store, DEVICE, "300", 0).await;
    let mut redis = server.connect().await;
    redis::cmd("SCRIPT")
        .arg("FLUSH")
        .exec_async(&mut redis)
        .await
        .expect("flushed");
    let applied = commit_reading(&store, DEVICE, "301", 5).await;
    assert_eq!(applied.decision.state.position.seq, 2);
}

#[tokio::test]
async fn after_all_data_was_deleted_new_epochs_are_opened() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    commit_reading(&store, DEVICE, "300", 0).await;
    let before = store
        .snapshot(&device, None)
        .await
        .expect("an answer")
        .epoch;
    let mut redis = server.connect().await;
    redis::cmd("FLUSHALL")
        .exec_async(&mut redis)
        .await
        .expect("flushed");
    let reading = reading_of(DEVICE, "301", 5);
    let first = apply_reading(&store, &reading).await;
    assert!(
        matches!(first, Err(StoreError::Unavailable(_))),
        "committed without an epoch"
    );
    apply_reading(&store, &reading)
        .await
        .expect("a new epoch was opened");
    let after = store
        .snapshot(&device, None)
        .await
        .expect("an answer")
        .epoch;
    assert_ne!(before, after);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let server = RedisServer::start().await;
    server.store().ping().await.expect("recorded");
    let config = RedisConfig {
        partitions: 16,
        ..server.store().connector.config().clone()
    };
    let other = Store::new(
        config,
        ServiceRole::Ingest,
        Arc::new(SystemClock::default()),
    );
    let refused = other.ping().await.expect_err("refused");
    assert_eq!(refused.code(), "redis_unusable");
    assert_eq!(
        refused.to_string(),
        "redis cannot be used: its data has 8 partitions, --partitions is 16"
    );
}

fn report_of(topics: &[String]) -> Report<'_> {
    Report {
        topics,
        ..Report::default()
    }
}

#[tokio::test]
async fn the_replica_that_accepts_least_says_what_is_accepted() {
    let server = RedisServer::start().await;
    let store = server.store();
    let left = async || store.ingest_status().await.expect("read").places;
    assert_eq!(left().await, PlacesLeft::ForAll);
    for (replica, places, expected) in [
        ("a", PlacesLeft::ForDanger, PlacesLeft::ForDanger),
        ("b", PlacesLeft::ForAll, PlacesLeft::ForDanger),
        ("b", PlacesLeft::Uncounted, PlacesLeft::Uncounted),
        ("b", PlacesLeft::NoneLeft, PlacesLeft::NoneLeft),
    ] {
        let report = Report {
            places,
            ..Report::default()
        };
        store.report(replica, report).await.expect("reported");
        assert_eq!(left().await, expected, "{replica} {places:?}");
    }
    store.withdraw("b").await.expect("withdrawn");
    assert_eq!(left().await, PlacesLeft::ForDanger);
}

#[tokio::test]
async fn ingest_reports_share_the_time_since_when_any_ingest_has_been_listening() {
    let server = RedisServer::start().await;
    let store = server.store();
    let status = async || store.ingest_status().await.expect("an answer");
    assert!(!status().await.is_listening());
    let topics = ["SubTronics/data".to_owned()];
    let since = store
        .report("a", report_of(&topics))
        .await
        .expect("reported");
    assert_eq!(
        store
            .report("b", report_of(&topics))
            .await
            .expect("reported"),
        since
    );
    let present = status().await;
    assert!(present.is_listening());
    assert_eq!(present.topics, topics);
    store.withdraw("a").await.expect("withdrawn");
    store.withdraw("b").await.expect("withdrawn");
    assert!(!status().await.is_listening());
}

#[tokio::test]
async fn the_time_in_which_any_ingest_has_been_listening_is_counted_without_its_interruptions() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let report = async |replica| {
        let reported = store.report(replica, Report::default()).await;
        reported.expect("reported")
    };
    let first = report("a").await;
    assert_eq!(first.before, Duration::ZERO);
    // The last replica stops, which withdraws its report, after an hour.
    let hour_ms = 3_600_000;
    let since_ms = first.since.as_millis() - 10 * hour_ms;
    let key = crate::keys::INGEST_LISTENING;
    let fields = [("since", since_ms), ("until", since_ms + hour_ms)];
    let _: () = redis.hset_multiple(key, &fields).await.expect("written");
    store.withdraw("a").await.expect("withdrawn");
    let second = report("b").await;
    assert_eq!(second.before, Duration::from_hours(1));
    assert!(second.since >= first.since);
    assert_eq!(report("a").await, second, "no interruption");
    // A replica of an earlier release has begun after the last report of this one.
    let fields = [("since", since_ms + hour_ms), ("until", since_ms)];
    let _: () = redis.hset_multiple(key, &fields).await.expect("written");
    store.withdraw("a").await.expect("withdrawn");
    store.withdraw("b").await.expect("withdrawn");
    assert_eq!(report("b").await.before, Duration::from_hours(1));
}

#[tokio::test]
async fn ingest_is_quiet_when_every_replica_that_reports_is() {
    let server = RedisServer::start().await;
    let store = server.store();
    let topics = ["t".to_owned()];
    let is_quiet = async || store.ingest_status().await.expect("read").is_quiet;
    assert!(!is_quiet().await);
    for (replica, reports_quiet, expected) in [
        ("a", true, true),
        ("b", false, false),
        ("b", true, true),
        ("a", false, false),
    ] {
        let report = Report {
            is_quiet: reports_quiet,
            ..report_of(&topics)
        };
        store.report(replica, report).await.expect("reported");
        assert_eq!(is_quiet().await, expected, "{replica} {reports_quiet}");
    }
    store.withdraw("a").await.expect("withdrawn");
    assert!(is_quiet().await);
    store.withdraw("b").await.expect("withdrawn");
    assert!(!is_quiet().await);
}

#[tokio::test]
async fn a_rediss_url_starts_a_tls_handshake() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let config = RedisConfig::at(&format!("rediss://127.0.0.1:{port}"));
    let store = Store::new(
        config,
        ServiceRole::Ingest,
        Arc::new(SystemClock::default()),
    );
    let first_byte = async {
        let (mut stream, _) = listener.accept().await.expect("a client");
        tokio::io::AsyncReadExt::read_u8(&mut stream)
            .await
            .expect("a byte")
    };
    let (answer, byte) = tokio::join!(store.ping(), first_byte);
    assert_eq!(byte, 0x16, "a TLS handshake record");
    assert_eq!(
        answer.expect_err("the peer closes the connection").code(),
        "redis_away"
    );
}

#[tokio::test]
async fn a_lost_state_without_streams_is_replaced_in_a_new_epoch() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    commit_reading(&store, DEVICE, "300", 0).await;
    let before = store
        .snapshot(&device, None)
        .await
        .expect("an answer")
        .epoch;
    let mut redis = server.connect().await;
    let keys = store.keys(&device);
    for field in ["rev", "seq", "latest"] {
        let _: () = redis
            .hset(keys.device(&device), field, "?")
            .await
            .expect("set");
    }
    let _: () = redis.del(keys.events(&device)).await.expect("deleted");
    let _: () = redis.del(keys.changes(&device)).await.expect("deleted");
    commit_reading(&store, DEVICE, "300", 5).await;
    let after = store.snapshot(&device, None).await.expect("an answer");
    assert_ne!(after.epoch, before);
    assert_eq!(after.state.expect("a state").position.epoch, after.epoch);
}

#[tokio::test]
async fn if_a_stream_is_ahead_of_the_state_the_next_seq_is_above_the_stream() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    commit_reading(&store, DEVICE, "300", 0).await;
    let mut redis = server.connect().await;
    let events = store.keys(&device).events(&device);
    let mut ahead = redis::cmd("XADD");
    ahead.arg(&events).arg("7-0").arg("epoch").arg("x");
    ahead.exec_async(&mut redis).await.expect("added");
    let applied = commit_reading(&store, DEVICE, "301", 5).await;
    assert_eq!(applied.decision.state.position.seq, 8);
}

#[tokio::test]
async fn an_acknowledgement_with_a_future_position_covers_only_the_stored_position() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    commit_reading(&store, DEVICE, "300", 0).await;
    let state = store
        .snapshot(&device, None)
        .await
        .expect("an answer")
        .state;
    let state = state.expect("a state");
    let future = Position {
        seq: 999,
        ..state.position
    };
    let id = &state.alarms[0].id;
    let answer = acknowledge(&store, &device, id, "User", Some(future)).await;
    assert_eq!(answer.expect("an answer").answer, Acknowledged::Covered);
    let log = log_of(&store, device.partition(8)).await;
    assert_eq!(
        readable_entry(&log[0]).acknowledgement(),
        Some(("User", state.position.seq))
    );
}

#[tokio::test]
async fn a_partition_key_of_the_wrong_type_does_not_stop_other_partitions() {
    let server = RedisServer::start().await;
    let mut redis = server.connect().await;
    let device = device();
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
        .exec_async(&mut redis)
        .await
        .expect("deleted");
    let _: () = redis.set(&broken, "x").await.expect("set");
    let store = server.store();
    let refused = apply_reading(&store, &reading_of(DEVICE, "300", 0)).await;
    assert_eq!(refused.expect_err("refused").code(), "device_refused");
    commit_reading(&store, &other, "300", 0).await;
}

#[tokio::test]
async fn a_key_of_the_wrong_type_is_renamed_and_the_next_dead_letter_is_kept() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let _: () = redis
        .set(crate::keys::DEAD_LETTERS, "x")
        .await
        .expect("set");
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
        .expect_err("the key is not a stream");
    store.dead_letter(&[letter], 10).await.expect("kept");
    assert_eq!(
        stream_length(&mut redis, crate::keys::DEAD_LETTERS).await,
        1
    );
}

#[tokio::test]
async fn a_replica_that_reports_often_does_not_expire_one_that_reports_seldom() {
    let server = RedisServer::start().await;
    let store = server.store();
    let report = WatchReport {
        websocket: 5,
        ..WatchReport::default()
    };
    let (seldom, often) = (Duration::from_mins(1), Duration::from_millis(1));
    let reported = store.report_watchers("seldom", &report, seldom).await;
    reported.expect("written");
    let before = store.clock().now();
    // `often` reports until long after its first report has expired.
    while store.clock().now().millis_since(before) < 20 {
        let reported = store.report_watchers("often", &report, often).await;
        reported.expect("written");
    }
    let reports = store.watchers().await.expect("an answer");
    assert_eq!(reports["seldom"].websocket, 5);
    assert!(reports["seldom"].at <= before);
}

//! Tests the store with a real redis-server.

mod commit;
mod earlier_release;
mod full;
mod history;
mod in_doubt;
mod ingest_reports;
mod lost_state;
mod memory_need;
mod newer_release;
mod places;
mod reassert;
mod refusal;
mod retire;
mod rollups;
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
use crate::apply::{
    Acknowledged, Acknowledging, Applied, ApplyConfig, Cause, Work, acknowledge, apply,
};
use crate::clock::Time;
use crate::decide::tests::{dec, reading};
use crate::decide::{Decision, Input, Message, decide};
use crate::listening::Listening;
use crate::position::Position;
use crate::reading::{PayloadFacts, Reading};
use crate::settings::{AlarmSettings, SerialPatterns};

const DEVICE: &str = "OTSM-0114";

/// A request of this person, without a note.
fn acknowledging<'a>(alarm_id: &'a str, by: &'a str, seen: Option<Position>) -> Acknowledging<'a> {
    Acknowledging {
        alarm_id,
        by,
        note: None,
        seen,
    }
}

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

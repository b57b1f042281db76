//! Committed alarm changes that were not reported, because a commit got no answer or a job failed, are reported later, once.

use redis::FromRedisValue as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::alarm::ChangeKind;

/// The memory that Redis may still allocate. Without any it refuses writes and still answers reads.
enum FreeMemory {
    Unlimited,
    None,
    Bytes(u64),
}

async fn limit_memory(redis: &mut MultiplexedConnection, free: FreeMemory) {
    let limit = match free {
        FreeMemory::Unlimited => 0,
        FreeMemory::None => 1,
        FreeMemory::Bytes(bytes) => {
            let info: String = redis::cmd("INFO")
                .arg("memory")
                .query_async(redis)
                .await
                .expect("an answer");
            let used = info
                .lines()
                .find_map(|line| line.strip_prefix("used_memory:"));
            let used: u64 = used
                .expect("INFO contains it")
                .trim()
                .parse()
                .expect("a number");
            used + bytes
        }
    };
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg(limit)
        .exec_async(redis)
        .await
        .expect("set");
}

fn change_kinds(result: &Result<Applied, StoreError>) -> Vec<ChangeKind> {
    let changes = &result.as_ref().expect("committed").decision.changes;
    changes.iter().map(|change| change.kind).collect()
}

#[tokio::test]
async fn of_a_batch_committed_in_part_each_change_is_reported_once() {
    let server = RedisServer::start().await;
    let store = server.store_with_reserve(0);
    let mut redis = server.connect().await;
    store.ping().await.expect("connects");
    // Not all of them fit into 1 MiB: each needs some kilobytes, mostly for its streams.
    let readings: Vec<_> = (0..400)
        .map(|number| reading_of(&format!("OTSM-{number}"), "300", 0))
        .collect();
    let batch: Vec<_> = readings.iter().map(message_work).collect();
    limit_memory(&mut redis, FreeMemory::Bytes(1 << 20)).await;
    let results = apply(&store, &batch, &apply_config()).await;
    let mut failed = Vec::new();
    for (work, result) in batch.into_iter().zip(&results) {
        match result {
            Ok(_) => assert_eq!(change_kinds(result), [ChangeKind::Raised]),
            Err(err) => {
                assert!(err.is_transient(), "{err:?}");
                failed.push(work);
            }
        }
    }
    assert!(!failed.is_empty() && failed.len() < results.len());

    limit_memory(&mut redis, FreeMemory::Unlimited).await;
    for result in apply(&store, &failed, &apply_config()).await {
        assert_eq!(change_kinds(&result), [ChangeKind::Raised]);
    }
}

/// Commits a raise through another store, and leaves it in doubt in this one, as if the answer had been lost.
pub(super) async fn raise_in_doubt(server: &RedisServer, store: &Store, reading: &Reading) {
    let device = device();
    let loaded = store.load(&[device]).await.expect("an answer").pop();
    let Some(Loaded::Device(stored)) = loaded else {
        panic!("{loaded:?}");
    };
    let decision = decide_message(&stored, &message_work(reading), store.clock().now());
    assert_eq!(decision.changes.len(), 1);
    let commit = Commit {
        stored: &stored,
        decisions: std::slice::from_ref(&decision),
        raw: None,
        bounds: Some(apply_config().bounds),
    };
    let commits = [commit];
    drop(store.in_doubt.pending(&commits, &store.committed_states));
    let answers = server.store().commit(&commits).await.expect("an answer");
    assert!(matches!(answers[0], Ok(Committed::Done(_))), "{answers:?}");
}

#[tokio::test]
async fn a_change_in_doubt_is_reported_after_further_commits_failed() {
    let server = RedisServer::start().await;
    let store = server.store_with_reserve(0);
    let mut redis = server.connect().await;
    let reading = reading_of(DEVICE, "300", 0);
    raise_in_doubt(&server, &store, &reading).await;
    // The next message of the device can load the state and cannot commit.
    let next = [message_work(&reading_of(DEVICE, "301", 5))];
    limit_memory(&mut redis, FreeMemory::None).await;
    for _ in 0..2 {
        let failed = apply(&store, &next, &apply_config()).await;
        assert!(failed[0].as_ref().is_err_and(StoreError::is_transient));
    }
    limit_memory(&mut redis, FreeMemory::Unlimited).await;
    let results = apply(&store, &next, &apply_config()).await;
    assert_eq!(change_kinds(&results[0]), [ChangeKind::Raised]);
    let results = apply(
        &store,
        &[message_work(&reading_of(DEVICE, "302", 10))],
        &apply_config(),
    )
    .await;
    assert_eq!(change_kinds(&results[0]), [], "reported again");
}

#[tokio::test]
async fn a_change_in_doubt_is_reported_after_an_acknowledgement_failed() {
    let server = RedisServer::start().await;
    let store = server.store_with_reserve(0);
    let mut redis = server.connect().await;
    raise_in_doubt(&server, &store, &reading_of(DEVICE, "300", 0)).await;
    let device = device();
    let snapshot = store.snapshot(&device, None).await.expect("an answer");
    let id = snapshot.state.expect("a state").alarms[0].id.clone();
    limit_memory(&mut redis, FreeMemory::None).await;
    let failed = acknowledge(&store, &device, acknowledging(&id, "Asha", None)).await;
    assert!(failed.expect_err("no memory left").is_transient());
    limit_memory(&mut redis, FreeMemory::Unlimited).await;
    let answered = acknowledge(&store, &device, acknowledging(&id, "Asha", None)).await;
    let changes = answered.expect("an answer").changes;
    let kinds: Vec<ChangeKind> = changes.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Raised, ChangeKind::Acknowledged]);
}

#[tokio::test]
async fn a_change_in_doubt_is_reported_after_an_acknowledgement_was_cancelled() {
    let server = RedisServer::start().await;
    let store = server.store_with_reserve(0);
    raise_in_doubt(&server, &store, &reading_of(DEVICE, "300", 0)).await;
    let device = device();
    let mut redis = server.connect().await;
    // Redis answers reads and delays writes.
    redis::cmd("CLIENT")
        .arg("PAUSE")
        .arg(600_000)
        .arg("WRITE")
        .exec_async(&mut redis)
        .await
        .expect("paused");
    let snapshot = store.snapshot(&device, None).await.expect("an answer");
    let id = snapshot.state.expect("a state").alarms[0].id.clone();
    let asked = acknowledge(&store, &device, acknowledging(&id, "Asha", None));
    let answer = tokio::time::timeout(Duration::from_millis(500), asked).await;
    assert!(answer.is_err(), "{answer:?}");
    redis::cmd("CLIENT")
        .arg("UNPAUSE")
        .exec_async(&mut redis)
        .await
        .expect("no longer paused");
    let again = acknowledge(&store, &device, acknowledging(&id, "Asha", None)).await;
    let changes = again.expect("an answer").changes;
    assert!(
        changes
            .iter()
            .any(|change| change.kind == ChangeKind::Raised)
    );
}

/// Forwards connections to a server, until one of them sends this text. That one is cut, without the text, and no other is accepted.
#[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
async fn cut_at(server: String, text: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await?;
            let mut server = TcpStream::connect(&server).await?;
            let (mut from_server, mut to_server) = server.split();
            let (mut from_client, mut to_client) = client.split();
            let requests = async {
                let mut sent = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    let count = from_client.read(&mut buffer).await?;
                    sent.extend_from_slice(&buffer[..count]);
                    if sent.windows(text.len()).any(|part| part == text.as_bytes()) {
                        return Ok::<bool, std::io::Error>(true);
                    }
                    if count == 0 {
                        return Ok(false);
                    }
                    to_server.write_all(&buffer[..count]).await?;
                }
            };
            let is_cut = tokio::select! {
                is_cut = requests => is_cut?,
                _ = tokio::io::copy(&mut from_server, &mut to_client) => false,
            };
            if is_cut {
                return Ok::<(), std::io::Error>(());
            }
        }
    });
    address
}

#[tokio::test]
async fn an_error_of_the_second_try_on_a_full_redis_concerns_the_refused_commits_alone() {
    let server = RedisServer::start().await;
    let direct = server.store();
    let other: DeviceId = "OTHER".parse().expect("a serial");
    commit_reading(&direct, "OTHER", "300", 0).await;
    let mut redis = server.connect().await;
    let digest = direct.run(|scripts, pipe| {
        pipe.cmd("ECHO").arg(&scripts.commit_when_full);
    });
    let digest = String::from_redis_value(digest.await.expect("an answer")).expect("a text");
    let address = cut_at(server.redis.address(), digest).await;
    let store = RedisServer::store_at(&format!("redis://{address}"), None);
    let devices = [other.clone(), device()];
    let loaded = store.load(&devices).await.expect("an answer");
    let loaded: Vec<Box<StoredDevice>> = loaded
        .into_iter()
        .map(|loaded| loaded.device().expect("a device"))
        .collect();
    let now = store.clock().now();
    // A retirement is not refused. The reading is, and is sent again.
    let decisions = [
        decide(&loaded[0], Input::Retirement { by: "Ann" }, now, None),
        decide_message(
            &loaded[1],
            &message_work(&reading_of(DEVICE, "300", 0)),
            now,
        ),
    ];
    let commits: Vec<Commit<'_>> = loaded
        .iter()
        .zip(&decisions)
        .map(|(stored, decision)| Commit {
            stored,
            decisions: std::slice::from_ref(decision),
            raw: None,
            bounds: Some(apply_config().bounds),
        })
        .collect();
    limit_memory(&mut redis, FreeMemory::None).await;
    let answers = store.commit(&commits).await.expect("an answer for each");
    assert!(matches!(answers[0], Ok(Committed::Done(_))), "{answers:?}");
    let lost = answers[1].as_ref().expect_err("no answer");
    assert!(lost.is_in_doubt(), "{lost:?}");

    let unreported = |index: usize| {
        let after = loaded[index].after(&decisions[index]);
        store.take_unreported(&after).len()
    };
    assert_eq!(unreported(0), 0, "it was answered");
    assert_eq!(unreported(1), 1, "it may have been carried out");
}

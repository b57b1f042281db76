//! Retiring a device, and a new device with the same serial.

use serde_json::Value as Json;

use super::*;
use crate::apply::{Retired, retire};
use crate::decide::decide;

/// The device as it is stored.
pub(super) async fn load_device(store: &Store) -> StoredDevice {
    let mut loaded = store.load(&[device()]).await.expect("an answer");
    match loaded.pop() {
        Some(Loaded::Device(stored)) => *stored,
        other => panic!("{other:?}"),
    }
}

async fn hash_field(redis: &mut MultiplexedConnection, key: String, name: &str) -> Option<String> {
    redis.hget(key, name).await.expect("an answer")
}

/// The device's entries in the alarm log as they are stored, oldest first.
async fn log_entries(redis: &mut MultiplexedConnection, store: &Store) -> Vec<Json> {
    type Entries = Vec<(String, std::collections::HashMap<String, String>)>;
    let entries: Entries = redis::cmd("XRANGE")
        .arg(store.keys(&device()).log())
        .arg("-")
        .arg("+")
        .query_async(redis)
        .await
        .expect("an answer");
    let entry = |fields: &std::collections::HashMap<String, String>| {
        serde_json::from_str(&fields["line"]).expect("JSON")
    };
    let of_device = entries
        .iter()
        .filter(|(_, fields)| fields["device"] == DEVICE);
    of_device.map(|(_, fields)| entry(fields)).collect()
}

/// Every key and index in Redis that contains the device, except the alarm log.
async fn stored_keys(redis: &mut MultiplexedConnection, store: &Store) -> Vec<String> {
    let keys = store.keys(&device());
    let mut found: Vec<String> = redis.keys(format!("*{DEVICE}")).await.expect("an answer");
    for index in [keys.seen(), keys.deadlines(), keys.listings()] {
        let listed: Option<f64> = redis.zscore(&index, DEVICE).await.expect("an answer");
        found.extend(listed.map(|_| index));
    }
    found
}

/// A serial in the same partition.
fn neighbour() -> String {
    (0..1_000)
        .map(|number| format!("NEAR-{number}"))
        .find(|name| {
            let other: DeviceId = name.parse().expect("a serial");
            other.partition(8) == device().partition(8)
        })
        .expect("eight partitions")
}

/// The device's events as they are published.
struct Events(PushConnection);

impl Events {
    async fn subscribe(store: &Store) -> Self {
        let connection = store.push_connection(&store.channel(&device())).await;
        Self(connection.expect("subscribes"))
    }

    async fn recv(&mut self) -> Json {
        let (_, bytes) = next_message(&mut self.0).await;
        serde_json::from_slice(&bytes).expect("JSON")
    }
}

#[tokio::test]
async fn retiring_deletes_everything_but_the_alarm_log_and_the_highest_seq() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let mut events = Events::subscribe(&store).await;
    let near = neighbour();
    for (second, value) in [(0_i64, "100"), (5, "300")] {
        for name in [DEVICE, &near] {
            commit_reading(&store, name, value, second).await;
        }
    }
    let near: DeviceId = near.parse().expect("a serial");
    let near_before = store.snapshot(&near, Some(1)).await.expect("an answer");
    let first_id = load_device(&store).await.state.alarms[0].id.clone();
    assert_eq!(
        stored_keys(&mut redis, &store).await.len(),
        7,
        "not every key was found"
    );

    let retired = retire(&store, &device(), "Asha").await;
    assert_eq!(retired.expect("an answer").answer, Retired::Done);
    assert_eq!(stored_keys(&mut redis, &store).await, [""; 0]);
    let partition = store.keys(&device()).partition();
    assert_eq!(
        hash_field(&mut redis, partition, "retired")
            .await
            .as_deref(),
        Some("3")
    );
    let snapshot = store.snapshot(&device(), Some(0)).await.expect("an answer");
    assert!(snapshot.state.is_none() && snapshot.events.is_empty());
    assert_eq!(snapshot.born_after, 3);
    let listed = store.devices().await.expect("an answer");
    assert_eq!(listed.len(), 1);
    let seqs: Vec<Json> = [
        events.recv().await,
        events.recv().await,
        events.recv().await,
    ]
    .map(|event| event["seq"].clone())
    .to_vec();
    assert_eq!(seqs, [1, 2, 3], "the last event is the retirement");

    let near_after = store.snapshot(&near, Some(1)).await.expect("an answer");
    assert_eq!(near_after.state, near_before.state);
    assert_eq!(near_after.events.len(), near_before.events.len());
    let again = retire(&store, &device(), "Asha").await;
    assert_eq!(again.expect("an answer").answer, Retired::NotFound);

    // The next message creates a new device without the alarms and the history of the first.
    let born = commit_reading(&store, DEVICE, "300", 10).await;
    let born = born.decision.state;
    assert_eq!(born.position.seq, 4);
    assert_ne!(born.alarms[0].id, first_id);
    assert_eq!(born.memory.born_after, 3);
    let samples = store.history(&device(), None, None, 10).await;
    assert_eq!(samples.expect("an answer").len(), 1);
    // The neighbour continues its own numbering.
    let next = commit_reading(&store, near.as_str(), "300", 10).await;
    assert_eq!(next.decision.state.position.seq, 3);
}

#[tokio::test]
async fn the_log_names_who_retired_the_device_when_and_which_alarms_were_closed() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    commit_reading(&store, DEVICE, "300", 0).await;
    let before = store.clock().now();
    retire(&store, &device(), "Asha").await.expect("an answer");
    // Without an open alarm there is one entry, for the device.
    commit_reading(&store, DEVICE, "10", 5).await;
    retire(&store, &device(), "Ravi").await.expect("an answer");
    let entries = log_entries(&mut redis, &store).await;
    let logged: Vec<_> = entries
        .iter()
        .map(|entry| {
            let condition = &entry["alarm"]["condition"];
            (&entry["change"], &entry["by"], condition)
        })
        .collect();
    let text = |text: &str| Json::from(text);
    assert_eq!(
        logged,
        [
            (&text("raised"), &Json::Null, &text("alarm_level_1")),
            (&text("retired"), &text("Asha"), &Json::Null),
            (&text("retired"), &text("Asha"), &text("alarm_level_1")),
            (&text("retired"), &text("Ravi"), &Json::Null),
        ]
    );
    assert!(entries[2]["alarm"]["cleared_at"].is_i64(), "{}", entries[2]);
    let at = entries[1]["at"].as_i64().expect("a time");
    assert!(at >= before.as_millis(), "{at} {before:?}");
}

#[tokio::test]
async fn a_reading_committed_in_between_is_a_conflict() {
    let server = RedisServer::start().await;
    let store = server.store();
    commit_reading(&store, DEVICE, "300", 0).await;
    let old = load_device(&store).await;
    let input = Input::Retirement { by: "Asha" };
    let retirement = decide(&old, input, store.clock().now(), None);
    commit_reading(&store, DEVICE, "600", 5).await;
    let commit = Commit {
        stored: &old,
        decisions: std::slice::from_ref(&retirement),
        raw: None,
        bounds: None,
    };
    let mut answers = store.commit(&[commit]).await.expect("an answer");
    let answer = answers.pop().expect("one answer").expect("not refused");
    let Committed::Conflict(Loaded::Device(newer)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(
        newer.state.position.seq, 2,
        "the answer is the present state"
    );
    assert_eq!(
        load_device(&store).await.state,
        newer.state,
        "nothing was written"
    );
}

#[tokio::test]
async fn a_decision_from_before_a_retirement_is_never_committed_after_it() {
    let server = RedisServer::start().await;
    let store = server.store();
    let now = || store.clock().now();
    let commit = async |stored: &StoredDevice, decision: &Decision| {
        let commit = Commit {
            stored,
            decisions: std::slice::from_ref(decision),
            raw: None,
            bounds: Some(apply_config().bounds),
        };
        let mut answers = store.commit(&[commit]).await.expect("an answer");
        answers.pop().expect("one answer").expect("not refused")
    };
    // The first reading of the device is decided and not committed yet.
    let unknown = load_device(&store).await;
    let first = message_work(&reading_of(DEVICE, "300", 0));
    let first_decision = decide_message(&unknown, &first, now());

    commit_reading(&store, DEVICE, "300", 5).await;
    // A late reading adds a sample and no event: only `rev` moves.
    let old = load_device(&store).await;
    let late = message_work(&reading_of(DEVICE, "10", 2));
    let late = decide_message(&old, &late, now());
    assert!(late.event.is_none() && !late.outcome.is_unchanged());
    retire(&store, &device(), "Asha").await.expect("an answer");

    let answer = commit(&unknown, &first_decision).await;
    assert!(matches!(answer, Committed::Conflict(_)), "{answer:?}");
    assert!(load_device(&store).await.state.latest.is_none());

    commit_reading(&store, DEVICE, "300", 10).await;
    let new = load_device(&store).await;
    assert_eq!(
        new.state.rev, old.state.rev,
        "the test needs the same rev again"
    );
    let answer = commit(&old, &late).await;
    assert!(matches!(answer, Committed::Conflict(_)), "{answer:?}");
    assert_eq!(load_device(&store).await.state, new.state);
}

#[tokio::test]
async fn a_device_with_an_unreadable_state_can_be_retired() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let keys = store.keys(&device());
    for (second, field, garbage) in [(0, "latest", "{"), (5, "rev", "?"), (10, "seq", "1e3")] {
        let applied = commit_reading(&store, DEVICE, "300", second).await;
        let seq = applied.decision.state.position.seq;
        let _: () = redis
            .hset(keys.device(&device()), field, garbage)
            .await
            .expect("set");
        let retired = retire(&store, &device(), "Asha").await;
        assert_eq!(retired.expect("an answer").answer, Retired::Done, "{field}");
        assert_eq!(stored_keys(&mut redis, &store).await, [""; 0], "{field}");
        assert_eq!(load_device(&store).await.seq_floor, seq + 1, "{field}");
    }
    let entries = log_entries(&mut redis, &store).await;
    let lost = entries.iter().filter(|entry| entry["change"].is_null());
    assert_eq!(lost.count(), 3, "the log has `state_lost`");
}

#[tokio::test]
async fn a_device_whose_hash_is_missing_can_be_retired() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let applied = commit_reading(&store, DEVICE, "300", 0).await;
    let seq = applied.decision.state.position.seq;
    let hash = store.keys(&device()).device(&device());
    let _: () = redis.del(&hash).await.expect("deleted");
    let unreadable = store.snapshot(&device(), Some(0)).await;
    assert_eq!(unreadable.expect_err("lost").code(), "device_refused");
    let retired = retire(&store, &device(), "Asha").await;
    assert_eq!(retired.expect("an answer").answer, Retired::Done);
    assert_eq!(stored_keys(&mut redis, &store).await, [""; 0]);
    assert_eq!(load_device(&store).await.seq_floor, seq + 1);
    let again = retire(&store, &device(), "Asha").await;
    assert_eq!(again.expect("an answer").answer, Retired::NotFound);
}

#[tokio::test]
async fn a_device_that_lost_its_hash_and_streams_continues_in_a_new_epoch() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    // A neighbour was retired at a higher seq. The partition keeps that seq; it must not count for this device.
    let near = neighbour();
    for second in 0..3_i64 {
        commit_reading(&store, &near, "10", second * 5).await;
    }
    let near: DeviceId = near.parse().expect("a serial");
    retire(&store, &near, "Asha").await.expect("an answer");
    commit_reading(&store, DEVICE, "300", 0).await;
    let before = load_device(&store).await;
    let keys = store.keys(&device());
    let all = [
        keys.device(&device()),
        keys.events(&device()),
        keys.changes(&device()),
    ];
    let _: () = redis.del(&all[..]).await.expect("deleted");
    let applied = commit_reading(&store, DEVICE, "300", 20).await;
    let decision = applied.decision;
    assert_ne!(decision.state.position.epoch, before.epoch);
    assert_eq!(
        decision.state.position.seq, 1,
        "the first seq of a new epoch"
    );
    let entries = log_entries(&mut redis, &store).await;
    let lost = entries.iter().filter(|entry| entry["change"].is_null());
    assert_eq!(lost.count(), 1, "the log has `state_lost`");
}

#[tokio::test]
async fn a_device_that_lost_its_seq_is_retired_in_a_new_epoch() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    // A neighbour was retired at a low seq. The partition keeps that seq; it must not count for this device.
    let near = neighbour();
    commit_reading(&store, &near, "10", 0).await;
    let near: DeviceId = near.parse().expect("a serial");
    retire(&store, &near, "Asha").await.expect("an answer");
    for second in 0..9_i64 {
        commit_reading(&store, DEVICE, "300", second).await;
    }
    let before = load_device(&store).await;
    let keys = store.keys(&device());
    let lose_seq = async |redis: &mut MultiplexedConnection| {
        let _: () = redis
            .hset(keys.device(&device()), "seq", "?")
            .await
            .expect("set");
        let streams = [keys.events(&device()), keys.changes(&device())];
        let _: () = redis.del(&streams[..]).await.expect("deleted");
    };
    lose_seq(&mut redis).await;
    commit_reading(&store, DEVICE, "300", 20).await;
    let replaced = load_device(&store).await;
    assert_ne!(
        replaced.epoch, before.epoch,
        "its own seq was higher than the neighbour's"
    );
    lose_seq(&mut redis).await;
    retire(&store, &device(), "Asha").await.expect("an answer");
    assert_ne!(load_device(&store).await.epoch, replaced.epoch);
}

#[tokio::test]
async fn if_a_stream_is_ahead_of_the_state_the_retirement_gets_a_seq_above_the_stream() {
    let server = RedisServer::start().await;
    let store = server.store();
    commit_reading(&store, DEVICE, "300", 0).await;
    let mut redis = server.connect().await;
    let events = store.keys(&device()).events(&device());
    let mut ahead = redis::cmd("XADD");
    ahead.arg(&events).arg("7-0").arg("epoch").arg("x");
    ahead.exec_async(&mut redis).await.expect("added");
    retire(&store, &device(), "Asha").await.expect("an answer");
    assert_eq!(load_device(&store).await.seq_floor, 8);
}

#[tokio::test]
async fn a_retirement_that_would_fail_halfway_writes_nothing() {
    let server = RedisServer::start().await;
    let store = server.store();
    commit_reading(&store, DEVICE, "300", 0).await;
    let mut redis = server.connect().await;
    let listings = store.keys(&device()).listings();
    let _: () = redis.del(&listings).await.expect("deleted");
    let _: () = redis.set(&listings, "x").await.expect("set");
    let before = load_device(&store).await;
    let refused = retire(&store, &device(), "Asha").await;
    assert_eq!(refused.expect_err("refused").code(), "device_refused");
    assert_eq!(load_device(&store).await.state, before.state);
    assert_eq!(log_entries(&mut redis, &store).await.len(), 1, "the raise");
}

#[tokio::test]
async fn a_device_retired_while_it_sends_is_either_deleted_or_new_and_complete() {
    let server = RedisServer::start().await;
    let mut events = Events::subscribe(&server.store()).await;
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // Every second time nobody writes between the retirement and the look at the device. Otherwise it is always new already.
    let sending = Arc::new(tokio::sync::RwLock::new(()));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..2_i64 {
        let (store, done) = (server.store(), Arc::clone(&done));
        let sending = Arc::clone(&sending);
        writers.spawn(async move {
            let mut second = writer;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let value = ["100", "300"][usize::from(second % 3 == 0)];
                let _sending = sending.read().await;
                commit_reading(&store, DEVICE, value, second).await;
                second += 2;
            }
        });
    }
    let store = server.store();
    let (mut retired, mut deleted, mut recreated) = (0, 0, 0);
    while retired < 100 || deleted == 0 || recreated == 0 {
        let paused = (retired % 2 == 0).then(|| sending.write());
        let paused = futures_util::future::OptionFuture::from(paused).await;
        match retire(&store, &device(), "Asha")
            .await
            .expect("an answer")
            .answer
        {
            Retired::Done => retired += 1,
            Retired::NotFound => {}
        }
        let snapshot = store.snapshot(&device(), Some(0)).await.expect("an answer");
        let seqs: Vec<u64> = snapshot.events.iter().map(|e| e.position.seq).collect();
        drop(paused);
        match snapshot.state {
            None => {
                deleted += 1;
                assert_eq!(seqs, [0; 0]);
                assert!(snapshot.changes.is_empty());
            }
            Some(state) => {
                recreated += 1;
                let last = state.position.seq;
                let kept = crate::keys::MAX_EVENTS as u64;
                let born_after = state.memory.born_after;
                let first = (born_after + 1).max((last + 1).saturating_sub(kept));
                // The stream keeps a few more.
                let expected: Vec<u64> = (first..=last).collect();
                assert!(seqs.ends_with(&expected), "{seqs:?} up to {last}");
                assert!(seqs[0] > born_after, "{seqs:?} after {born_after}");
                assert!(snapshot.last_message.is_some());
            }
        }
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    writers.join_all().await;
    // The last event: when it is received, all earlier events have been received.
    retire(&store, &device(), "Asha").await.expect("an answer");
    let last_seq = load_device(&store).await.seq_floor;
    let mut seq = 0;
    let mut raised = std::collections::HashSet::new();
    while seq < last_seq {
        let event = events.recv().await;
        seq += 1;
        assert_eq!(event["seq"], seq, "a seq was used twice or left out");
        for alert in event["changes"]["alerts"].as_array().into_iter().flatten() {
            // A count above 1 shows that an alarm is raised again that was cleared a short while ago.
            if alert["change"] == "raised" && alert["count"] == 1 {
                assert!(raised.insert(alert["id"].to_string()), "{alert}");
            }
        }
    }
    assert!(!raised.is_empty());
}

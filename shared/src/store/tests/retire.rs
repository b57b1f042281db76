//! The end of a device, and what may come after it.

use serde_json::Value as Json;
use tokio::sync::mpsc;

use super::*;
use crate::apply::{Retired, retire};
use crate::decide::decide;

const DEVICE: &str = "OTSM-0114";

fn device() -> DeviceId {
    DEVICE.parse().expect("a serial")
}

async fn load(store: &Store) -> StoredDevice {
    let mut loaded = store.load(&[device()]).await.expect("redis answers");
    match loaded.pop() {
        Some(Loaded::Device(subject)) => *subject,
        other => panic!("{other:?}"),
    }
}

async fn field(redis: &mut MultiplexedConnection, key: String, name: &str) -> Option<String> {
    redis.hget(key, name).await.expect("asks")
}

/// The device's lines in the log as they are stored, oldest first.
async fn log_lines(redis: &mut MultiplexedConnection, store: &Store) -> Vec<Json> {
    type Entries = Vec<(String, std::collections::HashMap<String, String>)>;
    let entries: Entries = redis::cmd("XRANGE")
        .arg(store.keys(&device()).log())
        .arg("-")
        .arg("+")
        .query_async(redis)
        .await
        .expect("asks");
    let line = |fields: &std::collections::HashMap<String, String>| {
        serde_json::from_str(&fields["line"]).expect("JSON")
    };
    let of_it = entries
        .iter()
        .filter(|(_, fields)| fields["device"] == DEVICE);
    of_it.map(|(_, fields)| line(fields)).collect()
}

/// Every trace of the device that Redis holds, its log aside.
async fn traces(redis: &mut MultiplexedConnection, store: &Store) -> Vec<String> {
    let keys = store.keys(&device());
    let mut found: Vec<String> = redis.keys(format!("*{DEVICE}")).await.expect("asks");
    for index in [keys.seen(), keys.deadlines(), keys.changed()] {
        let listed: Option<f64> = redis.zscore(&index, DEVICE).await.expect("asks");
        found.extend(listed.map(|_| index));
    }
    found
}

/// A serial of the same partition.
fn neighbour() -> String {
    (0..1_000)
        .map(|number| format!("NEAR-{number}"))
        .find(|name| {
            let other: DeviceId = name.parse().expect("a serial");
            other.partition(8) == device().partition(8)
        })
        .expect("eight partitions")
}

/// Positions of the device's events as they are published.
async fn listen(store: &Store) -> (MultiplexedConnection, mpsc::Receiver<Json>) {
    let (heard, hear) = mpsc::channel(100_000);
    let mut subscriber = store
        .subscriber(move |push| {
            if push.kind == redis::PushKind::SMessage
                && let Some(Value::BulkString(bytes)) = push.data.last()
            {
                let event = serde_json::from_slice(bytes).expect("JSON");
                match heard.try_send(event) {
                    // Nobody listens any more at the end of a test.
                    Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                    Err(mpsc::error::TrySendError::Full(_)) => panic!("more events than expected"),
                }
            }
        })
        .await
        .expect("connects");
    redis::cmd("SSUBSCRIBE")
        .arg(store.channel(&device()))
        .exec_async(&mut subscriber.connection)
        .await
        .expect("subscribes");
    (subscriber.connection, hear)
}

#[tokio::test]
async fn nothing_stays_but_the_log_and_the_number() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    let (_subscriber, mut heard) = listen(&store).await;
    let near = neighbour();
    for (second, value) in [(0_i64, "100"), (5, "300")] {
        let fingerprint = second.unsigned_abs();
        for name in [DEVICE, &near] {
            let sent = send(&store, &of(name, value, second), fingerprint).await;
            sent.expect("committed");
        }
    }
    let near: DeviceId = near.parse().expect("a serial");
    let near_before = store.snapshot(&near, Some(1)).await.expect("reads");
    let first_id = load(&store).await.state.alarms[0].id.clone();
    assert_eq!(traces(&mut raw, &store).await.len(), 7, "all there is");

    let retired = retire(&store, &device(), "Asha").await;
    assert_eq!(retired.expect("redis answers").answer, Retired::Done);
    assert_eq!(traces(&mut raw, &store).await, [""; 0]);
    let partition = store.keys(&device()).partition();
    assert_eq!(
        field(&mut raw, partition, "retired").await.as_deref(),
        Some("3")
    );
    let snapshot = store.snapshot(&device(), Some(0)).await.expect("reads");
    assert!(snapshot.state.is_none() && snapshot.events.is_empty());
    assert_eq!(snapshot.born_after, 3);
    let listed = store.devices().await.expect("reads");
    assert_eq!(listed.len(), 1);
    let seqs: Vec<Json> = [heard.recv().await, heard.recv().await, heard.recv().await]
        .into_iter()
        .flatten()
        .map(|event| event["seq"].clone())
        .collect();
    assert_eq!(seqs, [1, 2, 3], "the last one is the end");

    let near_after = store.snapshot(&near, Some(1)).await.expect("reads");
    assert_eq!(near_after.state, near_before.state);
    assert_eq!(near_after.events.len(), near_before.events.len());
    let again = retire(&store, &device(), "Asha").await;
    assert_eq!(again.expect("redis answers").answer, Retired::NotFound);

    // The next message makes a new one, which knows nothing of the first.
    let born = send(&store, &of(DEVICE, "300", 10), 10).await;
    let born = born.expect("committed").decision.state;
    assert_eq!(born.position.seq, 4);
    assert_ne!(born.alarms[0].id, first_id);
    assert_eq!(born.memory.born_after, 3);
    let samples = store.history(&device(), None, None, 10).await;
    assert_eq!(samples.expect("reads").len(), 1);
    // The neighbour goes on where it was.
    let next = send(&store, &of(near.as_str(), "300", 10), 10).await;
    assert_eq!(next.expect("committed").decision.state.position.seq, 3);
}

#[tokio::test]
async fn the_log_tells_who_and_when_and_what_was_closed() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    send(&store, &of(DEVICE, "300", 0), 1)
        .await
        .expect("committed");
    let before = store.clock().now();
    retire(&store, &device(), "Asha").await.expect("answers");
    // Where nothing stands, the device's own line is all there is.
    send(&store, &of(DEVICE, "10", 5), 2)
        .await
        .expect("committed");
    retire(&store, &device(), "Ravi").await.expect("answers");
    let lines = log_lines(&mut raw, &store).await;
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let condition = &line["alarm"]["condition"];
            (&line["change"], &line["by"], condition)
        })
        .collect();
    let text = |text: &str| Json::from(text);
    assert_eq!(
        told,
        [
            (&text("raised"), &Json::Null, &text("alarm_level_1")),
            (&text("retired"), &text("Asha"), &Json::Null),
            (&text("retired"), &text("Asha"), &text("alarm_level_1")),
            (&text("retired"), &text("Ravi"), &Json::Null),
        ]
    );
    assert!(lines[2]["alarm"]["cleared_at"].is_i64(), "{}", lines[2]);
    let at = lines[1]["at"].as_i64().expect("a time");
    assert!(at >= before.as_millis(), "{at} {before:?}");
}

#[tokio::test]
async fn a_reading_in_between_is_a_conflict() {
    let server = Server::start().await;
    let store = server.store();
    send(&store, &of(DEVICE, "300", 0), 1)
        .await
        .expect("committed");
    let old = load(&store).await;
    let input = Input::Retirement { by: "Asha" };
    let retirement = decide(&old, input, store.clock().now(), None);
    send(&store, &of(DEVICE, "600", 5), 2)
        .await
        .expect("committed");
    let commit = Commit {
        stored: &old,
        decision: &retirement,
        raw: None,
        bounds: None,
    };
    let mut answers = store.commit(&[commit]).await.expect("answers");
    let answer = answers.pop().expect("one answer").expect("not refused");
    let Committed::Conflict(Loaded::Device(newer)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(newer.state.position.seq, 2, "told what stands");
    assert_eq!(load(&store).await.state, newer.state, "nothing was touched");
}

#[tokio::test]
async fn what_was_decided_for_a_retired_device_never_meets_the_next_one() {
    let server = Server::start().await;
    let store = server.store();
    let now = || store.clock().now();
    let commit = async |stored: &StoredDevice, decision: &Decision| {
        let commit = Commit {
            stored,
            decision,
            raw: None,
            bounds: Some(rules().bounds),
        };
        let mut answers = store.commit(&[commit]).await.expect("answers");
        answers.pop().expect("one answer").expect("not refused")
    };
    // A first reading that takes long, from before there was any device.
    let unheard = load(&store).await;
    let first = work(&of(DEVICE, "300", 0), 1);
    let birth = decide_message(&unheard, &first, now());

    send(&store, &of(DEVICE, "300", 5), 2)
        .await
        .expect("committed");
    // A late reading adds a sample and no event: only `rev` moves.
    let old = load(&store).await;
    let late = work(&of(DEVICE, "10", 2), 3);
    let late = decide_message(&old, &late, now());
    assert!(late.event.is_none() && !late.outcome.is_unchanged());
    retire(&store, &device(), "Asha").await.expect("answers");

    let answer = commit(&unheard, &birth).await;
    assert!(matches!(answer, Committed::Conflict(_)), "{answer:?}");
    assert!(load(&store).await.state.latest.is_none());

    send(&store, &of(DEVICE, "300", 10), 4)
        .await
        .expect("committed");
    let new = load(&store).await;
    assert_eq!(new.state.rev, old.state.rev, "the case that matters");
    let answer = commit(&old, &late).await;
    assert!(matches!(answer, Committed::Conflict(_)), "{answer:?}");
    assert_eq!(load(&store).await.state, new.state);
}

#[tokio::test]
async fn a_state_that_cannot_be_read_can_be_retired() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    let keys = store.keys(&device());
    for (fingerprint, (field, garbage)) in [("latest", "{"), ("rev", "?"), ("seq", "1e3")]
        .into_iter()
        .enumerate()
    {
        let second = i64::try_from(fingerprint * 5).expect("small");
        let reading = of(DEVICE, "300", second);
        let sent = send(&store, &reading, fingerprint as u64).await;
        let seq = sent.expect("committed").decision.state.position.seq;
        let _: () = raw
            .hset(keys.device(&device()), field, garbage)
            .await
            .expect("set");
        let retired = retire(&store, &device(), "Asha").await;
        assert_eq!(retired.expect("answers").answer, Retired::Done, "{field}");
        assert_eq!(traces(&mut raw, &store).await, [""; 0], "{field}");
        assert_eq!(load(&store).await.seq_floor, seq + 1, "{field}");
    }
    let lines = log_lines(&mut raw, &store).await;
    let lost = lines.iter().filter(|line| line["change"].is_null());
    assert_eq!(lost.count(), 3, "what was lost is told");
}

#[tokio::test]
async fn a_state_that_is_gone_can_be_retired() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    let sent = send(&store, &of(DEVICE, "300", 0), 1).await;
    let seq = sent.expect("committed").decision.state.position.seq;
    let hash = store.keys(&device()).device(&device());
    let _: () = raw.del(&hash).await.expect("deleted");
    let unreadable = store.snapshot(&device(), Some(0)).await;
    assert_eq!(unreadable.expect_err("lost").code(), "device_refused");
    let retired = retire(&store, &device(), "Asha").await;
    assert_eq!(retired.expect("answers").answer, Retired::Done);
    assert_eq!(traces(&mut raw, &store).await, [""; 0]);
    assert_eq!(load(&store).await.seq_floor, seq + 1);
    let again = retire(&store, &device(), "Asha").await;
    assert_eq!(again.expect("answers").answer, Retired::NotFound);
}

#[tokio::test]
async fn a_state_that_is_gone_with_its_streams_goes_on_in_a_new_epoch() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    // A neighbour was retired at a higher number, which says nothing of this one.
    let near = neighbour();
    for second in 0..3_i64 {
        let fingerprint = second.unsigned_abs();
        let sent = send(&store, &of(&near, "10", second * 5), fingerprint).await;
        sent.expect("committed");
    }
    let near: DeviceId = near.parse().expect("a serial");
    retire(&store, &near, "Asha").await.expect("answers");
    send(&store, &of(DEVICE, "300", 0), 1)
        .await
        .expect("committed");
    let before = load(&store).await;
    let keys = store.keys(&device());
    let all = [
        keys.device(&device()),
        keys.events(&device()),
        keys.changes(&device()),
    ];
    let _: () = raw.del(&all[..]).await.expect("deleted");
    let sent = send(&store, &of(DEVICE, "300", 20), 2).await;
    let decision = sent.expect("replaced").decision;
    assert_ne!(decision.state.position.epoch, before.epoch);
    assert_eq!(
        decision.state.position.seq, 1,
        "what a new epoch begins with"
    );
    let lines = log_lines(&mut raw, &store).await;
    let lost = lines.iter().filter(|line| line["change"].is_null());
    assert_eq!(lost.count(), 1, "what was lost is told");
}

#[tokio::test]
async fn a_lost_numbering_is_retired_in_a_new_epoch() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    // A neighbour was retired at a low number, which says nothing of this one.
    let near = neighbour();
    send(&store, &of(&near, "10", 0), 1)
        .await
        .expect("committed");
    let near: DeviceId = near.parse().expect("a serial");
    retire(&store, &near, "Asha").await.expect("answers");
    for second in 0..9_i64 {
        let fingerprint = second.unsigned_abs();
        send(&store, &of(DEVICE, "300", second), fingerprint)
            .await
            .expect("committed");
    }
    let before = load(&store).await;
    let keys = store.keys(&device());
    let damage = async |raw: &mut MultiplexedConnection| {
        let _: () = raw
            .hset(keys.device(&device()), "seq", "?")
            .await
            .expect("set");
        let streams = [keys.events(&device()), keys.changes(&device())];
        let _: () = raw.del(&streams[..]).await.expect("deleted");
    };
    damage(&mut raw).await;
    send(&store, &of(DEVICE, "300", 20), 20)
        .await
        .expect("replaced");
    let replaced = load(&store).await;
    assert_ne!(
        replaced.epoch, before.epoch,
        "its own number was higher than what the neighbour tells"
    );
    damage(&mut raw).await;
    retire(&store, &device(), "Asha").await.expect("answers");
    assert_ne!(load(&store).await.epoch, replaced.epoch);
}

#[tokio::test]
async fn a_stream_that_is_ahead_is_retired_above_it() {
    let server = Server::start().await;
    let store = server.store();
    send(&store, &of(DEVICE, "300", 0), 1)
        .await
        .expect("committed");
    let mut raw = server.raw().await;
    let events = store.keys(&device()).events(&device());
    let mut ahead = redis::cmd("XADD");
    ahead.arg(&events).arg("7-0").arg("epoch").arg("x");
    ahead.exec_async(&mut raw).await.expect("added");
    retire(&store, &device(), "Asha").await.expect("answers");
    assert_eq!(load(&store).await.seq_floor, 8);
}

#[tokio::test]
async fn a_retirement_that_cannot_be_finished_is_not_begun() {
    let server = Server::start().await;
    let store = server.store();
    send(&store, &of(DEVICE, "300", 0), 1)
        .await
        .expect("committed");
    let mut raw = server.raw().await;
    let changed = store.keys(&device()).changed();
    let _: () = raw.del(&changed).await.expect("deleted");
    let _: () = raw.set(&changed, "x").await.expect("set");
    let before = load(&store).await;
    let refused = retire(&store, &device(), "Asha").await;
    assert_eq!(refused.expect_err("refused").code(), "device_refused");
    assert_eq!(load(&store).await.state, before.state);
    assert_eq!(log_lines(&mut raw, &store).await.len(), 1, "the raise");
}

#[tokio::test]
async fn a_device_that_is_retired_while_it_sends_is_gone_or_new_and_whole() {
    let server = Server::start().await;
    let (_subscriber, mut heard) = listen(&server.store()).await;
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..2_i64 {
        let (store, done) = (server.store(), Arc::clone(&done));
        writers.spawn(async move {
            let mut second = writer;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let value = ["100", "300"][usize::from(second % 3 == 0)];
                let fingerprint = second.unsigned_abs();
                let sent = send(&store, &of(DEVICE, value, second), fingerprint).await;
                sent.expect("committed");
                second += 2;
            }
        });
    }
    let store = server.store();
    let (mut retired, mut gone, mut reborn) = (0, 0, 0);
    while retired < 100 || gone == 0 || reborn == 0 {
        match retire(&store, &device(), "Asha")
            .await
            .expect("answers")
            .answer
        {
            Retired::Done => retired += 1,
            Retired::NotFound => {}
        }
        let snapshot = store.snapshot(&device(), Some(0)).await.expect("reads");
        let seqs: Vec<u64> = snapshot.events.iter().map(|e| e.position.seq).collect();
        match snapshot.state {
            None => {
                gone += 1;
                assert_eq!(seqs, [0; 0]);
                assert!(snapshot.changes.is_empty());
            }
            Some(state) => {
                reborn += 1;
                let last = state.position.seq;
                let kept = crate::keys::MAX_EVENTS as u64;
                let first = (state.memory.born_after + 1).max((last + 1).saturating_sub(kept));
                assert_eq!(seqs, (first..=last).collect::<Vec<_>>());
                assert!(snapshot.last_message.is_some());
            }
        }
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    writers.join_all().await;
    // The marker: what was published before it has been heard when it is.
    retire(&store, &device(), "marker").await.expect("answers");
    let marker = load(&store).await.seq_floor;
    let mut last = 0;
    let mut alarms = std::collections::HashSet::new();
    while last < marker {
        let event = heard.recv().await.expect("an event");
        let seq = event["seq"].as_u64().expect("a number");
        assert_eq!(seq, last + 1, "no position returns, none is left out");
        last = seq;
        for alert in event["changes"]["alerts"].as_array().into_iter().flatten() {
            if alert["change"] == "raised" {
                assert!(alarms.insert(alert["id"].to_string()), "{alert}");
            }
        }
    }
    assert!(!alarms.is_empty());
}

//! What stands and could not be told is told later, once.

use super::*;
use crate::alarm::ChangeKind;

const DEVICE: &str = "OTSM-0114";

/// What Redis still takes of what needs memory.
enum Room {
    All,
    None,
    /// So many bytes.
    Some(u64),
}

async fn room(raw: &mut MultiplexedConnection, room: Room) {
    let limit = match room {
        Room::All => 0,
        Room::None => 1,
        Room::Some(bytes) => {
            let info: String = redis::cmd("INFO")
                .arg("memory")
                .query_async(raw)
                .await
                .expect("asks");
            let used = info
                .lines()
                .find_map(|line| line.strip_prefix("used_memory:"));
            let used: u64 = used.expect("told").trim().parse().expect("a number");
            used + bytes
        }
    };
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg(limit)
        .exec_async(raw)
        .await
        .expect("set");
}

fn kinds(result: &Result<Applied, StoreError>) -> Vec<ChangeKind> {
    let changes = &result.as_ref().expect("committed").decision.changes;
    changes.iter().map(|change| change.kind).collect()
}

#[tokio::test]
async fn a_batch_that_is_taken_in_part_tells_that_part() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    store.ping().await.expect("connects");
    // Some of them fit: each takes some kilobytes, in streams above all.
    let readings: Vec<_> = (0..400)
        .map(|number| of(&format!("OTSM-{number}"), "300", 0))
        .collect();
    let batch: Vec<_> = readings.iter().map(|reading| work(reading, 1)).collect();
    room(&mut raw, Room::Some(1 << 20)).await;
    let results = apply(&store, &batch, &rules()).await;
    let mut left = Vec::new();
    for (work, result) in batch.into_iter().zip(&results) {
        match result {
            Ok(_) => assert_eq!(kinds(result), [ChangeKind::Raised]),
            Err(err) => {
                assert!(err.is_passing(), "{err:?}");
                left.push(work);
            }
        }
    }
    assert!(!left.is_empty() && left.len() < results.len());

    room(&mut raw, Room::All).await;
    for result in apply(&store, &left, &rules()).await {
        assert_eq!(kinds(&result), [ChangeKind::Raised]);
    }
}

/// Commits a raise behind the store's back, as one that it has sent and was not answered for.
async fn raise_in_doubt(server: &Server, store: &Store, reading: &Reading) {
    let device: DeviceId = DEVICE.parse().expect("a serial");
    let loaded = store.load(&[device]).await.expect("answers").pop();
    let Some(Loaded::Device(stored)) = loaded else {
        panic!("{loaded:?}");
    };
    let decision = decide_message(&stored, &work(reading, 1), store.clock().now());
    assert_eq!(decision.changes.len(), 1);
    let commit = Commit {
        stored: &stored,
        decision: &decision,
        raw: None,
        bounds: Some(rules().bounds),
    };
    let commits = [commit];
    drop(store.in_doubt.pending(&commits));
    let answers = server.store().commit(&commits).await.expect("answers");
    assert!(matches!(answers[0], Ok(Committed::Done(_))), "{answers:?}");
}

#[tokio::test]
async fn what_stands_is_told_although_the_next_try_fails_too() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    let reading = of(DEVICE, "300", 0);
    raise_in_doubt(&server, &store, &reading).await;
    // Its next message is read, and not written.
    let next = [work(&of(DEVICE, "301", 5), 2)];
    room(&mut raw, Room::None).await;
    for _ in 0..2 {
        let failed = apply(&store, &next, &rules()).await;
        assert!(failed[0].as_ref().is_err_and(StoreError::is_passing));
    }
    room(&mut raw, Room::All).await;
    let results = apply(&store, &next, &rules()).await;
    assert_eq!(kinds(&results[0]), [ChangeKind::Raised]);
    let results = apply(&store, &[work(&of(DEVICE, "302", 10), 3)], &rules()).await;
    assert_eq!(kinds(&results[0]), [], "once");
}

#[tokio::test]
async fn what_stands_is_told_although_an_acknowledgement_fails() {
    let server = Server::start().await;
    let store = server.store();
    let mut raw = server.raw().await;
    raise_in_doubt(&server, &store, &of(DEVICE, "300", 0)).await;
    let device: DeviceId = DEVICE.parse().expect("a serial");
    let snapshot = store.snapshot(&device, None).await.expect("reads");
    let id = snapshot.state.expect("known").alarms[0].id.clone();
    room(&mut raw, Room::None).await;
    let failed = acknowledge(&store, &device, &id, "Asha", None).await;
    assert!(failed.expect_err("no room").is_passing());
    room(&mut raw, Room::All).await;
    let answered = acknowledge(&store, &device, &id, "Asha", None).await;
    let told = answered.expect("answers").changes;
    let kinds: Vec<ChangeKind> = told.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Raised, ChangeKind::Acknowledged]);
}

#[tokio::test]
async fn what_stands_is_told_although_nobody_waits_for_an_acknowledgement() {
    let server = Server::start().await;
    let store = server.store();
    raise_in_doubt(&server, &store, &of(DEVICE, "300", 0)).await;
    let device: DeviceId = DEVICE.parse().expect("a serial");
    let mut raw = server.raw().await;
    // From now on writes are not answered.
    redis::cmd("CLIENT")
        .arg("PAUSE")
        .arg(600_000)
        .arg("WRITE")
        .exec_async(&mut raw)
        .await
        .expect("paused");
    let snapshot = store.snapshot(&device, None).await.expect("reads");
    let id = snapshot.state.expect("known").alarms[0].id.clone();
    let asked = acknowledge(&store, &device, &id, "Asha", None);
    let answer = tokio::time::timeout(Duration::from_millis(500), asked).await;
    assert!(answer.is_err(), "{answer:?}");
    redis::cmd("CLIENT")
        .arg("UNPAUSE")
        .exec_async(&mut raw)
        .await
        .expect("no longer paused");
    let again = acknowledge(&store, &device, &id, "Asha", None).await;
    let told = again.expect("answers").changes;
    assert!(told.iter().any(|change| change.kind == ChangeKind::Raised));
}

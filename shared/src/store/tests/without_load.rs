//! Decisions from the state that this process committed last.

use super::in_doubt::raise_in_doubt;
use super::*;
use crate::apply::retire;

/// Applies a reading, and returns how many scripts that took.
async fn scripts_for(
    store: &Store,
    redis: &mut MultiplexedConnection,
    (value, second): (&str, i64),
) -> u64 {
    redis::cmd("CONFIG")
        .arg("RESETSTAT")
        .exec_async(redis)
        .await
        .expect("an answer");
    commit_reading(store, DEVICE, value, second).await;
    let stats: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(redis)
        .await
        .expect("an answer");
    let calls = stats.split_once("cmdstat_evalsha:calls=");
    let calls = calls.and_then(|(_, rest)| rest.split(',').next());
    calls.and_then(|calls| calls.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn the_next_message_is_committed_without_a_load() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    commit_reading(&store, DEVICE, "1", 0).await;
    for second in 1..5 {
        assert_eq!(scripts_for(&store, &mut redis, ("2", second)).await, 1);
    }
}

#[tokio::test]
async fn after_a_conflict_the_next_sixteen_messages_are_loaded_first() {
    let server = RedisServer::start().await;
    let (store, other) = (server.store(), server.store());
    let mut redis = server.connect().await;
    commit_reading(&store, DEVICE, "1", 0).await;
    let applied = commit_reading(&other, DEVICE, "300", 1).await;
    assert_eq!(applied.decision.changes[0].kind, ChangeKind::Raised);

    let applied = commit_reading(&store, DEVICE, "310", 2).await;
    assert_eq!(applied.conflicts, 1);
    assert!(
        applied.decision.changes.is_empty(),
        "the alarm that the other process raised stands"
    );
    assert_eq!(applied.decision.state.position.seq, 3);
    for second in 3..19 {
        assert_eq!(scripts_for(&store, &mut redis, ("310", second)).await, 2);
    }
    assert_eq!(scripts_for(&store, &mut redis, ("310", 19)).await, 1);
}

#[tokio::test]
async fn a_device_that_another_process_retired_begins_anew() {
    let server = RedisServer::start().await;
    let (store, other) = (server.store(), server.store());
    commit_reading(&store, DEVICE, "1", 0).await;
    commit_reading(&store, DEVICE, "300", 1).await;
    let retired = retire(&other, &device(), "User").await;
    retired.expect("retired");

    let applied = commit_reading(&store, DEVICE, "310", 2).await;
    assert_eq!(applied.decision.changes[0].kind, ChangeKind::Raised);
    let position = applied.decision.state.position;
    assert_eq!(position.seq, 4, "above that of the retirement");
}

#[tokio::test]
async fn a_message_is_ignored_only_for_what_is_stored() {
    let server = RedisServer::start().await;
    let (store, other) = (server.store(), server.store());
    commit_reading(&store, DEVICE, "1", 10).await;
    let retired = retire(&other, &device(), "User").await;
    retired.expect("retired");

    // This process still remembers a newer reading.
    let mut work = [message_work(&reading_of(DEVICE, "2", 5))];
    if let Cause::Message { message, .. } = &mut work[0].cause {
        message.retain = true;
    }
    let mut results = apply(&store, &work, &apply_config()).await;
    let applied = results.pop().expect("one result").expect("committed");
    assert!(applied.decision.moves_latest(), "{:?}", applied.decision);
    assert_eq!(store.count_devices().await.expect("an answer"), 1);
}

#[tokio::test]
async fn the_changes_of_a_commit_in_doubt_are_reported_by_the_next_message() {
    let server = RedisServer::start().await;
    let store = server.store();
    commit_reading(&store, DEVICE, "1", 0).await;
    raise_in_doubt(&server, &store, &reading_of(DEVICE, "300", 1)).await;

    let applied = commit_reading(&store, DEVICE, "301", 2).await;
    let kinds: Vec<ChangeKind> = applied.decision.changes.iter().map(|c| c.kind).collect();
    assert_eq!(kinds, [ChangeKind::Raised]);
    assert_eq!(applied.conflicts, 0, "it is loaded before it is decided");
}

#[tokio::test]
async fn a_state_that_redis_lost_is_written_again_before_the_next_message() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    commit_reading(&store, DEVICE, "300", 0).await;
    redis::cmd("FLUSHALL")
        .exec_async(&mut redis)
        .await
        .expect("an answer");
    let failed = apply_reading(&store, &reading_of(DEVICE, "310", 1)).await;
    assert!(failed.is_err_and(|err| err.is_transient()));
    let applied = commit_reading(&store, DEVICE, "310", 1).await;
    assert!(
        applied.decision.changes.is_empty(),
        "the alarm still stands"
    );
    assert_eq!(store.reasserted(), 1);
}

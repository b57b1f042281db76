//! The two scripts that commit, compared with each other.

use std::collections::BTreeMap;

use super::*;
use crate::position::Epoch;

/// Everything that is stored of the device, without what Redis stamps with its own time.
#[derive(Debug, PartialEq)]
struct Stored {
    hash: BTreeMap<String, Vec<u8>>,
    partition: BTreeMap<String, String>,
    events: Vec<(String, Vec<Vec<u8>>)>,
    samples: Vec<Vec<Vec<u8>>>,
    seen: Vec<String>,
    listings: Vec<(String, u64)>,
}

async fn stored(redis: &mut MultiplexedConnection, keys: &PartitionKeys) -> Stored {
    type Entries = Vec<(String, Vec<Vec<u8>>)>;
    let entries = |key: String| {
        let mut redis = redis.clone();
        async move {
            let entries: Entries = redis::cmd("XRANGE")
                .arg(&[&key, "-", "+"])
                .query_async(&mut redis)
                .await
                .expect("entries");
            entries
        }
    };
    let mut events = entries(keys.events(&device())).await;
    // One of the scripts removes whole nodes of the stream.
    let more = events.len().saturating_sub(crate::keys::MAX_EVENTS);
    events.drain(..more);
    let samples = entries(keys.history(&device())).await;
    let mut partition: BTreeMap<String, String> =
        redis.hgetall(keys.partition()).await.expect("fields");
    partition.remove("run_id");
    Stored {
        hash: fields(redis, keys).await,
        partition,
        events,
        samples: samples.into_iter().map(|(_, fields)| fields).collect(),
        seen: redis.zrange(keys.seen(), 0, -1).await.expect("members"),
        listings: redis
            .zrange_withscores(keys.listings(), 0, -1)
            .await
            .expect("members"),
    }
}

async fn fields(
    redis: &mut MultiplexedConnection,
    keys: &PartitionKeys,
) -> BTreeMap<String, Vec<u8>> {
    redis.hgetall(keys.device(&device())).await.expect("fields")
}

async fn deadline(redis: &mut MultiplexedConnection, keys: &PartitionKeys) -> Option<i64> {
    let score: Option<i64> = redis
        .zscore(keys.deadlines(), DEVICE)
        .await
        .expect("a score");
    score
}

/// The length of a stream; `None` if it is something else.
async fn length(redis: &mut MultiplexedConnection, stream: &str) -> Option<usize> {
    let length = redis::cmd("XLEN").arg(stream).query_async(redis).await;
    length.ok()
}

/// Gives the device's partition of this server the epoch of another.
async fn set_epoch(redis: &mut MultiplexedConnection, keys: &PartitionKeys, epoch: Epoch) {
    let _: () = redis
        .hset(keys.partition(), "epoch", epoch.to_string())
        .await
        .expect("set");
}

#[tokio::test]
async fn both_scripts_write_the_same() {
    let (usual, general) = (RedisServer::start().await, RedisServer::start().await);
    let (store, other) = (usual.store(), general.store());
    let keys = store.keys(&device());
    let (mut raw, mut other_raw) = (usual.connect().await, general.connect().await);
    let loaded = store.load_one(&device()).await.expect("an answer");
    let epoch = loaded.device().expect("a device").epoch;
    other.ping().await.expect("connects");
    set_epoch(&mut other_raw, &keys, epoch).await;

    let mut random = fastrand::Rng::with_seed(7);
    let mut usual_commits = 0;
    for second in 0..300 {
        // Most readings change nothing; some raise or clear an alarm.
        let value = random.u32(180..204).to_string();
        let mut work = message_work(&reading_of(DEVICE, &value, second));
        if let Cause::Message { message, .. } = &mut work.cause {
            message.dup = random.u8(..8) == 0;
        }
        let stored_device = match store.last_committed(&device()) {
            Some(stored_device) if random.bool() => stored_device,
            _ => {
                let loaded = store.load_one(&device()).await.expect("an answer");
                loaded.device().expect("a device")
            }
        };
        let decision = decide_message(&stored_device, &work, store.clock().now());
        let commit = [Commit {
            stored: &stored_device,
            decisions: std::slice::from_ref(&decision),
            raw: (second % 3 > 0).then_some(b"{}"),
            bounds: Some(apply_config().bounds),
        }];
        usual_commits += usize::from(commit[0].is_usual());
        let done = store.commit(&commit).await.expect("an answer");
        assert!(matches!(done[0], Ok(Committed::Done(_))), "{done:?}");
        let done = other.commit_by(&commit, false).await;
        let done = done.expect("an answer");
        assert!(matches!(done[0], Ok(Committed::Done(_))), "{done:?}");

        assert_eq!(
            stored(&mut raw, &keys).await,
            stored(&mut other_raw, &keys).await,
            "after reading {second}"
        );
        let (early, exact) = (
            deadline(&mut raw, &keys).await,
            deadline(&mut other_raw, &keys).await,
        );
        assert!(early <= exact, "{early:?} is later than {exact:?}");
        assert!(early.is_some());
    }
    assert!(usual_commits > 200, "only {usual_commits}");
}

#[tokio::test]
async fn a_usual_commit_writes_a_deadline_only_if_it_is_earlier() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let keys = store.keys(&device());
    commit_reading(&store, DEVICE, "1", 0).await;
    let first = deadline(&mut redis, &keys).await;
    for second in 1..4 {
        commit_reading(&store, DEVICE, "1", second).await;
        assert_eq!(deadline(&mut redis, &keys).await, first);
    }
    let mut config = apply_config();
    config.settings.offline_after = Duration::from_secs(20);
    let work = [message_work(&reading_of(DEVICE, "2", 5))];
    let applied = apply(&store, &work, &config).await;
    assert!(applied[0].is_ok(), "{applied:?}");
    assert!(deadline(&mut redis, &keys).await < first);
}

/// The general script writes the deadline as it is decided, also if it is later.
#[tokio::test]
async fn a_deadline_that_the_other_script_moved_is_known_as_it_is_stored() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let keys = store.keys(&device());
    for (second, value) in [(0, "1"), (1, "300"), (2, "1"), (3, "1")] {
        commit_reading(&store, DEVICE, value, second).await;
        let known = store.last_committed(&device()).expect("a state");
        let known = known.deadline_by.map(Time::as_millis);
        assert!(known.is_some());
        assert!(
            deadline(&mut redis, &keys).await <= known,
            "after {second} s"
        );
    }
}

#[tokio::test]
async fn a_deadline_that_is_not_known_to_be_stored_is_written() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let keys = store.keys(&device());
    commit_reading(&store, DEVICE, "1", 0).await;
    let _: () = redis.del(keys.deadlines()).await.expect("deleted");
    commit_reading(&server.store(), DEVICE, "1", 1).await;
    assert!(deadline(&mut redis, &keys).await.is_some());
}

/// What stands in the way of a usual commit is told by the other script, as it always was.
#[tokio::test]
async fn a_key_of_the_wrong_type_is_refused_before_the_device_is_written() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let keys = store.keys(&device());
    commit_reading(&store, DEVICE, "1", 0).await;
    let others = [keys.seen(), keys.history(&device()), keys.events(&device())];
    let mut second = 1;
    for key in others {
        let copy = format!("{key}:copy");
        let _: () = redis.rename(&key, &copy).await.expect("renamed");
        let _: () = redis.set(&key, "text").await.expect("set");
        let unchanged = fields(&mut redis, &keys).await;
        let samples: Option<usize> = length(&mut redis, &keys.history(&device())).await;
        for _ in 0..2 {
            second += 1;
            let refused = apply_reading(&store, &reading_of(DEVICE, "2", second)).await;
            let err = refused.expect_err(&key);
            assert_eq!(err.code(), "device_refused", "{key}: {err}");
        }
        assert_eq!(fields(&mut redis, &keys).await, unchanged, "{key}");
        let still: Option<usize> = length(&mut redis, &keys.history(&device())).await;
        assert_eq!(still, samples, "{key}");
        let _: () = redis.rename(&copy, &key).await.expect("renamed");
        second += 1;
        commit_reading(&store, DEVICE, "2", second).await;
    }
}

#[tokio::test]
async fn a_listed_device_needs_no_number() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let keys = store.keys(&device());
    commit_reading(&store, DEVICE, "1", 0).await;
    let _: () = redis.del(keys.listings()).await.expect("deleted");
    let _: () = redis.set(keys.listings(), "text").await.expect("set");
    // One without and one with a change of an alarm.
    for (second, value) in [(1, "2"), (2, "300")] {
        commit_reading(&store, DEVICE, value, second).await;
    }
    let _: () = redis.zrem(keys.seen(), DEVICE).await.expect("removed");
    let refused = apply_reading(&store, &reading_of(DEVICE, "2", 3)).await;
    let err = refused.expect_err("it cannot be listed");
    assert_eq!(err.code(), "device_refused", "{err}");
}

#[tokio::test]
async fn without_the_right_to_remove_a_sample_there_is_one_of_each_reading() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    commit_reading(&store, DEVICE, "1", 0).await;
    let mut command = redis::cmd("ACL");
    command.arg(&["SETUSER", "default", "-xdel"]);
    command.exec_async(&mut redis).await.expect("set");
    // The entry of a later event: the commit fails behind its sample.
    let events = store.keys(&device()).events(&device());
    redis::cmd("XADD")
        .arg(&[&events, "9-0", "epoch", "0", "event", "{}"])
        .exec_async(&mut redis)
        .await
        .expect("added");
    commit_reading(&store, DEVICE, "2", 1).await;
    let samples = length(&mut redis, &store.keys(&device()).history(&device())).await;
    assert_eq!(samples, Some(2));
}

#[tokio::test]
async fn an_event_stream_that_is_ahead_moves_the_position_above_it() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let keys = store.keys(&device());
    commit_reading(&store, DEVICE, "1", 0).await;
    redis::cmd("XADD")
        .arg(&[&keys.events(&device()), "9-0", "epoch", "0", "event", "{}"])
        .exec_async(&mut redis)
        .await
        .expect("added");
    let applied = commit_reading(&store, DEVICE, "2", 1).await;
    assert_eq!(applied.decision.state.position.seq, 10);
    let samples = store.history(&device(), None, None, 10).await;
    assert_eq!(samples.expect("an answer").len(), 2, "one for each reading");
}

#[tokio::test]
async fn a_stored_device_that_is_missing_in_the_list_is_listed_again() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let keys = store.keys(&device());
    commit_reading(&store, DEVICE, "1", 0).await;
    let marks = |mark| [(device().partition(store.partitions()), mark)];
    let first = store.new_listings(&marks(None)).await.expect("listings");
    let _: () = redis.zrem(keys.seen(), DEVICE).await.expect("removed");
    commit_reading(&store, DEVICE, "2", 1).await;
    commit_reading(&store, DEVICE, "3", 2).await;
    let found = store.new_listings(&marks(first[0].mark)).await;
    let found = found.expect("listings");
    assert_eq!(found[0].devices.as_deref(), Some(&[device()][..]));
    let again = store.new_listings(&marks(found[0].mark)).await;
    assert_eq!(
        again.expect("listings")[0].devices.as_deref(),
        Some(&[][..])
    );
    let samples = store.history(&device(), None, None, 100).await;
    assert_eq!(samples.expect("samples").len(), 3, "one for each reading");
}

/// Rights may change at any time, and Redis does not undo what a script has written before it failed.
#[tokio::test]
async fn without_a_right_nothing_of_a_usual_commit_is_written() {
    let server = RedisServer::start().await;
    let admin = server.store();
    let mut redis = server.connect().await;
    commit_reading(&admin, DEVICE, "1", 0).await;
    let keys = admin.keys(&device());
    let acl = |redis: &MultiplexedConnection, rules: &[&str]| {
        let mut redis = redis.clone();
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg("default").arg(rules);
        async move { command.exec_async(&mut redis).await.expect("set") }
    };
    for command in ["hset", "xadd", "zadd", "spublish"] {
        let before = stored(&mut redis, &keys).await;
        acl(&redis, &[&format!("-{command}")]).await;
        let second = 10 * i64::try_from(before.events.len()).expect("it fits");
        let failed = apply_reading(&admin, &reading_of(DEVICE, "2", second)).await;
        assert!(
            failed.as_ref().is_err_and(StoreError::is_transient),
            "{command}: {failed:?}"
        );
        acl(&redis, &[&format!("+{command}")]).await;
        assert_eq!(stored(&mut redis, &keys).await, before, "{command}");
        commit_reading(&admin, DEVICE, "2", second + 1).await;
    }
}

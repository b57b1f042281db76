//! A stored state that cannot be read.

use super::*;

#[tokio::test]
async fn an_unreadable_state_is_quarantined_and_replaced_by_the_next_reading() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    for second in 0..3 {
        commit_reading(&store, DEVICE, "300", second * 5).await;
    }
    let mut redis = server.connect().await;
    let keys = store.keys(&device);
    let epoch = store
        .snapshot(&device, None)
        .await
        .expect("an answer")
        .epoch;
    // Lua reads `1e3` as a number. The Rust code does not.
    for (field, garbage) in [
        ("latest", "{"),
        ("rev", "?"),
        ("seq", "?"),
        ("seq", "1e3"),
        ("seq", "99999999999999999999"),
    ] {
        let _: () = redis
            .hset(keys.device(&device), field, garbage)
            .await
            .expect("set");
        let unreadable = store.snapshot(&device, None).await;
        assert_eq!(
            unreadable.expect_err("an unreadable state").code(),
            "device_refused"
        );
        let before = stream_length(&mut redis, &keys.events(&device)).await;
        let later = i64::try_from(before * 100).expect("it fits");
        // Another process loads the state. This one would decide from what it committed.
        commit_reading(&server.store(), DEVICE, "300", later).await;
        let snapshot = store
            .snapshot(&device, Some(before + 1))
            .await
            .expect("an answer");
        assert_eq!(
            snapshot.state.expect("a state").position.seq,
            before + 1,
            "after {field}"
        );
        assert_eq!(
            snapshot.epoch, epoch,
            "the streams contain the seq, so the epoch stays"
        );
        let envelope = String::from_utf8_lossy(&snapshot.events[0].bytes).into_owned();
        assert!(envelope.contains(r#""snapshot":true"#), "{envelope}");
    }
    assert_eq!(stream_length(&mut redis, &keys.quarantine()).await, 5);
    let log = log_of(&store, device.partition(8)).await;
    assert_eq!(
        log.iter()
            .filter(|logged| readable_entry(logged).change.is_none())
            .count(),
        5,
        "state_lost"
    );
}

#[tokio::test]
async fn a_process_that_remembers_its_commit_notices_an_unreadable_state_within_64_messages() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    commit_reading(&store, DEVICE, "1", 0).await;
    let keys = store.keys(&device());
    let _: () = redis
        .hset(keys.device(&device()), "alarms", "{")
        .await
        .expect("set");
    for second in 1..=65 {
        commit_reading(&store, DEVICE, "1", second).await;
    }
    assert_eq!(stream_length(&mut redis, &keys.quarantine()).await, 1);
    let snapshot = store.snapshot(&device(), None).await.expect("readable");
    assert!(snapshot.state.expect("a state").alarms.is_empty());
}

#[tokio::test]
async fn an_alarm_of_a_lost_state_stays_open_if_it_can_be_read() {
    let broken = [
        ("order", "{"),
        ("latest", "[]"),
        ("memory", "x"),
        ("seq", "abc"),
        ("rev", "x"),
        ("prints", "odd"),
    ];
    for (field, garbage) in broken {
        let server = RedisServer::start().await;
        let store = server.store();
        let mut redis = server.connect().await;
        let mut latching = reading_of(DEVICE, "600", 0);
        latching.levels[1].latching = Some(dec("1"));
        apply_reading(&store, &latching).await.expect("committed");
        let latched = commit_reading(&store, DEVICE, "10", 5).await.decision;
        let [alarm] = &latched.state.alarms[..] else {
            panic!("{latched:?}");
        };
        let key = store.keys(&device()).device(&device());
        let _: () = redis.hset(&key, field, garbage).await.expect("set");
        let alarms: String = redis.hget(&key, "alarms").await.expect("alarms");
        let unreadable = alarms.replace("alarm_level_2", "Toxic-Plume");
        let both = format!("[{},{}", unreadable.trim_matches(['[', ']']), &alarms[1..]);
        let _: () = redis.hset(&key, "alarms", both).await.expect("set");

        // Another process: this one would decide from what it committed.
        let store = server.store();
        let decision = commit_reading(&store, DEVICE, "11", 10).await.decision;
        let open: Vec<_> = decision
            .state
            .alarms
            .iter()
            .map(|alarm| &alarm.id)
            .collect();
        assert_eq!(open, [&alarm.id], "{field}");
        assert!(
            decision.changes.is_empty(),
            "{field}: {:?}",
            decision.changes
        );
        assert!(decision.state.in_alarm(), "{field}");
        // It can be acknowledged as before, and that ends it.
        let answer = acknowledge(&store, &device(), acknowledging(&alarm.id, "User", None)).await;
        let answer = answer.expect("answers");
        assert_eq!(answer.answer, Acknowledged::Covered, "{field}");
        assert_eq!(answer.changes.len(), 2, "{field}: {:?}", answer.changes);
    }
}

#[tokio::test]
async fn an_alarm_of_a_lost_state_is_acknowledged_only_after_the_next_reading() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    let raised = commit_reading(&store, DEVICE, "300", 0).await.decision;
    let id = &raised.state.alarms[0].id;
    let key = store.keys(&device()).device(&device());
    let _: () = redis.hset(&key, "order", "{").await.expect("set");

    let answer = acknowledge(&store, &device(), acknowledging(id, "User", None)).await;
    assert_eq!(answer.expect("answers").answer, Acknowledged::NotFound);
    let order: String = redis.hget(&key, "order").await.expect("a field");
    assert_eq!(order, "{", "nothing was written");

    commit_reading(&store, DEVICE, "301", 5).await;
    let answer = acknowledge(&store, &device(), acknowledging(id, "User", None)).await;
    assert_eq!(answer.expect("answers").answer, Acknowledged::Covered);
}

/// The positions begin again at 1. An alarm that was raised at a higher seq can still be acknowledged.
#[tokio::test]
async fn an_alarm_of_a_lost_state_can_be_acknowledged_in_a_new_epoch() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut redis = server.connect().await;
    for second in 0..5 {
        commit_reading(&store, DEVICE, "10", second * 5).await;
    }
    let raised = commit_reading(&store, DEVICE, "300", 30).await.decision;
    let id = &raised.state.alarms[0].id;
    let keys = store.keys(&device());
    let streams = [keys.events(&device()), keys.changes(&device())];
    let _: () = redis.del(&streams).await.expect("deleted");
    let key = keys.device(&device());
    let _: () = redis.hset(&key, "seq", "?").await.expect("set");

    // Another process: this one would write the state again that it committed.
    let store = server.store();
    let after = commit_reading(&store, DEVICE, "301", 35).await.decision;
    assert_eq!(after.state.position.seq, 1);
    let seen = Some(after.state.position);
    let answer = acknowledge(&store, &device(), acknowledging(id, "User", seen)).await;
    assert_eq!(answer.expect("answers").answer, Acknowledged::Covered);
}

//! The commit: all or nothing, and no other writer's changes are lost.

use super::*;

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
                acknowledge(
                    &other,
                    &device,
                    acknowledging(&id, "User", Some(state.position)),
                )
                .await
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
    let answer = acknowledge(&store, &device, acknowledging(id, "User", Some(future))).await;
    assert_eq!(answer.expect("an answer").answer, Acknowledged::Covered);
    let log = log_of(&store, device.partition(8)).await;
    assert_eq!(
        readable_entry(&log[0]).acknowledgement(),
        Some(("User", state.position.seq))
    );
}

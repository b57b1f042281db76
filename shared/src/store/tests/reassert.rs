//! Redis lost states that this process had committed.

use super::*;

#[tokio::test]
async fn after_all_data_was_deleted_the_state_is_reasserted_before_the_next_reading_is_decided() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    for second in 0..3 {
        commit_reading(&store, DEVICE, "300", second).await;
    }
    let alarms = store.alarms(&device, 10).await.expect("an answer");
    let alarm = alarms.expect("a known device").remove(0);
    let seen = store.snapshot(&device, None).await.expect("an answer");
    let seen = seen.state.expect("a state").position;
    let acknowledged = acknowledge(
        &store,
        &device,
        acknowledging(&alarm.id, "User", Some(seen)),
    )
    .await;
    assert_eq!(
        acknowledged.expect("an answer").answer,
        Acknowledged::Covered
    );
    delete_all_data(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are lost");
    // The next reading finds the earlier alarm open and acknowledged.
    commit_reading(&store, DEVICE, "310", 10).await;
    let after = store.snapshot(&device, Some(0)).await.expect("an answer");
    let state = after.state.expect("a state");
    assert_eq!(
        state.position.seq,
        seen.seq + 3,
        "one seq each for the acknowledgement, the reassertion and the reading"
    );
    let open = &state.alarms[0];
    assert_eq!(open.id, alarm.id);
    assert!(open.acknowledged.is_some());
    assert!(after.changes.is_empty(), "a change was published twice");
    let history = store
        .history(&device, None, None, 10)
        .await
        .expect("an answer");
    assert_eq!(
        history.len(),
        2,
        "the latest reading before the loss, and the new one"
    );
    let partition = device.partition(8);
    let log = log_of(&store, partition).await;
    let log: Vec<_> = log
        .into_iter()
        .rev()
        .map(|logged| readable_entry(&logged).change)
        .collect();
    assert_eq!(
        log,
        [Some(ChangeKind::Raised), Some(ChangeKind::Acknowledged)]
    );
}

#[tokio::test]
async fn silent_devices_are_reasserted_together() {
    let server = RedisServer::start().await;
    let store = server.store();
    let serials: Vec<String> = (0..300).map(|number| format!("OTSM-{number:04}")).collect();
    for serial in &serials {
        commit_reading(&store, serial, "300", 0).await;
    }
    let before_loss = store.devices().await.expect("an answer");
    let before = store.survey().await.expect("an answer").epochs;
    assert!(store.committed_in_other_epochs(&before).is_empty());
    delete_all_data(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are lost");
    let epochs = store.survey().await.expect("new epochs").epochs;
    let lost = store.committed_in_other_epochs(&epochs);
    assert_eq!(lost.len(), 300);
    let bounds = Some(apply_config().bounds);
    let reasserted = crate::apply::reassert(&store, &lost, bounds).await;
    reasserted.expect("reasserted");
    assert_eq!(store.reasserted(), 300);
    assert!(store.committed_in_other_epochs(&epochs).is_empty());
    let sorted = |mut devices: Vec<(DeviceId, Option<Time>)>| {
        devices.sort();
        devices
    };
    let again = store.devices().await.expect("an answer");
    assert_eq!(
        sorted(again),
        sorted(before_loss),
        "listed, with the time of the last message"
    );
    let now = store.clock().now();
    assert_eq!(
        store.due(now, 1_000).await.expect("an answer").len(),
        300,
        "every device is due for the timers"
    );
    // A second reassertion of the same states writes nothing.
    let reasserted = crate::apply::reassert(&store, &lost, bounds).await;
    reasserted.expect("an answer");
    assert_eq!(store.reasserted(), 300);
}

#[tokio::test]
async fn a_raw_payload_is_removed_if_the_reasserted_reading_is_another_one() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    commit_reading(&store, DEVICE, "300", 0).await;
    delete_all_data(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are lost");
    // Another process, which has committed nothing, opens new epochs.
    let other = server.store();
    other.ping().await.expect("opens the epochs");
    let mut redis = server.connect().await;
    let hash = store.keys(&device).device(&device);
    let _: () = redis.hset(&hash, "raw", "{}").await.expect("written");
    let lost = [device.clone()];
    crate::apply::reassert(&store, &lost, None)
        .await
        .expect("reasserted");
    assert_eq!(store.raw_payload(&device).await.expect("an answer"), None);
}

#[tokio::test]
async fn a_commit_after_the_device_hash_was_lost_is_reasserted() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    for second in 0..5_i64 {
        commit_reading(&store, DEVICE, "100", second).await;
    }
    let mut redis = server.connect().await;
    let hash = store.keys(&device).device(&device);
    let _: () = redis.del(&hash).await.expect("deleted");
    // Its `rev` starts again, far below that of the committed state.
    let applied = commit_reading(&store, DEVICE, "300", 10).await;
    let alarm = applied.decision.state.alarms[0].clone();
    delete_all_data(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are lost");
    store.survey().await.expect("new epochs");
    let reasserted = crate::apply::reassert(&store, std::slice::from_ref(&device), None).await;
    reasserted.expect("reasserted");
    assert_eq!(store.reasserted(), 1);
    let after = store.snapshot(&device, None).await.expect("an answer");
    let alarms = after.state.expect("a state").alarms;
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].id, alarm.id);
}

#[tokio::test]
async fn a_device_that_another_process_retired_is_not_reasserted_and_a_lost_one_is() {
    let server = RedisServer::start().await;
    let (store, gateway) = (server.store(), server.store());
    for serial in [DEVICE, "OTSM-0115"] {
        commit_reading(&store, serial, "300", 0).await;
    }
    let (retired, lost): (DeviceId, DeviceId) = (
        DEVICE.parse().expect("a serial"),
        "OTSM-0115".parse().expect("a serial"),
    );
    let all: Vec<u16> = (0..8).collect();
    crate::apply::retire(&gateway, &retired, "User")
        .await
        .expect("retired");
    store.forget_retired(&all).await.expect("an answer");
    delete_all_data(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are lost");
    // Another device is retired before the lost states are reasserted.
    store.survey().await.expect("new epochs");
    store.forget_retired(&all).await.expect("an answer");
    let both = [retired, lost];
    let reasserted = crate::apply::reassert(&store, &both, None).await;
    reasserted.expect("reasserted");
    assert_eq!(store.reasserted(), 1);
    let devices = store.devices().await.expect("an answer");
    let [_, lost] = both;
    assert_eq!(
        devices
            .into_iter()
            .map(|(device, _)| device)
            .collect::<Vec<_>>(),
        [lost]
    );
}

pub(super) async fn delete_all_data(server: &RedisServer) {
    redis::cmd("FLUSHALL")
        .exec_async(&mut server.connect().await)
        .await
        .expect("flushes");
}

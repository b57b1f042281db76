//! A server that lost what this process had committed.

use super::*;

#[tokio::test]
async fn what_an_emptied_server_lost_is_asserted_again_before_anything_else_is_decided() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    for second in 0..3 {
        send(
            &store,
            &of("OTSM-0114", "300", second),
            1 + second.unsigned_abs(),
        )
        .await
        .expect("committed");
    }
    let alarms = store.alarms(&device, 10).await.expect("reads");
    let alarm = alarms.expect("known").remove(0);
    let seen = store.snapshot(&device, None).await.expect("reads");
    let seen = seen.state.expect("known").position;
    let acknowledged = acknowledge(&store, &device, &alarm.id, "User", Some(seen)).await;
    assert_eq!(acknowledged.expect("answers").answer, Acknowledged::Covered);
    flush(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are gone");
    // The next reading meets the alarm of before, acknowledged.
    send(&store, &of("OTSM-0114", "310", 10), 10)
        .await
        .expect("committed");
    let after = store.snapshot(&device, Some(0)).await.expect("reads");
    let state = after.state.expect("known");
    assert_eq!(
        state.position.seq,
        seen.seq + 3,
        "acknowledged, asserted again, read"
    );
    let standing = &state.alarms[0];
    assert_eq!(standing.id, alarm.id);
    assert!(standing.acknowledged.is_some());
    assert!(after.changes.is_empty(), "nothing is told twice");
    let history = store.history(&device, None, None, 10).await.expect("reads");
    assert_eq!(history.len(), 2, "the latest of before, and the new one");
    let partition = device.partition(8);
    let log = store.alarm_log(partition, None, None, None).await;
    let log: Vec<_> = log
        .expect("reads")
        .into_iter()
        .rev()
        .map(|logged| entry(&logged).change)
        .collect();
    assert_eq!(
        log,
        [Some(ChangeKind::Raised), Some(ChangeKind::Acknowledged)]
    );
}

#[tokio::test]
async fn devices_that_are_silent_are_asserted_again_all_at_once() {
    let server = Server::start().await;
    let store = server.store();
    let serials: Vec<String> = (0..300).map(|number| format!("OTSM-{number:04}")).collect();
    for serial in &serials {
        send(&store, &of(serial, "300", 0), 1)
            .await
            .expect("committed");
    }
    let heard = store.devices().await.expect("reads");
    let before = store.survey().await.expect("reads").epochs;
    assert!(store.committed_in_other_epochs(&before).is_empty());
    flush(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are gone");
    let epochs = store.survey().await.expect("new epochs").epochs;
    let behind = store.committed_in_other_epochs(&epochs);
    assert_eq!(behind.len(), 300);
    let bounds = Some(rules().bounds);
    let asserted = crate::apply::reassert(&store, &behind, bounds).await;
    asserted.expect("asserted");
    assert_eq!(store.reasserted(), 300);
    assert!(store.committed_in_other_epochs(&epochs).is_empty());
    let sorted = |mut devices: Vec<(DeviceId, Option<Time>)>| {
        devices.sort();
        devices
    };
    let again = store.devices().await.expect("reads");
    assert_eq!(
        sorted(again),
        sorted(heard),
        "listed, with the time of the last message"
    );
    let now = store.clock().now();
    assert_eq!(
        store.due(now, 1_000).await.expect("reads").len(),
        300,
        "and looked at by the timers"
    );
    // Whoever remembers less, or as much, adds nothing.
    let asserted = crate::apply::reassert(&store, &behind, bounds).await;
    asserted.expect("asked");
    assert_eq!(store.reasserted(), 300);
}

#[tokio::test]
async fn a_raw_payload_of_an_older_reading_does_not_stand_beside_a_newer_one() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    send(&store, &of("OTSM-0114", "300", 0), 1)
        .await
        .expect("committed");
    flush(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are gone");
    // Another writer, which remembers nothing, begins anew.
    let other = server.store();
    other.ping().await.expect("opens the epochs");
    let mut raw = server.raw().await;
    let hash = store.keys(&device).device(&device);
    let _: () = raw.hset(&hash, "raw", "{}").await.expect("written");
    let behind = [device.clone()];
    crate::apply::reassert(&store, &behind, None)
        .await
        .expect("asserted");
    assert_eq!(store.raw_payload(&device).await.expect("reads"), None);
}

#[tokio::test]
async fn what_was_committed_behind_a_lost_state_is_asserted_again() {
    let server = Server::start().await;
    let store = server.store();
    let device: DeviceId = "OTSM-0114".parse().expect("a serial");
    for second in 0..5_i64 {
        let fingerprint = second.unsigned_abs();
        let sent = send(&store, &of("OTSM-0114", "100", second), fingerprint).await;
        sent.expect("committed");
    }
    let mut raw = server.raw().await;
    let hash = store.keys(&device).device(&device);
    let _: () = raw.del(&hash).await.expect("deleted");
    // Its `rev` begins anew, far below the one that is remembered.
    let sent = send(&store, &of("OTSM-0114", "300", 10), 10).await;
    let alarm = sent.expect("committed").decision.state.alarms.remove(0);
    flush(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are gone");
    store.survey().await.expect("new epochs");
    let asserted = crate::apply::reassert(&store, std::slice::from_ref(&device), None).await;
    asserted.expect("asserted");
    assert_eq!(store.reasserted(), 1);
    let after = store.snapshot(&device, None).await.expect("reads");
    let alarms = after.state.expect("known").alarms;
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].id, alarm.id);
}

#[tokio::test]
async fn what_was_retired_elsewhere_is_forgotten_and_what_was_lost_is_not() {
    let server = Server::start().await;
    let (store, gateway) = (server.store(), server.store());
    for serial in ["OTSM-0114", "OTSM-0115"] {
        send(&store, &of(serial, "300", 0), 1)
            .await
            .expect("committed");
    }
    let (gone, stays): (DeviceId, DeviceId) = (
        "OTSM-0114".parse().expect("a serial"),
        "OTSM-0115".parse().expect("a serial"),
    );
    let all: Vec<u16> = (0..8).collect();
    crate::apply::retire(&gateway, &gone, "User")
        .await
        .expect("retired");
    store.forget_retired(&all).await.expect("asked");
    flush(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are gone");
    // Somebody retires something before what was lost is asserted again.
    store.survey().await.expect("new epochs");
    store.forget_retired(&all).await.expect("asked");
    let both = [gone, stays];
    let asserted = crate::apply::reassert(&store, &both, None).await;
    asserted.expect("asserted");
    assert_eq!(store.reasserted(), 1);
    let devices = store.devices().await.expect("reads");
    let [_, stays] = both;
    assert_eq!(
        devices
            .into_iter()
            .map(|(device, _)| device)
            .collect::<Vec<_>>(),
        [stays]
    );
}

async fn flush(server: &Server) {
    redis::cmd("FLUSHALL")
        .exec_async(&mut server.raw().await)
        .await
        .expect("flushes");
}

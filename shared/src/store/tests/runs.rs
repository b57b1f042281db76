//! Several messages of one device that are decided in a row and committed at once.

use super::retire::load_device;
use super::*;
use crate::alarm::ChangeKind::{Cleared, Escalated, Raised};
use crate::apply::MAX_RUN;

/// Messages with these values, one second apart.
fn run_of(device: &str, values: &[&str], first_second: i64) -> Vec<Work<'static>> {
    let readings = (first_second..).zip(values);
    readings
        .map(|(second, value)| message_work(&reading_of(device, value, second)))
        .collect()
}

async fn apply_run(store: &Store, work: &[Work<'_>]) -> Vec<Applied> {
    let results = apply(store, work, &apply_config()).await;
    results
        .into_iter()
        .map(|result| result.expect("committed"))
        .collect()
}

/// The events of a device: seq, and the value it tells.
async fn events(store: &Store, device: &DeviceId) -> Vec<(u64, String)> {
    let snapshot = store.snapshot(device, Some(1)).await.expect("an answer");
    let events = snapshot.events.iter();
    events
        .map(|event| {
            let envelope: serde_json::Value = serde_json::from_slice(&event.bytes).expect("JSON");
            let value = &envelope["data"]["data"]["sensor_reading"];
            (event.position.seq, value.to_string())
        })
        .collect()
}

#[tokio::test]
async fn every_alarm_change_has_its_position() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    let values = ["1", "300", "310", "1200", "320", "2", "3"];
    let applied = apply_run(&store, &run_of(DEVICE, &values, 0)).await;
    let changes: Vec<Vec<ChangeKind>> = applied
        .iter()
        .map(|applied| {
            applied
                .decision
                .changes
                .iter()
                .map(|change| change.kind)
                .collect()
        })
        .collect();
    assert_eq!(changes[1], [Raised]);
    assert_eq!(changes[3], [Escalated]);
    let events = events(&store, &device).await;
    let told: Vec<(u64, &str)> = events
        .iter()
        .map(|(seq, value)| (*seq, value.as_str()))
        .collect();
    let expected: Vec<(u64, &str)> = (1..).zip(values).collect();
    assert_eq!(told, expected, "every reading, without a hole");
    let samples = store.history(&device, None, None, 10).await;
    assert_eq!(samples.expect("an answer").len(), values.len());
    let log = log_of(&store, device.partition(8)).await;
    let logged = applied.iter().map(|applied| applied.decision.changes.len());
    assert_eq!(log.len(), logged.sum::<usize>());
}

#[tokio::test]
async fn a_run_leaves_the_state_that_single_commits_leave() {
    let values = ["1", "300", "310", "1200", "320", "2", "3", "400", "5"];
    let mut states = Vec::new();
    for at_once in [true, false] {
        let server = RedisServer::start().await;
        let store = server.store();
        let run = run_of(DEVICE, &values, 0);
        if at_once {
            apply_run(&store, &run).await;
        } else {
            for work in &run {
                apply_run(&store, std::slice::from_ref(work)).await;
            }
        }
        let state = load_device(&store).await.state;
        let alarms: Vec<_> = state
            .alarms
            .iter()
            .map(|alarm| {
                (
                    alarm.condition,
                    alarm.state(),
                    alarm.count,
                    alarm.peak_value,
                )
            })
            .collect();
        let latest = state.latest.clone().expect("a reading");
        states.push((
            alarms,
            latest.reading,
            state.fingerprints.clone(),
            state.order.latest_time,
        ));
    }
    assert_eq!(states[0], states[1]);
}

#[tokio::test]
async fn after_a_conflict_the_whole_run_is_decided_again() {
    let server = RedisServer::start().await;
    let (first, second) = (server.store(), server.store());
    for second_of_test in 0..20 {
        let at = second_of_test * 10;
        let run = run_of(DEVICE, &["300", "10"], at);
        let other = message_work(&reading_of(DEVICE, "20", at + 5));
        let (applied, _) = tokio::join!(
            apply_run(&first, &run),
            apply_run(&second, std::slice::from_ref(&other))
        );
        assert_eq!(applied.len(), 2);
    }
    let store = server.store();
    let events = events(&store, &device()).await;
    let seqs: Vec<u64> = events.iter().map(|(seq, _)| *seq).collect();
    // A reading that comes behind a newer one has an event only if it changes an alarm.
    let expected: Vec<u64> = (1..).take(seqs.len()).collect();
    assert_eq!(seqs, expected, "without a hole, and none twice");
    assert!(seqs.len() >= 40, "{}", seqs.len());
    let samples = store
        .history(&device(), None, None, 100)
        .await
        .expect("an answer");
    assert_eq!(samples.len(), 60);
}

#[tokio::test]
async fn a_run_that_is_committed_again_as_a_second_delivery_changes_nothing() {
    let server = RedisServer::start().await;
    let store = server.store();
    let device = device();
    let values: Vec<String> = (0..MAX_RUN).map(|value| value.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let mut run = run_of(DEVICE, &values, 0);
    apply_run(&store, &run).await;
    // No answer came, so the caller tries again.
    for work in &mut run {
        if let Cause::Message { message, .. } = &mut work.cause {
            message.dup = true;
        }
    }
    let position = load_device(&store).await.state.position;
    apply_run(&store, &run).await;
    let samples = store.history(&device, None, None, 1_000).await;
    assert_eq!(samples.expect("an answer").len(), MAX_RUN);
    assert_eq!(load_device(&store).await.state.position, position);
}

#[tokio::test]
async fn devices_in_one_round_trip_do_not_touch_each_other() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut work = run_of("OTSM-0001", &["1", "2"], 0);
    work.extend(run_of("OTSM-0002", &["300"], 0));
    work.extend(run_of("OTSM-0003", &["3", "1200", "4"], 0));
    let applied = apply_run(&store, &work).await;
    let changed: Vec<bool> = applied
        .iter()
        .map(|applied| !applied.decision.changes.is_empty())
        .collect();
    assert_eq!(changed, [false, false, true, false, true, true]);
    let cleared = |applied: &Applied| {
        let mut all = applied.decision.changes.iter();
        all.any(|change| matches!(change.kind, Cleared))
    };
    assert!(!applied.iter().any(cleared), "A3 returns unacknowledged");
}

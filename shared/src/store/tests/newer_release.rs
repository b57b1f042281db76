//! A newer release has written the state. This release keeps the unknown parts when it writes the state back.

use serde_json::{Value, json};
use test_support::eventually::LATE;

use super::*;
use crate::alarm::Kind;
use crate::decide::Deadline;
use crate::reading::Quality;

/// A time in the past at which something is due that only the newer release knows.
const DUE: i64 = 1_000;

fn hash(device: &DeviceId) -> String {
    PartitionKeys::new(device.partition(8)).device(device)
}

async fn field(raw: &mut MultiplexedConnection, name: &str) -> Value {
    let text: String = raw.hget(hash(&device()), name).await.expect("a field");
    serde_json::from_str(&text).expect("JSON")
}

async fn edit(raw: &mut MultiplexedConnection, name: &str, edit: impl FnOnce(&mut Value)) {
    let mut value = field(raw, name).await;
    edit(&mut value);
    let _: () = raw
        .hset(hash(&device()), name, value.to_string())
        .await
        .expect("stored");
    change_rev(raw).await;
}

/// Every release does so whenever it writes.
async fn change_rev(raw: &mut MultiplexedConnection) {
    let rev: u64 = raw
        .hincr(hash(&device()), "rev", 1)
        .await
        .expect("a number");
    let mut memory = field(raw, "memory").await;
    memory["rules_rev"] = json!(rev);
    let _: () = raw
        .hset(hash(&device()), "memory", memory.to_string())
        .await
        .expect("stored");
}

/// A state with something unknown at every place, and an alarm of an unknown condition beside the gas alarm.
async fn write_as_a_newer_release(raw: &mut MultiplexedConnection) {
    edit(raw, "alarms", |alarms| {
        let gas = &mut alarms[0];
        let mut flow = gas.clone();
        gas["trend"] = json!({"value": 312.5, "type": "alarm_level_1"});
        gas["holds"][0]["count"] = json!(3);
        flow["id"] = json!("flow_1");
        flow["condition"] = json!("flow_lost");
        flow["latch_group"] = json!("b");
        flow["holds"][0]["due"] = json!(DUE);
        alarms.as_array_mut().expect("a list").push(flow);
    })
    .await;
    edit(raw, "order", |order| order["minima"] = json!([1, 2, 3])).await;
    edit(raw, "memory", |memory| {
        memory["sides"][1] = json!("both");
        memory["drift"] = json!([5, null, 0.5]);
    })
    .await;
    edit(raw, "latest", |latest| {
        latest["reading"]["firmware"] = json!("2.1");
        latest["sides"][1] = json!("both");
        latest["judged_by"] = json!("plan-7");
    })
    .await;
    let _: () = raw
        .hset(hash(&device()), "row", "{\"fleet\":1}")
        .await
        .expect("stored");
}

#[tokio::test]
async fn unknown_fields_of_a_newer_release_are_kept_by_a_reading() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut raw = server.connect().await;
    commit_reading(&store, DEVICE, "300", 0).await;
    write_as_a_newer_release(&mut raw).await;

    let decision = commit_reading(&store, DEVICE, "600", 5).await.decision;
    let kinds: Vec<&str> = decision.changes.iter().map(|c| c.kind.code()).collect();
    assert_eq!(kinds, ["escalated"], "the state was not lost");

    let alarms = field(&mut raw, "alarms").await;
    assert_eq!(alarms[0]["condition"], "alarm_level_2");
    assert_eq!(
        alarms[0]["trend"],
        json!({"value": 312.5, "type": "alarm_level_1"})
    );
    assert_eq!(alarms[0]["holds"][0]["count"], 3);
    assert_eq!(alarms[1]["condition"], "flow_lost");
    assert_eq!(alarms[1]["latch_group"], "b");
    assert_eq!(field(&mut raw, "order").await["minima"], json!([1, 2, 3]));
    let memory = field(&mut raw, "memory").await;
    assert_eq!(memory["sides"][1], "both");
    assert_eq!(memory["drift"], json!([5, null, 0.5]));
    // The unknown parts of the latest reading belong to that reading, and a new one has replaced it.
    let latest = field(&mut raw, "latest").await;
    assert_eq!(latest["reading"].get("firmware"), None);
    assert_eq!(latest["sides"][1], "both", "the last side that was sent");
    let row: String = raw.hget(hash(&device()), "row").await.expect("a field");
    assert_eq!(row, "{\"fleet\":1}");
}

#[tokio::test]
async fn unknown_fields_of_a_newer_release_are_kept_by_an_acknowledgement() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut raw = server.connect().await;
    commit_reading(&store, DEVICE, "300", 0).await;
    write_as_a_newer_release(&mut raw).await;

    let answer = acknowledge(&store, &device(), acknowledging("flow_1", "User", None)).await;
    assert_eq!(answer.expect("answers").answer, Acknowledged::Covered);
    let alarms = field(&mut raw, "alarms").await;
    assert_eq!(alarms[0]["acknowledged"], Value::Null);
    assert_eq!(alarms[0]["trend"]["value"], 312.5);
    assert_eq!(alarms[1]["acknowledged"]["by"], "User");
    assert_eq!(alarms[1]["latch_group"], "b");
    let latest = field(&mut raw, "latest").await;
    assert_eq!(latest["reading"]["firmware"], "2.1");
    assert_eq!(latest["judged_by"], "plan-7");
}

/// Everything that [`write_as_a_newer_release`] wrote is still there, apart from the parts of the latest reading.
async fn check_kept(raw: &mut MultiplexedConnection) {
    let alarms = field(raw, "alarms").await;
    let of = |condition: &str| {
        let mut alarms = alarms.as_array().expect("a list").iter();
        let found = alarms.find(|alarm| alarm["condition"] == condition);
        found
            .cloned()
            .unwrap_or_else(|| panic!("{condition}: {alarms:?}"))
    };
    let (gas, flow) = (of("alarm_level_1"), of("flow_lost"));
    assert_eq!(gas["trend"]["value"], 312.5);
    assert_eq!(gas["holds"][0]["count"], 3);
    assert_eq!(flow["latch_group"], "b");
    assert_eq!(flow["holds"][0]["due"], DUE, "its off-delay is not ours");
    assert_eq!(field(raw, "order").await["minima"], json!([1, 2, 3]));
    let memory = field(raw, "memory").await;
    assert_eq!(memory["drift"], json!([5, null, 0.5]));
}

#[tokio::test]
async fn what_a_newer_release_stored_is_kept_by_a_deadline() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut raw = server.connect().await;
    commit_reading(&store, DEVICE, "300", 0).await;
    write_as_a_newer_release(&mut raw).await;

    let mut config = apply_config();
    config.settings.offline_after = Duration::from_millis(1);
    let listening_since = Time::from_millis(1);
    // The silence is longer than its limit as soon as the clock of Redis has moved.
    tokio::time::timeout(LATE, async {
        loop {
            let work = Work {
                device: device(),
                cause: Cause::Deadline {
                    listening: listening_since.into(),
                },
                trace: None,
            };
            let mut applied = apply(&store, &[work], &config).await;
            let decision = applied.remove(0).expect("committed").decision;
            if decision.state.alarm(Kind::DeviceOffline).is_some() {
                assert_eq!(decision.deadline, Deadline::Never, "nothing of ours is due");
                break;
            }
        }
    })
    .await
    .expect("the device is silent");
    check_kept(&mut raw).await;
    let latest = field(&mut raw, "latest").await;
    assert_eq!(latest["reading"]["firmware"], "2.1");
    assert_eq!(latest["judged_by"], "plan-7");
}

#[tokio::test]
async fn what_a_newer_release_stored_is_kept_by_a_reassertion() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut raw = server.connect().await;
    commit_reading(&store, DEVICE, "300", 0).await;
    write_as_a_newer_release(&mut raw).await;
    commit_reading(&store, DEVICE, "310", 5).await;
    reassert::delete_all_data(&server).await;
    assert!(store.survey().await.is_err(), "its epochs are gone");
    commit_reading(&store, DEVICE, "320", 10).await;
    check_kept(&mut raw).await;
}

#[tokio::test]
async fn an_alarm_of_a_newer_release_ends_with_its_device() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut raw = server.connect().await;
    commit_reading(&store, DEVICE, "300", 0).await;
    write_as_a_newer_release(&mut raw).await;
    let retired = crate::apply::retire(&store, &device(), "User").await;
    let retired = retired.expect("answers");
    let closed: Vec<&str> = retired
        .changes
        .iter()
        .map(|c| c.alarm.condition.code())
        .collect();
    assert_eq!(closed, ["alarm_level_1", "flow_lost"]);
}

#[tokio::test]
async fn an_alarm_of_a_newer_release_is_shown_and_never_cleared() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut raw = server.connect().await;
    commit_reading(&store, DEVICE, "300", 0).await;
    write_as_a_newer_release(&mut raw).await;

    // Sides that this release does not know may raise and never lower.
    let state = commit_reading(&store, DEVICE, "10", 5).await.decision.state;
    assert!(state.alarm(Kind::GasHigh).is_none());
    let open: Vec<&str> = state.alarms.iter().map(|a| a.condition.code()).collect();
    assert_eq!(open, ["flow_lost"]);
    assert!(state.in_alarm());
    assert_eq!(state.quality(), Quality::Uncertain, "a side is unknown");
    let shown = crate::event::alert(&device(), &state.alarms[0]);
    let shown: Value = serde_json::from_str(shown.get()).expect("JSON");
    assert_eq!(shown["type"], "flow_lost");
    assert_eq!(shown["severity"], "high");
}

#[tokio::test]
async fn a_log_entry_of_a_newer_release_is_read() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut raw = server.connect().await;
    commit_reading(&store, DEVICE, "300", 0).await;
    let key = PartitionKeys::new(device().partition(8)).log();
    let line = json!({"at": 1_800_000_000_000_i64, "change": "shelved", "alarm": null, "until": 7});
    redis::cmd("XADD")
        .arg(&key)
        .arg(&["*", "device", DEVICE, "line", &line.to_string()])
        .exec_async(&mut raw)
        .await
        .expect("stored");
    let log = log_of(&store, device().partition(8)).await;
    let change = readable_entry(&log[0]).change.expect("a change");
    assert_eq!(change.code(), "shelved");
}

#[tokio::test]
async fn a_level_that_only_a_newer_release_has_keeps_its_alarm_open() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut raw = server.connect().await;
    commit_reading(&store, DEVICE, "300", 0).await;
    edit(&mut raw, "alarms", |alarms| {
        let holds = alarms[0]["holds"].as_array_mut().expect("a list");
        holds.resize(3, Value::Null);
        holds.push(json!({"count": 4}));
    })
    .await;
    commit_reading(&store, DEVICE, "10", 5).await;
    let alarms = field(&mut raw, "alarms").await;
    assert_eq!(alarms[0]["holds"][3]["count"], 4, "{alarms}");
}

/// Fields of a profile that a newer release has written stay when this release changes it, and a lost state does not take it away.
#[tokio::test]
async fn a_profile_keeps_what_this_release_does_not_know() {
    let server = RedisServer::start().await;
    let store = server.store();
    let mut raw = server.connect().await;
    commit_reading(&store, DEVICE, "1", 0).await;
    let hash = store.keys(&device()).device(&device());
    let _: () = raw
        .hset(&hash, "profile", r#"{"zone":"North","floor":3}"#)
        .await
        .expect("stored");
    let before = store
        .profile(&device())
        .await
        .expect("read")
        .expect("a device");
    let mut profile = before.profile.clone();
    profile.name = Some("Kiln 3".to_owned());
    let set = store.set_profile(&device(), &before, profile.clone()).await;
    assert!(matches!(set, Ok(ProfileSet::Done(_))), "{set:?}");
    assert_eq!(
        field(&mut raw, "profile").await,
        json!({"name": "Kiln 3", "zone": "North", "floor": 3})
    );
    // It is compared with what was read.
    let again = store.set_profile(&device(), &before, profile).await;
    assert_eq!(again.expect("answered"), ProfileSet::Changed);
    let _: () = raw.hset(&hash, "latest", "{").await.expect("stored");
    let other = server.store();
    commit_reading(&other, DEVICE, "2", 1).await;
    assert_eq!(field(&mut raw, "profile").await["floor"], json!(3));
    let unknown: DeviceId = "OTSM-0999".parse().expect("a serial");
    assert_eq!(other.profile(&unknown).await.expect("read"), None);
}

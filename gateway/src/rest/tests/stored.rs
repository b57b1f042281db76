//! The router on a Redis of its own. Readings are committed as ingest would.

mod charts;
mod dead_letters;
mod lists;
mod log_search;

use std::time::Duration;

use serde_json::json;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::reading::Reading;
use shared::store::{Report, Store};

use super::document::check_schema;
use super::*;
use crate::test_setup::{self, redis_cli, start_redis};
use test_support::eventually::holds as eventually;
use test_support::server::OwnRedis;

/// A Redis server, a store that writes to it, and the REST service on it.
struct World {
    redis: OwnRedis,
    store: Store,
    router: Router,
    operators: Router,
    offline_after: Duration,
    messages: u64,
}

impl World {
    async fn start() -> Self {
        Self::with_offline_after(Duration::from_mins(3)).await
    }

    async fn with_offline_after(offline_after: Duration) -> Self {
        let redis = start_redis().await;
        let store = test_setup::store(&test_setup::config(&redis.address(), &[]));
        eventually("Redis answers", async || store.ping().await.is_ok()).await;
        let ports = both_ports(&redis.address(), &[]);
        Self {
            router: ports.main,
            operators: ports.operators,
            redis,
            store,
            offline_after,
            messages: 0,
        }
    }

    /// Replaces the REST services by those of a process that was just started.
    fn restart_gateway(&mut self) {
        let ports = both_ports(&self.redis.address(), &[]);
        (self.router, self.operators) = (ports.main, ports.operators);
    }

    /// Commits a reading of this device.
    async fn reading(&mut self, device: &str, value: i32) {
        self.messages += 1;
        let number = self.messages;
        let reading = reading(device, value, number);
        let raw = format!(r#"{{"OTSM-2 Serial Number":"{device}","n":{number}}}"#);
        let silence = self.offline_after;
        test_setup::commit(&self.store, reading, raw.as_bytes(), number, silence).await;
    }

    async fn get(&self, path: &str) -> Value {
        let response = send(&self.router, request(&format!("GET {path}"))).await;
        assert_eq!(response.status(), 200, "{path}");
        serde_json::from_str(&text_of(response).await).expect("JSON")
    }

    async fn error(&self, line: &str) -> (u16, String) {
        error_of(send(&self.router, request(line)).await).await
    }

    async fn retire(&self, device: &str, body: &str) -> (u16, String) {
        let request = Request::delete(format!("/api/devices/{device}"))
            .body(Body::from(body.to_owned()))
            .expect("a request");
        let response = send(&self.operators, request).await;
        (response.status().as_u16(), text_of(response).await)
    }

    async fn acknowledge(&self, device: &str, alert: &str, body: &str) -> (u16, String) {
        let uri = format!("/devices/{device}/subtronics/alerts/{alert}/acknowledge");
        let request = Request::post(uri)
            .body(Body::from(body.to_owned()))
            .expect("a request");
        let response = send(&self.router, request).await;
        (response.status().as_u16(), text_of(response).await)
    }
}

/// Builds a reading with a different device time for each minute.
fn reading(device: &str, value: i32, minute: u64) -> Reading {
    let start = Time::from_millis(1_769_600_000_000);
    Reading {
        timestamp: Some(format!("2026-01-28 11:{minute:02}:12")),
        device_time: Some(start + Duration::from_mins(minute)),
        ..test_setup::reading(device, value)
    }
}

#[tokio::test]
async fn the_latest_reading_is_answered_as_a_bare_object_with_its_payload() {
    let mut world = World::start().await;
    world.reading("OTSM-0114", 120).await;
    let latest = world
        .get("/devices/OTSM-0114/subtronics/telemetry/latest/")
        .await;
    check_schema("Reading", &latest);
    assert_eq!(latest["sensor_reading"], json!(120));
    assert_eq!(latest["alarm_status"], json!("NORMAL"));
    assert_eq!(latest["data_quality"], json!("good"));
    let payload = json!({"OTSM-2 Serial Number": "OTSM-0114", "n": 1});
    assert_eq!(latest["raw_message"], payload);
}

#[tokio::test]
async fn a_serial_with_any_character_is_found_by_its_encoded_path() {
    let mut world = World::start().await;
    for (serial, path) in [
        ("A/B", "A%2FB"),
        ("Ofen 7", "Ofen%207"),
        ("Öl+%", "%C3%96l+%25"),
        ("x_alerts", "x_alerts"),
    ] {
        world.reading(serial, 120).await;
        let latest = world
            .get(&format!("/devices/{path}/subtronics/telemetry/latest"))
            .await;
        assert_eq!(latest["serial_number"], json!(serial));
    }
    let other_case = world
        .error("GET /devices/X_alerts/subtronics/telemetry/latest")
        .await;
    assert_eq!(other_case, (404, "Device not found".to_owned()));
    assert_eq!(world.get("/api/devices").await["count"], json!(4));
}

#[tokio::test]
async fn a_read_of_an_unknown_device_answers_404_and_stores_nothing() {
    let world = World::start().await;
    for path in [
        "/devices/OTSM-9999/subtronics/telemetry/latest",
        "/devices/OTSM-9999/subtronics/alerts",
        "/api/devices/OTSM-9999",
        "/api/devices/OTSM-9999/history",
    ] {
        let found = world.error(&format!("GET {path}")).await;
        assert_eq!(found, (404, "Device not found".to_owned()), "{path}");
    }
    let (status, text) = world.acknowledge("OTSM-9999", "alarm1_x", "").await;
    assert_eq!(status, 404);
    assert!(text.starts_with(r#"{"error":"Alert not found","#), "{text}");
    let logs = world.get("/devices/OTSM-9999/alarm-logs").await;
    assert_eq!(
        logs.to_string(),
        r#"{"device_id":"OTSM-9999","total_count":0,"logs":[]}"#
    );
    let all = world.get("/api/devices").await;
    assert_eq!(
        all.to_string(),
        r#"{"success":true,"count":0,"devices":[]}"#
    );
    check_schema("Statistics", &world.get("/alarm-logs/statistics").await);
}

#[tokio::test]
async fn an_alarm_is_listed_acknowledged_escalated_and_kept_after_it_is_cleared() {
    let mut world = World::start().await;
    world.reading("OTSM-0114", 300).await;
    let alerts = world.get("/devices/OTSM-0114/subtronics/alerts").await;
    let raised = &alerts[0];
    check_schema("Alert", raised);
    assert_eq!(raised["type"], json!("alarm_level_1"));
    assert_eq!(raised["state"], json!("unacknowledged"));
    let id = raised["id"].as_str().expect("an id");
    let first = world.get("/api/devices/OTSM-0114").await;

    let body = r#"{"acknowledged_by":"User"}"#;
    let done = (200, r#"{"success":true}"#.to_owned());
    assert_eq!(world.acknowledge("OTSM-0114", id, body).await, done);
    // A repeated acknowledgement keeps the first name.
    assert_eq!(
        world
            .acknowledge("OTSM-0114", id, r#"{"acknowledged_by":"Bob"}"#)
            .await,
        done
    );
    let alerts = world.get("/devices/OTSM-0114/subtronics/alerts").await;
    check_schema("Alert", &alerts[0]);
    assert_eq!(alerts[0]["acknowledged_by"], json!("User"));
    assert_eq!(alerts[0]["state"], json!("acknowledged"));

    // An acknowledgement of a position before an escalation does not cover the escalation.
    world.reading("OTSM-0114", 600).await;
    let seen = json!({"seen": {"epoch": first["epoch"], "seq": first["seq"]}}).to_string();
    let escalated = (200, r#"{"success":true,"escalated":true}"#.to_owned());
    assert_eq!(world.acknowledge("OTSM-0114", id, &seen).await, escalated);
    let logs = world.get("/devices/OTSM-0114/alarm-logs").await;
    check_schema("DeviceLogs", &logs);
    let field = |row: usize, key: &str| logs["logs"][row][key].clone();
    assert_eq!(logs["total_count"], json!(2));
    assert_eq!(
        (field(0, "alarm_type"), field(0, "acknowledged")),
        (json!("alarm_level_2"), json!(false))
    );
    assert_eq!(
        (field(1, "alarm_type"), field(1, "acknowledged_by")),
        (json!("alarm_level_1"), json!("User"))
    );
    assert_eq!(field(0, "id"), field(0, "_id"));
    assert_eq!(field(0, "alarm_id"), json!(id));

    // The alarm is cleared, and acknowledged afterwards.
    world.reading("OTSM-0114", 10).await;
    assert_eq!(world.acknowledge("OTSM-0114", id, "").await, done);
    let alerts = world.get("/devices/OTSM-0114/subtronics/alerts").await;
    assert_eq!(alerts.as_array().map(Vec::len), Some(1));
    check_schema("Alert", &alerts[0]);
    assert_eq!(alerts[0]["state"], json!("cleared"));
    assert_eq!(alerts[0]["acknowledged_by"], json!("unknown"));
    let logs = world.get("/devices/OTSM-0114/alarm-logs?limit=1/").await;
    assert_eq!(logs["total_count"], json!(1));
    assert_eq!(logs["logs"][0]["acknowledged_by"], json!("unknown"));
    assert_eq!(logs["logs"][0]["state"], json!("cleared"));
    assert_eq!(
        world.acknowledge("OTSM-0114", "alarm1_other", "").await.0,
        404
    );
}

#[tokio::test]
async fn the_log_of_all_devices_is_merged_newest_first() {
    let mut world = World::start().await;
    let devices: Vec<String> = (0..20).map(|number| format!("OTSM-{number:04}")).collect();
    for value in [300, 10, 1200] {
        for device in &devices {
            world.reading(device, value).await;
        }
    }
    let logs = world.get("/alarm-logs?limit=1000").await;
    check_schema("Logs", &logs);
    let rows = logs["logs"].as_array().expect("rows");
    assert_eq!(rows.len(), 40);
    let times: Vec<_> = rows
        .iter()
        .map(|row| row["timestamp"].as_str().expect("a time"))
        .collect();
    assert!(
        times.is_sorted_by(|newer, older| newer >= older),
        "{times:?}"
    );
    let newest = world.get("/alarm-logs?limit=7").await;
    assert_eq!(
        newest["logs"].as_array().map(Vec::as_slice),
        Some(&rows[..7])
    );

    let critical = world.get("/alarm-logs?severity=critical&limit=1000").await;
    assert_eq!(critical["total_count"], json!(20));
    let one = world
        .get("/alarm-logs?device_id=OTSM-0003&alarm_type=alarm_level_1")
        .await;
    assert_eq!(one["total_count"], json!(1));
    // The same alarm was raised again within a minute. The row shows that, although it is later than the requested end.
    assert_eq!(one["logs"][0]["state"], json!("unacknowledged"));
    let end = one["logs"][0]["timestamp"].as_str().expect("a time");
    let before = world
        .get(&format!("/alarm-logs?device_id=OTSM-0003&end_date={end}"))
        .await;
    assert_eq!(before["logs"], one["logs"]);
    let future = world.get("/alarm-logs?start_date=2999-01-01").await;
    assert_eq!(future.to_string(), r#"{"total_count":0,"logs":[]}"#);

    let statistics = world.get("/alarm-logs/statistics").await;
    check_schema("Statistics", &statistics);
    assert_eq!(statistics["total_alarms"], json!(40));
    assert_eq!(
        statistics["by_type"],
        json!({"alarm_level_1": 20, "alarm_level_3": 20})
    );
    assert_eq!(
        statistics["by_severity"],
        json!({"warning": 20, "critical": 20})
    );
    assert_eq!(statistics["by_device"]["OTSM-0019"], json!(2));
    assert_eq!(statistics["unacknowledged_count"], json!(40));
    let of_one = world
        .get("/alarm-logs/statistics?device_id=OTSM-0003")
        .await;
    assert_eq!(of_one["total_alarms"], json!(2));
}

#[tokio::test]
async fn more_than_one_page_of_a_log_is_read() {
    let mut world = World::start().await;
    for number in 0..100 {
        for value in [300, 600, 1200] {
            world.reading(&format!("OTSM-{number:04}"), value).await;
        }
    }
    assert_eq!(
        world.get("/alarm-logs?limit=1000").await["total_count"],
        json!(300)
    );
    let statistics = world.get("/alarm-logs/statistics").await;
    assert_eq!(statistics["total_alarms"], json!(300));
}

#[tokio::test]
async fn devices_are_listed_by_serial_with_their_status() {
    let mut world = World::start().await;
    for (device, value) in [("B-2", 600), ("A-1", 10), ("C-3", 300)] {
        world.reading(device, value).await;
    }
    let all = world.get("/api/devices/").await;
    check_schema("Devices", &all);
    let devices = all["devices"].as_array().expect("devices");
    let statuses: Vec<_> = devices
        .iter()
        .map(|item| (&item["id"], &item["status"]))
        .collect();
    assert_eq!(
        statuses,
        [
            (&json!("A-1"), &json!("online")),
            (&json!("B-2"), &json!("critical")),
            (&json!("C-3"), &json!("warning")),
        ]
    );
    let one = world.get("/api/devices/B-2").await;
    check_schema("SingleDevice", &one);
    assert_eq!(one["data"]["raw_message"], Value::Null);
    assert!(one["lastSeen"].is_string());
}

#[tokio::test]
async fn a_silent_device_is_offline_in_every_answer() {
    let mut world = World::with_offline_after(Duration::from_millis(1)).await;
    world.reading("OTSM-0114", 10).await;
    eventually("the device is offline", async || {
        let latest = world
            .get("/devices/OTSM-0114/subtronics/telemetry/latest")
            .await;
        let is_offline = latest["data_quality"] == json!("offline");
        if is_offline {
            assert_eq!(latest["alarm_status"], json!("ALARM"));
        }
        is_offline
    })
    .await;
    let one = world.get("/api/devices/OTSM-0114").await;
    assert_eq!(
        (&one["status"], &one["alarm_status"]),
        (&json!("offline"), &json!("ALARM"))
    );
    let all = world.get("/api/devices").await;
    assert_eq!(all["devices"][0]["data"]["data_quality"], json!("offline"));
}

#[tokio::test]
async fn history_is_the_newest_samples_within_the_bounds() {
    let mut world = World::start().await;
    for value in 1..=5 {
        world.reading("OTSM-0114", value).await;
    }
    let all = world.get("/api/devices/OTSM-0114/history").await;
    check_schema("History", &all);
    assert_eq!(all["count"], json!(5));
    let two = world.get("/api/devices/OTSM-0114/history?limit=2").await;
    let values: Vec<_> = two["samples"].as_array().expect("samples").iter().collect();
    assert_eq!(
        values
            .iter()
            .map(|s| s["sensor_reading"].clone())
            .collect::<Vec<_>>(),
        [4, 5]
    );
    let none = world
        .get("/api/devices/OTSM-0114/history?until=2020-01-01")
        .await;
    assert_eq!(
        none.to_string(),
        r#"{"device_id":"OTSM-0114","count":0,"samples":[]}"#
    );
    let since = world
        .get("/api/devices/OTSM-0114/history?since=1577836800000")
        .await;
    assert_eq!(since["count"], json!(5));
}

#[tokio::test]
async fn the_configuration_names_the_topics_that_the_ingests_report() {
    let world = World::start().await;
    let topics = ["SubTronics/data".to_owned(), "plant/+/gas".to_owned()];
    let report = Report {
        topics: &topics,
        ..Report::default()
    };
    world
        .store
        .report("subtronics-ingest", report)
        .await
        .expect("Redis answers");
    let settings = world.get("/config").await;
    check_schema("Settings", &settings);
    assert_eq!(settings["api_base_url"], json!("http://gateway.test"));
    assert_eq!(settings["mqtt_broker"], json!(""));
    assert_eq!(
        settings["mqtt_topics"]["SUBTRONICS"],
        json!("SubTronics/data,plant/+/gas")
    );
    let forwarded = with(request("GET /config"), "x-forwarded-proto", "https");
    let text = text_of(send(&world.router, forwarded).await).await;
    assert!(
        text.starts_with(r#"{"api_base_url":"https://gateway.test","#),
        "{text}"
    );
}

#[tokio::test]
async fn a_device_with_keys_of_a_wrong_type_does_not_hide_the_others() {
    let mut world = World::start().await;
    for device in ["A-1", "B-2"] {
        world.reading(device, 10).await;
    }
    let device: DeviceId = "A-1".parse().expect("a serial");
    let channel = world.store.channel(&device);
    // All keys of a device share the hash tag of its channel.
    let tag = channel.split_once('}').expect("a hash tag").0;
    let key = format!("{tag}}}:device:A-1");
    assert_eq!(redis_cli(&world.redis, &["SET", &key, "x"]), "OK");
    let all = world.get("/api/devices").await;
    assert_eq!(all["count"], json!(1));
    assert_eq!(all["devices"][0]["id"], json!("B-2"));
    let found = world.error("GET /api/devices/A-1").await;
    assert_eq!(found, (503, crate::error::DEVICE_BROKEN.to_owned()));
}

#[tokio::test]
async fn a_retired_device_is_deleted_and_its_alarm_log_stays() {
    let mut world = World::start().await;
    world.reading("OTSM-0114", 300).await;
    world.reading("OTSM-0115", 120).await;
    let statistics = world.get("/alarm-logs/statistics").await;
    let alerts = world.get("/devices/OTSM-0114/subtronics/alerts").await;
    let id = alerts[0]["id"].as_str().expect("an id").to_owned();

    for body in [
        "[]",
        "{",
        r#"{"retired_by":5}"#,
        r#"{"retired_by":"a\u0000b"}"#,
    ] {
        assert_eq!(world.retire("OTSM-0114", body).await.0, 400, "{body}");
    }
    let body = json!({"retired_by": "Asha"}).to_string();
    let gone = world.retire("OTSM-0114/", &body).await;
    assert_eq!(gone, (200, r#"{"success":true}"#.to_owned()));
    let (status, again) = world.retire("OTSM-0114", "").await;
    assert_eq!(status, 404);
    assert!(again.contains("Device not found"), "{again}");
    for path in [
        "/devices/OTSM-0114/subtronics/telemetry/latest",
        "/devices/OTSM-0114/subtronics/alerts",
        "/api/devices/OTSM-0114",
        "/api/devices/OTSM-0114/history",
    ] {
        let found = world.error(&format!("GET {path}")).await;
        assert_eq!(found, (404, "Device not found".to_owned()), "{path}");
    }
    let (status, _) = world.acknowledge("OTSM-0114", &id, "").await;
    assert_eq!(status, 404);
    let devices = world.get("/api/devices").await;
    assert_eq!(devices["count"], json!(1));
    assert_eq!(devices["devices"][0]["id"], json!("OTSM-0115"));

    let logs = world.get("/devices/OTSM-0114/alarm-logs").await;
    assert_eq!(logs["total_count"], json!(1), "{logs}");
    let row = &logs["logs"][0];
    check_schema("AlarmLogRow", row);
    assert_eq!(row["alarm_id"], json!(id));
    assert_eq!(row["state"], json!("cleared"));
    assert!(row["cleared_at"].is_string(), "{row}");
    assert_eq!(row["acknowledged"], json!(false));
    assert_eq!(world.get("/alarm-logs/statistics").await, statistics);

    // Without a body, and with a serial that must be encoded.
    world.reading("A/B", 120).await;
    assert_eq!(world.retire("A%2FB", "").await.0, 200);
}

#[tokio::test]
async fn health_counts_devices_and_does_not_list_them() {
    let mut world = World::start().await;
    for device in ["A-1", "B-2", "C-3"] {
        world.reading(device, 10).await;
    }
    redis_cli(&world.redis, &["CONFIG", "RESETSTAT"]);
    // It is not ready, as no monitor runs here, and counts all the same.
    let health = text_of(send(&world.router, request("GET /health")).await).await;
    assert!(health.contains(r#""devices_count":3"#), "{health}");
    let commands = redis_cli(&world.redis, &["INFO", "commandstats"]);
    assert!(commands.contains("cmdstat_zcard"), "{commands}");
    assert!(!commands.contains("cmdstat_zrange"), "{commands}");
}

#[tokio::test]
async fn those_who_ask_for_the_health_at_once_share_an_answer_of_redis() {
    const ASKED: usize = 200;
    let world = World::start().await;
    let asked_redis = || {
        let commands = redis_cli(&world.redis, &["INFO", "commandstats"]);
        let line = commands
            .lines()
            .find(|line| line.starts_with("cmdstat_zcount:"));
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1).map(str::to_owned));
        calls.map_or(0, |calls| calls.parse::<usize>().unwrap())
    };
    let before = asked_redis();
    let start = std::time::Instant::now();
    for _ in 0..ASKED {
        assert_eq!(
            send(&world.router, request("GET /health")).await.status(),
            503
        );
    }
    // Two counts each, of the ingest replicas that listen and of those that are quiet.
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    let calls = asked_redis() - before;
    assert!(
        (1..=2 * seconds).contains(&calls),
        "{calls} calls in {seconds} s"
    );
}

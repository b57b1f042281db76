//! The list of all devices, and its pages.

use futures_util::{future::join_all, poll};

use super::*;

#[tokio::test]
async fn the_list_of_devices_has_pages_and_a_tag() {
    let mut world = World::start().await;
    let serials = ["A-1", "B 2", "C/3", "D-4", "E-5"];
    for serial in serials {
        world.reading(serial, 10).await;
    }
    let whole = world.get("/api/devices").await;
    check_schema("Devices", &whole);
    assert!(whole.get("next").is_none(), "{whole}");
    let mut paged = Vec::new();
    let mut path = "/api/devices?limit=2".to_owned();
    for expected in [json!("B 2"), json!("D-4"), Value::Null] {
        let page = world.get(&path).await;
        check_schema("Devices", &page);
        let devices = page["devices"].as_array().expect("a list");
        assert_eq!(page["count"], json!(devices.len()));
        assert_eq!(page["next"], expected, "{path}");
        paged.extend(devices.clone());
        let after = page["next"]
            .as_str()
            .unwrap_or_default()
            .replace(' ', "%20");
        path = format!("/api/devices?limit=2&after={after}");
    }
    assert_eq!(json!(paged), whole["devices"]);
    let all = world.get("/api/devices?limit=5").await;
    assert_eq!((&all["count"], &all["next"]), (&json!(5), &Value::Null));
    let none = world.get("/api/devices?after=Z").await;
    assert_eq!((&none["count"], &none["next"]), (&json!(0), &Value::Null));
    assert_eq!(world.error("GET /api/devices?limit=x").await.0, 400);

    let tag_of = async |path: &str| {
        let response = send(&world.router, request(&format!("GET {path}"))).await;
        header(&response, "etag").expect("a tag").to_owned()
    };
    let tag = tag_of("/api/devices").await;
    assert_eq!(tag_of("/api/devices").await, tag);
    assert_ne!(tag_of("/api/devices?limit=5").await, tag);
    for value in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let asked = with(request("GET /api/devices"), "if-none-match", &value);
        let response = send(&world.router, asked).await;
        assert_eq!(response.status(), 304, "{value}");
        assert_eq!(header(&response, "etag"), Some(tag.as_str()));
        assert_eq!(text_of(response).await, "");
    }
    world.reading("A-1", 11).await;
    let asked = with(request("GET /api/devices"), "if-none-match", &tag);
    assert_eq!(send(&world.router, asked).await.status(), 200);
}

/// Returns how often Redis was asked for the devices of a partition: 64 times for each list. `kind`: `calls` or `rejected_calls`.
fn reads(world: &World, kind: &str) -> u32 {
    let stats = redis_cli(&world.redis, &["INFO", "commandstats"]);
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_zrange:"));
    let mut fields = line.unwrap_or_default().trim().split(',');
    let count = fields.find_map(|field| field.strip_prefix(kind)?.strip_prefix('='));
    count.map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn one_list_serves_all_who_ask_while_another_is_rendered() {
    let mut world = World::start().await;
    world.reading("A-1", 10).await;
    redis_cli(&world.redis, &["CONFIG", "RESETSTAT"]);
    let asked = (0..20).map(|_| send(&world.router, request("GET /api/devices")));
    let answers = join_all(asked).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    // The first and the next one serve all.
    let reads = reads(&world, "calls");
    assert!(reads <= 2 * 64, "{reads}");
    for answer in answers {
        let list: Value = serde_json::from_str(&text_of(answer).await).expect("JSON");
        assert_eq!(list["count"], json!(1));
    }
}

#[tokio::test]
async fn a_failed_list_is_answered_to_all_who_wait_for_it() {
    let mut world = World::start().await;
    world.reading("A-1", 10).await;
    world.get("/api/devices").await;
    redis_cli(&world.redis, &["CONFIG", "RESETSTAT"]);
    redis_cli(&world.redis, &["ACL", "SETUSER", "default", "-zrange"]);
    let asked = (0..20).map(|_| send(&world.router, request("GET /api/devices")));
    for answer in join_all(asked).await {
        assert_eq!(error_of(answer).await.0, 503);
    }
    let reads = reads(&world, "rejected_calls");
    assert!((1..=2 * 64).contains(&reads), "{reads}");
}

#[tokio::test]
async fn a_client_that_disconnects_takes_no_list_from_others() {
    let mut world = World::start().await;
    world.reading("A-1", 10).await;
    redis_cli(&world.redis, &["CONFIG", "RESETSTAT"]);
    let mut first = Box::pin(send(&world.router, request("GET /api/devices")));
    let mut other = Box::pin(send(&world.router, request("GET /api/devices")));
    assert!(poll!(first.as_mut()).is_pending() && poll!(other.as_mut()).is_pending());
    eventually("a list was begun", async || {
        reads(&world, "calls") > 0 || poll!(first.as_mut()).is_ready()
    })
    .await;
    drop(first);
    assert_eq!(other.await.status(), 200);
    assert_eq!(reads(&world, "calls"), 64);
}

#[tokio::test]
async fn open_alarms_come_by_urgency_in_pages() {
    let mut world = World::start().await;
    assert_eq!(world.get("/api/alarms/open").await["alarms"], json!([]));
    for (serial, value) in [("A", 300), ("B", 1200), ("C", 600), ("D", 10), ("E", 1300)] {
        world.reading(serial, value).await;
    }
    let all = world.get("/api/alarms/open").await;
    check_schema("OpenAlarms", &all);
    let serials = |answer: &Value| -> Vec<String> {
        let alarms = answer["alarms"].as_array().expect("alarms").iter();
        alarms
            .map(|alarm| alarm["deviceId"].as_str().expect("a serial").to_owned())
            .collect()
    };
    assert_eq!(serials(&all), ["E", "B", "C", "A"]);
    assert!(all.get("next").is_none(), "{all}");
    let alert = all["alarms"][0]["id"].as_str().expect("an id").to_owned();
    let acknowledged = world.acknowledge("E", &alert, "{}").await;
    assert_eq!(acknowledged.0, 200);
    let mut paged = Vec::new();
    let mut path = "/api/alarms/open?limit=3".to_owned();
    for expected in [3, 1] {
        let page = world.get(&path).await;
        assert_eq!(
            (&page["count"], &page["total"]),
            (&json!(expected), &json!(4))
        );
        paged.extend(serials(&page));
        let next = page["next"].as_str().unwrap_or_default();
        path = format!("/api/alarms/open?limit=3&after={next}");
    }
    assert_eq!(paged, ["B", "E", "C", "A"]);
    let some = world.get("/api/alarms/open?severity=high,warning").await;
    assert_eq!(serials(&some), ["C", "A"]);
}

#[tokio::test]
async fn the_alarm_page_of_the_existing_front_end_is_answered() {
    let mut world = World::start().await;
    for (serial, value) in [("A", 300), ("B", 1200), ("B", 10)] {
        world.reading(serial, value).await;
    }
    // With the slash at the end that the front end sends.
    let open = world.get("/api/alarms/").await;
    check_schema("AlarmPage", &open);
    let rows: Vec<_> = open["data"].as_array().expect("rows").iter().collect();
    assert_eq!(
        (&rows[0]["severity"], &rows[0]["status"]),
        (&json!("critical"), &json!("Inactive"))
    );
    assert_eq!(
        (&rows[1]["severity"], &rows[1]["status"]),
        (&json!("warning"), &json!("Active"))
    );
    let log = world
        .get("/api/alarms/history/log?limit=1000&days=30/")
        .await;
    check_schema("AlarmPageHistory", &log);
    assert_eq!(log["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(log["data"][0]["location"], "19.011545, 72.823872");
    let one = world.get("/api/alarms/history/log?limit=1/").await;
    assert_eq!(one["data"].as_array().map(Vec::len), Some(1));
    for line in [
        "POST /api/alarms",
        "DELETE /api/alarms",
        "GET /api/alarms/triggers/7/",
    ] {
        assert_eq!(world.error(line).await.0, 404, "{line}");
    }
    assert_eq!(
        world.error("GET /api/alarms/history/log?days=x").await.0,
        400
    );
}

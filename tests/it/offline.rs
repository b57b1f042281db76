//! Nothing is shown as normal while no ingest receives messages.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::only_alert;
use tests::eventually::eventually;
use tests::stack::{Plan, Stack};

const SERIAL: &str = "OTSM-0001";

async fn with_a_short_limit() -> Result<Stack> {
    Plan::default()
        .ingests(2)
        .ingest_flags("--offline-after=4s")
        .start()
        .await
}

fn is_offline(data: &Value) -> bool {
    data["data_quality"] == "offline" && data["alarm_status"] == "ALARM"
}

#[tokio::test]
async fn with_every_ingest_dead_every_device_is_shown_as_offline() -> Result<()> {
    let mut stack = with_a_short_limit().await?;
    let device = stack.device(SERIAL);
    let watching = stack.browser().await?;
    watching.subscribe(SERIAL).await?;
    device.send(120).await?;
    let live = watching.event_after(0, "device:data", SERIAL).await?;
    assert_eq!(live["data"]["alarm_status"], "NORMAL");
    for ingest in &mut stack.ingests {
        ingest.process.kill().await?;
    }

    // A connected client receives the same values again, marked as stale, at their old position.
    let event = watching
        .wait_for("the stale reading", |seen| {
            seen.is_of("device:data", SERIAL) && seen.body["stale"] == true
        })
        .await?
        .body;
    assert!(is_offline(&event["data"]), "{event}");
    assert_eq!(event["seq"], live["seq"]);
    assert_eq!(event["epoch"], live["epoch"]);
    assert_eq!(event["data"]["timestamp"], live["data"]["timestamp"]);
    assert_eq!(event["data"]["sensor_reading"], 120);

    // REST returns them as offline, for one device and for all.
    let latest = stack.latest(SERIAL).await?;
    assert!(is_offline(&latest), "{latest}");
    let all = stack.get("/api/devices").await?.expect(200)?;
    assert_eq!(all["devices"][0]["status"], "offline", "{all}");
    assert!(is_offline(&all["devices"][0]["data"]), "{all}");
    let one = stack
        .get(&format!("/api/devices/{SERIAL}"))
        .await?
        .expect(200)?;
    assert_eq!(one["status"], "offline", "{one}");

    // So do a new subscription and one that recovers.
    let new = stack.browser().await?;
    new.subscribe(SERIAL).await?;
    let snapshot = &new.events("device:data", SERIAL)[0];
    assert!(is_offline(&snapshot["data"]), "{snapshot}");
    let recovering = stack.browser().await?;
    let answer = recovering
        .subscribe_since(SERIAL, &live["epoch"], 0)
        .await?;
    assert_eq!(answer["recovered"], true, "{answer}");
    let last = recovering
        .wait_for("the stale reading after the replay", |seen| {
            seen.is_of("device:data", SERIAL) && seen.body["stale"] == true
        })
        .await?;
    assert!(is_offline(&last.body["data"]), "{last:?}");

    // No alarm was published: only the freshness in answers differs.
    let alerts = stack.alerts(SERIAL).await?;
    assert!(alerts.is_empty(), "{alerts:?}");

    // After a restart the next message is live again.
    for ingest in &mut stack.ingests {
        ingest.process.restart()?;
    }
    for ingest in &mut stack.ingests {
        ingest.ready().await?;
    }
    device.send(130).await?;
    let healed = watching
        .wait_for("a live reading", |seen| {
            seen.is_of("device:data", SERIAL) && seen.body["data"]["sensor_reading"] == 130
        })
        .await?;
    assert_eq!(healed.body["data"]["data_quality"], "good", "{healed:?}");
    stack.pass()
}

/// Waits until the gateway knows of the ingest, which it does not just after the start.
async fn is_healthy(stack: &Stack) -> Result<()> {
    eventually("a data path without fault", async || {
        let ready = stack.get("/readyz").await?.expect(200)?;
        ensure!(ready["status"] == "ok", "{ready}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_client_receives_the_status_when_ingest_dies_and_when_it_is_back() -> Result<()> {
    let mut stack = Stack::start().await?;
    is_healthy(&stack).await?;
    let browser = stack.browser().await?;
    let from = browser.seen_count();
    stack.ingests[0].process.kill().await?;
    let degraded = browser
        .wait_after(from, "a degraded status", |seen| {
            seen.is_event("system:status") && seen.body["status"] == "degraded"
        })
        .await?;
    assert_eq!(
        degraded.body["dependencies"]["ingest"]["ok"], false,
        "{degraded:?}"
    );
    assert!(degraded.body["timestamp"].is_string(), "{degraded:?}");
    // A client that connects now receives the status too.
    let late = stack.browser().await?;
    late.wait_for("the status", |seen| {
        seen.is_event("system:status") && seen.body["status"] == "degraded"
    })
    .await?;
    // Every replica is degraded then, so each stays ready.
    let ready = stack.get("/readyz").await?.expect(200)?;
    assert_eq!(ready["status"], "degraded");
    let health = stack.get("/health").await?.expect(200)?;
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["mqtt_connected"], false);
    assert_eq!(health["mongodb_connected"], true);

    let from = browser.seen_count();
    stack.ingests[0].process.restart()?;
    browser
        .wait_after(from, "a healed status", |seen| {
            seen.is_event("system:status") && seen.body["status"] == "ok"
        })
        .await?;
    stack.pass()
}

#[tokio::test]
async fn without_redis_the_status_says_so_and_no_request_gets_an_empty_success() -> Result<()> {
    let stack = Stack::start().await?;
    stack.device(SERIAL).send(120).await?;
    stack.shows(SERIAL, 120).await?;
    let browser = stack.browser().await?;
    stack.redis_proxy.cut();
    browser
        .wait_for("a degraded status", |seen| {
            seen.is_event("system:status") && seen.body["dependencies"]["redis"]["ok"] == false
        })
        .await?;
    for path in [
        "/devices/OTSM-0001/subtronics/telemetry/latest",
        "/devices/OTSM-0001/subtronics/alerts",
        "/api/devices",
        "/api/devices/OTSM-0001",
        "/alarm-logs",
    ] {
        let answer = stack.get(path).await?;
        if answer.status == 200 {
            assert!(!answer.header("age").is_empty(), "{path}: {answer:?}");
            continue;
        }
        let body = answer.expect(503)?;
        assert!(body["error"].is_string(), "{path}: {body}");
        assert_eq!(body["error"], body["error_message"], "{path}");
    }
    // A subscription made now is answered when Redis is reachable again.
    browser.emit("subscribe:device", SERIAL.into()).await?;
    stack.redis_proxy.heal();
    let event = browser.event_after(0, "device:data", SERIAL).await?;
    assert_eq!(event["data"]["sensor_reading"], 120);
    stack.pass()
}

#[tokio::test]
async fn defect_12_a_silent_device_raises_an_alarm_that_its_next_message_clears() -> Result<()> {
    let stack = with_a_short_limit().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    device.send(120).await?;
    let live = browser.event_after(0, "device:data", SERIAL).await?;
    let event = browser
        .event_after(0, "device:alerts:changed", SERIAL)
        .await?;
    let alert = only_alert(&event)?;
    assert_eq!(alert["type"], "device_offline");
    assert_eq!(alert["severity"], "high");
    assert_eq!(alert["change"], "raised");
    assert!(alert.get("threshold").is_none(), "{alert}");
    let message = alert["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("No message from the detector for "),
        "{message}"
    );
    let data = browser.events("device:data", SERIAL);
    let offline = data
        .iter()
        .find(|body| body["seq"] == event["seq"])
        .unwrap_or(&Value::Null);
    assert!(is_offline(&offline["data"]), "{offline}");
    assert_eq!(offline["data"]["timestamp"], live["data"]["timestamp"]);

    let from = browser.seen_count();
    device.send(121).await?;
    let cleared = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    assert_eq!(only_alert(&cleared)?["change"], "cleared");
    let data = browser.events("device:data", SERIAL);
    let back = data.iter().find(|body| body["seq"] == cleared["seq"]);
    let back = back.context("the reading comes before its changes")?;
    assert_eq!(back["data"]["data_quality"], "good", "{back}");
    stack.pass()
}

#[tokio::test]
async fn a_device_whose_stored_state_cannot_be_read_is_not_shown_as_current() -> Result<()> {
    let stack = with_a_short_limit().await?;
    let browser = stack.browser().await?;
    let devices = ["OTSM-0001", "OTSM-0002"];
    for serial in devices {
        browser.subscribe(serial).await?;
        stack.device(serial).send(120).await?;
        browser.event_after(0, "device:data", serial).await?;
    }
    let mut redis = stack.redis_connection().await?;
    let from = browser.seen_count();
    for serial in devices {
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("st:*:device:{serial}"))
            .query_async(&mut redis)
            .await?;
        let key = keys.first().context("the device is stored")?;
        if serial == "OTSM-0001" {
            redis::cmd("HSET")
                .arg(key)
                .arg("alarms")
                .arg("}{")
                .exec_async(&mut redis)
                .await?;
        } else {
            redis::cmd("DEL").arg(key).exec_async(&mut redis).await?;
            redis::cmd("SET")
                .arg(key)
                .arg("x")
                .exec_async(&mut redis)
                .await?;
        }
    }
    for serial in devices {
        let event = browser
            .wait_after(from, "the stale reading", |seen| {
                seen.is_of("device:data", serial) && seen.body["stale"] == true
            })
            .await?;
        assert!(is_offline(&event.body["data"]), "{event:?}");
    }
    stack.pass()
}

//! Retiring a device, and a new device with the same serial.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use redis::AsyncCommands;
use serde_json::{Value, json};
use tests::browser::only_alert;
use tests::device::Device;
use tests::eventually::eventually;
use tests::http;
use tests::ledger;
use tests::stack::{Plan, Stack};

const SERIAL: &str = "OTSM-0001";

/// Reads the lines of the alarm log in Redis about retirements: who, when, and the alarm.
async fn retired_lines(stack: &Stack) -> Result<Vec<(String, i64, Option<String>)>> {
    type Entries = Vec<(String, std::collections::HashMap<String, String>)>;
    let mut redis = stack.redis_connection().await?;
    let logs: Vec<String> = redis.keys("st:*:log").await?;
    let mut lines = Vec::new();
    for log in logs {
        let entries: Entries = redis::cmd("XRANGE")
            .arg(&log)
            .arg("-")
            .arg("+")
            .query_async(&mut redis)
            .await?;
        for (_, fields) in entries {
            let line: Value = serde_json::from_str(&fields["line"])?;
            if line["change"] == "retired" {
                lines.push((
                    line["by"].as_str().unwrap_or_default().to_owned(),
                    line["at"].as_i64().context("a time")?,
                    line["alarm"]["id"].as_str().map(str::to_owned),
                ));
            }
        }
    }
    Ok(lines)
}

#[tokio::test]
async fn a_device_with_a_latched_alarm_is_retired_while_a_browser_watches() -> Result<()> {
    let stack = Plan::default().operator_port().start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    for (value, expected) in [(300, "raised"), (10, "latched")] {
        let from = browser.seen_count();
        let payload = device.newest(value).with_parameter("A1Latching", 1);
        device.publish(&payload).await?;
        let event = browser
            .event_after(from, "device:alerts:changed", SERIAL)
            .await?;
        assert_eq!(only_alert(&event)?["change"], expected, "{event}");
    }

    let from = browser.seen_count();
    let body = json!({"retired_by": "Asha"}).to_string();
    let answer = stack.retire(SERIAL, &body).await?.expect(200)?;
    assert_eq!(answer, json!({"success": true}));
    let event = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    let closed = only_alert(&event)?.clone();
    assert_eq!(closed["change"], "retired");
    assert_eq!(closed["state"], "cleared");
    assert!(closed["cleared_at"].is_string(), "{closed}");
    assert!(
        closed.get("acknowledged_by").is_none(),
        "it was not acknowledged"
    );
    let last_seq = event["seq"].as_u64().context("a seq")?;
    let data = browser.event_after(from, "device:data", SERIAL).await?;
    assert_eq!(data["stale"], true, "{data}");
    assert_eq!(data["data"]["alarm_status"], "ALARM");
    assert_eq!(data["data"]["data_quality"], "offline");

    for path in [
        format!("/devices/{SERIAL}/subtronics/telemetry/latest"),
        format!("/devices/{SERIAL}/subtronics/alerts"),
        format!("/api/devices/{SERIAL}"),
        format!("/api/devices/{SERIAL}/history"),
    ] {
        let gone = stack.get(&path).await?.expect(404)?;
        assert_eq!(gone["error"], "Device not found", "{path}");
    }
    let again = stack.retire(SERIAL, "").await?.expect(404)?;
    assert_eq!(again["error_message"], "Device not found");
    let lines = retired_lines(&stack).await?;
    let id = closed["id"].as_str().context("an id")?.to_owned();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|(by, at, _)| by == "Asha" && *at > 0));
    assert_eq!(lines[1].2.as_ref(), Some(&id));
    let logs = stack.get(&format!("/devices/{SERIAL}/alarm-logs")).await?;
    let logs = logs.expect(200)?;
    assert_eq!(logs["total_count"], 1, "{logs}");
    assert_eq!(logs["logs"][0]["state"], "cleared");
    assert_eq!(logs["logs"][0]["cleared_at"], closed["cleared_at"]);

    // The next message creates a new device: no position, alarm id or latching is used again.
    let from = browser.seen_count();
    device.send(300).await?;
    let event = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    let raised = only_alert(&event)?;
    assert_eq!(raised["change"], "raised");
    assert_ne!(raised["id"], closed["id"]);
    assert_eq!(event["seq"], last_seq + 1);
    assert_eq!(event["epoch"], data["epoch"]);
    assert_eq!(stack.alerts(SERIAL).await?.len(), 1, "only its own");
    let history = stack.get(&format!("/api/devices/{SERIAL}/history")).await?;
    assert_eq!(history.expect(200)?["count"], 1, "only its own");
    stack.pass()
}

/// Sends readings until that fails. Every fourth one is above a level.
async fn send_for_ever(device: &Device) -> Result<()> {
    loop {
        for value in [300, 10, 10, 10] {
            device.send(value).await?;
        }
    }
}

#[tokio::test]
async fn a_device_that_is_retired_while_it_sends_is_deleted_or_new_and_complete() -> Result<()> {
    // Otherwise an alarm that is raised again within a minute has its id of before.
    let plan = Plan::default().operator_port().every_raise_is_an_alarm();
    let stack = plan.start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    let retirements = async {
        let mut retired = 0_u32;
        while retired < 20 {
            match stack.retire(SERIAL, "").await?.status {
                200 => retired += 1,
                404 => {}
                other => anyhow::bail!("answered {other}"),
            }
            let samples = stack.get(&format!("/api/devices/{SERIAL}/history")).await?;
            ensure!(matches!(samples.status, 200 | 404), "{samples:?}");
        }
        Ok(retired)
    };
    let retired = tokio::select! {
        retired = retirements => retired?,
        failed = send_for_ever(&device) => return failed,
    };
    assert_eq!(retired, 20);

    // After this reading has arrived, everything published before it has arrived too.
    device.send(77).await?;
    let last = eventually("the last reading is shown", async || {
        let latest = stack.get(&format!("/api/devices/{SERIAL}")).await?;
        let latest = latest.expect(200)?;
        ensure!(latest["data"]["sensor_reading"] == 77, "{latest}");
        latest["seq"].as_u64().context("a seq")
    })
    .await?;
    browser
        .wait_for("the marker", |seen| {
            seen.is_of("device:data", SERIAL) && seen.seq() == Some(last)
        })
        .await?;
    // The gateway may learn of a retirement from Redis before its event arrives. Then it sends a snapshot.
    ledger::check_positions_of(&browser, SERIAL)?;
    let mut ids = HashSet::new();
    for seen in browser.seen() {
        for alert in seen.body["alerts"].as_array().into_iter().flatten() {
            if alert["change"] == "raised" {
                let id = alert["id"].to_string();
                ensure!(ids.insert(id), "an id came back: {alert}");
            }
        }
    }
    ensure!(!ids.is_empty(), "no alarm was raised");
    stack.pass()
}

#[tokio::test]
async fn a_stranger_on_the_main_port_retires_nothing() -> Result<()> {
    for with_port in [false, true] {
        let plan = Plan::default();
        let plan = if with_port {
            plan.operator_port()
        } else {
            plan
        };
        let stack = plan.start().await?;
        stack.device(SERIAL).send(300).await?;
        stack.shows(SERIAL, 300).await?;
        let main = stack.gateways[0].port();
        let path = format!("/api/devices/{SERIAL}");
        let refused = http::send(main, "DELETE", &path, &[], b"{}")
            .await?
            .expect(403)?;
        assert_eq!(refused["error_code"], "operators_only", "{refused}");
        assert_eq!(refused["error"], refused["error_message"]);
        let text = refused["error"].as_str().context("a text")?;
        assert!(text.contains("--ops-port"), "{text}");
        stack.get(&path).await?.expect(200)?;
        // The probes are on one of the ports, never on both.
        let probe = http::send(main, "GET", "/metrics", &[], b"").await?;
        assert_eq!(probe.status, if with_port { 404 } else { 200 });
        if with_port {
            check_operators(&stack).await?;
        }
        stack.pass()?;
    }
    Ok(())
}

/// The port for operators serves them, and no page: a page may come from anywhere, even under a name that leads here.
async fn check_operators(stack: &Stack) -> Result<()> {
    let port = stack.gateways[0].operator_port();
    let path = format!("/api/devices/{SERIAL}");
    let retire = |headers: &str| {
        let request = format!("DELETE {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
        async move { http::send_raw(port, &request).await }
    };
    for headers in [
        "host: evil.example\r\n".to_owned(),
        "host: localhost\r\norigin: http://localhost:5173\r\n".to_owned(),
        format!("host: 127.0.0.1:{port}\r\norigin: http://127.0.0.1:{port}\r\n"),
    ] {
        let answer = retire(&headers).await?;
        ensure!(answer.starts_with("HTTP/1.1 403"), "{headers}: {answer}");
    }
    // Platforms choose the name in their probes.
    let probe = "GET /readyz HTTP/1.1\r\nhost: gateway-1\r\nconnection: close\r\n\r\n";
    let answer = http::send_raw(port, probe).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for path in ["/api/devices", "/socket.io/?EIO=4&transport=polling"] {
        http::send(port, "GET", path, &[], b"").await?.expect(404)?;
    }
    stack.get(&path).await?.expect(200)?;
    let answer = retire("host: localhost\r\n").await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stack.get(&path).await?.expect(404)?;
    Ok(())
}

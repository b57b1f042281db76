//! Two releases at work on the same Redis and the same broker, as during a rolling upgrade in either direction.
//!
//! Compiled with the feature `upgrade` only, since it needs the binaries of another release. `tests/run --upgrade REV`
//! builds them and runs it.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::{Browser, Transport};
use tests::eventually::eventually;
use tests::http;
use tests::stack::{Plan, Stack};

const SERIALS: [&str; 3] = ["OTSM-0001", "OTSM-0002", "OTSM-0003"];
/// Every value but the first changes the alarm.
const VALUES: [i32; 6] = [10, 300, 600, 1200, 300, 10];
const ROUNDS: usize = 12;

fn other_release() -> Result<PathBuf> {
    let folder = std::env::var_os("UPGRADE_BINARIES");
    folder
        .map(PathBuf::from)
        .context("UPGRADE_BINARIES is not set: use `tests/run --upgrade REV`")
}

/// Starts both releases. Both ingest replicas read every message, so they compete for each decision.
async fn both_releases() -> Result<Stack> {
    let other = other_release()?;
    Plan::default()
        .ingests(2)
        .without_share_group()
        .gateways(2)
        .replica_from("ingest-1", &other)
        .replica_from("gateway-1", &other)
        .start()
        .await
}

#[tokio::test]
async fn clients_of_both_releases_see_the_same_alarms() -> Result<()> {
    let stack = both_releases().await?;
    let mut browsers = Vec::new();
    for gateway in &stack.gateways {
        browsers.push(Browser::connect(gateway.port(), Transport::WebSocket).await?);
    }
    let devices = SERIALS.map(|serial| stack.device(serial));
    for device in &devices {
        device.send(1).await?;
        stack.shows(device.serial(), 1).await?;
        for browser in &browsers {
            let answer = browser.follow(device.serial()).await?;
            ensure!(answer["ok"] == true, "{answer}");
        }
    }
    for round in 0..ROUNDS {
        for value in VALUES {
            for device in &devices {
                device.send(value).await?;
            }
            if value == 1200 {
                acknowledge_open(&stack, round % 2).await?;
            }
        }
    }
    for device in &devices {
        stack.shows(device.serial(), 10).await?;
    }
    // The markers: what precedes them in order has arrived when they have.
    for device in &devices {
        device.send(11).await?;
    }
    for serial in SERIALS {
        let mut seen = Vec::new();
        for browser in &browsers {
            seen.push(changes_before_marker(browser, serial).await?);
        }
        ensure!(seen[0] == seen[1], "{serial}: {seen:#?}");
        ensure!(seen[0].len() > ROUNDS, "{serial}: {seen:#?}");
    }
    let mut logs = Vec::new();
    for gateway in &stack.gateways {
        logs.push(gateway.get("/alarm-logs?limit=1000").await?.expect(200)?);
    }
    ensure!(logs[0] == logs[1], "{logs:#?}");
    ensure!(!logs[0].to_string().contains("state_lost"), "{}", logs[0]);
    stack.pass()
}

#[tokio::test]
async fn a_release_takes_over_and_gives_back() -> Result<()> {
    let mut stack = both_releases().await?;
    let device = stack.device("OTSM-0001");
    device.send(300).await?;
    stack.shows("OTSM-0001", 300).await?;
    for (leaving, value) in [(1, 600), (0, 1200)] {
        let status = stack.ingests[leaving].process.terminate().await?;
        ensure!(status.code() == Some(0), "{status}");
        device.send(value).await?;
        stack.shows("OTSM-0001", value).await?;
        stack.ingests[leaving].process.restart()?;
        stack.ingests[leaving].ready().await?;
    }
    let alerts = stack.alerts("OTSM-0001").await?;
    assert_eq!(alerts.len(), 1, "one alarm, escalated twice: {alerts:?}");
    assert_eq!(alerts[0]["type"], "alarm_level_3");
    device.send(10).await?;
    eventually("the alarm is cleared", async || {
        let alerts = stack.alerts("OTSM-0001").await?;
        ensure!(alerts[0]["state"] == "cleared", "{alerts:?}");
        Ok(())
    })
    .await?;
    stack.pass()
}

/// Acknowledges every open alarm at this gateway.
async fn acknowledge_open(stack: &Stack, gateway: usize) -> Result<()> {
    let port = stack.gateways[gateway].port();
    for serial in SERIALS {
        for alert in stack.alerts(serial).await? {
            let id = alert["id"].as_str().context("an id")?;
            let path = format!("/devices/{serial}/subtronics/alerts/{id}/acknowledge");
            let headers = [("content-type", "application/json")];
            let body = json!({"acknowledged_by": "Ann"}).to_string();
            let answer = http::send(port, "POST", &path, &headers, body.as_bytes()).await?;
            // The alarm may have been cleared and removed since.
            ensure!([200, 404].contains(&answer.status), "{answer:?}");
        }
    }
    Ok(())
}

/// Waits for the reading of 11, and returns the alarm changes of the device that the browser received before.
async fn changes_before_marker(browser: &Browser, serial: &str) -> Result<Vec<Value>> {
    eventually(&format!("the marker of {serial}"), async || {
        let seen = browser.events("device:data", serial);
        let mut values = seen.iter().map(|event| &event["data"]["sensor_reading"]);
        ensure!(values.any(|value| *value == 11), "{:?}", seen.last());
        Ok(())
    })
    .await?;
    Ok(browser.events("device:alerts:changed", serial))
}

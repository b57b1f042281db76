//! Two releases at work on the same Redis and the same broker, as during a rolling upgrade in either direction.
//!
//! Compiled with the feature `upgrade` only, since it needs the binaries of another release. `tests/run --upgrade REV`
//! builds them and runs it.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use redis::AsyncCommands;
use serde_json::{Value, json};
use shared::device::DeviceId;
use shared::keys::{self, PartitionKeys};
use tests::browser::{Browser, Transport};
use tests::device::Payload;
use tests::eventually::eventually;
use tests::http;
use tests::stack::{Plan, Stack};
use tests::upgrade;

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
        let browser = Browser::connect(gateway.port(), Transport::WebSocket).await?;
        browser.of_another_release();
        browsers.push(browser);
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
    let log_of = async |gateway: usize| {
        let answer = stack.gateways[gateway]
            .get("/alarm-logs?limit=1000")
            .await?;
        Ok::<_, anyhow::Error>(upgrade::with_ordered_ties(answer.expect(200)?))
    };
    let logs = [log_of(0).await?, log_of(1).await?];
    // The second gateway is of the other release.
    let rows = logs
        .each_ref()
        .map(|log| log["logs"].as_array().cloned().unwrap_or_default());
    ensure!(rows[0].len() == rows[1].len(), "{logs:#?}");
    for (first, second) in rows[0].iter().zip(&rows[1]) {
        let agree = upgrade::keeps(first, second) || upgrade::keeps(second, first);
        ensure!(agree, "{first:#?} and {second:#?}");
    }
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
    // A release that remembers peaks would keep it open otherwise.
    let id = alerts[0]["id"].as_str().context("an id")?;
    let answer = stack.acknowledge("OTSM-0001", id, "{}").await?;
    answer.expect(200)?;
    device.send(10).await?;
    eventually("the alarm is cleared", async || {
        let alerts = stack.alerts("OTSM-0001").await?;
        ensure!(alerts[0]["state"] == "cleared", "{alerts:?}");
        Ok(())
    })
    .await?;
    stack.pass()
}

const SIDES: &str = "OTSM-SIDES";
const BELOW: &str = "OTSM-BELOW";
const SETTING: &str = "OTSM-SETTING";
const PEAK: &str = "OTSM-PEAK";
const NEW_KINDS: [&str; 4] = [SIDES, BELOW, SETTING, PEAK];

/// The present release has new kinds of alarms, the other one may not have them.
#[expect(
    clippy::too_many_lines,
    reason = "one story: both releases, the new one alone, both again, the new one alone"
)]
#[tokio::test]
async fn new_kinds_of_alarms_wait_for_the_older_release_and_survive_its_return() -> Result<()> {
    let mut stack = both_releases().await?;
    if !is_without_rules(&stack).await? {
        // Both releases know all kinds.
        return stack.pass();
    }
    // The present release starts when the older one reports, so it knows of it from its first message on.
    stack.ingests[0].process.terminate().await?;
    stack.ingests[0].process.restart()?;
    stack.ingests[0].ready().await?;

    // While both decide, nothing is written that the older one does not handle, and no gas is missed.
    for _ in 0..ROUNDS {
        send_new_kinds(&stack, "24", 1200, 1).await?;
        send_new_kinds(&stack, "10", 10, 100).await?;
        let latest = stack.latest(SIDES).await?;
        ensure!(latest["alarm_status"] == "ALARM", "{latest}");
        for serial in NEW_KINDS {
            let more = alarms_in_more(&stack, serial).await?;
            ensure!(more.is_empty(), "{serial}: {more:?}");
        }
    }
    for serial in NEW_KINDS {
        let alerts = stack.alerts(serial).await?;
        let is_new = |alert: &Value| {
            ["under_range", "setting_changed"]
                .iter()
                .any(|kind| alert["type"] == *kind)
                || alert["state"] == "returned"
        };
        ensure!(!alerts.iter().any(is_new), "{alerts:?}");
    }

    // The older one stops: the new kinds appear with the next readings.
    let status = stack.ingests[1].process.terminate().await?;
    ensure!(status.code() == Some(0), "{status}");
    eventually("the new kinds of alarms", async || {
        send_new_kinds(&stack, "24", 1200, 1).await?;
        send_new_kinds(&stack, "10", 10, 100).await?;
        for (serial, kind) in [
            (SIDES, "alarm_level_1"),
            (SIDES, "alarm_level_2"),
            (BELOW, "under_range"),
            (SETTING, "setting_changed"),
        ] {
            ensure!(
                !open(&stack, serial, kind).await?.is_empty(),
                "{serial}: no {kind}"
            );
        }
        let peak = open(&stack, PEAK, "alarm_level_3").await?;
        ensure!(
            peak.iter().any(|alert| alert["state"] == "returned"),
            "{peak:?}"
        );
        Ok(())
    })
    .await?;

    // The older one comes back, and decides alone: what it does not know stays, and nobody is told that it ended.
    let browser = stack.browser().await?;
    browser.of_another_release();
    let mut kept = Vec::new();
    for serial in NEW_KINDS {
        browser.follow(serial).await?;
        kept.extend(alarms_in_more(&stack, serial).await?);
    }
    ensure!(kept.len() >= 4, "{kept:?}");
    stack.ingests[1].process.restart()?;
    stack.ingests[1].ready().await?;
    stack.ingests[0].process.terminate().await?;
    send_new_kinds(&stack, "24", 300, 1).await?;
    // Markers: the older release has decided about everything before them.
    for serial in NEW_KINDS {
        stack
            .device(serial)
            .publish(&payload_of(&stack, serial, "24", 301, 1))
            .await?;
    }
    stack.shows(PEAK, 301).await?;
    stack.shows(SETTING, 201).await?;
    for serial in NEW_KINDS {
        let open = stack.alerts(serial).await?;
        for (id, _) in kept.iter().filter(|(_, of)| of == serial) {
            let alert = open.iter().find(|alert| alert["id"] == **id);
            let state = alert.map(|alert| &alert["state"]);
            ensure!(
                state.is_some_and(|state| state != "cleared"),
                "{id}: {open:?}"
            );
        }
        for event in browser.events("device:alerts:changed", serial) {
            let changes = event["alerts"].as_array().context("a list")?;
            for change in changes {
                let is_kept = kept.iter().any(|(id, _)| change["id"] == **id);
                ensure!(!(is_kept && change["change"] == "cleared"), "{change}");
            }
        }
    }
    let raised_beside = open(&stack, PEAK, "alarm_level_1").await?;
    ensure!(
        raised_beside.len() == 1,
        "the older release sees no gas alarm: {raised_beside:?}"
    );

    // It goes for good: alarms of one kind are merged, and the peak is still not acknowledged.
    stack.ingests[0].process.restart()?;
    stack.ingests[0].ready().await?;
    stack.ingests[1].process.terminate().await?;
    eventually("one alarm for the peak", async || {
        send_new_kinds(&stack, "10", 10, 1).await?;
        let alerts = stack.alerts(PEAK).await?;
        let open: Vec<&Value> = alerts
            .iter()
            .filter(|alert| alert["state"] != "cleared")
            .collect();
        ensure!(open.len() == 1, "{open:?}");
        ensure!(
            open[0]["state"] == "returned" && open[0]["type"] == "alarm_level_3",
            "{open:?}"
        );
        let both = [
            open_count(&stack, SIDES, "alarm_level_1").await?,
            open_count(&stack, SIDES, "alarm_level_2").await?,
        ];
        ensure!(both == [1, 1], "{both:?}");
        Ok(())
    })
    .await?;

    // Everything ends.
    for serial in [SIDES, SETTING, PEAK] {
        let calm = if serial == SIDES { "20.9" } else { "10" };
        eventually(&format!("all alarms of {serial} end"), async || {
            acknowledge_all(&stack, serial).await?;
            let device = stack.device(serial);
            device
                .publish(&payload_of(&stack, serial, calm, 10, 1))
                .await?;
            let alerts = stack.alerts(serial).await?;
            // An alarm that chatters stays open until it has been calm for ten minutes.
            let is_open = |alert: &&Value| {
                let chatters = alert["count"].as_u64() >= Some(3);
                alert["state"] != "cleared" && !(chatters && alert["state"] == "acknowledged")
            };
            ensure!(alerts.iter().filter(is_open).count() == 0, "{alerts:?}");
            Ok(())
        })
        .await?;
    }
    stack.pass()
}

/// Whether a replica of the other release reports, and without the version of its rules.
async fn is_without_rules(stack: &Stack) -> Result<bool> {
    let mut redis = stack.redis_connection().await?;
    eventually("both replicas report", async || {
        let mut redis = stack.redis_connection().await?;
        let count: usize = redis.zcard(keys::INGEST_MEMBERS).await?;
        ensure!(count == 2, "{count}");
        Ok(())
    })
    .await?;
    let rules: Vec<String> = redis.hkeys(keys::INGEST_RULES).await?;
    Ok(rules.len() < 2)
}

/// Sends a reading to each of [`NEW_KINDS`]: oxygen, a value below the range, a value of 200 at levels that are multiplied, and gas.
async fn send_new_kinds(stack: &Stack, oxygen: &str, gas: i32, factor: i32) -> Result<()> {
    for serial in NEW_KINDS {
        let device = stack.device(serial);
        let payload = payload_of(stack, serial, oxygen, gas, factor);
        device.publish(&payload).await?;
    }
    stack.shows(PEAK, gas).await?;
    Ok(())
}

fn payload_of(stack: &Stack, serial: &str, oxygen: &str, gas: i32, factor: i32) -> Payload {
    let device = stack.device(serial);
    match serial {
        SIDES => upgrade::oxygen(&device, oxygen),
        BELOW => device.newest(-9999),
        SETTING => device
            .newest(200 + gas % 2)
            .with_parameter("Alarm Level A1", 250 * factor),
        _ => device.newest(gas),
    }
}

/// The alarms in the field that earlier releases leave alone: id and serial.
async fn alarms_in_more(stack: &Stack, serial: &str) -> Result<Vec<(String, String)>> {
    let mut redis = stack.redis_connection().await?;
    let device: DeviceId = serial.parse().context("a serial")?;
    let keys = PartitionKeys::new(device.partition(64));
    let more: Option<String> = redis.hget(keys.device(&device), "more").await?;
    let more: Value = serde_json::from_str(&more.unwrap_or_else(|| "{}".to_owned()))?;
    let alarms = more["alarms"].as_array().cloned().unwrap_or_default();
    let id = |alarm: &Value| alarm["id"].as_str().unwrap_or_default().to_owned();
    Ok(alarms
        .iter()
        .map(|alarm| (id(alarm), serial.to_owned()))
        .collect())
}

async fn open(stack: &Stack, serial: &str, kind: &str) -> Result<Vec<Value>> {
    let alerts = stack.alerts(serial).await?;
    let is_open = |alert: &Value| alert["type"] == kind && alert["state"] != "cleared";
    Ok(alerts.into_iter().filter(is_open).collect())
}

async fn open_count(stack: &Stack, serial: &str, kind: &str) -> Result<usize> {
    Ok(open(stack, serial, kind).await?.len())
}

async fn acknowledge_all(stack: &Stack, serial: &str) -> Result<()> {
    for alert in stack.alerts(serial).await? {
        let id = alert["id"].as_str().context("an id")?;
        let answer = stack.acknowledge(serial, id, "{}").await?;
        ensure!([200, 404].contains(&answer.status), "{answer:?}");
    }
    Ok(())
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

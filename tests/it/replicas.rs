//! Two replicas of each service on one Redis behave like one.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tests::browser::{Browser, Transport};
use tests::device::Device;
use tests::http;
use tests::stack::{Plan, Stack};

async fn two_of_each() -> Result<Stack> {
    let plan = Plan::default().ingests(2).gateways(2);
    plan.every_raise_is_an_alarm().start().await
}

#[tokio::test]
async fn every_client_receives_each_position_once_and_in_order() -> Result<()> {
    const READINGS: i64 = 100;
    let stack = two_of_each().await?;
    let devices: Vec<Device> = (1..=5)
        .map(|n| stack.device(&format!("OTSM-000{n}")))
        .collect();
    let mut browsers = Vec::new();
    for gateway in &stack.gateways {
        for transport in [Transport::WebSocket, Transport::Polling] {
            let browser = Browser::connect(gateway.port(), transport).await?;
            for device in &devices {
                browser.subscribe(device.serial()).await?;
            }
            browsers.push(browser);
        }
    }

    try_join_all(devices.iter().map(async |device| {
        for number in 0..READINGS {
            // Through every level and back, again and again.
            device.send((number * 130) % 1300).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    for device in &devices {
        // This has the newest device time, so it is the latest reading in the end.
        device.send(7).await?;
        stack.shows(device.serial(), 7).await?;
    }

    for device in &devices {
        let mut seen = Vec::new();
        for browser in &browsers {
            let what = format!("the last reading of {}", device.serial());
            browser
                .wait_for(&what, |seen| {
                    seen.is_of("device:data", device.serial())
                        && seen.body["data"]["sensor_reading"] == 7
                })
                .await?;
            // The answer comes after the last event of the position.
            browser.subscribe("OTSM-9999").await?;
            let mut received = in_order(browser, device.serial())?;
            received.retain(|(_, name)| name != "device:data");
            seen.push(received);
        }
        assert!(
            seen.iter().all(|positions| *positions == seen[0]),
            "{seen:?}"
        );
    }
    stack.pass()
}

/// Returns all events of a device that a client received. Fails if a position is missing, repeated or out of order. Readings
/// that came too fast for the client may be left out, which the next one says.
fn in_order(browser: &Browser, serial: &str) -> Result<Vec<(u64, String)>> {
    let mut received: Vec<(u64, String)> = Vec::new();
    for seen in browser.seen() {
        let is_live = seen.body["snapshot"] != true && seen.body["stale"] != true;
        if seen.body["deviceId"] != serial || seen.what != "event" || !is_live {
            continue;
        }
        let seq = seen.seq().context("an event without seq")?;
        let last = received.last().map_or(0, |(seq, _)| *seq);
        let skipped = seen.body["skipped"].as_u64().unwrap_or(0);
        ensure!(
            seq == last || seq == last + 1 + skipped,
            "{serial}: {seq} after {last}"
        );
        let entry = (seq, seen.name);
        ensure!(!received.contains(&entry), "{serial}: {entry:?} twice");
        received.push(entry);
    }
    ensure!(!received.is_empty(), "nothing of {serial}");
    Ok(received)
}

const DEVICES: usize = 8;
const ROUNDS: usize = 60;

/// Whether each level an alarm reached (A1, A2, A3) was acknowledged before it moved on.
type Levels = [bool; 3];

#[tokio::test]
async fn an_acknowledgement_racing_an_escalation_loses_neither() -> Result<()> {
    let stack = two_of_each().await?;
    let browser = stack.browser().await?;
    let devices: Vec<Device> = (0..DEVICES)
        .map(|n| stack.device(&format!("OTSM-000{n}")))
        .collect();
    for device in &devices {
        browser.subscribe(device.serial()).await?;
    }
    // 8 devices × 60 rounds × 2 escalations: almost 1000 races.
    let answered = try_join_all(devices.iter().map(async |device| {
        let mut levels = Vec::new();
        for round in 0..ROUNDS {
            levels.push(races(&stack, &browser, device, round).await?);
        }
        anyhow::Ok(levels)
    }))
    .await?;

    for (device, levels) in devices.iter().zip(&answered) {
        assert_eq!(
            received_levels(&browser, device.serial())?,
            *levels,
            "{}",
            device.serial()
        );
    }
    let first = answered.iter().flatten().filter(|levels| levels[0]).count();
    assert!(
        first > 0 && first < DEVICES * ROUNDS,
        "the same writer was first every time: there was no race"
    );
    stack.pass()
}

/// Raises an alarm, then escalates it twice while the level before is acknowledged. Returns the levels that are acknowledged
/// by the answers.
async fn races(stack: &Stack, browser: &Browser, device: &Device, round: usize) -> Result<Levels> {
    let serial = device.serial();
    let mut from = browser.seen_count();
    device.send(300).await?;
    let mut before = changed(browser, from, serial, "raised").await?;
    let mut levels = [false; 3];
    for (step, value) in [(0, 600), (1, 1100)] {
        from = browser.seen_count();
        if levels[step] {
            // Already acknowledged at this level: a repeated acknowledgement changes nothing.
            device.send(value).await?;
            before = changed(browser, from, serial, "escalated").await?;
            continue;
        }
        let id = before["alerts"][0]["id"].as_str().context("no id")?;
        let path = format!("/devices/{serial}/subtronics/alerts/{id}/acknowledge");
        let with_seen = (round + step).is_multiple_of(2);
        let mut body = json!({"acknowledged_by": "Asha"});
        if with_seen {
            body["seen"] = json!({"epoch": before["epoch"], "seq": before["seq"]});
        }
        let body = body.to_string();
        let headers = [("content-type", "application/json")];
        let port = stack.gateways[round % 2].port();
        let (sent, answer) = tokio::join!(
            device.send(value),
            http::send(port, "POST", &path, &headers, body.as_bytes())
        );
        sent?;
        let answer = answer?.expect(200)?;
        ensure!(answer["success"] == true, "{answer}");
        let escalated = changed(browser, from, serial, "escalated").await?;
        if answer["escalated"] != true {
            let acknowledged = changed(browser, from, serial, "acknowledged").await?;
            let is_first = acknowledged["seq"].as_u64() < escalated["seq"].as_u64();
            ensure!(
                is_first || !with_seen,
                "covered a level that was not seen: {acknowledged}"
            );
            levels[if is_first { step } else { step + 1 }] = true;
        }
        before = escalated;
    }
    from = browser.seen_count();
    device.send(10).await?;
    changed(browser, from, serial, "cleared").await?;
    Ok(levels)
}

/// Returns the same from the changes that a client received.
fn received_levels(browser: &Browser, serial: &str) -> Result<Vec<Levels>> {
    let mut rounds: Vec<Levels> = Vec::new();
    let mut level = 0;
    for body in browser.events("device:alerts:changed", serial) {
        match body["alerts"][0]["change"].as_str().context("no change")? {
            "raised" => {
                level = 0;
                rounds.push([false; 3]);
            }
            "escalated" => level += 1,
            "acknowledged" => {
                let last = rounds
                    .last_mut()
                    .context("acknowledged before it was raised")?;
                last[level] = true;
            }
            _ => {}
        }
    }
    Ok(rounds)
}

/// Waits for the next position with this change of the alarm.
async fn changed(browser: &Browser, from: usize, serial: &str, change: &str) -> Result<Value> {
    let seen = browser
        .wait_after(from, &format!("{change} of {serial}"), |seen| {
            seen.is_of("device:alerts:changed", serial)
                && seen.body["alerts"][0]["change"] == change
        })
        .await?;
    Ok(seen.body)
}

#[tokio::test]
async fn a_second_ingest_continues_when_the_first_is_killed() -> Result<()> {
    // Without a share group both read everything: redundancy.
    let mut stack = Plan::default()
        .ingests(2)
        .without_share_group()
        .start()
        .await?;
    let device = stack.device("OTSM-0001");
    let browser = stack.browser().await?;
    browser.subscribe("OTSM-0001").await?;
    for value in 1..=10 {
        device.send(value).await?;
    }
    stack.ingests[0].process.kill().await?;
    for value in 11..=20 {
        device.send(value).await?;
    }
    browser
        .wait_for("the last reading", |seen| {
            seen.is_event("device:data") && seen.body["data"]["sensor_reading"] == 20
        })
        .await?;
    let values: Vec<Value> = browser
        .events("device:data", "OTSM-0001")
        .into_iter()
        .map(|body| body["data"]["sensor_reading"].clone())
        .collect();
    let expected: Vec<Value> = (1..=20).map(Value::from).collect();
    assert_eq!(
        values, expected,
        "each reading once, although two have read it"
    );
    in_order(&browser, "OTSM-0001")?;
    stack.pass()
}

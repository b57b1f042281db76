//! Everything that `gateway/src/openapi.json` describes of Socket.IO is sent. That nothing else is sent, every test with a browser checks.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tests::all_devices::List;
use tests::browser::{Browser, BrowserEvent, Transport};
use tests::described::everything_described;
use tests::device::Device;
use tests::eventually::eventually;
use tests::http;
use tests::stack::{Plan, Stack};
use tests::tokens::{Signed, TokenIssuer};

const SERIAL: &str = "OTSM-0001";
const OTHER: &str = "OTSM-0002";
const OXYGEN: &str = "OTSM-0003";

/// What no test can make a gateway send to a client that it has admitted: without keys of tokens it admits nobody.
const UNSENT: [&str; 1] = ["Readiness.dependencies.keys"];

#[tokio::test]
async fn everything_that_is_described_is_sent() -> Result<()> {
    let mut seen = readings_and_alarms().await?;
    seen.extend(tokens_and_broadcasts().await?);
    let described = everything_described();
    let unsent = described.difference(&seen);
    assert_eq!(
        unsent.collect::<Vec<_>>(),
        UNSENT.iter().collect::<Vec<_>>()
    );
    Ok(())
}

/// Alarms that come and go, odd clocks, more readings than are sent, retirement, faults and the end of a replica.
async fn readings_and_alarms() -> Result<BTreeSet<String>> {
    let plan = Plan::default()
        .operator_port()
        .ingest_flags("--live-raw-message --offline-after=10m");
    let mut stack = plan.start().await?;
    let (device, other) = (stack.device(SERIAL), stack.device(OTHER));
    let (usual, all) = (stack.browser().await?, stack.browser().await?);
    // In the list there are two devices and two alarms when it is sent.
    other.send(1200).await?;
    device.send(1200).await?;
    stack.shows(OTHER, 1200).await?;
    stack.shows(SERIAL, 1200).await?;
    say_where_it_is(&stack).await?;
    usual.follow(SERIAL).await?;
    let changes = json!({"deviceId": SERIAL, "changes": true});
    all.ask("subscribe:device", changes).await?;
    all.ask("subscribe:fleet", json!({"interval": 250})).await?;
    all.ask("subscribe:alarms", Value::Null).await?;

    raise_and_acknowledge(&stack, &device, &all).await?;
    // A clock that is years off, and then right again.
    let odd = device.newest(20);
    device
        .publish(&odd.with("Date Time At Reading", "2020-01-28 11:37:12"))
        .await?;
    device.send(21).await?;
    all.wait_for("that a field is gone", |seen| {
        seen.body["removed"].is_array()
    })
    .await?;
    say_how_it_is_judged(&stack, &usual, &all).await?;
    leave_readings_out(&device, [&usual, &all]).await?;
    let mut seen = lose_position(&stack).await?;
    seen.extend(refuse(&stack).await?);

    let from = usual.seen_count();
    stack.redis_proxy.cut();
    let status = |status: &'static str| {
        move |seen: &BrowserEvent| seen.is_event("system:status") && seen.body["status"] == status
    };
    let (cut, _) = usual
        .find_after(from, "that Redis is away", status("degraded"))
        .await?;
    stack.redis_proxy.heal();
    usual
        .wait_after(cut, "that all is well", status("ok"))
        .await?;
    stack.retire(OTHER, "{}").await?.expect(200)?;
    all.wait_for("that its row is gone", |seen| {
        seen.is_event("fleet:changed") && seen.body["removed"] == json!([OTHER])
    })
    .await?;
    let ends = |seen: &BrowserEvent| {
        let mut ended = seen.body["ended"].as_array().into_iter().flatten();
        ended.any(|ended| ended["change"] == "retired")
    };
    all.wait_for("that its alarm has ended", ends).await?;
    stack.retire(SERIAL, "{}").await?.expect(200)?;
    usual
        .wait_for("its last reading", |seen| seen.body["stale"] == true)
        .await?;
    stack.gateways[0].process.terminate().await?;
    usual
        .wait_for("the notice", |seen| seen.is_event("server:drain"))
        .await?;
    seen.extend(usual.properties());
    seen.extend(all.properties());
    Ok(seen)
}

/// Gives the device coordinates in its profile.
async fn say_where_it_is(stack: &Stack) -> Result<()> {
    let path = format!("/api/devices/{SERIAL}/profile");
    let tag = stack.get(&path).await?.header("etag").to_owned();
    let body = json!({"latitude": 18.5, "longitude": 73.25}).to_string();
    let port = stack.gateways[0].operator_port();
    let headers = [("if-match", tag.as_str())];
    let changed = http::send(port, "PUT", &path, &headers, body.as_bytes()).await?;
    changed.expect(200)?;
    Ok(())
}

/// Every way of an alarm: raised, escalated, acknowledged, lower, cleared; and a fault.
async fn raise_and_acknowledge(stack: &Stack, device: &Device, all: &Browser) -> Result<()> {
    let ends = async |browser: &Browser| {
        eventually("no alarm of it is open", async || {
            let list = List::of_alarms(browser)?;
            let mut open = list.entries.values();
            ensure!(!open.any(|alarm| alarm["deviceId"] == SERIAL), "{list:?}");
            Ok(())
        })
        .await
    };
    for alert in stack.alerts(SERIAL).await? {
        let id = alert["id"].as_str().context("an id")?;
        stack.acknowledge(SERIAL, id, "{}").await?.expect(200)?;
    }
    device.send(20).await?;
    ends(all).await?;
    for value in [300, 600] {
        device.send(value).await?;
        stack.shows(SERIAL, value).await?;
    }
    let alert = &stack.alerts(SERIAL).await?[0];
    let id = alert["id"].as_str().context("an id")?;
    let body = json!({"acknowledged_by": "Asha", "note": "Looked at"}).to_string();
    stack.acknowledge(SERIAL, id, &body).await?.expect(200)?;
    let fault = device.newest(300).with_parameter("Sensor Fault", 1);
    device.publish(&fault).await?;
    device.send(20).await?;
    ends(all).await
}

/// A detector of oxygen that never says its range, and whose messages go on without a newer reading.
async fn say_how_it_is_judged(stack: &Stack, usual: &Browser, all: &Browser) -> Result<()> {
    let device = stack.device(OXYGEN);
    usual.follow(OXYGEN).await?;
    let reading = device
        .newest(300)
        .with_parameter("A1Type", "Low")
        .without("Span High");
    device.publish(&reading).await?;
    usual
        .wait_for("the sides of its levels", |seen| {
            seen.body["data"]["level_sides"] == json!(["low", "low", "low"])
        })
        .await?;
    eventually("its reading is older than its last message", async || {
        device.publish(&reading).await?;
        ensure!(all.properties().contains("FleetRow.reading_at"), "not yet");
        Ok(())
    })
    .await
}

/// Sends more at once than is sent on, until both clients were told that readings were left out.
async fn leave_readings_out(device: &Device, browsers: [&Browser; 2]) -> Result<()> {
    let wanted = ["DeviceData.skipped", "DeviceDataChanged.skipped"];
    eventually("readings are left out", async || {
        try_join_all((20..60).map(|value| device.send(value))).await?;
        for (browser, wanted) in browsers.iter().zip(wanted) {
            ensure!(browser.properties().contains(wanted), "no {wanted}");
        }
        Ok(())
    })
    .await
}

/// Continues from a position that nobody knows.
async fn lose_position(stack: &Stack) -> Result<BTreeSet<String>> {
    let browser = stack.browser().await?;
    let answer = browser
        .subscribe_since(SERIAL, &json!("000000000000"), 1)
        .await?;
    ensure!(answer["alarmsRecovered"] == false, "{answer}");
    Ok(browser.properties())
}

/// Asks for what is refused.
async fn refuse(stack: &Stack) -> Result<BTreeSet<String>> {
    let browser = stack.browser().await?;
    for command in ["subscribe:device", "subscribe:fleet", "subscribe:alarms"] {
        let answer = browser.ask(command, json!(7)).await?;
        ensure!(answer["ok"] == false, "{command}: {answer}");
    }
    Ok(browser.properties())
}

/// A token that is about to expire, a new one, and the broadcast of all readings.
async fn tokens_and_broadcasts() -> Result<BTreeSet<String>> {
    let issuer = TokenIssuer::new()?;
    let stack = Plan::default()
        .gateway_flags(&issuer.flags().join(" "))
        .gateway_flags(
            "--allow-anonymous=none --token-notice=24h --broadcast-all --location-events",
        )
        .start()
        .await?;
    let token = issuer.token(Signed::EdDsa, json!({}))?;
    let options = json!({"transports": Transport::WebSocket.names(), "auth": {"token": token}});
    let browser = Browser::open(stack.gateways[0].port(), options).await?;
    browser
        .wait_for("the notice", |seen| seen.is_event("auth:expiring"))
        .await?;
    // The list of places is sent again for another token. Only what changes after that list is an update.
    let is_list = |seen: &BrowserEvent| seen.is_event("activeDevicesLocations");
    browser.wait_for("a list of places", is_list).await?;
    let from = browser.seen_count();
    let answer = browser.ask("auth:refresh", json!({"token": token})).await?;
    ensure!(answer["ok"] == true, "{answer}");
    browser.wait_after(from, "another list", is_list).await?;
    let device = stack.device(SERIAL);
    device.send(1200).await?;
    browser.event_after(0, "subtronics:data", SERIAL).await?;
    for (command, argument) in [
        ("subscribe:device", json!(SERIAL)),
        ("subscribe:fleet", Value::Null),
        ("subscribe:alarms", Value::Null),
        ("unsubscribe:device", json!(SERIAL)),
        ("unsubscribe:fleet", Value::Null),
        ("unsubscribe:alarms", Value::Null),
    ] {
        let answer = browser.ask(command, argument).await?;
        ensure!(answer["ok"] == true, "{command}: {answer}");
    }
    let mut seen = browser.properties();
    seen.extend(locations(&stack, browser, &token).await?);
    stack.pass()?;
    Ok(seen)
}

/// Where the device is, as an update for a client that is connected and in the list for one that connects.
async fn locations(stack: &Stack, known: Browser, token: &str) -> Result<BTreeSet<String>> {
    known
        .wait_for("an update", |seen| seen.is_event("deviceLocationUpdate"))
        .await?;
    let options = json!({"transports": Transport::WebSocket.names(), "auth": {"token": token}});
    let new = Browser::open(stack.gateways[0].port(), options).await?;
    new.wait_for("a list with it", |seen| {
        seen.is_event("activeDevicesLocations") && seen.body["count"] == 1
    })
    .await?;
    let mut seen = known.properties();
    seen.extend(new.properties());
    Ok(seen)
}

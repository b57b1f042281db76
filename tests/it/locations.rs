//! With `--location-events` the map of the original front end learns where devices are, and nobody learns more than they may read.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::{Browser, Transport};
use tests::eventually::eventually;
use tests::http;
use tests::stack::{Plan, Stack};
use tests::tokens::{Signed, TokenIssuer};

const OURS: &str = "OTSM-0114";
const OTHER: &str = "OTSM-0200";
const LIST: &str = "activeDevicesLocations";
const UPDATE: &str = "deviceLocationUpdate";

async fn open(stack: &Stack, token: &str, transport: Transport) -> Result<Browser> {
    let options = json!({"auth": {"token": token}, "transports": transport.names()});
    Browser::open(stack.gateways[0].port(), options).await
}

/// The serials in all location events that a browser has got.
fn sent_serials(browser: &Browser) -> Vec<String> {
    let seen = browser.seen().into_iter();
    let bodies = seen.filter(|seen| seen.is_event(LIST) || seen.is_event(UPDATE));
    let entries = bodies.flat_map(|seen| match seen.body["devices"].as_array() {
        Some(devices) => devices.clone(),
        None => vec![seen.body],
    });
    let serial = |entry: Value| entry["deviceId"].as_str().unwrap_or_default().to_owned();
    entries.map(serial).collect()
}

#[tokio::test]
async fn every_client_learns_where_the_devices_are_that_it_may_read() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let flags = issuer.flags().join(" ");
    let plan = Plan::default()
        .operator_port()
        .gateway_flags(&flags)
        .gateway_flags("--location-events --allow-anonymous=none");
    let stack = plan.start().await?;
    for device in [OURS, OTHER] {
        stack.device(device).send(20).await?;
    }
    let all = issuer.token(Signed::Es256, json!({"verbs": ["read", "operate"]}))?;
    let bearer = format!("Bearer {all}");
    let port = stack.gateways[0].port();
    let ask = async |method: &str, path: &str, more: &[(&str, &str)], body: &[u8]| {
        let headers = [&[("authorization", bearer.as_str())], more].concat();
        http::send(port, method, path, &headers, body).await
    };
    eventually("both devices are listed", async || {
        let list = ask("GET", "/api/devices", &[], b"").await?.expect(200)?;
        ensure!(list["count"] == 2, "{list}");
        Ok(())
    })
    .await?;

    let limited = json!({"verbs": ["read"], "devices": [OURS]});
    let limited = issuer.token(Signed::Es256, limited)?;
    let blind = json!({"verbs": ["ack"]});
    let blind = issuer.token(Signed::Es256, blind)?;
    let reader = open(&stack, &all, Transport::WebSocket).await?;
    let limited = open(&stack, &limited, Transport::Polling).await?;
    let blind = open(&stack, &blind, Transport::WebSocket).await?;
    let list = reader
        .wait_for("the list", |seen| seen.is_event(LIST))
        .await?;
    let list = &list.body;
    assert_eq!(
        (&list["count"], &list["devices"][2]),
        (&json!(2), &Value::Null),
        "{list}"
    );
    let entry = list["devices"].as_array().context("devices")?;
    let entry = entry.iter().find(|entry| entry["deviceId"] == OURS);
    let entry = entry.with_context(|| format!("{list}"))?;
    assert_eq!(entry["latitude"], 19.011_545);
    assert_eq!(entry["longitude"], 72.823_872);
    assert_eq!(entry["isActive"], true);
    assert!(
        entry["lastSeen"]
            .as_i64()
            .is_some_and(|ms| ms > 1_700_000_000_000),
        "{entry}"
    );
    assert_eq!(entry["name"], "Gas Sensor Block1");
    let list = limited
        .wait_for("the list", |seen| seen.is_event(LIST))
        .await?;
    assert_eq!(list.body["count"], 1, "{}", list.body);
    assert_eq!(list.body["devices"][0]["deviceId"], OURS);

    // Where an operator says that the device is.
    let path = format!("/api/devices/{OTHER}/profile");
    let before = ask("GET", &path, &[], b"").await?;
    let tag = before.header("etag").to_owned();
    let moved = json!({"latitude": 18.5, "longitude": 73.25}).to_string();
    ask("PUT", &path, &[("if-match", &tag)], moved.as_bytes())
        .await?
        .expect(200)?;
    let update = reader
        .wait_for("the update", |seen| {
            seen.is_event(UPDATE) && seen.body["deviceId"] == OTHER && seen.body["latitude"] == 18.5
        })
        .await?;
    assert_eq!(update.body["longitude"], 73.25);
    assert!(update.body["timestamp"].is_string(), "{}", update.body);

    // The limited one hears of its own device after that, and never of the other one. Who may not read hears nothing.
    stack.device(OURS).send(21).await?;
    limited
        .wait_for("an update", |seen| seen.is_event(UPDATE))
        .await?;
    let serials = sent_serials(&limited);
    assert!(serials.iter().all(|serial| serial == OURS), "{serials:?}");
    assert_eq!(sent_serials(&blind), [""; 0]);
    stack.pass()
}

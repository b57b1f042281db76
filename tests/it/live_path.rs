//! From an MQTT packet to the official client, over every transport and in every known payload format.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::{Browser, Transport};
use tests::device::TOPIC;
use tests::repository;
use tests::stack::Stack;

/// The fields of `data` in a `device:data`, in their order.
const FIELDS: [&str; 29] = [
    "device_name",
    "serial_number",
    "gas_type",
    "timestamp",
    "unit",
    "message_type",
    "sender",
    "sensor_reading",
    "offset",
    "alarm_status",
    "span_high",
    "span_low",
    "a1_level",
    "a2_level",
    "a3_level",
    "decimal_point",
    "a1_type",
    "a1_hysteresis",
    "a1_latching",
    "a1_siren",
    "a1_buzzer",
    "alarm1_led",
    "alarm2_led",
    "alarm3_led",
    "sensor_fault",
    "latitude",
    "longitude",
    "processed_at",
    "data_quality",
];

#[tokio::test]
async fn every_known_payload_format_reaches_clients_over_every_transport() -> Result<()> {
    let stack = Stack::start().await?;
    let newest = example_reaches_a_client(&stack, "newest", Transport::WebSocket).await?;
    let old = example_reaches_a_client(&stack, "old", Transport::Polling).await?;
    let mixed = example_reaches_a_client(&stack, "mixed", Transport::Upgrade).await?;
    for (data, expected) in [
        (
            newest,
            json!({
                "gas_type": "Unknown Gas",
                "unit": "ppm",
                "sensor_reading": 350,
                "alarm_status": "ALARM",
                "timestamp": "2026-01-28 11:37:12",
                "latitude": "19.011545",
                "alarm1_led": 1,
            }),
        ),
        (
            old,
            json!({
                "gas_type": "Carbon Monoxide (CO)",
                "sensor_reading": 120,
                "alarm_status": "NORMAL",
                "latitude": "00.00",
            }),
        ),
        (
            mixed,
            json!({
                "sensor_reading": 350,
                "unit": "ppm",
                "span_high": 2000,
                "timestamp": "2026-01-28T06:07:12.000Z",
            }),
        ),
    ] {
        for (field, value) in expected.as_object().context("an object")? {
            assert_eq!(data[field], *value, "{field}: {data}");
        }
    }
    stack.pass()
}

/// Publishes an example from `tests/fixtures/payloads` as a device of its own, and returns the `data` that a client received.
async fn example_reaches_a_client(
    stack: &Stack,
    name: &str,
    transport: Transport,
) -> Result<Value> {
    let serial = format!("OTSM-{name}");
    let browser = Browser::connect(stack.gateways[0].port(), transport).await?;
    let answer = browser.subscribe(&serial).await?;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(answer["seq"], 0, "{answer}");

    let path = repository::root().join(format!("tests/fixtures/payloads/{name}.json"));
    let payload = fs::read_to_string(&path);
    let payload = payload.with_context(|| format!("reading `{}`", path.display()))?;
    ensure!(payload.contains("OTSM-0114"), "{payload}");
    let payload = payload.replace("OTSM-0114", &serial);
    stack.publisher().publish(TOPIC, payload).await?;

    let event = browser.event_after(0, "device:data", &serial).await?;
    let data = event["data"].clone();
    let names: Vec<&str> = object_keys(&data)?;
    let wanted = FIELDS.len();
    assert_eq!(names[..wanted.min(names.len())], FIELDS, "{event}");
    assert_eq!(data["offset"], data["sensor_reading"]);
    assert_eq!(data["data_quality"], "good", "{event}");
    assert_eq!(event["seq"], 1, "{event}");
    assert_eq!(object_keys(&event)?[..3], ["deviceId", "data", "timestamp"]);

    let rest = stack.latest(&serial).await?;
    assert!(rest["raw_message"].is_object(), "{rest}");
    assert_eq!(without_raw(rest), data);
    Ok(data)
}

#[tokio::test]
async fn a_plain_subscription_gets_the_latest_reading_at_once() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device("OTSM-0001");
    device.send(120).await?;
    stack.shows("OTSM-0001", 120).await?;

    let browser = stack.browser().await?;
    browser.emit("subscribe:device", json!("OTSM-0001")).await?;
    let first = browser.event_after(0, "device:data", "OTSM-0001").await?;
    assert_eq!(first["snapshot"], true, "{first}");
    assert_eq!(first["data"]["sensor_reading"], 120, "{first}");

    device.send(130).await?;
    let next = browser
        .wait_for("the next reading", |seen| {
            seen.is_of("device:data", "OTSM-0001") && seen.body["data"]["sensor_reading"] == 130
        })
        .await?;
    assert!(next.body.get("snapshot").is_none(), "{next:?}");
    assert_eq!(next.seq(), Some(2));
    stack.pass()
}

#[tokio::test]
async fn a_position_is_sent_data_first_then_alerts_then_changes() -> Result<()> {
    let stack = Stack::start().await?;
    let browser = stack.browser().await?;
    browser.subscribe("OTSM-0001").await?;
    stack.device("OTSM-0001").send(350).await?;
    browser
        .event_after(0, "device:alerts:changed", "OTSM-0001")
        .await?;

    let seen = browser.seen();
    let names: Vec<&str> = seen
        .iter()
        .filter(|seen| seen.what == "event" && seen.name.starts_with("device:"))
        .map(|seen| seen.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["device:data", "device:alerts", "device:alerts:changed"]
    );
    let positions: Vec<(&Value, Option<u64>)> = seen
        .iter()
        .filter(|seen| seen.name.starts_with("device:"))
        .map(|seen| (&seen.body["epoch"], seen.seq()))
        .collect();
    assert!(
        positions.iter().all(|position| *position == positions[0]),
        "{positions:?}"
    );
    stack.pass()
}

#[tokio::test]
async fn a_client_receives_nothing_of_a_device_after_unsubscribing() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device("OTSM-0001");
    let leaving = stack.browser().await?;
    let staying = stack.browser().await?;
    for browser in [&leaving, &staying] {
        browser.subscribe("OTSM-0001").await?;
        browser.subscribe("OTSM-0002").await?;
    }
    leaving
        .emit("unsubscribe:device", json!("OTSM-0001"))
        .await?;
    // After the answer to a later subscription, the unsubscription is processed.
    leaving.subscribe("OTSM-0003").await?;
    device.send(120).await?;
    staying.event_after(0, "device:data", "OTSM-0001").await?;
    // Sent after the reading, on a device that both watch.
    stack.device("OTSM-0002").send(1).await?;
    leaving.event_after(0, "device:data", "OTSM-0002").await?;
    assert_eq!(leaving.events("device:data", "OTSM-0001").len(), 0);
    stack.pass()
}

#[tokio::test]
async fn an_invalid_subscription_is_refused_with_a_code() -> Result<()> {
    let stack = Stack::start().await?;
    let browser = stack.browser().await?;
    for bad in [
        json!(""),
        json!(7),
        json!(null),
        json!({}),
        json!({"deviceId": "a\u{0}b"}),
    ] {
        let answer = browser.ask("subscribe:device", bad.clone()).await?;
        assert_eq!(answer["ok"], false, "{bad}: {answer}");
        assert_eq!(answer["error"]["code"], "invalid", "{bad}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{bad}: {answer}");
    }
    // The connection stays open.
    assert_eq!(browser.subscribe("OTSM-0001").await?["ok"], true);
    stack.pass()
}

#[tokio::test]
async fn subtronics_data_is_sent_to_every_client_if_configured() -> Result<()> {
    let stack = tests::stack::Plan::default()
        .gateway_flags("--broadcast-all")
        .start()
        .await?;
    let browser = stack.browser().await?;
    stack.device("OTSM-0001").send(120).await?;
    let event = browser
        .event_after(0, "subtronics:data", "OTSM-0001")
        .await?;
    assert_eq!(event["data"]["sensor_reading"], 120, "{event}");
    stack.pass()
}

fn object_keys(value: &Value) -> Result<Vec<&str>> {
    let object = value.as_object().context("not an object")?;
    Ok(object.keys().map(String::as_str).collect())
}

fn without_raw(mut data: Value) -> Value {
    if let Some(fields) = data.as_object_mut() {
        fields.shift_remove("raw_message");
    }
    data
}

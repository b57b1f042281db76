//! The life of an alarm, as clients receive it.

use anyhow::Result;
use serde_json::{Value, json};
use tests::browser::{Browser, only_alert};
use tests::device::Device;
use tests::stack::Stack;

const SERIAL: &str = "OTSM-0001";

/// Sends a value and returns the `device:alerts:changed` of the same position.
async fn change(browser: &Browser, device: &Device, value: impl Into<Value>) -> Result<Value> {
    let from = browser.seen_count();
    device.send(value).await?;
    browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await
}

/// Returns the changes of a `device:alerts:changed`.
fn changes(event: &Value) -> Vec<&str> {
    let alerts = event["alerts"].as_array().into_iter().flatten();
    alerts
        .filter_map(|alert| alert["change"].as_str())
        .collect()
}

/// Reads the status of the device in the list.
async fn status(stack: &Stack) -> Result<Value> {
    let path = format!("/api/devices/{SERIAL}");
    let item = stack.get(&path).await?.expect(200)?;
    Ok(item["status"].clone())
}

#[tokio::test]
async fn one_alarm_escalates_and_returns_under_the_same_id_until_it_is_acknowledged() -> Result<()>
{
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;

    let raised = change(&browser, &device, 300).await?;
    let first = only_alert(&raised)?.clone();
    assert_eq!(first["change"], "raised");
    assert_eq!(first["type"], "alarm_level_1");
    assert_eq!(first["severity"], "warning");
    assert_eq!(
        first["message"],
        "Gas concentration above A1 threshold (250 ppm)"
    );
    assert_eq!(first["threshold"], 250);
    assert_eq!(first["current_value"], 300);
    assert_eq!(first["state"], "unacknowledged");
    assert_eq!(first["cleared_at"], Value::Null);

    for (value, change_name, kind, severity) in [
        (1200, "escalated", "alarm_level_3", "critical"),
        (600, "de_escalated", "alarm_level_2", "high"),
        (700, "", "", ""),
        (300, "de_escalated", "alarm_level_1", "warning"),
        // Nobody acknowledged A3, so the alarm stays open for it.
        (10, "returned", "alarm_level_3", "critical"),
    ] {
        if change_name.is_empty() {
            // No change of level: only the reading is sent.
            let from = browser.seen_count();
            device.send(value).await?;
            browser.event_after(from, "device:data", SERIAL).await?;
            continue;
        }
        let event = change(&browser, &device, value).await?;
        let alert = only_alert(&event)?;
        assert_eq!(alert["id"], first["id"], "{event}");
        assert_eq!(alert["change"], change_name, "{event}");
        assert_eq!(alert["type"], kind, "{event}");
        assert_eq!(alert["severity"], severity, "{event}");
    }

    // `device:alerts` is sent for a raise or an escalation, not for the way back.
    let alerts = browser.events("device:alerts", SERIAL);
    let kinds: Vec<&Value> = alerts
        .iter()
        .map(|body| &body["alerts"][0]["type"])
        .collect();
    assert_eq!(kinds, ["alarm_level_1", "alarm_level_3"]);
    assert_eq!(browser.events("device:alerts:changed", SERIAL).len(), 5);

    let kept = stack.alerts(SERIAL).await?;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0]["state"], "returned");
    assert_eq!(kept[0]["threshold"], 1000);
    assert_eq!(kept[0]["peak_value"], 1200);
    assert_eq!(kept[0]["peak_type"], "alarm_level_3");
    assert_eq!(kept[0]["cleared_at"], Value::Null);
    assert_eq!(stack.latest(SERIAL).await?["alarm_status"], "NORMAL");
    assert_eq!(status(&stack).await?, "warning");

    // Further readings without gas do not end it, and a client that comes now is told of it.
    device.send(11).await?;
    stack.shows(SERIAL, 11).await?;
    let newcomer = stack.browser().await?;
    newcomer.subscribe(SERIAL).await?;
    let snapshot = newcomer.event_after(0, "device:alerts", SERIAL).await?;
    let alert = only_alert(&snapshot)?;
    assert_eq!(alert["id"], first["id"], "{snapshot}");
    assert_eq!(alert["state"], "returned", "{snapshot}");

    let from = browser.seen_count();
    let id = first["id"].as_str().unwrap_or_default();
    let body = json!({"acknowledged_by": "Asha"}).to_string();
    stack.acknowledge(SERIAL, id, &body).await?.expect(200)?;
    let event = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    assert_eq!(changes(&event), ["acknowledged", "cleared"], "{event}");
    let kept = stack.alerts(SERIAL).await?;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0]["state"], "cleared");
    assert_eq!(kept[0]["acknowledged_by"], "Asha");
    assert!(kept[0]["cleared_at"].is_string());
    assert_eq!(status(&stack).await?, "online");
    stack.pass()
}

#[tokio::test]
async fn an_acknowledged_alarm_ends_when_the_value_is_back() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    let raised = change(&browser, &device, 1200).await?;
    let id = only_alert(&raised)?["id"].clone();
    let from = browser.seen_count();
    stack
        .acknowledge(SERIAL, id.as_str().unwrap_or_default(), "")
        .await?
        .expect(200)?;
    let event = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    assert_eq!(changes(&event), ["acknowledged"], "{event}");
    let event = change(&browser, &device, 10).await?;
    assert_eq!(changes(&event), ["cleared"], "{event}");
    assert_eq!(only_alert(&event)?["id"], id);
    assert_eq!(status(&stack).await?, "online");
    stack.pass()
}

/// The setting that raised the alarm counts until somebody has seen that it is another one now.
#[tokio::test]
async fn an_alarm_stands_until_the_change_of_its_level_is_acknowledged() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    change(&browser, &device, 300).await?;

    let less_sensitive = |value: i64| device.newest(value).with_parameter("Alarm Level A1", 400);
    let from = browser.seen_count();
    device.publish(&less_sensitive(5)).await?;
    let event = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    assert_eq!(changes(&event), ["raised"], "{event}");
    let changed = only_alert(&event)?;
    assert_eq!(changed["type"], "setting_changed", "{event}");
    assert_eq!(changed["severity"], "warning", "{event}");
    assert_eq!(
        changed["message"],
        "Detector setting changed: A1 level 250 to 400"
    );
    assert_eq!(stack.latest(SERIAL).await?["alarm_status"], "ALARM");

    let from = browser.seen_count();
    let id = changed["id"].as_str().unwrap_or_default();
    stack.acknowledge(SERIAL, id, "").await?.expect(200)?;
    let event = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    assert_eq!(changes(&event), ["acknowledged", "cleared"], "{event}");
    let from = browser.seen_count();
    device.publish(&less_sensitive(6)).await?;
    let event = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    assert_eq!(changes(&event), ["cleared"], "{event}");
    assert_eq!(only_alert(&event)?["type"], "alarm_level_1", "{event}");
    assert_eq!(stack.latest(SERIAL).await?["alarm_status"], "NORMAL");
    stack.pass()
}

#[tokio::test]
async fn the_deadband_holds_an_alarm_just_below_its_level() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    change(&browser, &device, 250).await?;
    // 2 % of the level (no span is sent): back below 245.
    for value in [249, 246] {
        device.send(value).await?;
        assert_eq!(stack.shows(SERIAL, value).await?["alarm_status"], "ALARM");
    }
    let cleared = change(&browser, &device, 244).await?;
    assert_eq!(only_alert(&cleared)?["change"], "cleared");
    assert_eq!(browser.events("device:alerts:changed", SERIAL).len(), 2);
    stack.pass()
}

#[tokio::test]
async fn a_latching_alarm_stays_open_until_the_value_is_low_and_it_is_acknowledged() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    let latching = |value: i64| device.newest(value).with_parameter("A1Latching", 1);

    device.publish(&latching(300)).await?;
    let raised = browser
        .event_after(0, "device:alerts:changed", SERIAL)
        .await?;
    let id = only_alert(&raised)?["id"].clone();
    for (value, expected) in [
        (10, "latched"),
        // Inside the deadband.
        (246, "unlatched"),
        (20, "latched"),
        // The level is reached again, which needs a new acknowledgement.
        (300, "escalated"),
        (30, "latched"),
    ] {
        let from = browser.seen_count();
        device.publish(&latching(value)).await?;
        let event = browser
            .event_after(from, "device:alerts:changed", SERIAL)
            .await?;
        assert_eq!(only_alert(&event)?["change"], expected, "{event}");
        assert_eq!(only_alert(&event)?["id"], id);
    }
    assert_eq!(browser.events("device:alerts", SERIAL).len(), 2);
    assert_eq!(stack.latest(SERIAL).await?["alarm_status"], "ALARM");
    assert_eq!(stack.alerts(SERIAL).await?[0]["state"], "latched");

    let from = browser.seen_count();
    stack
        .acknowledge(SERIAL, id.as_str().unwrap_or_default(), "")
        .await?
        .expect(200)?;
    let event = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    assert_eq!(changes(&event), ["acknowledged", "cleared"], "{event}");
    stack
        .latest_with(SERIAL, "NORMAL", |latest| {
            latest["alarm_status"] == "NORMAL"
        })
        .await?;
    stack.pass()
}

#[tokio::test]
async fn an_acknowledgement_reaches_a_client_at_another_gateway() -> Result<()> {
    let stack = tests::stack::Plan::default().gateways(2).start().await?;
    let device = stack.device(SERIAL);
    let port = stack.gateways[1].port();
    let second = Browser::connect(port, tests::browser::Transport::Polling).await?;
    second.subscribe(SERIAL).await?;
    let raised = change(&second, &device, 600).await?;
    let id = only_alert(&raised)?["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();

    let body = json!({"acknowledged_by": "Asha"}).to_string();
    let from = second.seen_count();
    let answer = stack.acknowledge(SERIAL, &id, &body).await?.expect(200)?;
    assert_eq!(answer, json!({"success": true}));
    let event = second
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    let alert = only_alert(&event)?;
    assert_eq!(alert["change"], "acknowledged");
    assert_eq!(alert["state"], "acknowledged");
    assert_eq!(alert["acknowledged_by"], "Asha");
    let at = alert["acknowledged_at"].clone();

    // A repeated acknowledgement keeps the first name and time, and is not sent to clients.
    let repeat = json!({"acknowledged_by": "Ravi"}).to_string();
    let answer = stack.acknowledge(SERIAL, &id, &repeat).await?.expect(200)?;
    assert_eq!(answer, json!({"success": true}));
    let kept = stack.alerts(SERIAL).await?;
    assert_eq!(kept[0]["acknowledged_by"], "Asha");
    assert_eq!(kept[0]["acknowledged_at"], at);

    // An escalated alarm must be acknowledged again.
    let escalated = change(&second, &device, 1100).await?;
    let alert = only_alert(&escalated)?;
    assert_eq!(alert["change"], "escalated", "{escalated}");
    assert_eq!(alert["state"], "unacknowledged");
    assert!(alert.get("acknowledged_by").is_none(), "{escalated}");
    stack.pass()
}

#[tokio::test]
async fn an_acknowledgement_covers_only_what_was_seen() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    let raised = change(&browser, &device, 300).await?;
    let id = only_alert(&raised)?["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let escalated = change(&browser, &device, 1100).await?;

    let seen = |body: &Value, epoch: &Value| {
        json!({"acknowledged_by": "Asha", "seen": {"epoch": epoch, "seq": body["seq"]}}).to_string()
    };
    for body in [
        seen(&raised, &raised["epoch"]),
        // A position of another epoch does not cover this alarm.
        seen(&escalated, &json!("000000000000")),
    ] {
        let answer = stack.acknowledge(SERIAL, &id, &body).await?.expect(200)?;
        assert_eq!(
            answer,
            json!({"success": true, "escalated": true}),
            "{body}"
        );
        assert_eq!(stack.alerts(SERIAL).await?[0]["state"], "unacknowledged");
    }
    let body = seen(&escalated, &escalated["epoch"]);
    let answer = stack.acknowledge(SERIAL, &id, &body).await?.expect(200)?;
    assert_eq!(answer, json!({"success": true}));
    assert_eq!(stack.alerts(SERIAL).await?[0]["state"], "acknowledged");
    stack.pass()
}

#[tokio::test]
async fn a_snapshot_is_followed_by_the_open_alarms() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    device
        .publish(&device.newest(600).with_parameter("Sensor Fault", 1))
        .await?;
    stack.shows(SERIAL, 600).await?;
    let browser = stack.browser().await?;
    let answer = browser.subscribe(SERIAL).await?;
    assert_eq!(answer["recovered"], false, "{answer}");
    let seen = browser.seen();
    let names: Vec<&str> = seen
        .iter()
        .filter(|seen| seen.what == "ack" || seen.name.starts_with("device:"))
        .map(|seen| {
            if seen.what == "ack" {
                "ack"
            } else {
                seen.name.as_str()
            }
        })
        .collect();
    assert_eq!(names, ["device:data", "device:alerts", "ack"]);
    let alerts = &browser.events("device:alerts", SERIAL)[0];
    assert_eq!(alerts["snapshot"], true);
    let mut kinds: Vec<&str> = alerts["alerts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|alert| alert["type"].as_str())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["alarm_level_2", "sensor_fault"]);
    stack.pass()
}

#[tokio::test]
async fn the_off_delay_clears_an_alarm_without_another_message() -> Result<()> {
    let plan = tests::stack::Plan::default().ingest_flags("--alarm-off-delay=700ms");
    let stack = plan.start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    change(&browser, &device, 300).await?;
    let from = browser.seen_count();
    device.send(10).await?;
    let back = browser.event_after(from, "device:data", SERIAL).await?;
    assert_eq!(back["data"]["alarm_status"], "ALARM", "{back}");
    let event = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    assert_eq!(only_alert(&event)?["change"], "cleared");
    assert!(event["seq"].as_u64() > back["seq"].as_u64(), "{event}");
    let last = browser
        .events("device:data", SERIAL)
        .pop()
        .unwrap_or_default();
    assert_eq!(last["data"]["alarm_status"], "NORMAL", "{last}");
    assert_eq!(last["data"]["timestamp"], back["data"]["timestamp"]);
    stack.pass()
}

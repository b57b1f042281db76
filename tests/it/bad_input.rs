//! Payloads that can be no reading are counted and stored with the reason. They change no device.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shared::device::DeviceId;
use shared::keys::{DEAD_LETTERS, PartitionKeys};
use tests::device::TOPIC;
use tests::eventually::eventually;
use tests::stack::Stack;

/// A dead letter as it is stored: its fields by name.
type Letter = HashMap<String, Vec<u8>>;

async fn dead_letters(stack: &Stack) -> Result<Vec<Letter>> {
    let mut redis = stack.redis_connection().await?;
    let entries: Vec<(String, Letter)> = redis::cmd("XRANGE")
        .arg(DEAD_LETTERS)
        .arg("-")
        .arg("+")
        .query_async(&mut redis)
        .await?;
    Ok(entries.into_iter().map(|(_, letter)| letter).collect())
}

/// Waits until `count` dead letters are stored and returns them.
/// A reading may be shown before the dead letter of an earlier message is stored.
async fn stored_dead_letters(stack: &Stack, count: usize) -> Result<Vec<Letter>> {
    eventually("the dead letters are stored", async || {
        let letters = dead_letters(stack).await?;
        ensure!(letters.len() == count, "{} dead letters", letters.len());
        Ok(letters)
    })
    .await
}

/// Payloads that can never be a reading: the defect, the bytes, and the reason in the dead letter.
fn unusable() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let serial = |serial: Value| json!({"OTSM-2 Serial Number": serial}).to_string();
    let mut not_utf8 = serial(json!("OTSM-0666")).into_bytes();
    not_utf8.splice(26..26, [0xff, 0xfe]);
    let nested = format!(
        r#"{{"OTSM-2 Serial Number":"OTSM-0666","note":{}{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let megabyte = json!({"OTSM-2 Serial Number": "OTSM-0666", "note": "x".repeat(1 << 20)});
    let texts = [
        (
            "malformed JSON",
            r#"{"OTSM-2 Serial Number":"OTSM-0666","#.to_owned(),
            "not_json",
        ),
        (
            "a NaN literal",
            r#"{"Sensor Reading":NaN}"#.to_owned(),
            "not_json",
        ),
        ("an array", "[1,2,3]".to_owned(), "not_an_object"),
        ("an empty array", "[]".to_owned(), "not_an_object"),
        ("a number", "5".to_owned(), "not_an_object"),
        ("a text", r#""text""#.to_owned(), "not_an_object"),
        ("null", "null".to_owned(), "not_an_object"),
        ("an empty object", "{}".to_owned(), "missing_serial"),
        (
            "no serial",
            json!({"Parameters": {"Offset": 3}}).to_string(),
            "missing_serial",
        ),
        (
            "a serial that is a number",
            serial(json!(114)),
            "bad_serial",
        ),
        (
            "a serial with control characters",
            serial(json!("OTSM\r\n0114")),
            "bad_serial",
        ),
        (
            "a serial that is too long",
            serial(json!("x".repeat(129))),
            "bad_serial",
        ),
        (
            "two serials",
            r#"{"OTSM-2 Serial Number":"OTSM-0666","OTSM-2 Serial Number":"OTSM-0667","Sensor Reading":5}"#.to_owned(),
            "bad_serial",
        ),
        ("a megabyte", megabyte.to_string(), "too_large"),
        ("deep nesting", nested, "too_deep"),
    ];
    let texts = texts.map(|(what, text, reason)| (what, text.into_bytes(), reason));
    let mut all = Vec::from(texts);
    all.push(("invalid UTF-8", not_utf8, "not_utf8"));
    all
}

/// Defect 20 of the replaced system: payloads without a serial created a device.
#[tokio::test]
async fn a_payload_that_can_be_no_reading_becomes_a_dead_letter_and_creates_no_device() -> Result<()>
{
    let stack = Stack::start().await?;
    let unusable = unusable();
    for (_, payload, _) in &unusable {
        stack.publisher().publish(TOPIC, payload.clone()).await?;
    }
    // The next message is processed, and its device is the only one.
    stack.device("OTSM-0001").send(1).await?;
    stack.shows("OTSM-0001", 1).await?;
    let list = stack.get("/api/devices").await?.expect(200)?;
    assert_eq!(list["count"], 1, "{list}");

    let letters = stored_dead_letters(&stack, unusable.len()).await?;
    let mut counts = HashMap::<&str, usize>::new();
    for (letter, (what, payload, reason)) in letters.iter().zip(&unusable) {
        let field = |name: &str| letter.get(name).cloned().unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&field("reason")), *reason, "{what}");
        assert_eq!(String::from_utf8_lossy(&field("topic")), TOPIC, "{what}");
        assert!(!field("detail").is_empty(), "{what}: the detail is empty");
        let stored = field("payload");
        assert!(
            !stored.is_empty() && payload.starts_with(&stored),
            "{what}: the raw bytes are missing"
        );
        assert_eq!(field("size"), payload.len().to_string().into_bytes());
        *counts.entry(reason).or_default() += 1;
    }
    let metrics = stack.ingests[0].get("/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for (reason, count) in counts {
        let line = format!("ingest_messages_rejected_total{{reason=\"{reason}\"}} {count}");
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}: {metrics}"
        );
    }
    stack.pass()
}

/// Returns a payload of the newest format.
fn newest(serial: &str, value: &str) -> String {
    let example = include_str!("../fixtures/payloads/newest.json").trim_end();
    example
        .replace("OTSM-0114", serial)
        .replace("2026-01-28 11:37:12", "")
        .replace(r#""Alarm 1 LED Status":1"#, r#""Alarm 1 LED Status":0"#)
        .replace(":350,", &format!(":{value},"))
}

#[tokio::test]
async fn a_payload_that_json_forbids_is_shown_at_once() -> Result<()> {
    let stack = Stack::start().await?;
    let publish = async |payload: Vec<u8>| stack.publisher().publish(TOPIC, payload).await;
    publish(newest("OTSM-0001", "7").into_bytes()).await?;
    let latest = stack.shows("OTSM-0001", 7).await?;
    assert_eq!(latest["data_quality"], "good", "{latest}");

    // Only its framing is odd.
    let framed = format!("\u{feff}{}\0\0", newest("OTSM-0001", "008"));
    publish(framed.into_bytes()).await?;
    let latest = stack.shows("OTSM-0001", 8).await?;
    assert_eq!(latest["data_quality"], "good", "{latest}");

    publish(newest("OTSM-0001", "9.").into_bytes()).await?;
    let latest = stack.shows("OTSM-0001", 9).await?;
    assert_eq!(latest["data_quality"], "uncertain", "{latest}");
    assert_eq!(
        latest["raw_message"]["Parameters"]["Live Sensor Readings "],
        9
    );

    publish(newest("OTSM-0001", "nan").into_bytes()).await?;
    let latest = stack.shows("OTSM-0001", Value::Null).await?;
    assert_eq!(latest["data_quality"], "bad", "{latest}");
    assert_eq!(dead_letters(&stack).await?.len(), 0);

    // Several readings in one message.
    let both = [newest("OTSM-0001", "10"), newest("OTSM-0002", "11")].join(",");
    publish(format!("[{both}]").into_bytes()).await?;
    stack.shows("OTSM-0001", 10).await?;
    stack.shows("OTSM-0002", 11).await?;

    // A payload that is cut off is a dead letter that names the detector, and its reading is invalid at once.
    let cut = newest("OTSM-0001", "12");
    let end = cut
        .find(r#""Alarm Level A2""#)
        .context("the second level")?;
    publish(cut.as_bytes()[..end].to_vec()).await?;
    let latest = stack.shows("OTSM-0001", Value::Null).await?;
    assert_eq!(latest["data_quality"], "bad", "{latest}");
    let alerts = stack
        .get("/devices/OTSM-0001/subtronics/alerts")
        .await?
        .expect(200)?;
    let mut alerts = alerts.as_array().into_iter().flatten();
    let is_invalid =
        |alert: &Value| alert["type"] == "reading_invalid" && alert["state"] == "unacknowledged";
    assert!(alerts.any(is_invalid), "no such alarm is open");
    let letter = stored_dead_letters(&stack, 1).await?.remove(0);
    let detail = String::from_utf8_lossy(&letter["detail"]);
    assert!(detail.ends_with("it is from OTSM-0001"), "{detail}");
    assert_eq!(letter["payload"], cut.as_bytes()[..end]);

    let ingest = &stack.ingests[0];
    eventually("every message is acknowledged", async || {
        let waiting = ingest.metric("ingest_messages_unacknowledged").await?;
        ensure!(waiting < 1.0, "{waiting} messages wait");
        Ok(())
    })
    .await?;
    for kind in [
        "byte_order_mark",
        "padding",
        "leading_zero",
        "point_or_sign",
        "bare_word",
        "several_objects",
        "unreadable",
    ] {
        let line = format!(r#"ingest_payloads_repaired_total{{kind="{kind}"}}"#);
        assert!(ingest.metric(&line).await? >= 1.0, "{line}");
    }
    stack.pass()
}

#[tokio::test]
async fn hostile_serials_are_ordinary_devices() -> Result<()> {
    let stack = Stack::start().await?;
    let serials = [
        "{p00}:device:OTSM-0001",
        "../../health",
        "OTSM 01/14?x=1#%2F",
        "__proto__",
        "OTSM-0114_alerts",
        "<script>alert(1)</script>",
        "größe-ß-測器",
    ];
    for serial in serials {
        let browser = stack.browser().await?;
        browser.subscribe(serial).await?;
        stack.device(serial).send(350).await?;
        let event = browser
            .event_after(0, "device:alerts:changed", serial)
            .await?;
        let id = event["alerts"][0]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        assert!(!id.is_empty() && id.chars().all(is_plain), "{id}");
        let encoded = percent_encoded(serial);
        assert_eq!(stack.latest(&encoded).await?["serial_number"], serial);
        stack.acknowledge(&encoded, &id, "").await?.expect(200)?;
    }
    let list = stack.get("/api/devices").await?.expect(200)?;
    assert_eq!(list["count"], serials.len(), "{list}");
    stack.pass()
}

fn percent_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes())
        .map(|part| part.replace('+', "%20"))
        .collect()
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_a_bad_reading_and_never_normal() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device("OTSM-0001");
    for bad in [
        json!(true),
        json!("ERR"),
        json!([]),
        json!({}),
        json!("1e999"),
        json!(null),
    ] {
        device.send(1).await?;
        stack.shows("OTSM-0001", 1).await?;
        device.send(bad.clone()).await?;
        let latest = stack.shows("OTSM-0001", Value::Null).await?;
        assert_eq!(latest["data_quality"], "bad", "{bad}: {latest}");
        assert_eq!(latest["alarm_status"], "ALARM", "{bad}: {latest}");
    }
    stack.pass()
}

#[tokio::test]
async fn a_device_whose_keys_have_the_wrong_type_does_not_stop_its_neighbours() -> Result<()> {
    let stack = Stack::start().await?;
    let mut redis = stack.redis_connection().await?;
    let broken: DeviceId = "OTSM-0666".parse()?;
    let number = broken.partition(64);
    let keys = PartitionKeys::new(number);
    // A device of the same partition, whose commits change the same indexes.
    let neighbour = (0..10_000)
        .map(|n| format!("OTSM-{n:04}"))
        .find(|serial| {
            *serial != broken.as_str()
                && serial
                    .parse()
                    .is_ok_and(|id: DeviceId| id.partition(64) == number)
        })
        .context("a serial of the same partition")?;

    for key in [
        keys.device(&broken),
        keys.events(&broken),
        keys.history(&broken),
    ] {
        redis::cmd("DEL").arg(&key).exec_async(&mut redis).await?;
        redis::cmd("SADD")
            .arg(&key)
            .arg("not ours")
            .exec_async(&mut redis)
            .await?;
        for (value, serial) in [(1, broken.as_str()), (2, &neighbour), (3, "OTSM-0003")] {
            stack.device(serial).send(value).await?;
        }
        stack.shows(&neighbour, 2).await?;
        stack.shows("OTSM-0003", 3).await?;
        stack.device(&neighbour).send(5).await?;
        stack.shows(&neighbour, 5).await?;
        let list = stack.get("/api/devices").await?.expect(200)?;
        assert!(list["count"].as_u64() >= Some(2), "{list}");
    }
    stack.pass()
}

#[tokio::test]
async fn a_stored_state_that_cannot_be_read_is_replaced_by_the_next_reading() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device("OTSM-0001");
    let browser = stack.browser().await?;
    browser.subscribe("OTSM-0001").await?;
    device.send(300).await?;
    browser
        .event_after(0, "device:alerts:changed", "OTSM-0001")
        .await?;

    let id: DeviceId = "OTSM-0001".parse()?;
    let keys = PartitionKeys::new(id.partition(64));
    let mut redis = stack.redis_connection().await?;
    let fields: Vec<String> = redis::cmd("HKEYS")
        .arg(keys.device(&id))
        .query_async(&mut redis)
        .await?;
    // Whoever writes a state changes `rev`, too: so ingest does not decide from the state that it remembers.
    for field in fields.iter().filter(|field| *field != "seq") {
        redis::cmd("HSET")
            .arg(keys.device(&id))
            .arg(field)
            .arg("{broken")
            .exec_async(&mut redis)
            .await?;
    }
    let from = browser.seen_count();
    device.send(310).await?;
    let event = browser
        .event_after(from, "device:data", "OTSM-0001")
        .await?;
    assert_eq!(event["snapshot"], true, "{event}");
    assert_eq!(event["data"]["sensor_reading"], 310);
    let stored: u64 = redis::cmd("XLEN")
        .arg(keys.quarantine())
        .query_async(&mut redis)
        .await?;
    assert_eq!(stored, 1, "the lost state is stored for inspection");
    stack.pass()
}

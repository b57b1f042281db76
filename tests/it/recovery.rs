//! A client that reconnects receives exactly the events it missed, or an answer that this is impossible.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::repository;
use tests::stack::{Plan, Stack};

const SERIAL: &str = "OTSM-0001";

#[test]
fn the_clients_of_these_tests_and_the_documented_one_follow_the_rule() -> Result<()> {
    let tests = repository::script("positions.test.mjs")?;
    let output = Command::new("node")
        .args(["--test", "--test-reporter=tap"])
        .arg(tests)
        .output()
        .context("`node` is missing: install Node 20")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{printed}");
    for rule in ["WholePositions", "Documented"] {
        ensure!(printed.contains(&format!("- {rule}: ")), "{printed}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_reconnects_receives_exactly_the_events_it_missed() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    device.send(1).await?;
    let last = browser.event_after(0, "device:data", SERIAL).await?;
    browser.disconnect().await?;

    for value in [300, 600, 20] {
        device.send(value).await?;
    }
    stack.shows(SERIAL, 20).await?;
    browser.reconnect().await?;
    let from = browser.seen_count();
    let answer = browser.subscribe_since(SERIAL, &last["epoch"], 1).await?;
    assert_eq!(answer["recovered"], true, "{answer}");
    assert_eq!(answer["seq"], 4, "{answer}");

    let missed: Vec<(String, u64)> = browser.seen()[from..]
        .iter()
        .filter(|seen| seen.name.starts_with("device:"))
        .map(|seen| (seen.name.clone(), seen.seq().unwrap_or_default()))
        .collect();
    let expected = [
        ("device:data", 2),
        ("device:alerts", 2),
        ("device:alerts:changed", 2),
        ("device:data", 3),
        ("device:alerts", 3),
        ("device:alerts:changed", 3),
        ("device:data", 4),
        ("device:alerts:changed", 4),
    ];
    let expected: Vec<(String, u64)> = expected.map(|(name, seq)| (name.to_owned(), seq)).into();
    assert_eq!(missed, expected);
    stack.pass()
}

#[tokio::test]
async fn a_position_of_an_unknown_epoch_gets_every_alarm_change_and_a_snapshot() -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    for value in [300, 600, 650] {
        device.send(value).await?;
    }
    stack.shows(SERIAL, 650).await?;
    let browser = stack.browser().await?;
    let answer = browser
        .subscribe_since(SERIAL, &json!("000000000000"), 1)
        .await?;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(answer["recovered"], false, "{answer}");
    // The changes after a position of another epoch cannot be known completely.
    assert_eq!(answer["alarmsRecovered"], false, "{answer}");
    let data = browser.events("device:data", SERIAL);
    assert_eq!(data.len(), 1);
    assert_eq!(data[0]["snapshot"], true);
    assert_eq!(data[0]["data"]["sensor_reading"], 650);
    let alerts = browser.events("device:alerts", SERIAL);
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["snapshot"], true);
    assert_eq!(alerts[0]["alerts"][0]["type"], "alarm_level_2");
    stack.pass()
}

#[tokio::test]
async fn after_too_many_events_the_alarm_changes_are_complete_and_a_snapshot_follows() -> Result<()>
{
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    device.send(1).await?;
    let first = browser.event_after(0, "device:data", SERIAL).await?;
    browser.disconnect().await?;
    // An alarm at the start, then more readings than the events stream holds.
    device.send(300).await?;
    for value in 0..80 {
        device.send(300 + value).await?;
    }
    device.send(7).await?;
    stack.shows(SERIAL, 7).await?;

    browser.reconnect().await?;
    let from = browser.seen_count();
    let answer = browser.subscribe_since(SERIAL, &first["epoch"], 1).await?;
    assert_eq!(answer["recovered"], false, "{answer}");
    assert_ne!(answer["alarmsRecovered"], false, "{answer}");
    let seen: Vec<(String, Value)> = browser.seen()[from..]
        .iter()
        .filter(|seen| seen.name.starts_with("device:"))
        .map(|seen| (seen.name.clone(), seen.body.clone()))
        .collect();
    let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "device:alerts:changed",
            "device:alerts:changed",
            "device:data",
            "device:alerts"
        ]
    );
    assert_eq!(seen[0].1["alerts"][0]["change"], "raised");
    assert_eq!(seen[1].1["alerts"][0]["change"], "cleared");
    assert_eq!(seen[2].1["snapshot"], true);
    assert_eq!(seen[3].1["alerts"], json!([]));
    stack.pass()
}

#[tokio::test]
async fn a_device_without_a_reading_is_recovered_from_its_first_one() -> Result<()> {
    let stack = Stack::start().await?;
    let browser = stack.browser().await?;
    let answer = browser.subscribe(SERIAL).await?;
    assert_eq!(answer["seq"], 0, "{answer}");
    browser.disconnect().await?;
    stack.device(SERIAL).send(300).await?;
    stack.shows(SERIAL, 300).await?;
    browser.reconnect().await?;
    let answer = browser.subscribe_since(SERIAL, &answer["epoch"], 0).await?;
    assert_eq!(answer["recovered"], true, "{answer}");
    assert_eq!(positions(&browser, "device:data")?, [1]);
    stack.pass()
}

#[tokio::test]
async fn a_client_that_keeps_losing_its_connection_sees_every_position_once() -> Result<()> {
    const LOSSES: u64 = 20;
    // Readings per loss: fewer than the events stream holds, so that all of them can be recovered.
    const READINGS: u64 = 12;
    // Every reading has an event.
    let plan = Plan::default().ingest_flags("--device-rate=0");
    let stack = plan.start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    let answer = browser.subscribe(SERIAL).await?;
    let epoch = answer["epoch"].clone();
    for loss in 0..LOSSES {
        let publish = async {
            for number in 1..=READINGS {
                device.send(loss * READINGS + number).await?;
            }
            anyhow::Ok(())
        };
        let lose = async {
            if loss % 2 == 0 {
                browser.lose_connection().await?;
            } else {
                browser.disconnect().await?;
                browser.reconnect().await?;
            }
            // Nothing of the device comes before the subscription: the old connection took its membership with it.
            let last = positions(&browser, "device:data")?.pop().unwrap_or(0);
            let answer = browser.subscribe_since(SERIAL, &epoch, last).await?;
            ensure!(answer["recovered"] == true, "{answer}");
            anyhow::Ok(())
        };
        tokio::try_join!(publish, lose)?;
    }
    let expected: Vec<u64> = (1..=LOSSES * READINGS).collect();
    browser
        .wait_for("the last reading", |seen| {
            seen.is_of("device:data", SERIAL) && seen.seq() == expected.last().copied()
        })
        .await?;
    assert_eq!(positions(&browser, "device:data")?, expected);
    stack.pass()
}

#[tokio::test]
async fn a_gateway_that_lost_redis_sends_its_clients_what_they_missed() -> Result<()> {
    let stack = Plan::default().start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    device.send(1).await?;
    browser.event_after(0, "device:data", SERIAL).await?;

    for round in 0..3_i64 {
        stack.redis_proxy.cut();
        for value in 0..5 {
            device.send(300 + round * 10 + value).await?;
        }
        stack.redis_proxy.heal();
    }
    device.send(2).await?;
    browser
        .wait_for("the last reading", |seen| {
            seen.is_of("device:data", SERIAL) && seen.body["data"]["sensor_reading"] == 2
        })
        .await?;
    let seen = positions(&browser, "device:data")?;
    let expected: Vec<u64> = (1..=17).collect();
    assert_eq!(seen, expected, "the events stream held them all");
    stack.pass()
}

#[tokio::test]
async fn a_killed_ingest_loses_nothing_that_the_broker_acknowledged() -> Result<()> {
    let mut stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    device.send(1).await?;
    browser.event_after(0, "device:data", SERIAL).await?;
    for value in 2..=40 {
        device.send(value).await?;
        if value == 20 {
            stack.ingests[0].process.kill().await?;
        }
    }
    stack.ingests[0].process.restart()?;
    stack.shows(SERIAL, 40).await?;
    let path = format!("/api/devices/{SERIAL}/history?limit=1000");
    // Messages delivered twice are stored once.
    let history = stack.get(&path).await?.expect(200)?;
    assert_eq!(history["count"], 40, "{history}");
    browser
        .wait_for("the last reading", |seen| {
            seen.is_of("device:data", SERIAL) && seen.body["data"]["sensor_reading"] == 40
        })
        .await?;
    let values: Vec<Value> = browser
        .events("device:data", SERIAL)
        .into_iter()
        .map(|body| body["data"]["sensor_reading"].clone())
        .collect();
    let expected: Vec<Value> = (1..=40).map(Value::from).collect();
    assert_eq!(values, expected);
    stack.pass()
}

/// Returns the positions of this event the browser saw live or replayed, in the order of arrival.
fn positions(browser: &Browser, name: &str) -> Result<Vec<u64>> {
    browser
        .seen()
        .into_iter()
        .filter(|seen| seen.is_of(name, SERIAL))
        .filter(|seen| seen.body["snapshot"] != true && seen.body["stale"] != true)
        .map(|seen| seen.seq().context("an event without seq"))
        .collect()
}

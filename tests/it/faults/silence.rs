//! Devices that stop sending, devices whose clock jumps, and messages that arrive again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::clock::Time;
use tests::browser::{Browser, only_alert};
use tests::device::{Device, Payload, TOPIC};
use tests::eventually::eventually;
use tests::report;
use tests::stack::{Plan, Stack};
use tokio::time::sleep;

const SERIAL: &str = "OTSM-0001";
const LIMIT: Duration = Duration::from_secs(2);
const DAY_MS: i64 = 24 * 3600 * 1000;

fn with_a_short_limit() -> Plan {
    Plan::default().ingest_flags(&format!("--offline-after={}s", LIMIT.as_secs()))
}

/// Parses a server time of a payload.
fn millis(text: &Value) -> Result<i64> {
    let text = text.as_str().context("no time")?;
    Ok(text.parse::<jiff::Timestamp>()?.as_millisecond())
}

/// Checks that this is an offline alarm, raised not before the limit, and reports how long after it, by the times of
/// the server.
fn raised_after_the_limit(what: &str, silent_since_ms: i64, alert: &Value) -> Result<()> {
    ensure!(alert["type"] == "device_offline", "{alert}");
    ensure!(alert["change"] == "raised", "{alert}");
    let after_ms = u64::try_from(millis(&alert["raised_at"])? - silent_since_ms)?;
    let after = Duration::from_millis(after_ms);
    ensure!(after >= LIMIT, "raised after {after:?}");
    report::duration(
        &format!("{what}: alarm raised"),
        after,
        LIMIT + Duration::from_secs(1),
    );
    Ok(())
}

#[tokio::test]
async fn an_offline_alarm_is_raised_when_the_limit_of_silence_has_passed() -> Result<()> {
    let stack = with_a_short_limit().start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    device.send(120).await?;
    let live = browser.event_after(0, "device:data", SERIAL).await?;
    let event = browser
        .event_after(0, "device:alerts:changed", SERIAL)
        .await?;
    raised_after_the_limit("silence", millis(&live["timestamp"])?, only_alert(&event)?)?;
    stack.pass()
}

#[tokio::test]
async fn silence_counts_from_the_moment_an_ingest_listens_again() -> Result<()> {
    let mut stack = with_a_short_limit().start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    device.send(120).await?;
    browser.event_after(0, "device:data", SERIAL).await?;
    stack.ingests[0].process.kill().await?;
    // The gateway marks the reading as stale by the clock. The wait is longer than the limit, and longer than what counts
    // as an interruption of listening.
    browser
        .wait_for("the stale reading", |seen| {
            seen.is_of("device:data", SERIAL) && seen.body["stale"] == true
        })
        .await?;
    sleep(2 * LIMIT).await;
    ensure!(
        browser.events("device:alerts:changed", SERIAL).is_empty(),
        "no ingest runs, so no alarm can have been raised"
    );
    stack.ingests[0].process.restart()?;
    let event = browser
        .event_after(0, "device:alerts:changed", SERIAL)
        .await?;
    let mut redis = stack.redis_connection().await?;
    let since: i64 = redis::cmd("HGET")
        .arg(shared::keys::INGEST_LISTENING)
        .arg("since")
        .query_async(&mut redis)
        .await?;
    raised_after_the_limit("silence with every ingest down", since, only_alert(&event)?)?;

    // Only the next message clears the alarm.
    let from = browser.seen_count();
    device.send(121).await?;
    let cleared = browser
        .event_after(from, "device:alerts:changed", SERIAL)
        .await?;
    ensure!(only_alert(&cleared)?["change"] == "cleared", "{cleared}");
    ensure!(cleared["seq"].as_u64() == event["seq"].as_u64().map(|seq| seq + 1));
    stack.pass()
}

/// Builds a reading whose device clock is wrong by `by_ms`.
fn shifted(device: &Device, value: i64, by_ms: i64) -> Result<Payload> {
    let payload = device.newest(value);
    let time = millis(&payload.0["Date Time At Reading"])? + by_ms;
    Ok(payload.with("Date Time At Reading", Time::from_millis(time).to_iso()))
}

/// Returns the changes that a client received, as `change type`.
fn changes(browser: &Browser) -> Vec<String> {
    let events = browser.events("device:alerts:changed", SERIAL);
    let alerts = events.iter().filter_map(|body| body["alerts"].as_array());
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    alerts
        .flatten()
        .map(|alert| format!("{} {}", word(&alert["change"]), word(&alert["type"])))
        .collect()
}

/// Fails if a position came twice or went back, or if the value shown went back without the clock being flagged.
fn never_back(browser: &Browser) -> Result<()> {
    let mut seq = 0;
    let mut newest = i64::MIN;
    for body in browser.events("device:data", SERIAL) {
        let next = body["seq"].as_u64().context("no seq")?;
        ensure!(next > seq, "{next} after {seq}");
        seq = next;
        let time = millis(&body["data"]["timestamp"])?;
        let is_flagged = body["data"]["clock_suspect"] == true;
        ensure!(time >= newest || is_flagged, "went back: {body}");
        newest = time;
    }
    Ok(())
}

/// The changes that the six readings cause while they are in order …
const IN_ORDER: [&str; 4] = [
    "raised alarm_level_3",
    "de_escalated alarm_level_2",
    "de_escalated alarm_level_1",
    "cleared alarm_level_1",
];
/// The changes while the readings seem older than those before. Two of them are late and raise alarms of their own; from the
/// third on, the clock is taken as set.
const SEEM_OLDER: [&str; 6] = [
    "raised alarm_level_3",
    "cleared alarm_level_3",
    "raised alarm_level_2",
    "cleared alarm_level_2",
    "raised alarm_level_1",
    "cleared alarm_level_1",
];

/// Lets the device's clock jump by `by_ms` and later back. After one jump the readings are in order, after the other they
/// seem older.
async fn jump(by_ms: i64, expected: &[&str]) -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    device.send(20).await?;
    let mut count = 1;
    wait_for_samples(&stack, count).await?;
    for (shift_ms, base) in [(by_ms, 0), (0, 1)] {
        for value in [1100, 600, 300, 310, 30, 40] {
            // The clock of the device runs as fast as ours. Otherwise the clock would not be taken as set.
            sleep(Duration::from_millis(1100)).await;
            let payload = shifted(&device, value + base, shift_ms)?;
            device.publish(&payload).await?;
            count += 1;
            wait_for_samples(&stack, count).await?;
        }
        let shown = stack.shows(SERIAL, 40 + base).await?;
        ensure!(shown["alarm_status"] == "NORMAL", "{shown}");
    }
    browser
        .wait_for("the last reading", |seen| {
            seen.is_of("device:data", SERIAL) && seen.body["data"]["sensor_reading"] == 41
        })
        .await?;
    never_back(&browser)?;
    let received = changes(&browser);
    ensure!(received == expected, "{received:?}");
    stack.pass()
}

/// Waits until the history holds `count` samples.
async fn wait_for_samples(stack: &Stack, count: usize) -> Result<()> {
    eventually(&format!("{count} samples"), async || {
        let path = format!("/api/devices/{SERIAL}/history?limit=1000");
        let history = stack.get(&path).await?.expect(200)?;
        ensure!(history["count"] == count, "{history}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_clock_that_jumps_a_day_ahead_and_back_hides_no_level() -> Result<()> {
    jump(DAY_MS, &[&IN_ORDER[..], &SEEM_OLDER[..]].concat()).await
}

#[tokio::test]
async fn a_clock_that_jumps_a_day_back_and_ahead_hides_no_level() -> Result<()> {
    jump(-DAY_MS, &[&SEEM_OLDER[..], &IN_ORDER[..]].concat()).await
}

#[tokio::test]
async fn retained_and_repeated_payloads_change_nothing_and_prove_nothing() -> Result<()> {
    let mut stack = with_a_short_limit().start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    let raising = device.newest(300).0.to_string();
    stack
        .publisher()
        .publish_retained(TOPIC, raising.clone())
        .await?;
    wait_for_samples(&stack, 1).await?;
    let normal = device.newest(20).0.to_string();
    stack.publisher().publish(TOPIC, normal.clone()).await?;
    wait_for_samples(&stack, 2).await?;
    // Again, the older one too, by a broker or a device that is not sure.
    for payload in [&raising, &normal, &normal, &raising] {
        stack.publisher().publish(TOPIC, payload.clone()).await?;
    }
    device.send(21).await?;
    wait_for_samples(&stack, 3).await?;
    stack.shows(SERIAL, 21).await?;
    ensure!(changes(&browser) == ["raised alarm_level_1", "cleared alarm_level_1"]);

    // After silence, an ingest with a new session receives the retained message: it is not a sign of life and raises
    // nothing.
    browser
        .wait_for("offline", |seen| {
            seen.is_of("device:alerts", SERIAL)
                && seen.body["alerts"][0]["type"] == "device_offline"
        })
        .await?;
    stack.ingests[0].process.kill().await?;
    stack.broker.process.terminate().await?;
    std::fs::remove_file(stack.folder().join("mosquitto.db"))?;
    stack.broker.process.restart()?;
    stack.broker.listens().await?;
    eventually("the retained payload is kept again", async || {
        stack
            .publisher()
            .publish_retained(TOPIC, raising.clone())
            .await
    })
    .await?;
    stack.ingests[0].process.restart()?;
    stack.ingests[0].ready().await?;
    // A later message of another device.
    let marker = stack.device("OTSM-0002");
    marker.send(1).await?;
    stack.shows("OTSM-0002", 1).await?;
    let latest = stack.latest(SERIAL).await?;
    ensure!(
        latest["data_quality"] == "offline" && latest["sensor_reading"] == 21,
        "{latest}"
    );
    wait_for_samples(&stack, 3).await?;
    ensure!(
        changes(&browser)
            == [
                "raised alarm_level_1",
                "cleared alarm_level_1",
                "raised device_offline"
            ]
    );
    stack.pass()
}

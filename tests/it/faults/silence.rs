//! Devices that stop sending, devices whose clock jumps, and messages that arrive again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::clock::Time;
use tests::browser::{Browser, BrowserEvent, only_alert};
use tests::device::{Device, Payload, TOPIC};
use tests::eventually::{LATE, eventually};
use tests::report;
use tests::stack::{Plan, Stack};
use tokio::time::{Instant, sleep};

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

/// Fails if a position came twice or went back, or if the time shown went back although neither of the two readings has a
/// flagged clock.
fn never_back(browser: &Browser) -> Result<()> {
    let mut seq = 0;
    let (mut newest, mut was_flagged) = (i64::MIN, false);
    for body in browser.events("device:data", SERIAL) {
        let next = body["seq"].as_u64().context("no seq")?;
        ensure!(next > seq, "{next} after {seq}");
        seq = next;
        let time = millis(&body["data"]["timestamp"])?;
        let is_flagged = body["data"]["clock_suspect"] == true;
        ensure!(
            time >= newest || is_flagged || was_flagged,
            "went back: {body}"
        );
        (newest, was_flagged) = (time, is_flagged);
    }
    Ok(())
}

/// Returns the changes that these samples must cause. Those marked late may raise the alarm, not lower it. The alarm reaches A3
/// first, and nobody acknowledges it.
fn required_changes(history: &[Value]) -> Vec<String> {
    let mut changes = Vec::new();
    let mut is_open = false;
    // The level that stands; 0 if the alarm is returned.
    let mut standing = 0;
    for sample in history {
        let reached = match sample["sensor_reading"].as_i64().unwrap_or_default() {
            1000.. => 3,
            500.. => 2,
            250.. => 1,
            _ => 0,
        };
        if reached > standing {
            let change = if is_open { "escalated" } else { "raised" };
            changes.push(format!("{change} alarm_level_{reached}"));
        } else if reached < standing && sample["late"] != true {
            changes.push(match reached {
                0 => "returned alarm_level_3".to_owned(),
                _ => format!("de_escalated alarm_level_{reached}"),
            });
        } else {
            continue;
        }
        (is_open, standing) = (true, reached);
    }
    changes
}

/// Lets the device's clock jump by `by_ms` and later back. A reading whose clock is ahead is in order. One that seems older is
/// late, until the clock is taken as set.
async fn jump(by_ms: i64) -> Result<()> {
    let stack = Stack::start().await?;
    let device = stack.device(SERIAL);
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    device.send(20).await?;
    wait_for_samples(&stack, 1).await?;
    let mut histories = Vec::new();
    for (shift_ms, base) in [(by_ms, 0), (0, 1)] {
        let before = history(&stack).await?.len();
        let send = async |value: i64| {
            // The clock of the device runs as fast as ours. Otherwise the clock would not be taken as set.
            sleep(Duration::from_millis(1100)).await;
            let count = history(&stack).await?.len();
            let payload = shifted(&device, value + base, shift_ms)?;
            device.publish(&payload).await?;
            wait_for_samples(&stack, count + 1).await
        };
        send(1100).await?;
        // Whatever its clock says, a level stands from its first message on.
        let alarms = stack.alerts(SERIAL).await?;
        ensure!(
            alarms.len() == 1
                && alarms[0]["type"] == "alarm_level_3"
                && alarms[0]["state"] == "unacknowledged",
            "{alarms:?}"
        );
        let shown = stack.latest(SERIAL).await?;
        ensure!(shown["alarm_status"] == "ALARM", "{shown}");
        for value in [600, 300, 310, 30] {
            send(value).await?;
        }
        // On a slow machine it may take longer until the clock is taken as set.
        let started = Instant::now();
        let shown = loop {
            send(40).await?;
            let shown = stack.latest(SERIAL).await?;
            if shown["sensor_reading"] == 40 + base {
                break shown;
            }
            ensure!(started.elapsed() < LATE, "the clock is not taken as set");
        };
        ensure!(shown["alarm_status"] == "NORMAL", "{shown}");
        let alarms = stack.alerts(SERIAL).await?;
        ensure!(
            alarms.len() == 1 && alarms[0]["state"] == "returned",
            "{alarms:?}"
        );
        histories.push(history(&stack).await?.split_off(before));
    }
    let is_late = |sample: &Value| sample["late"] == true;
    let late = |history: &Vec<Value>| history.iter().filter(|sample| is_late(sample)).count();
    let [first, second] = histories.as_slice() else {
        unreachable!("two jumps");
    };
    let (ahead, behind) = if by_ms > 0 {
        (first, second)
    } else {
        (second, first)
    };
    ensure!(late(ahead) == 0, "ahead and late: {ahead:?}");
    if by_ms < 0 {
        ensure!(is_late(&behind[0]), "older and not late: {behind:?}");
    } else if span_ms(ahead)? < CLOCK_SET_AHEAD_MS {
        // A reading from the future does not make the right ones look late.
        ensure!(late(behind) == 0, "right and late: {behind:?}");
    }

    let is_last = |seen: &BrowserEvent| {
        seen.is_of("device:data", SERIAL) && seen.body["data"]["sensor_reading"] == 41
    };
    browser.wait_for("the last reading", is_last).await?;
    never_back(&browser)?;
    let expected = required_changes(&history(&stack).await?);
    let received = changes(&browser);
    ensure!(
        received == expected,
        "{received:?}, the readings require {expected:?}"
    );
    stack.pass()
}

/// After this time, readings whose clock is ahead mean that it was set.
const CLOCK_SET_AHEAD_MS: i64 = 30_000;

/// Returns the time from the first of these samples to the last one, by the server.
fn span_ms(samples: &[Value]) -> Result<i64> {
    let at = |sample: Option<&Value>| millis(&sample.context("a sample")?["timestamp"]);
    Ok(at(samples.last())? - at(samples.first())?)
}

async fn history(stack: &Stack) -> Result<Vec<Value>> {
    let path = format!("/api/devices/{SERIAL}/history?limit=1000");
    let history = stack.get(&path).await?.expect(200)?;
    let samples = history["samples"].as_array().context("no samples")?;
    Ok(samples.clone())
}

/// Waits until the history holds `count` samples.
async fn wait_for_samples(stack: &Stack, count: usize) -> Result<()> {
    eventually(&format!("{count} samples"), async || {
        let history = history(stack).await?;
        ensure!(history.len() == count, "{history:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_clock_that_jumps_a_day_ahead_and_back_hides_no_level() -> Result<()> {
    jump(DAY_MS).await
}

#[tokio::test]
async fn a_clock_that_jumps_a_day_back_and_ahead_hides_no_level() -> Result<()> {
    jump(-DAY_MS).await
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
    browser
        .wait_for("the last reading", |seen| {
            seen.is_of("device:data", SERIAL) && seen.body["data"]["sensor_reading"] == 21
        })
        .await?;
    let seen = changes(&browser);
    ensure!(
        seen == ["raised alarm_level_1", "cleared alarm_level_1"],
        "{seen:?}"
    );

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

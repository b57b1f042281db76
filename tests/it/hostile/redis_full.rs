//! Others fill Redis. Nothing that matters is lost, everybody is told, and it ends once there is memory again.

use anyhow::{Context, Result, ensure};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use shared::device::DeviceId;
use shared::keys::{self, PartitionKeys};
use tests::browser::{Browser, only_alert};
use tests::eventually::eventually;
use tests::stack::{Plan, Stack};

const MB: usize = 1 << 20;

async fn set_maxmemory(redis: &mut MultiplexedConnection, value: &str) -> Result<()> {
    let mut command = redis::cmd("CONFIG");
    command.arg("SET").arg("maxmemory").arg(value);
    command.exec_async(redis).await.context("setting maxmemory")
}

/// How much of the reserve of 16 MB is used. Freed buffers do not change that.
#[derive(Clone, Copy)]
enum Used {
    /// 5 MB.
    LessThanHalf,
    /// 12 MB.
    MoreThanHalf,
}

/// Fills Redis with foreign keys until it refuses them, and then lowers `maxmemory`.
async fn fill(redis: &mut MultiplexedConnection, used: Used) -> Result<()> {
    set_maxmemory(redis, "64mb").await?;
    let value = vec![b'x'; MB];
    for number in 0.. {
        let key = format!("foreign:{number}");
        let stored: redis::RedisResult<()> = redis.set(key, &value).await;
        match stored {
            Ok(()) => ensure!(number < 100, "Redis is never full"),
            Err(err) if err.code() == Some("OOM") => break,
            Err(err) => return Err(err.into()),
        }
    }
    let maxmemory = match used {
        Used::LessThanHalf => "59mb",
        Used::MoreThanHalf => "52mb",
    };
    set_maxmemory(redis, maxmemory).await
}

fn history_key(serial: &str) -> Result<String> {
    let id: DeviceId = serial.parse()?;
    Ok(PartitionKeys::new(id.partition(64)).history(&id))
}

/// Returns the number of samples in the history of a device.
async fn samples(redis: &mut MultiplexedConnection, serial: &str) -> Result<u64> {
    let mut command = redis::cmd("XLEN");
    let length = command.arg(history_key(serial)?).query_async(redis).await;
    length.context("the length of a history")
}

/// Returns the statuses that both services tell, and the reasons about Redis.
async fn statuses(stack: &Stack) -> Result<[(Value, Value); 2]> {
    let mut told = Vec::new();
    for service in [&stack.ingests[0], &stack.gateways[0]] {
        let body = service.get("/readyz").await?.expect(200)?;
        told.push((
            body["status"].clone(),
            body["dependencies"]["redis"].clone(),
        ));
    }
    told.try_into().ok().context("two services")
}

async fn tell(stack: &Stack, status: &str) -> Result<()> {
    eventually(&format!("both services say {status}"), async || {
        for (told, redis) in statuses(stack).await? {
            ensure!(told == status, "{told}: {redis}");
            ensure!(redis["ok"] == true, "{redis}");
            let reason = redis["reason"].as_str().unwrap_or_default();
            ensure!(
                reason.starts_with("redis full") == (status == "degraded"),
                "{redis}"
            );
        }
        Ok(())
    })
    .await
}

/// Sends a value, and returns the alarm after this change.
async fn change(
    stack: &Stack,
    browser: &Browser,
    (serial, value): (&str, i64),
    change: &str,
) -> Result<Value> {
    let from = browser.seen_count();
    stack.device(serial).send(value).await?;
    let seen = browser
        .wait_after(from, change, |event| {
            let is_change = event.is_of("device:alerts:changed", serial);
            is_change && only_alert(&event.body).is_ok_and(|alert| alert["change"] == change)
        })
        .await?;
    Ok(only_alert(&seen.body)?.clone())
}

#[tokio::test]
async fn a_redis_that_others_fill_loses_no_alarm_and_heals() -> Result<()> {
    let stack = Plan::default().operator_port().start().await?;
    let mut redis = stack.redis_connection().await?;
    let browser = stack.browser().await?;
    for serial in ["OTSM-0001", "OTSM-0002"] {
        browser.subscribe(serial).await?;
        stack.device(serial).send(100).await?;
        stack.shows(serial, 100).await?;
    }

    fill(&mut redis, Used::LessThanHalf).await?;
    stack.device("OTSM-0001").send(101).await?;
    stack.shows("OTSM-0001", 101).await?;
    tell(&stack, "degraded").await?;
    browser
        .wait_for("the client is told", |event| {
            event.is_event("system:status") && event.body["status"] == "degraded"
        })
        .await?;

    // Alarms, acknowledgements, and every reading.
    let raised = change(&stack, &browser, ("OTSM-0001", 300), "raised").await?;
    let id = raised["id"].as_str().context("an id")?;
    stack
        .acknowledge("OTSM-0001", id, "{}")
        .await?
        .expect(200)?;
    let escalated = change(&stack, &browser, ("OTSM-0001", 1200), "escalated").await?;
    ensure!(escalated["id"] == raised["id"], "{escalated}");
    stack
        .acknowledge("OTSM-0001", id, "{}")
        .await?
        .expect(200)?;
    let from = browser.seen_count();
    for value in 1201..1220 {
        stack.device("OTSM-0001").send(value).await?;
    }
    browser
        .wait_after(from, "the last reading", |event| {
            event.is_of("device:data", "OTSM-0001") && event.body["data"]["sensor_reading"] == 1219
        })
        .await?;
    // A detector that nobody knows yet, with gas.
    stack.device("OTSM-0003").send(600).await?;
    stack.shows("OTSM-0003", 600).await?;
    ensure!(
        stack.alerts("OTSM-0003").await?.len() == 1,
        "its alarm is stored"
    );
    stack.retire("OTSM-0002", "").await?.expect(200)?;
    stack.get("/api/devices/OTSM-0002").await?.expect(404)?;
    // What cannot be read is still stored before it is acknowledged.
    stack
        .publisher()
        .publish("SubTronics/data", "not a payload")
        .await?;
    eventually("the dead letter is stored", async || {
        let letters: u64 = redis::cmd("XLEN")
            .arg(keys::DEAD_LETTERS)
            .query_async(&mut redis.clone())
            .await?;
        ensure!(letters == 1, "{letters}");
        Ok(())
    })
    .await?;
    let alerts = stack.alerts("OTSM-0001").await?;
    ensure!(
        alerts.len() == 1 && alerts[0]["state"] == "acknowledged",
        "{alerts:?}"
    );
    let unstored = stack.ingests[0]
        .metric("ingest_history_unstored_total ")
        .await?;
    ensure!(unstored > 0.0, "history was stored: {unstored}");
    tell(&stack, "degraded").await?;

    let from = browser.seen_count();
    set_maxmemory(&mut redis, "0").await?;
    tell(&stack, "ok").await?;
    browser
        .wait_after(from, "the client is told", |event| {
            event.is_event("system:status") && event.body["status"] == "ok"
        })
        .await?;
    let before: u64 = samples(&mut redis, "OTSM-0001").await?;
    stack.device("OTSM-0001").send(1221).await?;
    stack.shows("OTSM-0001", 1221).await?;
    let after: u64 = samples(&mut redis, "OTSM-0001").await?;
    ensure!(after == before + 1, "{before} samples, then {after}");
    let path = "/devices/OTSM-0001/alarm-logs";
    let logs = stack.get(path).await?.expect(200)?;
    ensure!(
        logs["total_count"] == 2,
        "a raise and an escalation: {logs}"
    );
    stack.pass()
}

#[tokio::test]
async fn the_second_half_of_the_reserve_is_for_alarms() -> Result<()> {
    let stack = Plan::default().start().await?;
    let mut redis = stack.redis_connection().await?;
    let browser = stack.browser().await?;
    browser.subscribe("OTSM-0001").await?;
    stack.device("OTSM-0001").send(100).await?;
    let latest = stack.shows("OTSM-0001", 100).await?;
    ensure!(latest["raw_message"].is_object(), "{latest}");

    fill(&mut redis, Used::MoreThanHalf).await?;
    stack.device("OTSM-0001").send(101).await?;
    let latest = stack.shows("OTSM-0001", 101).await?;
    // An older payload never stands beside this reading.
    ensure!(latest["raw_message"].is_null(), "{latest}");
    tell(&stack, "degraded").await?;

    for number in 0..30 {
        stack.device(&format!("OTSM-1{number:03}")).send(1).await?;
    }
    // The flood holds up neither the known detector nor a new one with gas.
    let raised = change(&stack, &browser, ("OTSM-0001", 300), "raised").await?;
    let id = raised["id"].as_str().context("an id")?;
    let acknowledged = stack.acknowledge("OTSM-0001", id, "{}").await?;
    acknowledged.expect(200)?;
    stack.device("OTSM-0003").send(600).await?;
    stack.shows("OTSM-0003", 600).await?;
    eventually("every message of the flood is counted", async || {
        let mut refused = 0.0;
        for ingest in &stack.ingests {
            let metric = r#"ingest_messages_rejected_total{reason="redis_full"}"#;
            refused += ingest.metric(metric).await?;
        }
        ensure!((29.5..30.5).contains(&refused), "{refused}");
        Ok(())
    })
    .await?;
    let list = stack.get("/api/devices").await?.expect(200)?;
    ensure!(list["count"] == 2, "{list}");
    // The gateway learns it from the next report of ingest.
    eventually("both services name the reserve", async || {
        for (told, redis) in statuses(&stack).await? {
            let reason = redis["reason"].as_str().unwrap_or_default();
            ensure!(
                told == "degraded" && reason.contains("--memory-reserve"),
                "{redis}"
            );
        }
        Ok(())
    })
    .await?;

    set_maxmemory(&mut redis, "0").await?;
    tell(&stack, "ok").await?;
    stack.device("OTSM-1000").send(2).await?;
    stack.shows("OTSM-1000", 2).await?;
    stack.pass()
}

/// Returns why Redis is degraded, as the gateway says it.
async fn reason_of_gateway(stack: &Stack) -> Result<String> {
    let body = stack.gateways[0].get("/readyz").await?.expect(200)?;
    ensure!(body["status"] == "degraded", "{body}");
    let reason = &body["dependencies"]["redis"]["reason"];
    Ok(reason.as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_gateway_does_not_promise_alarms_that_ingest_cannot_store() -> Result<()> {
    let plan = Plan::default().ingest_flags("--memory-reserve=0");
    let stack = plan.start().await?;
    let mut redis = stack.redis_connection().await?;
    stack.device("OTSM-0001").send(100).await?;
    stack.shows("OTSM-0001", 100).await?;
    fill(&mut redis, Used::LessThanHalf).await?;
    eventually("the gateway promises nothing", async || {
        let reason = reason_of_gateway(&stack).await?;
        let says_so = reason.starts_with("redis full") && reason.contains("no ingest reports");
        ensure!(says_so, "{reason}");
        let health = stack.get("/health").await?.expect(200)?;
        ensure!(health["status"] == "degraded", "{health}");
        Ok(())
    })
    .await?;
    set_maxmemory(&mut redis, "0").await?;
    tell(&stack, "ok").await?;
    stack.pass()
}

#[tokio::test]
async fn a_gateway_without_a_reserve_still_says_that_alarms_are_stored() -> Result<()> {
    let plan = Plan::default().gateway_flags("--memory-reserve=0");
    let stack = plan.start().await?;
    let mut redis = stack.redis_connection().await?;
    let browser = stack.browser().await?;
    browser.subscribe("OTSM-0001").await?;
    stack.device("OTSM-0001").send(100).await?;
    stack.shows("OTSM-0001", 100).await?;
    fill(&mut redis, Used::LessThanHalf).await?;
    let raised = change(&stack, &browser, ("OTSM-0001", 300), "raised").await?;
    let id = raised["id"].as_str().context("an id")?;
    let refused = stack
        .acknowledge("OTSM-0001", id, "{}")
        .await?
        .expect(503)?;
    ensure!(refused["error_code"] == "store_full", "{refused}");
    eventually("the gateway says both", async || {
        let reason = reason_of_gateway(&stack).await?;
        let says_both =
            reason.contains("alarms are stored") && reason.contains("acknowledgements are not");
        ensure!(says_both, "{reason}");
        Ok(())
    })
    .await?;
    // What it serves is current all the same.
    stack.device("OTSM-0001").send(301).await?;
    let latest = stack.shows("OTSM-0001", 301).await?;
    ensure!(latest["data_quality"] == "good", "{latest}");
    stack.pass()
}

/// Stores samples as an earlier release did, one a second up to now.
async fn add_samples(redis: &mut MultiplexedConnection, serial: &str, count: i64) -> Result<()> {
    let key = history_key(serial)?;
    let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(redis).await?;
    let sample = r#"{"timestamp":"2026-11-26T14:39:57.308Z","reading_timestamp":null,"sensor_reading":300,"unit":"ppm","alarm_status":"ALARM","data_quality":"good"}"#;
    redis::cmd("DEL").arg(&key).exec_async(redis).await?;
    let mut pipe = redis::pipe();
    for number in 0..count {
        let id = format!("{}-0", (seconds - count + number) * 1_000);
        pipe.cmd("XADD")
            .arg(&key)
            .arg(id)
            .arg("s")
            .arg(sample)
            .ignore();
    }
    pipe.exec_async(redis).await.context("adding samples")
}

#[tokio::test]
async fn a_smaller_history_frees_memory_of_silent_detectors_while_redis_is_full() -> Result<()> {
    let plan = Plan::default().ingest_flags("--history-max=500 --offline-after=1h");
    let stack = plan.start().await?;
    let mut redis = stack.redis_connection().await?;
    stack.device("OTSM-0001").send(100).await?;
    stack.shows("OTSM-0001", 100).await?;
    add_samples(&mut redis, "OTSM-0001", 20_000).await?;
    fill(&mut redis, Used::LessThanHalf).await?;
    eventually("the history is shorter", async || {
        let left = samples(&mut redis, "OTSM-0001").await?;
        ensure!(left <= 600, "{left} samples");
        Ok(())
    })
    .await?;
    stack.pass()
}

/// `--history-bytes` of the next test. Redis frees whole nodes of 100 samples, so each of two detectors may keep one more.
const MOST_BYTES: f64 = 200.0 * 1024.0 + 2.0 * 100.0 * 250.0;

#[tokio::test]
async fn the_longest_history_gives_first_when_all_of_them_take_too_much() -> Result<()> {
    let plan = Plan::default().ingest_flags("--history-bytes=200kb --offline-after=1h");
    let stack = plan.start().await?;
    let mut redis = stack.redis_connection().await?;
    for (serial, samples) in [("OTSM-0001", 3_000), ("OTSM-0002", 150)] {
        stack.device(serial).send(100).await?;
        stack.shows(serial, 100).await?;
        add_samples(&mut redis, serial, samples).await?;
    }
    // All of them are of the last hour, so they are thinned.
    eventually("the history fits", async || {
        let bytes = stack.ingests[0].metric("ingest_history_bytes ").await?;
        let dropped = stack.ingests[0]
            .metric("ingest_history_dropped_total ")
            .await?;
        let what = format!("{bytes} bytes, {dropped} dropped");
        ensure!(dropped > 0.0 && bytes <= MOST_BYTES, "{what}");
        Ok(())
    })
    .await?;
    let short: u64 = samples(&mut redis, "OTSM-0002").await?;
    ensure!(short == 150, "{short} samples of the shorter history");
    let history = stack
        .get("/api/devices/OTSM-0001/history?limit=10000")
        .await?
        .expect(200)?;
    let count = history["count"].as_u64().context("a count")?;
    ensure!((100..=1_500).contains(&count), "{count} samples");
    stack.pass()
}

//! Redis fails, loses data, or is replaced by another server. The services notice that (usually within 3 s), inform every
//! client, and recover (usually within 10 s).

mod failover;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::Browser;
use tests::device::{Device, Payload};
use tests::eventually::eventually;
use tests::report;
use tests::stack::{Plan, Stack};

/// A detector whose A1 alarm is latched.
const LATCHED: &str = "OTSM-0001";
/// A detector whose alarm is acknowledged.
const ACKNOWLEDGED: &str = "OTSM-0002";

/// Time limit for noticing a fault and informing the clients.
const DETECTION_LIMIT: Duration = Duration::from_secs(3);
/// Time limit for recovering after a fault.
const RECOVERY_LIMIT: Duration = Duration::from_secs(10);

/// Two detectors in alarm, and a browser that watches them.
struct Scene {
    latched: Device,
    acknowledged: Device,
    browser: Browser,
    /// The alarm ids of both detectors, before the fault.
    alarms: [String; 2],
    /// The epochs of both detectors, before the fault.
    epochs: [Value; 2],
}

fn latching_payload(device: &Device, value: i64) -> Payload {
    device.old(value).with_parameter("A1Latching", 1)
}

impl Scene {
    async fn set_up(stack: &Stack) -> Result<Self> {
        let latched = stack.device(LATCHED);
        let acknowledged = stack.device(ACKNOWLEDGED);
        let browser = stack.browser().await?;
        for device in [LATCHED, ACKNOWLEDGED] {
            browser.subscribe(device).await?;
        }
        latched.publish(&latching_payload(&latched, 300)).await?;
        acknowledged.publish(&acknowledged.old(600)).await?;
        latched.publish(&latching_payload(&latched, 100)).await?;
        stack.shows(LATCHED, 100).await?;
        stack.shows(ACKNOWLEDGED, 600).await?;
        let acknowledged_id = alarm(stack, ACKNOWLEDGED).await?["id"].clone();
        let acknowledged_id = acknowledged_id.as_str().context("an id")?.to_owned();
        let body = r#"{"acknowledged_by":"Night shift"}"#;
        stack
            .acknowledge(ACKNOWLEDGED, &acknowledged_id, body)
            .await?
            .expect(200)?;
        let latched_id = alarm(stack, LATCHED).await?["id"].clone();
        let latched_id = latched_id.as_str().context("an id")?.to_owned();
        let mut epochs = [Value::Null, Value::Null];
        for (epoch, (device, change)) in epochs
            .iter_mut()
            .zip([(LATCHED, "latched"), (ACKNOWLEDGED, "acknowledged")])
        {
            let event = browser
                .wait_for(change, |seen| {
                    seen.is_of("device:alerts:changed", device)
                        && seen.body["alerts"][0]["change"] == change
                })
                .await?;
            *epoch = event.body["epoch"].clone();
        }
        Ok(Self {
            latched,
            acknowledged,
            browser,
            alarms: [latched_id, acknowledged_id],
            epochs,
        })
    }

    /// Waits until the browser has received snapshots of both detectors in new epochs, with the same alarms as before.
    async fn receives_snapshots(&self, from: usize) -> Result<()> {
        let devices = [LATCHED, ACKNOWLEDGED]
            .into_iter()
            .zip(&self.alarms)
            .zip(&self.epochs);
        for ((device, alarm), epoch) in devices {
            let is_new = |body: &Value| body["snapshot"] == true && body["epoch"] != *epoch;
            let data = self
                .browser
                .wait_after(from, "a snapshot of the reading", |seen| {
                    seen.is_of("device:data", device) && is_new(&seen.body)
                })
                .await?;
            ensure!(data.body["data"]["alarm_status"] == "ALARM", "{data:?}");
            let alerts = self
                .browser
                .wait_after(from, "a snapshot of the open alarms", |seen| {
                    seen.is_of("device:alerts", device) && is_new(&seen.body)
                })
                .await?;
            ensure!(alerts.body["alerts"][0]["id"] == **alarm, "{alerts:?}");
        }
        Ok(())
    }

    /// Checks that the alarms survived the fault and then clear as usual: the latched one when it is acknowledged, the
    /// acknowledged one at the next low reading. Checks that each change was sent once.
    async fn alarms_survive_and_clear(&self, stack: &Stack) -> Result<()> {
        let latched = alarm(stack, LATCHED).await?;
        ensure!(latched["id"] == *self.alarms[0], "{latched}");
        ensure!(latched["state"] == "latched", "{latched}");
        // The gateway committed the acknowledgement. It may reassert it later than ingest reasserts its own states.
        eventually("the acknowledgement", async || {
            let acknowledged = alarm(stack, ACKNOWLEDGED).await?;
            ensure!(acknowledged["id"] == *self.alarms[1], "{acknowledged}");
            let by = &acknowledged["acknowledged_by"];
            ensure!(by == "Night shift", "{acknowledged}");
            Ok(())
        })
        .await?;
        let [id, _] = &self.alarms;
        stack.acknowledge(LATCHED, id, "{}").await?.expect(200)?;
        self.acknowledged
            .publish(&self.acknowledged.old(10))
            .await?;
        for (device, id) in [LATCHED, ACKNOWLEDGED].into_iter().zip(&self.alarms) {
            self.browser
                .wait_for("the alarm clears", |seen| {
                    seen.is_of("device:alerts:changed", device)
                        && changes(&seen.body).contains(&(id.clone(), "cleared".to_owned()))
                })
                .await?;
        }
        self.latched
            .publish(&latching_payload(&self.latched, 20))
            .await?;
        stack.shows(LATCHED, 20).await?;
        stack.shows(ACKNOWLEDGED, 10).await?;
        self.each_change_was_sent_once()
    }

    fn each_change_was_sent_once(&self) -> Result<()> {
        let expected = [
            (
                LATCHED,
                vec!["raised", "latched", "acknowledged", "cleared"],
            ),
            (ACKNOWLEDGED, vec!["raised", "acknowledged", "cleared"]),
        ];
        for ((device, expected), id) in expected.into_iter().zip(&self.alarms) {
            let received = self.browser.events("device:alerts:changed", device);
            let received: Vec<(String, String)> = received.iter().flat_map(changes).collect();
            let expected: Vec<(String, String)> = expected
                .into_iter()
                .map(|change| (id.clone(), change.to_owned()))
                .collect();
            ensure!(received == expected, "{device}: {received:?}");
        }
        Ok(())
    }
}

/// Reads the newest alert of the device.
async fn alarm(stack: &Stack, device: &str) -> Result<Value> {
    let alerts = stack.alerts(device).await?;
    alerts.last().cloned().context("no alert")
}

/// Returns the alarm ids and changes in a payload of `device:alerts:changed`.
fn changes(body: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
    alerts
        .iter()
        .map(|alert| (text(&alert["id"]), text(&alert["change"])))
        .collect()
}

/// Waits until the browser receives the status that Redis is unavailable, or that all is well.
async fn receives_status(browser: &Browser, from: usize, is_unavailable: bool) -> Result<()> {
    let what = if is_unavailable {
        "Redis is unavailable"
    } else {
        "all is well"
    };
    browser
        .wait_after(from, what, |seen| {
            seen.is_event("system:status")
                && seen.body["dependencies"]["redis"]["ok"] == !is_unavailable
                && (is_unavailable || seen.body["status"] == "ok")
        })
        .await
        .map(drop)
}

/// Reports the time since `since`.
fn report_duration(fault: &str, what: &str, since: Instant, limit: Duration) {
    report::duration(&format!("Redis, {fault}: {what}"), since.elapsed(), limit);
}

async fn wait_until_healthy(stack: &Stack) -> Result<()> {
    eventually("the gateway reports no fault", async || {
        let ready = stack.get("/readyz").await?.expect(200)?;
        ensure!(ready["status"] == "ok", "{ready}");
        Ok(())
    })
    .await
}

async fn start() -> Result<(Stack, Scene)> {
    let stack = Plan::default()
        .redis_flags("--appendfsync always")
        .start()
        .await?;
    wait_until_healthy(&stack).await?;
    let scene = Scene::set_up(&stack).await?;
    Ok((stack, scene))
}

#[tokio::test]
async fn after_a_restart_without_data_loss_clients_recover_without_a_snapshot() -> Result<()> {
    let (mut stack, scene) = start().await?;
    let from = scene.browser.seen_count();
    let killed = Instant::now();
    stack.redis.process.kill().await?;
    receives_status(&scene.browser, from, true).await?;
    report_duration(
        "restart without data loss",
        "clients notified",
        killed,
        DETECTION_LIMIT,
    );
    let restarted = Instant::now();
    stack.redis.process.restart()?;
    receives_status(&scene.browser, from, false).await?;
    report_duration(
        "restart without data loss",
        "healed",
        restarted,
        RECOVERY_LIMIT,
    );
    scene.alarms_survive_and_clear(&stack).await?;
    let snapshots = scene.browser.events("device:data", LATCHED);
    let snapshots = snapshots.iter().filter(|body| body["snapshot"] == true);
    ensure!(
        snapshots.count() == 0,
        "a snapshot was sent, though nothing was lost"
    );
    stack.pass()
}

#[tokio::test]
async fn after_a_restart_with_data_loss_a_running_ingest_reasserts_its_state() -> Result<()> {
    let (mut stack, scene) = start().await?;
    let from = scene.browser.seen_count();
    stack.redis.process.kill().await?;
    receives_status(&scene.browser, from, true).await?;
    std::fs::remove_dir_all(stack.folder().join("appendonlydir"))
        .context("cannot delete the data of Redis")?;
    let restarted = Instant::now();
    stack.redis.process.restart()?;
    scene.receives_snapshots(from).await?;
    report_duration(
        "restart with data loss",
        "healed",
        restarted,
        RECOVERY_LIMIT,
    );
    scene.alarms_survive_and_clear(&stack).await?;
    stack.pass()
}

#[tokio::test]
async fn after_a_flush_a_running_ingest_reasserts_its_state() -> Result<()> {
    let (stack, scene) = start().await?;
    let from = scene.browser.seen_count();
    let mut redis = stack.redis_connection().await?;
    let flushed = Instant::now();
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    scene.receives_snapshots(from).await?;
    report_duration(
        "FLUSHALL",
        "noticed, clients notified and healed",
        flushed,
        DETECTION_LIMIT,
    );
    // A client that subscribes from a position of the old epoch is informed that its missed events cannot be recovered.
    let returning = stack.browser().await?;
    let [epoch, _] = &scene.epochs;
    let answer = returning.subscribe_since(LATCHED, epoch, 2).await?;
    ensure!(answer["recovered"] == false, "{answer}");
    ensure!(answer["alarmsRecovered"] == false, "{answer}");
    scene.alarms_survive_and_clear(&stack).await?;
    stack.pass()
}

#[tokio::test]
async fn after_a_flush_without_a_running_ingest_devices_are_shown_as_offline() -> Result<()> {
    let mut stack = Stack::start().await?;
    let device = stack.device(LATCHED);
    let browser = stack.browser().await?;
    browser.subscribe(LATCHED).await?;
    device.send(300).await?;
    browser.event_after(0, "device:alerts", LATCHED).await?;
    // Terminated, not killed: ingest acknowledges the reading before it exits, so the broker does not send it again.
    stack.ingests[0].process.terminate().await?;
    let mut redis = stack.redis_connection().await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    let event = browser
        .wait_for("the old reading, marked as stale", |seen| {
            seen.is_of("device:data", LATCHED) && seen.body["stale"] == true
        })
        .await?;
    ensure!(event.body["data"]["alarm_status"] == "ALARM", "{event:?}");
    ensure!(event.body["data"]["data_quality"] == "offline", "{event:?}");
    stack
        .get("/devices/OTSM-0001/subtronics/telemetry/latest")
        .await?
        .expect(404)?;
    stack.ingests[0].process.restart()?;
    let from = browser.seen_count();
    device.send(110).await?;
    // To clients this is a new device: they receive a snapshot without the earlier alarm.
    let alerts = browser.event_after(from, "device:alerts", LATCHED).await?;
    ensure!(alerts["snapshot"] == true, "{alerts}");
    ensure!(alerts["alerts"] == Value::Array(Vec::new()), "{alerts}");
    let data = browser.event_after(from, "device:data", LATCHED).await?;
    ensure!(data["snapshot"] == true, "{data}");
    ensure!(data["data"]["sensor_reading"] == 110, "{data}");
    stack.pass()
}

#[tokio::test]
async fn with_two_seconds_of_latency_redis_is_reported_as_unavailable() -> Result<()> {
    with_a_broken_network(
        "2 s of latency",
        |stack| stack.redis_proxy.delay(Duration::from_secs(2)),
        |stack| {
            stack.redis_proxy.delay(Duration::ZERO);
        },
    )
    .await
}

#[tokio::test]
async fn when_the_network_drops_all_data_redis_is_reported_as_unavailable() -> Result<()> {
    with_a_broken_network(
        "black hole",
        |stack| stack.redis_proxy.black_hole(),
        |stack| {
            stack.redis_proxy.heal();
        },
    )
    .await
}

#[tokio::test]
async fn with_half_open_connections_redis_is_reported_as_unavailable() -> Result<()> {
    with_a_broken_network(
        "half open",
        |stack| stack.redis_proxy.half_open(),
        |stack| {
            stack.redis_proxy.heal();
        },
    )
    .await
}

/// Checks that nothing sent while the network is broken is lost or committed twice, even if a commit had reached Redis.
async fn with_a_broken_network(
    fault: &str,
    break_network: impl Fn(&Stack),
    heal_network: impl Fn(&Stack),
) -> Result<()> {
    let (stack, scene) = start().await?;
    let third = stack.device("OTSM-0003");
    third.send(1).await?;
    stack.shows("OTSM-0003", 1).await?;
    let from = scene.browser.seen_count();
    let broken = Instant::now();
    break_network(&stack);
    for value in 2..=20 {
        third.send(value).await?;
    }
    receives_status(&scene.browser, from, true).await?;
    report_duration(fault, "clients notified", broken, DETECTION_LIMIT);
    let healed = Instant::now();
    heal_network(&stack);
    receives_status(&scene.browser, from, false).await?;
    stack.shows("OTSM-0003", 20).await?;
    report_duration(fault, "healed and caught up", healed, RECOVERY_LIMIT);
    let history = stack
        .get("/api/devices/OTSM-0003/history?limit=100")
        .await?;
    let history = history.expect(200)?;
    ensure!(history["count"] == 20, "{history}");
    scene.alarms_survive_and_clear(&stack).await?;
    stack.pass()
}

#[tokio::test]
async fn a_retired_device_does_not_come_back_after_a_flush() -> Result<()> {
    let stack = Plan::default().operator_port().start().await?;
    let (retired, kept) = (stack.device(LATCHED), stack.device(ACKNOWLEDGED));
    retired.publish(&retired.old(600)).await?;
    kept.publish(&kept.old(600)).await?;
    stack.shows(LATCHED, 600).await?;
    stack.shows(ACKNOWLEDGED, 600).await?;
    stack.retire(LATCHED, "{}").await?.expect(200)?;
    // Each ingest reads the list of retired devices every second, when it increments the canary. After two increments it has
    // read the list.
    let mut redis = stack.redis_connection().await?;
    let count: u64 = redis::cmd("GET")
        .arg("st:{canary}:count")
        .query_async(&mut redis)
        .await?;
    eventually("the canary was incremented twice", async || {
        let now: u64 = redis::cmd("GET")
            .arg("st:{canary}:count")
            .query_async(&mut redis)
            .await?;
        ensure!(now >= count + 2, "{now}");
        Ok(())
    })
    .await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    // All states are reasserted together. Once the other device is back, the retired one would be back too.
    stack.shows(ACKNOWLEDGED, 600).await?;
    stack
        .get(&format!("/api/devices/{LATCHED}"))
        .await?
        .expect(404)?;
    stack.pass()
}

#[tokio::test]
async fn an_acknowledgement_that_cleared_a_latched_alarm_survives_a_flush() -> Result<()> {
    let (stack, scene) = start().await?;
    let [id, _] = &scene.alarms;
    let body = r#"{"acknowledged_by":"Day shift"}"#;
    stack.acknowledge(LATCHED, id, body).await?.expect(200)?;
    let mut redis = stack.redis_connection().await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    eventually("the alarm is cleared as before the flush", async || {
        let cleared = alarm(&stack, LATCHED).await?;
        ensure!(cleared["id"] == **id, "{cleared}");
        ensure!(cleared["state"] == "cleared", "{cleared}");
        ensure!(cleared["acknowledged_by"] == "Day shift", "{cleared}");
        Ok(())
    })
    .await?;
    stack.pass()
}

//! Redis goes away, loses data, or is replaced by another server. The services notice it (usually within 3 s), recover
//! (usually within 10 s), and inform every client.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tests::browser::Browser;
use tests::device::{Device, Payload};
use tests::eventually::eventually;
use tests::ports::Port;
use tests::report;
use tests::server_process::ServerProcess;
use tests::stack::{Plan, Stack};

/// A detector that latches A1.
const LATCHED: &str = "OTSM-0001";
/// A detector whose alarm somebody acknowledged.
const ACKNOWLEDGED: &str = "OTSM-0002";

const DETECTED: Duration = Duration::from_secs(3);
const HEALED: Duration = Duration::from_secs(10);

/// Two detectors in alarm, a browser that watches them, and their alarms and epochs.
struct Scene {
    latched: Device,
    acknowledged: Device,
    browser: Browser,
    alarms: [String; 2],
    epochs: [Value; 2],
}

fn latching(device: &Device, value: i64) -> Payload {
    device.old(value).with_parameter("A1Latching", 1)
}

impl Scene {
    async fn set(stack: &Stack) -> Result<Self> {
        let latched = stack.device(LATCHED);
        let acknowledged = stack.device(ACKNOWLEDGED);
        let browser = stack.browser().await?;
        for device in [LATCHED, ACKNOWLEDGED] {
            browser.subscribe(device).await?;
        }
        latched.publish(&latching(&latched, 300)).await?;
        acknowledged.publish(&acknowledged.old(600)).await?;
        latched.publish(&latching(&latched, 100)).await?;
        stack.shows(LATCHED, 100).await?;
        stack.shows(ACKNOWLEDGED, 600).await?;
        let id = alarm(stack, ACKNOWLEDGED).await?["id"].clone();
        let id = id.as_str().context("an id")?.to_owned();
        let body = r#"{"acknowledged_by":"Night shift"}"#;
        stack
            .acknowledge(ACKNOWLEDGED, &id, body)
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
            alarms: [latched_id, id],
            epochs,
        })
    }

    /// Waits until the browser has received snapshots of both detectors in new epochs, with the alarms of before.
    async fn receives_snapshots(&self, from: usize) -> Result<()> {
        let devices = [LATCHED, ACKNOWLEDGED]
            .into_iter()
            .zip(&self.alarms)
            .zip(&self.epochs);
        for ((device, alarm), epoch) in devices {
            let is_new = |body: &Value| body["snapshot"] == true && body["epoch"] != *epoch;
            let data = self
                .browser
                .wait_after(from, "a fresh picture", |seen| {
                    seen.is_of("device:data", device) && is_new(&seen.body)
                })
                .await?;
            ensure!(data.body["data"]["alarm_status"] == "ALARM", "{data:?}");
            let alerts = self
                .browser
                .wait_after(from, "all open alarms", |seen| {
                    seen.is_of("device:alerts", device) && is_new(&seen.body)
                })
                .await?;
            ensure!(alerts.body["alerts"][0]["id"] == **alarm, "{alerts:?}");
        }
        Ok(())
    }

    /// Checks that the alarms are those of before and that they end as usual: the latched one with its acknowledgement, the
    /// acknowledged one with the next low reading. Each change is sent once.
    async fn ends_well(&self, stack: &Stack) -> Result<()> {
        let latched = alarm(stack, LATCHED).await?;
        ensure!(latched["id"] == *self.alarms[0], "{latched}");
        ensure!(latched["state"] == "latched", "{latched}");
        // The gateway committed the acknowledgement. It may assert its state again later than ingest.
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
                .wait_for("the end of the alarm", |seen| {
                    seen.is_of("device:alerts:changed", device)
                        && changes(&seen.body).contains(&(id.clone(), "cleared".to_owned()))
                })
                .await?;
        }
        self.latched.publish(&latching(&self.latched, 20)).await?;
        stack.shows(LATCHED, 20).await?;
        stack.shows(ACKNOWLEDGED, 10).await?;
        self.each_change_came_once()
    }

    fn each_change_came_once(&self) -> Result<()> {
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

/// The newest alert of the device.
async fn alarm(stack: &Stack, device: &str) -> Result<Value> {
    let alerts = stack.alerts(device).await?;
    alerts.last().cloned().context("no alert")
}

fn changes(body: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
    alerts
        .iter()
        .map(|alert| (text(&alert["id"]), text(&alert["change"])))
        .collect()
}

/// Waits until the browser receives the status that Redis is away, or that all is well.
async fn receives_status(browser: &Browser, from: usize, is_away: bool) -> Result<()> {
    let what = if is_away {
        "Redis is away"
    } else {
        "all is well"
    };
    browser
        .wait_after(from, what, |seen| {
            seen.is_event("system:status")
                && seen.body["dependencies"]["redis"]["ok"] == !is_away
                && (is_away || seen.body["status"] == "ok")
        })
        .await
        .map(drop)
}

/// Reports how long this took.
fn figure(fault: &str, what: &str, since: Instant, limit: Duration) {
    report::duration(&format!("Redis, {fault}: {what}"), since.elapsed(), limit);
}

async fn healthy(stack: &Stack) -> Result<()> {
    eventually("a data path without fault", async || {
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
    healthy(&stack).await?;
    let scene = Scene::set(&stack).await?;
    Ok((stack, scene))
}

#[tokio::test]
async fn after_a_restart_with_its_file_clients_recover_exactly() -> Result<()> {
    let (mut stack, scene) = start().await?;
    let from = scene.browser.seen_count();
    let killed = Instant::now();
    stack.redis.process.kill().await?;
    receives_status(&scene.browser, from, true).await?;
    figure(
        "restart with its file",
        "clients notified",
        killed,
        DETECTED,
    );
    let back = Instant::now();
    stack.redis.process.restart()?;
    receives_status(&scene.browser, from, false).await?;
    figure("restart with its file", "healed", back, HEALED);
    scene.ends_well(&stack).await?;
    let pictures = scene.browser.events("device:data", LATCHED);
    let pictures = pictures.iter().filter(|body| body["snapshot"] == true);
    ensure!(
        pictures.count() == 0,
        "a fresh picture, though nothing was lost"
    );
    stack.pass()
}

#[tokio::test]
async fn after_an_empty_restart_a_running_ingest_asserts_its_state_again() -> Result<()> {
    let (mut stack, scene) = start().await?;
    let from = scene.browser.seen_count();
    stack.redis.process.kill().await?;
    receives_status(&scene.browser, from, true).await?;
    std::fs::remove_dir_all(stack.folder().join("appendonlydir")).context("emptying Redis")?;
    let back = Instant::now();
    stack.redis.process.restart()?;
    scene.receives_snapshots(from).await?;
    figure("restart empty", "healed", back, HEALED);
    scene.ends_well(&stack).await?;
    stack.pass()
}

#[tokio::test]
async fn after_a_flush_a_running_ingest_asserts_its_state_again() -> Result<()> {
    let (stack, scene) = start().await?;
    let from = scene.browser.seen_count();
    let mut redis = stack.redis_connection().await?;
    let flushed = Instant::now();
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    scene.receives_snapshots(from).await?;
    figure(
        "FLUSHALL",
        "noticed, clients notified and healed",
        flushed,
        DETECTED,
    );
    // A client with its old position gets the answer that it cannot be recovered, and receives the open alarms.
    let returning = stack.browser().await?;
    let [epoch, _] = &scene.epochs;
    let answer = returning.subscribe_since(LATCHED, epoch, 2).await?;
    ensure!(answer["recovered"] == false, "{answer}");
    ensure!(answer["alarmsRecovered"] == false, "{answer}");
    scene.ends_well(&stack).await?;
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
    // Not killed: it has acknowledged what it committed, so that the broker does not send it again.
    stack.ingests[0].process.terminate().await?;
    let mut redis = stack.redis_connection().await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    let event = browser
        .wait_for("the old reading as what it is", |seen| {
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
    // To clients it is a new device: they receive a snapshot without the alarm of before.
    let alerts = browser.event_after(from, "device:alerts", LATCHED).await?;
    ensure!(alerts["snapshot"] == true, "{alerts}");
    ensure!(alerts["alerts"] == Value::Array(Vec::new()), "{alerts}");
    let data = browser.event_after(from, "device:data", LATCHED).await?;
    ensure!(data["snapshot"] == true, "{data}");
    ensure!(data["data"]["sensor_reading"] == 110, "{data}");
    stack.pass()
}

#[tokio::test]
async fn with_two_seconds_of_latency_redis_counts_as_away() -> Result<()> {
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
async fn in_a_black_hole_redis_counts_as_away() -> Result<()> {
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
async fn with_half_open_connections_redis_counts_as_away() -> Result<()> {
    with_a_broken_network(
        "half open",
        |stack| stack.redis_proxy.half_open(),
        |stack| {
            stack.redis_proxy.heal();
        },
    )
    .await
}

/// Nothing is lost while the network is broken, and nothing is committed twice, whatever had reached Redis.
async fn with_a_broken_network(
    fault: &str,
    break_it: impl Fn(&Stack),
    heal: impl Fn(&Stack),
) -> Result<()> {
    let (stack, scene) = start().await?;
    let other = stack.device("OTSM-0003");
    other.send(1).await?;
    stack.shows("OTSM-0003", 1).await?;
    let from = scene.browser.seen_count();
    let begun = Instant::now();
    break_it(&stack);
    for value in 2..=20 {
        other.send(value).await?;
    }
    receives_status(&scene.browser, from, true).await?;
    figure(fault, "clients notified", begun, DETECTED);
    let healing = Instant::now();
    heal(&stack);
    receives_status(&scene.browser, from, false).await?;
    stack.shows("OTSM-0003", 20).await?;
    figure(fault, "healed and caught up", healing, HEALED);
    let history = stack
        .get("/api/devices/OTSM-0003/history?limit=100")
        .await?;
    let history = history.expect(200)?;
    ensure!(history["count"] == 20, "{history}");
    scene.ends_well(&stack).await?;
    stack.pass()
}

/// A second server that replicates that of the stack.
struct Replica {
    process: ServerProcess,
    port: Port,
}

impl Replica {
    async fn follow(stack: &Stack) -> Result<Self> {
        let mut master = stack.redis_connection().await?;
        redis::cmd("CONFIG")
            .arg("SET")
            .arg("repl-diskless-sync-delay")
            .arg(0)
            .exec_async(&mut master)
            .await?;
        let port = Port::reserve()?;
        let folder = stack.folder().join("replica");
        std::fs::create_dir(&folder).context("a folder for the replica")?;
        let master = format!("127.0.0.1 {}", stack.redis.port());
        let number = port.number().to_string();
        let flags = [
            "--port",
            &number,
            "--bind",
            "127.0.0.1",
            "--appendonly",
            "yes",
            "--maxmemory-policy",
            "noeviction",
            "--replicaof",
            &master,
        ];
        let process = ServerProcess::start("replica", Path::new("redis-server"), flags, &folder)?;
        let replica = Self { process, port };
        eventually("the replica is synchronised", async || {
            let mut redis = replica.connection().await?;
            let info: String = redis::cmd("INFO")
                .arg("replication")
                .query_async(&mut redis)
                .await?;
            ensure!(info.contains("master_link_status:up"), "{info}");
            Ok(())
        })
        .await?;
        Ok(replica)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "tests read and change Redis directly, not through the store of the services"
    )]
    async fn connection(&self) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port.number()))?;
        Ok(client.get_multiplexed_async_connection().await?)
    }

    /// Makes it the master and lets the address lead to it. The old master keeps running, and keeps its connections.
    async fn promote(&self, stack: &Stack) -> Result<()> {
        let mut redis = self.connection().await?;
        redis::cmd("REPLICAOF")
            .arg("NO")
            .arg("ONE")
            .exec_async(&mut redis)
            .await?;
        stack.redis_proxy.retarget(self.port.number());
        Ok(())
    }

    async fn value_of(&self, device: &str) -> Result<Value> {
        let mut redis = self.connection().await?;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("st:*:device:{device}"))
            .query_async(&mut redis)
            .await?;
        let key = keys.first().context("the device is not there")?;
        let latest: String = redis::cmd("HGET")
            .arg(key)
            .arg("latest")
            .query_async(&mut redis)
            .await?;
        let latest: Value = serde_json::from_str(&latest)?;
        Ok(latest["reading"]["value"].clone())
    }
}

#[tokio::test]
async fn after_a_failover_all_services_use_the_new_master_although_the_old_one_answers()
-> Result<()> {
    let (stack, scene) = start().await?;
    let mut replica = Replica::follow(&stack).await?;
    let from = scene.browser.seen_count();
    let promoted = Instant::now();
    replica.promote(&stack).await?;
    let device = stack.device("OTSM-0003");
    // Whichever master commits it, it must be on the new one in the end.
    device.send(1).await?;
    eventually("the reading is on the new master", async || {
        device.send(1).await?;
        let value = replica.value_of("OTSM-0003").await?;
        ensure!(value == 1, "{value}");
        Ok(())
    })
    .await?;
    figure(
        "failover beside a living master",
        "noticed",
        promoted,
        DETECTED,
    );
    scene.browser.subscribe("OTSM-0003").await?;
    device.send(2).await?;
    scene
        .browser
        .wait_after(from, "a reading from the new master", |seen| {
            seen.is_of("device:data", "OTSM-0003") && seen.body["data"]["sensor_reading"] == 2
        })
        .await?;
    figure(
        "failover beside a living master",
        "healed",
        promoted,
        HEALED,
    );
    scene.ends_well(&stack).await?;
    replica.process.check_alive()?;
    stack.pass()
}

/// Only the subscriber stays with the old master. It is connected and gets answers, but no messages.
async fn deafen(stack: &Stack, replica: &Replica) -> Result<()> {
    replica.promote(stack).await?;
    let mut old = stack.redis_connection().await?;
    redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes")
        .exec_async(&mut old)
        .await?;
    Ok(())
}

#[tokio::test]
async fn only_the_redis_watch_notices_a_subscriber_that_receives_nothing() -> Result<()> {
    let watched = Stack::start().await?;
    let unwatched = Plan::default()
        .ingest_flags("--redis-watch=0s")
        .gateway_flags("--redis-watch=0s")
        .start()
        .await?;
    let mut browsers = Vec::new();
    for stack in [&watched, &unwatched] {
        let device = stack.device(LATCHED);
        let browser = stack.browser().await?;
        browser.subscribe(LATCHED).await?;
        device.send(1).await?;
        browser.event_after(0, "device:data", LATCHED).await?;
        browsers.push((browser, device));
    }
    let replicas = (
        Replica::follow(&watched).await?,
        Replica::follow(&unwatched).await?,
    );
    deafen(&unwatched, &replicas.1).await?;
    deafen(&watched, &replicas.0).await?;
    let deaf = Instant::now();
    for (_, device) in &browsers {
        device.send(2).await?;
    }
    // Both commit and answer, on the new master.
    for stack in [&watched, &unwatched] {
        stack.shows(LATCHED, 2).await?;
    }
    let has_received = |browser: &Browser| {
        let received = browser.events("device:data", LATCHED);
        received
            .iter()
            .any(|body| body["data"]["sensor_reading"] == 2)
    };
    eventually("the watched one receives the reading", async || {
        ensure!(has_received(&browsers[0].0), "nothing");
        Ok(())
    })
    .await?;
    figure("deaf subscriber", "healed", deaf, HEALED);
    ensure!(
        !has_received(&browsers[1].0),
        "without the watch the subscriber must receive nothing"
    );
    watched.pass()?;
    unwatched.pass()
}

#[tokio::test]
async fn a_retired_device_does_not_come_back_with_a_flush() -> Result<()> {
    let stack = Stack::start().await?;
    let (gone, stays) = (stack.device(LATCHED), stack.device(ACKNOWLEDGED));
    gone.publish(&gone.old(600)).await?;
    stays.publish(&stays.old(600)).await?;
    stack.shows(LATCHED, 600).await?;
    stack.shows(ACKNOWLEDGED, 600).await?;
    let path = format!("/api/devices/{LATCHED}");
    let port = stack.gateways[0].port();
    let headers = [("content-type", "application/json")];
    tests::http::send(port, "DELETE", &path, &headers, b"{}")
        .await?
        .expect(200)?;
    // Every second each ingest reads what was retired. After two beats of the canary it has.
    let mut redis = stack.redis_connection().await?;
    let count: u64 = redis::cmd("GET")
        .arg("st:{canary}:count")
        .query_async(&mut redis)
        .await?;
    eventually("the canary has beaten twice", async || {
        let now: u64 = redis::cmd("GET")
            .arg("st:{canary}:count")
            .query_async(&mut redis)
            .await?;
        ensure!(now >= count + 2, "{now}");
        Ok(())
    })
    .await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    // All devices are asserted again at once: if the other one is there, this one would be too.
    stack.shows(ACKNOWLEDGED, 600).await?;
    stack.get(&path).await?.expect(404)?;
    stack.pass()
}

#[tokio::test]
async fn an_acknowledgement_that_ended_a_latched_alarm_survives_a_flush() -> Result<()> {
    let (stack, scene) = start().await?;
    let [id, _] = &scene.alarms;
    let body = r#"{"acknowledged_by":"Day shift"}"#;
    stack.acknowledge(LATCHED, id, body).await?.expect(200)?;
    let mut redis = stack.redis_connection().await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    eventually("the alarm is cleared as before the flush", async || {
        let ended = alarm(&stack, LATCHED).await?;
        ensure!(ended["id"] == **id, "{ended}");
        ensure!(ended["state"] == "cleared", "{ended}");
        ensure!(ended["acknowledged_by"] == "Day shift", "{ended}");
        Ok(())
    })
    .await?;
    stack.pass()
}

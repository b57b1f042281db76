//! The client kit of the dashboard against the whole system, while connections and processes break: it misses nothing and takes nothing
//! twice, and its lists are right in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::all_devices::{ROW_FIELDS, open_alarms, without_position};
use tests::browser::{Browser, Transport};
use tests::eventually::eventually;
use tests::kits::{KitCounts, Kits};
use tests::ledger::{Load, logged_changes};
use tests::report;
use tests::seed::Seed;
use tests::stack::{Plan, Stack};
use tests::tcp_proxy::TcpProxy;
use tokio::time::sleep;

const KITS: usize = 20;
const DEVICES: usize = 12;
/// How many devices each client watches, beside the fleet and all open alarms.
const WATCHED: usize = 4;
/// How many lost connections each round has at least, of all clients together.
const DISCONNECTS: usize = 600;
/// Of how many events a connection has at most while clients drop it. The answers to their subscriptions are some ten.
const EVENTS: usize = 30;
/// The history of a device over REST has at most 1000 samples, with which the readings are compared: no run may be longer.
const MAX_ROUNDS: usize = 10;
const PERIOD: Duration = Duration::from_millis(300);
/// The longest time between two cuts of a proxy.
const BETWEEN_CUTS: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(60);

/// The system, and clients that reach it through proxies.
struct Scene {
    stack: Stack,
    seed: Seed,
    serials: Vec<String>,
    kits: Kits,
    /// Each in front of a gateway, for every fifth client.
    proxies: Vec<TcpProxy>,
}

impl Scene {
    async fn start() -> Result<Self> {
        let mut seed = Seed::from_environment();
        // The readings alone must decide the alarm changes, and there must be many.
        let stack = Plan::default()
            .gateways(2)
            .every_raise_is_an_alarm()
            .start()
            .await?;
        let serials = Load::serials(DEVICES);
        let mut proxies = Vec::new();
        for number in 0..5 {
            let port = stack.gateways[number % 2].port();
            proxies.push(TcpProxy::start(port).await?);
        }
        let wanted: Vec<Value> = (0..KITS)
            .map(|number| {
                let port = proxies[number % proxies.len()].port();
                let devices = serials.iter().cycle().skip(number * WATCHED).take(WATCHED);
                let transports = if number % 4 == 3 {
                    Transport::Polling
                } else {
                    Transport::WebSocket
                };
                json!({
                    "url": format!("http://127.0.0.1:{port}"),
                    "devices": devices.collect::<Vec<_>>(),
                    "transports": transports.names(),
                })
            })
            .collect();
        let mut kits = Kits::start()?;
        let open = json!({"do": "open", "seed": seed.below(1_000_000), "kits": wanted});
        kits.ask(&open).await?;
        let mut scene = Self {
            stack,
            seed,
            serials,
            kits,
            proxies,
        };
        scene.until_live().await?;
        Ok(scene)
    }

    /// Waits until every client says that what it shows is current.
    async fn until_live(&mut self) -> Result<()> {
        let kits = &mut self.kits;
        eventually("every client is live", async || {
            let counts = kits.counts().await?;
            let is_live = |kit: &KitCounts| kit.phase == "live" && !kit.is_degraded;
            ensure!(counts.iter().all(is_live), "{counts:?}");
            Ok(())
        })
        .await
    }

    /// Breaks connections at random times until clients have lost so many more.
    async fn lose_connections(&mut self, more: usize) -> Result<()> {
        let lost = async |kits: &mut Kits| {
            let counts = kits.counts().await?;
            anyhow::Ok(counts.iter().map(|kit| kit.disconnects).sum::<usize>())
        };
        let until = lost(&mut self.kits).await? + more;
        while lost(&mut self.kits).await? < until {
            let proxy = self.seed.below(self.proxies.len());
            self.proxies[proxy].reset();
            sleep(self.seed.duration(BETWEEN_CUTS)).await;
        }
        Ok(())
    }

    /// Passes nothing to the clients of one proxy, until all of them say that they show nothing current.
    async fn swallow_everything(&mut self) -> Result<()> {
        let proxy = self.seed.below(self.proxies.len());
        let proxy = &self.proxies[proxy];
        proxy.black_hole();
        let url = format!("http://127.0.0.1:{}", proxy.port());
        let kits = &mut self.kits;
        eventually("the clients notice", async || {
            let counts = kits.counts().await?;
            let mut behind = counts.iter().filter(|kit| kit.url == url);
            let is_away = |kit: &KitCounts| ["silent", "lost"].contains(&kit.phase.as_str());
            ensure!(behind.all(is_away), "{counts:?}");
            Ok(())
        })
        .await?;
        proxy.heal();
        Ok(())
    }

    async fn kill_a_gateway(&mut self) -> Result<()> {
        self.stack.gateways[0].process.kill().await?;
        // The clients of the other one go on, and theirs break, too.
        self.lose_connections(DISCONNECTS / 10).await?;
        self.stack.gateways[0].process.restart()?;
        self.stack.gateways[0].ready().await
    }

    /// Cuts Redis until clients were told.
    async fn cut_redis(&mut self) -> Result<()> {
        self.stack.redis_proxy.cut();
        let kits = &mut self.kits;
        eventually("a client is told", async || {
            let counts = kits.counts().await?;
            ensure!(counts.iter().any(|kit| kit.is_degraded), "{counts:?}");
            Ok(())
        })
        .await?;
        self.stack.redis_proxy.heal();
        Ok(())
    }
}

#[tokio::test]
async fn it_misses_nothing_and_takes_nothing_twice_whatever_breaks() -> Result<()> {
    let mut scene = Scene::start().await?;
    let reference = Browser::connect(scene.stack.gateways[1].port(), Transport::WebSocket).await?;
    for serial in &scene.serials {
        reference.follow(serial).await?;
    }
    let load = Load::start(&scene.stack, &scene.serials, PERIOD, &mut scene.seed);
    let rounds = scene.seed.rounds().min(MAX_ROUNDS);
    scene.kits.drop_connections(EVENTS).await?;
    for _ in 0..rounds {
        scene.lose_connections(DISCONNECTS / 2).await?;
        scene.swallow_everything().await?;
        scene.kill_a_gateway().await?;
        scene.cut_redis().await?;
        scene.lose_connections(DISCONNECTS / 2).await?;
    }
    scene.kits.drop_connections(0).await?;
    let ledger = load.stop(&scene.stack).await?;
    // What was committed is what the readings require.
    let verdict = ledger
        .judge(&scene.stack, std::slice::from_ref(&reference), None)
        .await?;
    scene.until_live().await?;
    check_devices(&mut scene).await?;
    check_lists(&mut scene).await?;
    let counts = scene.kits.counts().await?;
    let lost: usize = counts.iter().map(|kit| kit.disconnects).sum();
    ensure!(lost >= DISCONNECTS * rounds, "{lost}");
    ensure!(verdict.changes > DEVICES, "{verdict:?}");
    report::line(&format!(
        "client kit: {KITS} clients lost {lost} connections, {} alarm changes, none missing, none twice",
        verdict.changes
    ));
    scene.stack.pass()
}

/// Every change of an alarm was taken once, in the order of the log, and each client has what REST has.
async fn check_devices(scene: &mut Scene) -> Result<()> {
    let mut logs = BTreeMap::new();
    for serial in &scene.serials {
        logs.insert(serial, logged_changes(&scene.stack, serial).await?);
    }
    let (stack, kits) = (&scene.stack, &mut scene.kits);
    let serials = &scene.serials;
    eventually("every client has what was committed", async || {
        let state = kits.ask(&json!({"do": "state"})).await?;
        let mut rest = BTreeMap::new();
        for serial in serials {
            rest.insert(serial.as_str(), of_rest(stack, serial).await?);
        }
        for (number, kit) in state.as_array().context("clients")?.iter().enumerate() {
            let devices = kit["devices"].as_object().context("devices")?;
            ensure!(devices.len() == WATCHED, "{kit}");
            for (serial, device) in devices {
                check_device(device, &logs[serial], &rest[serial.as_str()])
                    .with_context(|| format!("client {number}, {serial}"))?;
            }
        }
        Ok(())
    })
    .await
}

/// What REST says of a device: its latest reading, its open alarms by id, and its position.
async fn of_rest(stack: &Stack, serial: &str) -> Result<(Value, BTreeMap<String, Value>, Value)> {
    let device = stack
        .get(&format!("/api/devices/{serial}"))
        .await?
        .expect(200)?;
    let mut open = BTreeMap::new();
    for alert in stack.alerts(serial).await? {
        if alert["state"] != "cleared" {
            open.insert(alert["id"].as_str().context("an id")?.to_owned(), alert);
        }
    }
    let position = json!({"epoch": device["epoch"], "seq": device["seq"]});
    Ok((device["data"].clone(), open, position))
}

fn check_device(
    device: &Value,
    logged: &[String],
    (reading, open, position): &(Value, BTreeMap<String, Value>, Value),
) -> Result<()> {
    let taken: Vec<&str> = device["log"]
        .as_array()
        .context("a log")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    ensure!(
        taken == *logged,
        "the client took\n{taken:?}, the log has\n{logged:?}"
    );
    ensure!(
        device["reading"] == *reading,
        "{} {reading}",
        device["reading"]
    );
    ensure!(
        device["seen"] == *position && device["known"] == true && device["stale"] == false,
        "{position}: {device}"
    );
    let mut shown = BTreeMap::new();
    for alert in device["alarms"].as_array().context("alarms")? {
        let mut alert = alert.clone();
        if let Some(fields) = alert.as_object_mut() {
            fields.shift_remove("change");
        }
        shown.insert(alert["id"].as_str().context("an id")?.to_owned(), alert);
    }
    ensure!(shown == *open, "{shown:?} {open:?}");
    Ok(())
}

/// The lists of all devices and of all open alarms are those of REST.
async fn check_lists(scene: &mut Scene) -> Result<()> {
    let port = scene.stack.gateways[0].port();
    let (stack, kits) = (&scene.stack, &mut scene.kits);
    eventually("the lists are those of REST", async || {
        let open = without_position(&open_alarms(port).await?);
        let listed = stack.get("/api/devices").await?.expect(200)?;
        let listed = rows_of(&listed["devices"])?;
        let state = kits.ask(&json!({"do": "state"})).await?;
        for (number, kit) in state.as_array().context("clients")?.iter().enumerate() {
            let rows = rows_of(&kit["fleet"])?;
            ensure!(rows == listed, "client {number}: {rows:?} {listed:?}");
            let shown = by_id(&kit["alarms"])?;
            let shown = without_position(&shown);
            ensure!(shown == open, "client {number}: {shown:?} {open:?}");
        }
        Ok(())
    })
    .await
}

/// What rows and the list of REST both say of each device.
fn rows_of(devices: &Value) -> Result<BTreeSet<String>> {
    let devices = devices.as_array().context("devices")?.iter();
    let brief = |device: &Value| ROW_FIELDS.map(|field| device[field].to_string()).join(" ");
    Ok(devices.map(brief).collect())
}

fn by_id(alarms: &Value) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for alarm in alarms.as_array().context("alarms")? {
        let mut alarm = alarm.clone();
        if let Some(fields) = alarm.as_object_mut() {
            fields.shift_remove("change");
        }
        let id = alarm["id"].as_str().context("an id")?.to_owned();
        let is_new = found.insert(id, alarm).is_none();
        ensure!(is_new, "an alarm twice: {alarms}");
    }
    Ok(found)
}

/// Waits until a client shows such an alarm of this device, and returns it.
async fn shown_alarm(kits: &mut Kits, kit: usize, serial: &str, kind: &str) -> Result<Value> {
    eventually(&format!("{serial} has {kind}"), async || {
        let state = kits.ask(&json!({"do": "state"})).await?;
        let alarms = state[kit]["alarms"].as_array().context("alarms")?;
        let is_it = |alarm: &&Value| alarm["deviceId"] == serial && alarm["type"] == kind;
        let alarm = alarms.iter().find(is_it);
        alarm.cloned().with_context(|| format!("{alarms:?}"))
    })
    .await
}

#[tokio::test]
async fn an_acknowledgement_says_what_became_of_it() -> Result<()> {
    let mut scene = Scene::start().await?;
    let acknowledge = async |kits: &mut Kits, alarm: &Value| {
        let seen = json!({"epoch": alarm["epoch"], "seq": alarm["seq"]});
        let answer = kits
            .ask(&json!({
                "do": "acknowledge", "kit": 0, "device": alarm["deviceId"], "alarm": alarm["id"], "seen": seen,
            }))
            .await?;
        let result = answer["result"].as_str().context("a result")?;
        anyhow::Ok(result.to_owned())
    };
    let device = scene.stack.device("OTSM-0001");
    let serial = device.serial();
    device.send(300).await?;
    let seen = shown_alarm(&mut scene.kits, 0, serial, "alarm_level_1").await?;
    // It escalates behind the back of whoever acknowledges it.
    device.send(1200).await?;
    let worse = shown_alarm(&mut scene.kits, 0, serial, "alarm_level_3").await?;
    ensure!(acknowledge(&mut scene.kits, &seen).await? == "escalated");
    let alerts = scene.stack.alerts(serial).await?;
    ensure!(alerts[0]["state"] == "unacknowledged", "{alerts:?}");
    ensure!(acknowledge(&mut scene.kits, &worse).await? == "done");
    // Again: it keeps its first name and time.
    ensure!(acknowledge(&mut scene.kits, &worse).await? == "done");
    let kits = &mut scene.kits;
    eventually("every client knows", async || {
        let state = kits.ask(&json!({"do": "state"})).await?;
        for kit in state.as_array().context("clients")? {
            let alarms = kit["alarms"].as_array().context("alarms")?;
            ensure!(alarms.len() == 1, "{alarms:?}");
            ensure!(alarms[0]["state"] == "acknowledged", "{alarms:?}");
        }
        Ok(())
    })
    .await?;
    scene.stack.gateways[0].process.kill().await?;
    ensure!(acknowledge(&mut scene.kits, &worse).await? == "failed");
    scene.stack.gateways[0].process.restart()?;
    scene.stack.gateways[0].ready().await?;
    device.send(10).await?;
    eventually("the alarm has ended", async || {
        let alerts = scene.stack.alerts(serial).await?;
        ensure!(alerts[0]["state"] == "cleared", "{alerts:?}");
        Ok(())
    })
    .await?;
    let mut unknown = worse.clone();
    unknown["id"] = json!("alarm3_of_before");
    ensure!(acknowledge(&mut scene.kits, &unknown).await? == "gone");
    let logged = logged_changes(&scene.stack, serial).await?;
    let expected = [
        "raised",
        "escalated",
        "acknowledged",
        "acknowledged",
        "cleared",
    ];
    let changes: Vec<&str> = logged
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    ensure!(changes == expected, "{changes:?}");
    scene.until_live().await?;
    scene.stack.pass()
}

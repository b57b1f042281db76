//! Records the data of a release in Redis, and the answers of its gateway: `record-redis BINARIES FILE`.
//!
//! `BINARIES` is the folder with `ingest` and `gateway` of that release. `FILE.aof` gets the contents of Redis as commands,
//! `FILE.json` the answers. `it/upgrade.rs` compares the answers of the present gateway with them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::device::TOPIC;
use tests::eventually::eventually;
use tests::server::AOF_BASE;
use tests::stack::{Plan, Stack};
use tests::upgrade::{answers, oxygen};

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let usage = "usage: record-redis BINARIES FILE";
    let (binaries, file) = args.next().zip(args.next()).context(usage)?;
    let stack = Plan::default()
        .replica_from("ingest-0", &binaries)
        .replica_from("gateway-0", &binaries)
        .ingest_flags("--offline-after=6s --alarm-off-delay=3s")
        .start()
        .await?;
    stack.device("OTSM-OFFLINE").send(20).await?;
    eventually("the silent detector is offline", async || {
        let alerts = stack.alerts("OTSM-OFFLINE").await?;
        let is_offline = alerts.iter().any(|alert| alert["type"] == "device_offline");
        ensure!(is_offline, "{alerts:?}");
        Ok(())
    })
    .await?;
    fill(&stack).await?;
    let delayed = stack.device("OTSM-DELAY");
    delayed.send(600).await?;
    delayed.send(10).await?;
    stack.shows("OTSM-DELAY", 10).await?;
    let answers = answers(&stack).await?;
    fs::write(file.with_extension("json"), format!("{answers:#}\n"))?;
    fs::copy(dump(&stack).await?, file.with_extension("aof"))?;
    let alerts = stack.alerts("OTSM-DELAY").await?;
    ensure!(
        alerts[0]["state"] == "unacknowledged",
        "its off-delay is over: {alerts:?}"
    );
    stack.pass()
}

/// Brings every detector into the state after which it is named.
async fn fill(stack: &Stack) -> Result<()> {
    let device = |serial: &str| stack.device(serial);
    device("OTSM-NORMAL").send("20.5").await?;
    device("OTSM odd ä").send(3).await?;
    device("OTSM-A1").send(300).await?;

    let escalated = device("OTSM-ESCALATED");
    escalated.send(300).await?;
    let seen = latest_position(stack, "OTSM-ESCALATED", 300).await?;
    escalated.send(1200).await?;
    stack.shows("OTSM-ESCALATED", 1200).await?;
    let body = json!({"acknowledged_by": "Ann", "seen": seen}).to_string();
    acknowledge(stack, "OTSM-ESCALATED", &body).await?;

    device("OTSM-ACKNOWLEDGED").send(600).await?;
    stack.shows("OTSM-ACKNOWLEDGED", 600).await?;
    acknowledge(stack, "OTSM-ACKNOWLEDGED", r#"{"acknowledged_by":"Ben"}"#).await?;

    let cleared = device("OTSM-CLEARED");
    cleared.send(700).await?;
    cleared.send(10).await?;

    let latched = device("OTSM-LATCHED");
    for value in [550, 10] {
        let payload = latched.old(value).with_parameter("A1Latching", 1);
        latched.publish(&payload).await?;
    }

    device("OTSM-PEAK").send(1200).await?;
    // All levels of both sides are in one alarm: A1 is back and latched, A3 stands or is latched.
    let (both, both_latched) = (device("OTSM-BOTH-SIDES"), device("OTSM-BOTH-LATCHED"));
    for detector in [&both, &both_latched] {
        for value in ["18", "24.8"] {
            detector.publish(&oxygen(detector, value)).await?;
        }
    }
    both_latched.publish(&oxygen(&both_latched, "20.9")).await?;
    let (rich, thin) = (device("OTSM-RICH"), device("OTSM-THIN"));
    rich.publish(&oxygen(&rich, "24")).await?;
    thin.publish(&oxygen(&thin, "17")).await?;
    for (serial, state) in [
        ("OTSM-CLEARED", "cleared"),
        ("OTSM-LATCHED", "latched"),
        ("OTSM-BOTH-LATCHED", "latched"),
    ] {
        eventually("the off-delays are over", async || {
            let alerts = stack.alerts(serial).await?;
            ensure!(alerts[0]["state"] == state, "{serial}: {alerts:?}");
            Ok(())
        })
        .await?;
    }

    let poor = device("OTSM-OXYGEN");
    let payload = poor
        .old("18.5")
        .with("Gas", "Oxygen (O2)")
        .with_parameter("A1Type", "Low")
        .with_parameter("Span High", 25)
        .with_parameter("Alarm Level A1", 19.5)
        .with_parameter("Alarm Level A2", 17)
        .with_parameter("Alarm Level A3", 15);
    poor.publish(&payload).await?;

    let range = device("OTSM-RANGE");
    range.publish(&range.old(2500)).await?;
    let fault = device("OTSM-FAULT");
    let payload = fault.newest(12).with_parameter("Sensor Fault", 1);
    fault.publish(&payload).await?;
    device("OTSM-INVALID").send(Value::Null).await?;

    let late = device("OTSM-LATE");
    late.send(15).await?;
    let payload = late
        .newest(900)
        .with("Date Time At Reading", "2026-01-01T00:00:00Z");
    late.publish(&payload).await?;

    device("OTSM-RETIRED").send(300).await?;
    stack.shows("OTSM-RETIRED", 300).await?;
    let answer = stack.retire("OTSM-RETIRED", "").await?;
    ensure!(answer.status == 200, "{answer:?}");
    stack.publisher().publish(TOPIC, "no JSON at all").await
}

async fn latest_position(stack: &Stack, serial: &str, value: i32) -> Result<Value> {
    stack.shows(serial, value).await?;
    let browser = stack.browser().await?;
    let answer = browser.subscribe(serial).await?;
    Ok(json!({"epoch": answer["epoch"], "seq": answer["seq"]}))
}

async fn acknowledge(stack: &Stack, serial: &str, body: &str) -> Result<()> {
    let alerts = stack.alerts(serial).await?;
    let id = alerts[0]["id"].as_str().context("an id")?.to_owned();
    stack.acknowledge(serial, &id, body).await?.expect(200)?;
    Ok(())
}

/// Lets Redis rewrite its append-only file as commands, and returns the file.
async fn dump(stack: &Stack) -> Result<PathBuf> {
    let mut redis = stack.redis_connection().await?;
    redis::cmd("CONFIG")
        .arg(&["SET", "aof-use-rdb-preamble", "no"])
        .exec_async(&mut redis)
        .await?;
    redis::cmd("BGREWRITEAOF").exec_async(&mut redis).await?;
    let folder = stack.folder().join("appendonlydir");
    eventually("the rewritten file", async || newest_base(&folder)).await
}

fn newest_base(folder: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".base.aof") && name != AOF_BASE {
            return Ok(folder.join(name));
        }
    }
    anyhow::bail!("not rewritten yet")
}

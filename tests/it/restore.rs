//! A backup of Redis, and everything that is lost but it: restored as `deploy/README.md` says.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::eventually::eventually;
use tests::manifests::run;
use tests::repository;
use tests::server_process::ServerProcess;
use tests::stack::Stack;

const DEVICE: &str = "OTSM-0001";

fn redis_cli(stack: &Stack, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("redis-cli");
    command
        .args(["-p", &stack.redis.port().to_string()])
        .args(arguments);
    Ok(String::from_utf8(run(&mut command)?.stdout)?)
}

#[tokio::test]
async fn a_restored_backup_opens_a_new_epoch_and_goes_on() -> Result<()> {
    let mut stack = Stack::start().await?;
    let device = stack.device(DEVICE);
    device.send(1).await?;
    stack.shows(DEVICE, 1).await?;
    let backup = stack.folder().join("backup.rdb");
    redis_cli(&stack, &["--rdb", &backup.to_string_lossy()])?;
    device.send(2).await?;
    stack.shows(DEVICE, 2).await?;
    let browser = stack.browser().await?;
    let before = browser.subscribe(DEVICE).await?;

    // Nobody is left who remembers more than the backup holds.
    let services = stack.ingests.iter_mut().chain(&mut stack.gateways);
    for service in services {
        service.process.kill().await?;
    }
    stack.redis.process.kill().await?;
    fs::remove_dir_all(stack.folder().join("appendonlydir")).context("losing the data")?;

    let folder = stack.folder().to_owned();
    let port = stack.redis.port().to_string();
    let arguments: [OsString; 11] = [
        repository::root().join("deploy/redis.conf").into(),
        "--port".into(),
        port.into(),
        "--bind".into(),
        "127.0.0.1".into(),
        "--dir".into(),
        folder.clone().into(),
        "--dbfilename".into(),
        "backup.rdb".into(),
        "--appendonly".into(),
        "no".into(),
    ];
    let mut once = ServerProcess::start("restore", Path::new("redis-server"), arguments, &folder)?;
    stack.redis.listens().await?;
    redis_cli(&stack, &["config", "set", "appendonly", "yes"])?;
    eventually("the append-only file is written", async || {
        let told = redis_cli(&stack, &["info", "persistence"])?;
        for line in [
            "aof_enabled:1",
            "aof_rewrite_in_progress:0",
            "aof_rewrite_scheduled:0",
            "aof_last_bgrewrite_status:ok",
        ] {
            ensure!(told.contains(line), "no {line}: {told}");
        }
        Ok(())
    })
    .await?;
    once.terminate().await?;

    stack.redis.process.restart()?;
    stack.redis.listens().await?;
    for service in stack.ingests.iter_mut().chain(&mut stack.gateways) {
        service.process.restart()?;
        service.ready().await?;
    }
    stack.shows(DEVICE, 1).await?;
    let browser = stack.browser().await?;
    let seq = before["seq"].as_u64().context("a position")?;
    let answer = browser
        .subscribe_since(DEVICE, &before["epoch"], seq)
        .await?;
    // What was told behind the backup is not there any more, and nobody claims otherwise.
    assert_eq!(answer["recovered"], false, "{answer}");
    device.send(3).await?;
    stack.shows(DEVICE, 3).await?;
    let told = browser
        .wait_for("the new reading", |seen| {
            seen.is_of("device:data", DEVICE) && seen.body["data"]["sensor_reading"] == 3
        })
        .await?;
    ensure!(
        told.body["epoch"] != before["epoch"],
        "{} went on",
        before["epoch"]
    );
    stack.pass()
}

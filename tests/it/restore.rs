//! Everything but a backup of Redis is lost, and the backup is restored as `deploy/README.md` describes.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tests::manifests::run;
use tests::repository;
use tests::stack::Stack;

const DEVICE: &str = "OTSM-0001";

/// The commands of `deploy/README.md`, where `FOLDER` is the data folder of Redis.
const BACKUP: &str = r#"redis-cli -u "$REDIS_URL" --rdb backup.rdb"#;
const RESTORE: &str = "deploy/restore-redis backup.rdb FOLDER";

/// Runs a command of the instructions in the folder of this stack.
fn as_written(stack: &Stack, command: &str) -> Result<Output> {
    let readme = fs::read_to_string(repository::root().join("deploy/README.md"))?;
    ensure!(readme.contains(command), "not as it is written: {command}");
    let script = repository::root().join("deploy/restore-redis");
    let command = command
        .replace("deploy/restore-redis", &script.to_string_lossy())
        .replace("FOLDER", ".");
    let mut bash = Command::new("bash");
    let url = format!("redis://127.0.0.1:{}", stack.redis.port());
    bash.args(["-euo", "pipefail", "-c", &command])
        .env("REDIS_URL", url)
        .current_dir(stack.folder());
    run(&mut bash)
}

#[tokio::test]
async fn a_restored_backup_opens_a_new_epoch_and_accepts_readings() -> Result<()> {
    let mut stack = Stack::start().await?;
    let device = stack.device(DEVICE);
    device.send(1).await?;
    stack.shows(DEVICE, 1).await?;
    as_written(&stack, BACKUP)?;
    device.send(2).await?;
    stack.shows(DEVICE, 2).await?;
    let browser = stack.browser().await?;
    let before = browser.subscribe(DEVICE).await?;

    // No process remembers more than the backup contains.
    let services = stack.ingests.iter_mut().chain(&mut stack.gateways);
    for service in services {
        service.process.kill().await?;
    }
    stack.redis.process.kill().await?;
    // Redis would prefer existing data to the backup: the restore is refused and keeps the data.
    let refused = as_written(&stack, RESTORE).err();
    let message = format!("{:?}", refused.context("it overwrites existing data")?);
    ensure!(message.contains("move it away"), "{message}");
    fs::remove_dir_all(stack.folder().join("appendonlydir")).context("losing the data")?;
    // A file that is not a backup is refused too, and leaves nothing behind.
    fs::copy(
        stack.folder().join("backup.rdb"),
        stack.folder().join("kept.rdb"),
    )?;
    fs::write(stack.folder().join("backup.rdb"), "no backup")?;
    ensure!(as_written(&stack, RESTORE).is_err(), "nonsense is restored");
    ensure!(!stack.folder().join("appendonlydir").exists(), "half of it");
    fs::rename(
        stack.folder().join("kept.rdb"),
        stack.folder().join("backup.rdb"),
    )?;
    as_written(&stack, RESTORE)?;

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
    // Events after the backup are lost, and the answer says so.
    assert_eq!(answer["recovered"], false, "{answer}");
    device.send(3).await?;
    stack.shows(DEVICE, 3).await?;
    let event = browser
        .wait_for("the new reading", |seen| {
            seen.is_of("device:data", DEVICE) && seen.body["data"]["sensor_reading"] == 3
        })
        .await?;
    ensure!(
        event.body["epoch"] != before["epoch"],
        "{} went on",
        before["epoch"]
    );
    stack.pass()
}

//! `ingest record` writes what the real stack received, and `ingest replay` makes the same of it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::device::{Device, TOPIC};
use tests::eventually::eventually;
use tests::repository;
use tests::server_process::kept_environment;
use tests::stack::{Plan, Stack};

const SERIAL: &str = "OTSM-0114";

fn ingest(arguments: &[&str]) -> Result<Output> {
    Command::new(repository::binary("ingest")?)
        .args(arguments)
        .env_clear()
        .envs(kept_environment())
        .output()
        .with_context(|| format!("running ingest {arguments:?}"))
}

fn url(stack: &Stack) -> String {
    format!("--redis-url=redis://127.0.0.1:{}", stack.redis.port())
}

/// Records into a file in the folder of the stack, and returns its text.
fn record(stack: &Stack, name: &str, more: &[&str]) -> Result<String> {
    let path = stack.folder().join(name);
    let shown = path.to_string_lossy().into_owned();
    let url = url(stack);
    let arguments = [&["record", &url, "--out", &shown], more].concat();
    let output = ingest(&arguments)?;
    ensure!(output.status.success(), "{output:?}");
    fs::read_to_string(path).context("reading the recorded file")
}

/// Change and type of every line of JSON that has both, of one device.
fn changes(output: &Output, kind: &str, device: &str) -> Result<Vec<(String, String)>> {
    let text = String::from_utf8(output.stdout.clone())?;
    let mut found = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        if line[device] == SERIAL {
            let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            found.push((word("change"), word(kind)));
        }
    }
    Ok(found)
}

fn payload_lines(text: &str) -> usize {
    text.lines()
        .filter(|line| line.contains("\"publish"))
        .count()
}

#[tokio::test]
async fn a_recording_replays_to_the_changes_of_the_alarm_log() -> Result<()> {
    let flags = "--record-raw=100 --alarm-deadband=10 --device-utc-offset=+00:00";
    let stack = Plan::default().ingest_flags(flags).start().await?;
    let device = stack.device(SERIAL);
    let other = stack.device("OTSM-0115");
    let publisher = stack.publisher();
    for value in [5, 300, 1200, 230, 220] {
        device.send(value).await?;
    }
    other.send(600).await?;
    publisher.publish(TOPIC, "hello").await?;
    publisher.publish(TOPIC, b"\xff\0".to_vec()).await?;
    device.send(Value::Null).await?;
    device.publish(&faulty(&device)).await?;
    device.send(10).await?;
    stack.shows(SERIAL, 10).await?;

    let text = record(&stack, "all.jsonl", &[])?;
    ensure!(payload_lines(&text) == 11, "{text}");
    ensure!(
        text.contains(r#"{"settings":{"alarm_deadband":"10""#),
        "{text}"
    );
    let of_device = record(&stack, "one.jsonl", &["--device", SERIAL])?;
    ensure!(payload_lines(&of_device) == 8, "{of_device}");

    let log = ingest(&["export-log", &url(&stack)])?;
    let logged = changes(&log, "alarm_type", "device_id")?;
    ensure!(logged.len() >= 6, "{logged:?}");
    for name in ["all.jsonl", "one.jsonl"] {
        let path = stack.folder().join(name);
        let replay = ingest(&["replay", &path.to_string_lossy(), "--json"])?;
        ensure!(replay.status.success(), "{replay:?}");
        let replayed = changes(&replay, "type", "device")?;
        ensure!(
            replayed == logged,
            "{name}: {replayed:?}, logged {logged:?}"
        );
    }
    stack.pass()
}

fn faulty(device: &Device) -> tests::device::Payload {
    device.newest(7).with_parameter("Sensor Fault", 1)
}

#[tokio::test]
async fn a_recording_has_the_newest_payloads_only() -> Result<()> {
    let stack = Plan::default()
        .ingest_flags("--record-raw=3")
        .start()
        .await?;
    let device = stack.device(SERIAL);
    for value in 1..=10 {
        device.send(value).await?;
    }
    stack.shows(SERIAL, 10).await?;
    let text = record(&stack, "newest.jsonl", &[])?;
    ensure!(payload_lines(&text) == 3, "{text}");
    for value in 8..=10 {
        let found = format!(r#""Live Sensor Readings ":{value},"#);
        ensure!(text.contains(&found), "no {value} in {text}");
    }
    // A file is never replaced.
    let url = url(&stack);
    let shown = stack
        .folder()
        .join("newest.jsonl")
        .to_string_lossy()
        .into_owned();
    let again = ingest(&["record", &url, "--out", &shown])?;
    ensure!(again.status.code() == Some(1), "{again:?}");
    stack.pass()
}

#[tokio::test]
async fn without_the_flag_nothing_is_recorded() -> Result<()> {
    let stack = Stack::start().await?;
    stack.device(SERIAL).send(5).await?;
    stack.shows(SERIAL, 5).await?;
    let output = ingest(&["record", &url(&stack)])?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr)?;
    ensure!(text.contains("--record-raw"), "{text}");
    stack.pass()
}

/// A Redis that refuses the recording must not keep readings from being committed.
#[tokio::test]
async fn a_recording_that_fails_stops_no_reading() -> Result<()> {
    let stack = Plan::default()
        .ingest_flags("--record-raw=10")
        .start()
        .await?;
    let mut redis = stack.redis_connection().await?;
    let _: () = redis::cmd("SET")
        .arg(shared::keys::RAW_PAYLOADS)
        .arg("x")
        .query_async(&mut redis)
        .await?;
    stack.device(SERIAL).send(5).await?;
    stack.shows(SERIAL, 5).await?;
    eventually("the log names the gap", async || {
        let output = stack.ingests[0].process.output();
        ensure!(output.contains("the recording has a gap"), "not yet");
        Ok(())
    })
    .await?;
    stack.pass()
}

fn replay(folder: &Path, text: &str, more: &[&str]) -> Result<(i32, String)> {
    let path = folder.join("file.jsonl");
    fs::write(&path, text)?;
    let shown = path.to_string_lossy().into_owned();
    let output = ingest(&[&["replay", &shown], more].concat())?;
    let code = output.status.code().context("it was killed")?;
    // What makes a file unreadable is on standard error.
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    Ok((code, text.replace(&shown, "FILE")))
}

#[test]
fn replay_prints_changes_and_exits_with_its_result() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let publish = r#"{"at":"5s","publish":{"OTSM-2 Serial Number":"A","Parameters":{"Live Sensor Readings ":300,"Alarm Level A1":250}}}"#;
    let right = r#"{"at":"6s","expect":{"open":["alarm_level_1/unacknowledged"]}}"#;
    let wrong = r#"{"at":"6s","expect":{"open":[]}}"#;
    let of = |lines: &[&str]| lines.join("\n");

    let (code, text) = replay(folder, &of(&[publish, right]), &["--expect"])?;
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        text,
        "5s  A  raised alarm_level_1  level 250  value 300 ppm  alarm 1, unacknowledged\n"
    );
    let (code, text) = replay(folder, &of(&[publish, wrong]), &["--expect"])?;
    assert_eq!(code, 1, "{text}");
    let difference = "FILE:2: at 6s: open alarms: expected [], are [alarm_level_1/unacknowledged]";
    ensure!(text.ends_with(&format!("{difference}\n")), "{text}");
    let (code, text) = replay(folder, &of(&[publish, wrong]), &[])?;
    assert_eq!(code, 0, "{text}");
    let (code, text) = replay(folder, &of(&[publish, "{"]), &["--expect"])?;
    assert_eq!(code, 2, "{text}");
    ensure!(text.starts_with("FILE:2: "), "{text}");
    let missing = ingest(&["replay", "no-such-file.jsonl"])?;
    assert_eq!(missing.status.code(), Some(2));
    let text = String::from_utf8(missing.stderr)?;
    ensure!(text.starts_with("no-such-file.jsonl: "), "{text}");

    let (_, text) = replay(folder, &of(&[publish, wrong]), &["--expect", "--json"])?;
    let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    let lines = lines?;
    assert_eq!(lines[0]["change"], "raised");
    assert_eq!(lines[0]["at"], "5s");
    assert_eq!(lines[1]["line"], 2);
    Ok(())
}

//! The files in `scenarios/`: what happened to people, and what is right. `ingest/README.md` describes their format.
//!
//! Every file is played against the rules on a virtual clock. Those whose names begin with `fast_` last less than two seconds.
//! They also run through broker, Redis and gateway, with equal results.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ingest::replay::file::Script;
use ingest::replay::player::{Input, Player};
use serde_json::{Value, json};
use shared::clock::SystemClock;
use shared::device::DeviceId;
use tests::device::TOPIC;
use tests::eventually::eventually;
use tests::repository;
use tests::server_process::kept_environment;
use tests::stack::Stack;

/// The serial of the detector that most files are about.
const SERIAL: &str = "OTSM-0114";

/// Names and texts of all files.
fn files() -> Result<Vec<(String, String)>> {
    let folder = repository::root().join("tests/scenarios");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).context("reading the folder of the scenarios")? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            found.push((name.into_owned(), text));
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn every_scenario_holds() -> Result<()> {
    let files = files()?;
    ensure!(files.len() >= 60, "only {} scenarios found", files.len());
    let mut failed = 0;
    let mut report = Vec::new();
    for (name, text) in &files {
        let script = match Script::parse(text) {
            Ok(script) => script,
            Err(err) => {
                failed += 1;
                report.push(format!("{name}.jsonl: {err}"));
                continue;
            }
        };
        ensure!(script.expectations().count() > 0, "{name} expects nothing");
        let differences = Player::new(&script, true)
            .play(|_| ())
            .with_context(|| name.clone())?;
        failed += usize::from(!differences.is_empty());
        for found in differences {
            let at = found.at.duration_since(script.start);
            let line = found.line;
            report.push(format!("{name}.jsonl:{line}: at {at:?}: {}", found.text));
        }
    }
    ensure!(
        report.is_empty(),
        "{failed} of {} scenarios do not hold:\n{}",
        files.len(),
        report.join("\n")
    );
    Ok(())
}

#[test]
fn the_example_of_the_readme_holds() -> Result<()> {
    let readme = fs::read_to_string(repository::root().join("ingest/README.md"))?;
    let example = readme.split("$ cat gas.jsonl\n").nth(1);
    let example = example.and_then(|rest| rest.split("$ ingest replay").next());
    let script = Script::parse(example.context("the example of ingest/README.md")?)?;
    assert_eq!(script.expectations().count(), 1);
    assert_eq!(Player::new(&script, true).play(|_| ())?, []);
    Ok(())
}

#[test]
fn every_scenario_says_in_plain_words_what_happened() -> Result<()> {
    for (name, text) in files()? {
        let comments = text.lines().take_while(|line| line.starts_with("// "));
        let words: usize = comments
            .map(|line| line.split_whitespace().count() - 1)
            .sum();
        ensure!(
            words >= 8,
            "{name} does not begin with a comment that says what happened"
        );
    }
    Ok(())
}

#[tokio::test]
async fn fast_scenarios_run_through_the_whole_stack_with_equal_results() -> Result<()> {
    let stack = Stack::start().await?;
    let files = files()?;
    let fast = files.iter().filter(|(name, _)| name.starts_with("fast_"));
    let mut count = 0;
    for (name, text) in fast {
        count += 1;
        // A detector of its own, so that the files do not touch each other.
        let serial = format!("OTSM-9{count:03}");
        let text = text.replace(SERIAL, &serial);
        run_in_stack(&stack, &text, &serial)
            .await
            .with_context(|| name.clone())?;
    }
    ensure!(count >= 8, "only {count} fast scenarios");
    stack.pass()
}

/// Plays a file on the simulation and sends the same to the stack, in real time.
async fn run_in_stack(stack: &Stack, text: &str, serial: &str) -> Result<()> {
    let mut script = Script::parse(text)?;
    script.start = SystemClock::local();
    let mut player = Player::new(&script, false);
    while let Some(step) = player.step()? {
        let wait = step.at.duration_since(SystemClock::local());
        // The steps keep the distances that the file says. Nothing depends on it if they become longer.
        tokio::time::sleep(wait).await;
        match step.input {
            Input::Nothing => continue,
            Input::Message { payload, dup, .. } => {
                ensure!(!dup, "a publisher cannot set DUP");
                stack.publisher().publish(TOPIC, payload).await?;
            }
            Input::Acknowledgement {
                device,
                alarm_id,
                by,
            } => {
                let alarm = player.simulation().alarm(&device, &alarm_id);
                let code = alarm
                    .context("the alarm of the simulation")?
                    .condition
                    .code();
                acknowledge(stack, serial, code, &by).await?;
            }
        }
        let device: DeviceId = serial.parse()?;
        let expected = expected(&player, &device)?;
        eventually(
            "the stack has the same result as the simulation",
            async || {
                let found = shown(stack, serial).await?;
                ensure!(found == expected, "expected {expected:#}, is {found:#}");
                Ok(())
            },
        )
        .await?;
    }
    Ok(())
}

async fn acknowledge(stack: &Stack, serial: &str, code: &str, by: &str) -> Result<()> {
    let alerts = stack.alerts(serial).await?;
    let is_wanted = |alert: &&Value| alert["type"] == code && alert["state"] != "cleared";
    let alert = alerts.iter().rfind(is_wanted);
    let id = alert.and_then(|alert| alert["id"].as_str());
    let id = id.with_context(|| format!("no open alert of type {code}: {alerts:?}"))?;
    let body = json!({"acknowledged_by": by}).to_string();
    stack.acknowledge(serial, id, &body).await?.expect(200)?;
    Ok(())
}

/// What the stack should show: the reading, the open alarms, and every transition of the alarm log.
fn expected(player: &Player<'_>, device: &DeviceId) -> Result<Value> {
    let simulation = player.simulation();
    let changes = simulation.changes().iter().map(|found| {
        let change = &found.change;
        json!([change.kind.code(), change.alarm.condition.code()])
    });
    let mut open = Vec::new();
    for alarm in simulation.open_alarms(device) {
        open.push(json!([
            alarm.condition,
            alarm.state(),
            alarm.threshold,
            alarm.value
        ]));
    }
    let data = simulation
        .data(device)
        .map(|data| serde_json::from_str::<Value>(data.get()));
    Ok(json!({
        "data": known_fields(&data.transpose()?.unwrap_or_default()),
        "open": sorted(open),
        "changes": changes.collect::<Vec<_>>(),
    }))
}

async fn shown(stack: &Stack, serial: &str) -> Result<Value> {
    let data = stack.latest(serial).await?;
    let alerts = stack.alerts(serial).await?;
    let open = alerts
        .iter()
        .filter(|alert| alert["state"] != "cleared")
        .map(|alert| {
            json!([
                alert["type"],
                alert["state"],
                alert["threshold"],
                alert["current_value"]
            ])
        });
    Ok(json!({
        "data": known_fields(&data),
        "open": sorted(open.collect()),
        "changes": logged_changes(stack, serial)?,
    }))
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_cached_key(ToString::to_string);
    values
}

/// The fields of the normalised reading that do not depend on the time of the server.
fn known_fields(data: &Value) -> Value {
    let mut fields = data.as_object().cloned().unwrap_or_default();
    fields.retain(|name, _| !["processed_at", "raw_message"].contains(&name.as_str()));
    Value::Object(fields)
}

/// Reads the transitions of a device with `ingest export-log`.
fn logged_changes(stack: &Stack, serial: &str) -> Result<Vec<Value>> {
    let output = Command::new(repository::binary("ingest")?)
        .arg("export-log")
        .arg(format!(
            "--redis-url=redis://127.0.0.1:{}",
            stack.redis.port()
        ))
        .env_clear()
        .envs(kept_environment())
        .output()
        .context("running ingest export-log")?;
    ensure!(output.status.success(), "{output:?}");
    let mut changes = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let row: Value = serde_json::from_str(line)?;
        if row["device_id"] == serial {
            changes.push(json!([row["change"], row["alarm_type"]]));
        }
    }
    Ok(changes)
}

//! Redis executes a commit and its answer is lost. Its changes are still counted and logged, once.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::eventually::eventually;
use tests::stack::{Plan, Service, Stack};

const SERIAL: &str = "OTSM-0001";
/// Part of a commit that raises an alarm, or acknowledges one: a line of the alarm log.
const RAISES: &str = r#""change":"raised""#;
const ACKNOWLEDGES: &str = r#""change":"acknowledged""#;

async fn counts_one(service: &Service, metric: &str) -> Result<()> {
    eventually(metric, async || {
        let count = service.metric(metric).await?;
        ensure!((count - 1.0).abs() < 0.5, "{count}");
        Ok(())
    })
    .await
}

/// Waits until this change of an alarm is logged, and fails if it is logged twice.
async fn logs_one(service: &Service, change: &str) -> Result<()> {
    let is_it = |line: &Value| line["message"] == "alarm changed" && line["alarm.change"] == change;
    let count = eventually(&format!("`{change}` is logged"), async || {
        let output = service.process.output();
        let lines = output
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let count = lines.filter(is_it).count();
        ensure!(count > 0, "{output}");
        Ok(count)
    })
    .await?;
    ensure!(count == 1, "logged {count} times");
    Ok(())
}

#[tokio::test]
async fn an_alarm_whose_commit_was_not_answered_is_counted_and_logged_once() -> Result<()> {
    let stack = Stack::start().await?;
    stack.device(SERIAL).send(1).await?;
    stack.shows(SERIAL, 1).await?;
    stack.redis_proxy.never_answer(RAISES);
    stack.device(SERIAL).send(1_200).await?;
    let ingest = &stack.ingests[0];
    eventually("the commit fails", async || {
        let failures = ingest.metric("ingest_commit_failures_total").await?;
        ensure!(failures >= 1.0, "{failures}");
        Ok(())
    })
    .await?;
    counts_one(ingest, r#"ingest_alarm_changes_total{change="raised"}"#).await?;
    // The next message of the device comes after the one that was not answered.
    stack.device(SERIAL).send(1_201).await?;
    stack.shows(SERIAL, 1_201).await?;
    counts_one(ingest, r#"ingest_alarm_changes_total{change="raised"}"#).await?;
    logs_one(ingest, "raised").await?;
    stack.pass()
}

#[tokio::test]
async fn a_silent_device_whose_alarm_was_not_answered_is_counted_and_logged_once() -> Result<()> {
    let plan = Plan::default().ingest_flags("--offline-after=3s");
    let stack = plan.start().await?;
    stack.device(SERIAL).send(1).await?;
    stack.shows(SERIAL, 1).await?;
    stack.redis_proxy.never_answer(RAISES);
    let ingest = &stack.ingests[0];
    eventually("the commit fails", async || {
        let failures = ingest.metric("ingest_commit_failures_total").await?;
        ensure!(failures >= 1.0, "{failures}");
        Ok(())
    })
    .await?;
    counts_one(ingest, r#"ingest_alarm_changes_total{change="raised"}"#).await?;
    logs_one(ingest, "raised").await?;
    stack.pass()
}

#[tokio::test]
async fn an_acknowledgement_that_was_not_answered_is_counted_when_it_is_asked_for_again()
-> Result<()> {
    let stack = Stack::start().await?;
    stack.device(SERIAL).send(1_200).await?;
    stack.shows(SERIAL, 1_200).await?;
    let alarms = stack.alerts(SERIAL).await?;
    let id = alarms[0]["id"].as_str().unwrap_or_default();
    let body = r#"{"acknowledged_by":"Ana"}"#;
    stack.redis_proxy.never_answer(ACKNOWLEDGES);
    stack.acknowledge(SERIAL, id, body).await?.expect(503)?;
    eventually("it is acknowledged", async || {
        let answer = stack.acknowledge(SERIAL, id, body).await?;
        answer.expect(200)
    })
    .await?;
    let gateway = &stack.gateways[0];
    counts_one(
        gateway,
        r#"gateway_alarm_changes_total{change="acknowledged"}"#,
    )
    .await?;
    logs_one(gateway, "acknowledged").await?;
    stack.pass()
}

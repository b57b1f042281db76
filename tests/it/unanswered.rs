//! Redis executes a commit, but its answer is lost. The alarm changes are still counted and logged, exactly once.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::eventually::eventually;
use tests::stack::{Plan, Service, Stack};

const SERIAL: &str = "OTSM-0001";
/// Text that identifies a commit that raises an alarm: part of its line of the alarm log.
const RAISED: &str = r#""change":"raised""#;
/// The same for an acknowledgement.
const ACKNOWLEDGED: &str = r#""change":"acknowledged""#;

/// Waits until the metric is 1.
async fn wait_for_count_of_one(service: &Service, metric: &str) -> Result<()> {
    eventually(metric, async || {
        let count = service.metric(metric).await?;
        ensure!((count - 1.0).abs() < 0.5, "{count}");
        Ok(())
    })
    .await
}

/// Waits until this change of an alarm is logged, and fails if it is logged twice.
async fn expect_one_log_line(service: &Service, change: &str) -> Result<()> {
    let matches =
        |line: &Value| line["message"] == "alarm changed" && line["alarm.change"] == change;
    let count = eventually(&format!("`{change}` is logged"), async || {
        let output = service.process.output();
        let lines = output
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let count = lines.filter(matches).count();
        ensure!(count > 0, "{output}");
        Ok(count)
    })
    .await?;
    ensure!(count == 1, "logged {count} times");
    Ok(())
}

async fn wait_for_failed_commit(ingest: &Service) -> Result<()> {
    eventually("the commit fails", async || {
        let failures = ingest.metric("ingest_commit_failures_total").await?;
        ensure!(failures >= 1.0, "{failures}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_alarm_whose_commit_was_not_answered_is_counted_and_logged_once() -> Result<()> {
    let stack = Stack::start().await?;
    stack.device(SERIAL).send(1).await?;
    stack.shows(SERIAL, 1).await?;
    stack.redis_proxy.never_answer(RAISED);
    stack.device(SERIAL).send(1_200).await?;
    let ingest = &stack.ingests[0];
    wait_for_failed_commit(ingest).await?;
    wait_for_count_of_one(ingest, r#"ingest_alarm_changes_total{change="raised"}"#).await?;
    // Messages of a device are processed in order: when this one is shown, the unanswered commit has been handled.
    stack.device(SERIAL).send(1_201).await?;
    stack.shows(SERIAL, 1_201).await?;
    wait_for_count_of_one(ingest, r#"ingest_alarm_changes_total{change="raised"}"#).await?;
    expect_one_log_line(ingest, "raised").await?;
    stack.pass()
}

#[tokio::test]
async fn an_offline_alarm_whose_commit_was_not_answered_is_counted_and_logged_once() -> Result<()> {
    let plan = Plan::default().ingest_flags("--offline-after=3s");
    let stack = plan.start().await?;
    stack.device(SERIAL).send(1).await?;
    stack.shows(SERIAL, 1).await?;
    stack.redis_proxy.never_answer(RAISED);
    let ingest = &stack.ingests[0];
    wait_for_failed_commit(ingest).await?;
    wait_for_count_of_one(ingest, r#"ingest_alarm_changes_total{change="raised"}"#).await?;
    expect_one_log_line(ingest, "raised").await?;
    stack.pass()
}

#[tokio::test]
async fn an_acknowledgement_whose_commit_was_not_answered_is_counted_when_it_is_repeated()
-> Result<()> {
    let stack = Stack::start().await?;
    stack.device(SERIAL).send(1_200).await?;
    stack.shows(SERIAL, 1_200).await?;
    let alarms = stack.alerts(SERIAL).await?;
    let id = alarms[0]["id"].as_str().unwrap_or_default();
    let body = r#"{"acknowledged_by":"Ana"}"#;
    stack.redis_proxy.never_answer(ACKNOWLEDGED);
    stack.acknowledge(SERIAL, id, body).await?.expect(503)?;
    eventually("the alarm is acknowledged", async || {
        let answer = stack.acknowledge(SERIAL, id, body).await?;
        answer.expect(200)
    })
    .await?;
    let gateway = &stack.gateways[0];
    wait_for_count_of_one(
        gateway,
        r#"gateway_alarm_changes_total{change="acknowledged"}"#,
    )
    .await?;
    expect_one_log_line(gateway, "acknowledged").await?;
    stack.pass()
}

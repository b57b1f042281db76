//! A commit that Redis carries out and whose answer is lost: what it changed is told all the same, once.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use shared::device::DeviceId;
use shared::keys::PartitionKeys;
use tests::eventually::eventually;
use tests::stack::{Plan, Service, Stack};

const SERIAL: &str = "OTSM-0001";
const PARTITIONS: u16 = 64;

/// Lets the answers on their way be lost as soon as Redis has so many changes of alarms of the device.
async fn lose_the_answer(stack: &Stack, changes: u64) -> Result<()> {
    let redis = stack.redis_connection().await?;
    let device: DeviceId = SERIAL.parse()?;
    let keys = PartitionKeys::new(device.partition(PARTITIONS));
    eventually("Redis carries it out", async || {
        let mut length = redis::cmd("XLEN");
        length.arg(keys.changes(&device));
        let length: u64 = length.query_async(&mut redis.clone()).await?;
        ensure!(length == changes, "{length} changes");
        Ok(())
    })
    .await?;
    stack.redis_link.half_open();
    stack.redis_link.delay(Duration::ZERO);
    stack.redis_link.heal();
    Ok(())
}

async fn tells(service: &Service, metric: &str) -> Result<()> {
    eventually(metric, async || {
        let count = service.metric(metric).await?;
        ensure!((count - 1.0).abs() < 0.5, "{count}");
        Ok(())
    })
    .await
}

/// The commit was not answered; else everything is told as ever, and nothing is tested.
async fn failed(ingest: &Service) -> Result<()> {
    eventually("the commit fails", async || {
        let failures = ingest.metric("ingest_commit_failures_total").await?;
        ensure!(failures > 0.5, "{failures}");
        Ok(())
    })
    .await
}

fn lines(service: &Service, change: &str) -> usize {
    let output = service.process.output();
    let lines = output
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let is_it = |line: &Value| line["message"] == "alarm changed" && line["alarm.change"] == change;
    lines.filter(is_it).count()
}

#[tokio::test]
async fn an_alarm_whose_commit_was_not_answered_is_counted_and_logged_once() -> Result<()> {
    let plan = Plan::default().ingest("--redis-timeout=5s");
    let stack = plan.start().await?;
    stack.device(SERIAL).send(1).await?;
    stack.shows(SERIAL, 1).await?;
    stack.redis_link.delay(Duration::from_secs(1));
    stack.device(SERIAL).send(1_200).await?;
    lose_the_answer(&stack, 1).await?;

    let ingest = &stack.ingests[0];
    failed(ingest).await?;
    tells(ingest, r#"ingest_alarm_changes_total{change="raised"}"#).await?;
    // The next message of the device comes after the one that was not answered.
    stack.device(SERIAL).send(1_201).await?;
    stack.shows(SERIAL, 1_201).await?;
    tells(ingest, r#"ingest_alarm_changes_total{change="raised"}"#).await?;
    ensure!(lines(ingest, "raised") == 1, "{}", ingest.process.output());
    stack.pass()
}

#[tokio::test]
async fn a_silent_device_whose_alarm_was_not_answered_is_counted_and_logged_once() -> Result<()> {
    let plan = Plan::default().ingest("--offline-after=3s");
    let stack = plan.start().await?;
    stack.device(SERIAL).send(1).await?;
    stack.shows(SERIAL, 1).await?;
    // No longer: reports of ingest that take more than three seconds mean that nobody listens.
    stack.redis_link.delay(Duration::from_millis(300));
    lose_the_answer(&stack, 1).await?;

    let ingest = &stack.ingests[0];
    failed(ingest).await?;
    tells(ingest, r#"ingest_alarm_changes_total{change="raised"}"#).await?;
    ensure!(lines(ingest, "raised") == 1, "{}", ingest.process.output());
    stack.pass()
}

#[tokio::test]
async fn an_acknowledgement_that_was_not_answered_is_counted_when_it_is_asked_for_again()
-> Result<()> {
    let plan = Plan::default().gateway("--redis-timeout=5s");
    let stack = plan.start().await?;
    stack.device(SERIAL).send(1_200).await?;
    stack.shows(SERIAL, 1_200).await?;
    let alarms = stack.alerts(SERIAL).await?;
    let id = alarms[0]["id"].as_str().unwrap_or_default();
    let body = r#"{"acknowledged_by":"Ana"}"#;
    stack.redis_link.delay(Duration::from_secs(1));
    let lost = lose_the_answer(&stack, 2);
    let (answer, lost) = tokio::join!(stack.acknowledge(SERIAL, id, body), lost);
    lost?;
    let answer = answer?;
    ensure!(answer.status == 503, "it was answered: {answer:?}");
    eventually("it is acknowledged", async || {
        let answer = stack.acknowledge(SERIAL, id, body).await?;
        answer.expect(200)
    })
    .await?;
    let gateway = &stack.gateways[0];
    tells(
        gateway,
        r#"gateway_alarm_changes_total{change="acknowledged"}"#,
    )
    .await?;
    ensure!(
        lines(gateway, "acknowledged") == 1,
        "{}",
        gateway.process.output()
    );
    stack.pass()
}

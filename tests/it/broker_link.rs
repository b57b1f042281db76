//! The connection to the broker works and brings nothing, another client takes it over, or it speaks MQTT 3.1.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use rumqttc::v5::{AsyncClient, MqttOptions};
use serde_json::Value;
use tests::eventually::eventually;
use tests::stack::{Plan, Stack};
use tokio::task::JoinSet;

const SERIAL: &str = "OTSM-0001";

/// Returns how often the log of the first ingest has this text.
fn logged(stack: &Stack, text: &str) -> usize {
    let output = stack.ingests[0].process.output();
    output.lines().filter(|line| line.contains(text)).count()
}

async fn is_logged(stack: &Stack, text: &str) -> Result<()> {
    eventually(&format!("`{text}` is logged"), async || {
        ensure!(logged(stack, text) > 0, "not yet");
        Ok(())
    })
    .await
}

/// Waits until `/readyz` of the first ingest has this code and status, and returns its body.
async fn readiness(stack: &Stack, code: u16, status: &str) -> Result<Value> {
    eventually(&format!("ingest is {status}"), async || {
        let answer = stack.ingests[0].get("/readyz").await?;
        let body = answer.json()?;
        ensure!(answer.status == code && body["status"] == status, "{body}");
        Ok(body)
    })
    .await
}

#[tokio::test]
async fn a_subscription_that_brings_nothing_is_a_warning() -> Result<()> {
    let stack = Plan::default()
        .ingest_flags("--quiet-after=3s")
        .start()
        .await?;
    is_logged(&stack, "no message has ever arrived").await?;
    readiness(&stack, 200, "ok").await?;

    stack.device(SERIAL).send(20).await?;
    stack.shows(SERIAL, 20).await?;
    let body = readiness(&stack, 200, "degraded").await?;
    let broker = &body["dependencies"]["broker"];
    ensure!(broker["ok"] == true, "{body}");
    let reason = broker["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("no message"), "{body}");
    ensure!(
        logged(&stack, "brings no message, although") == 1,
        "the warning"
    );
    eventually("the gateway says so", async || {
        let body = stack.get("/readyz").await?.expect(200)?;
        let ingest = &body["dependencies"]["ingest"];
        ensure!(ingest["ok"] == true && body["status"] == "ok", "{body}");
        ensure!(ingest["reason"].is_string(), "{body}");
        Ok(())
    })
    .await?;
    ensure!(
        stack.ingests[0].metric("ingest_broker_quiet").await? > 0.5,
        "the metric"
    );

    stack.device(SERIAL).send(21).await?;
    is_logged(&stack, "messages arrive again").await?;
    ensure!(
        logged(&stack, "no message has ever arrived") == 1,
        "told twice"
    );
    stack.pass()
}

#[tokio::test]
async fn a_foreign_client_with_our_client_id_stops_ingest_only_for_a_while() -> Result<()> {
    let stack = Plan::default()
        .ingest_flags("--mqtt-takeover-retry=2s")
        .start()
        .await?;
    let taken_over = "session taken over: another client";
    let finish = Arc::new(AtomicBool::new(false));
    let foreign = foreign_client(stack.broker.port(), Arc::clone(&finish));
    let mut tasks = JoinSet::new();
    tasks.spawn(foreign);
    is_logged(&stack, taken_over).await?;
    let body = readiness(&stack, 503, "unready").await?;
    let reason = &body["dependencies"]["broker"]["reason"];
    ensure!(
        reason == "session taken over by another client with our client id",
        "{body}"
    );
    finish.store(true, Ordering::Relaxed);
    tasks.join_all().await;

    readiness(&stack, 200, "ok").await?;
    stack.device(SERIAL).send(1_200).await?;
    stack.shows(SERIAL, 1_200).await?;
    is_logged(&stack, "the session is ours again").await?;
    ensure!(logged(&stack, taken_over) == 1, "one error, not a fight");
    stack.pass()
}

/// Connects with the client id of ingest, and again whenever it is disconnected.
async fn foreign_client(port: u16, finish: Arc<AtomicBool>) {
    while !finish.load(Ordering::Relaxed) {
        let options = MqttOptions::new("ingest-0", "127.0.0.1", port);
        let (_client, mut eventloop) = AsyncClient::new(options, 1);
        while !finish.load(Ordering::Relaxed) {
            let next =
                tokio::time::timeout(std::time::Duration::from_millis(100), eventloop.poll());
            // Without an event the connection still stands.
            if matches!(next.await, Ok(Err(_))) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn with_mqtt_3_1_1_readings_and_alarms_arrive() -> Result<()> {
    let mut stack = Plan::default()
        .ingest_flags("--mqtt-version=3.1.1")
        .start()
        .await?;
    is_logged(&stack, "MQTT 3.1.1: no share groups").await?;
    let device = stack.device(SERIAL);
    device.send(1_200).await?;
    stack.shows(SERIAL, 1_200).await?;
    // What arrives while ingest is away waits in the session.
    stack.ingests[0].process.kill().await?;
    device.send(20).await?;
    device.send(30).await?;
    stack.ingests[0].process.restart()?;
    stack.ingests[0].ready().await?;
    stack.shows(SERIAL, 30).await?;
    let history = stack.get(&format!("/api/devices/{SERIAL}/history")).await?;
    let history = history.expect(200)?;
    ensure!(history["count"] == 3, "{history}");
    ensure!(stack.alerts(SERIAL).await?.len() == 1, "one alarm");
    stack.pass()
}

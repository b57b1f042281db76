//! Redis is unavailable, an ingest is paused for longer than every timeout, or the broker delivers a receive window twice.

use std::time::Duration;

use anyhow::{Result, ensure};
use redis::AsyncCommands;
use tests::eventually::eventually;
use tests::ledger;
use tests::report;
use tests::stack::{Plan, Stack};
use tokio::time::{Instant, sleep, sleep_until};

use super::load::{OUTAGE, Scene};

/// The receive window of these tests. Ingest has a queue for two windows.
const WINDOW: usize = 20;
/// [`WINDOW`] as a value of a metric.
const WINDOW_FULL: f64 = 20.0;
/// Maximum growth of ingest's memory while Redis is unavailable. Two windows of payloads take some 100 KiB; the rest is for
/// the allocator.
const MAX_GROWTH_KIB: u64 = 8 << 10;

/// Returns how many messages are committed. Each is a sample of the history.
async fn committed(stack: &Stack) -> Result<usize> {
    let mut redis = stack.redis_connection().await?;
    let histories: Vec<String> = redis.keys("st:*:history:*").await?;
    let mut samples = 0;
    for history in histories {
        let mut length = redis::cmd("XLEN");
        length.arg(history);
        samples += length.query_async::<usize>(&mut redis).await?;
    }
    Ok(samples)
}

#[tokio::test]
async fn without_redis_no_message_is_acknowledged_and_the_broker_keeps_all() -> Result<()> {
    let plan = Plan::default().ingest_flags(&format!("--mqtt-receive-maximum={WINDOW}"));
    let mut scene = Scene::start(plan).await?;
    let mut growth = 0;
    for round in 0..scene.seed.rounds() {
        scene.wait_for_random_time().await;
        let ingest = &scene.stack.ingests[0];
        let resident_before = ingest.process.resident_kib()?;
        let failures_before = ingest.metric("ingest_commit_failures_total").await?;
        if round % 2 == 0 {
            scene.stack.redis_proxy.cut();
        } else {
            // Redis hangs: it accepts everything and answers nothing.
            scene.stack.redis_proxy.black_hole();
        }
        // Once a commit has failed, no later one succeeds.
        eventually("the receive window is full", async || {
            let failed = ingest.metric("ingest_commit_failures_total").await? > failures_before;
            let waiting = ingest.metric("ingest_messages_unacknowledged").await?;
            ensure!(failed && waiting >= WINDOW_FULL, "{waiting} messages");
            Ok(())
        })
        .await?;
        let accepted_before = scene.load.acknowledged();
        sleep(OUTAGE).await;
        eventually("the broker holds more than three windows", async || {
            let accepted = scene.load.acknowledged() - accepted_before;
            ensure!(accepted > 3 * WINDOW, "only {accepted} readings");
            Ok(())
        })
        .await?;
        // Counted on the wire: the broker delivers more than the window once it has queued messages.
        let acknowledged = ledger::acknowledgements(&scene.stack.broker_proxy);
        let committed = committed(&scene.stack).await?;
        ensure!(
            acknowledged <= committed,
            "ingest acknowledged {acknowledged} messages and committed {committed}"
        );
        let resident = scene.stack.ingests[0].process.resident_kib()?;
        growth = growth.max(resident.saturating_sub(resident_before));
        scene.stack.redis_proxy.heal();
        // The next outage begins with an empty window.
        scene
            .load
            .wait_for_delivery(&scene.stack.broker_proxy)
            .await?;
    }
    ensure!(growth <= MAX_GROWTH_KIB, "ingest grew by {growth} KiB");
    report::line(&format!(
        "Redis unavailable, window {WINDOW}: ingest grew by {growth} KiB"
    ));
    let verdict = scene.finish("Redis unavailable").await?;
    ensure!(verdict.late == 0, "committed out of order: {verdict:?}");
    Ok(())
}

#[tokio::test]
async fn an_ingest_paused_for_longer_than_every_timeout_overwrites_nothing() -> Result<()> {
    // The broker ends a connection after one and a half keep-alives.
    const PAUSE: Duration = Duration::from_secs(9);
    let plan = Plan::default()
        .ingests(2)
        .ingest_flags("--mqtt-keep-alive=5s --redis-timeout=1s");
    let mut scene = Scene::start_to_overtake(plan).await?;
    // With this latency, a pause most likely falls between reading a state and committing. With a higher one, ingest could
    // not keep up with the load.
    scene.stack.redis_proxy.delay(Duration::from_millis(20));
    for round in 0..scene.seed.rounds() {
        scene.wait_for_random_time().await;
        let paused = &mut scene.stack.ingests[round % 2];
        paused.process.pause()?;
        let paused_at = Instant::now();
        // The paused replica has received it and can only commit it later.
        scene.load.wait_for_overtaken_reading(&scene.stack).await?;
        sleep_until(paused_at + PAUSE).await;
        let paused = &mut scene.stack.ingests[round % 2];
        paused.process.resume()?;
    }
    scene.stack.redis_proxy.delay(Duration::ZERO);
    let verdict = scene.finish("SIGSTOP of one of two ingests").await?;
    ensure!(verdict.late > 0, "no reading was late: {verdict:?}");
    Ok(())
}

/// The broker delivers a receive window again while ingest still holds the first copy. The window has far more messages of
/// one device than the device's state has fingerprints.
#[tokio::test]
async fn a_receive_window_that_is_delivered_twice_is_committed_once() -> Result<()> {
    const SERIAL: &str = "OTSM-0001";
    const READINGS: i64 = 300;
    // Every reading is one to find in the history.
    let plan = Plan::default().ingest_flags("--device-rate=0");
    let stack = plan.start().await?;
    let device = stack.device(SERIAL);
    stack.broker_proxy.record();
    stack.redis_proxy.cut();
    for value in 1..=READINGS {
        device.send(value).await?;
    }
    let last = format!(r#""Live Sensor Readings ":{READINGS},"#);
    let copies = || {
        let bytes = stack.broker_proxy.recorded().concat();
        String::from_utf8_lossy(&bytes).matches(&last).count()
    };
    for copy in 1..=2 {
        eventually("the window is delivered", async || {
            ensure!(copies() == copy, "{} times", copies());
            Ok(())
        })
        .await?;
        if copy == 1 {
            stack.broker_proxy.reset();
        }
    }
    stack.redis_proxy.heal();
    // This message arrives after both copies.
    device.send(READINGS + 1).await?;
    stack.shows(SERIAL, READINGS + 1).await?;
    let path = format!("/api/devices/{SERIAL}/history?limit=1000");
    let history = stack.get(&path).await?.expect(200)?;
    ensure!(history["count"] == READINGS + 1, "{}", history["count"]);
    stack.pass()
}

//! Redis is away, or an ingest is stopped for longer than every timeout.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::eventually::eventually;
use tests::ledger;
use tests::report;
use tests::stack::{Plan, Stack};
use tokio::time::sleep;

use super::load::{AWAY, Scene};

/// The receive window of these tests. Ingest has a queue for two windows.
const WINDOW: usize = 20;
/// The same as the metric has it.
const WINDOW_FULL: f64 = 20.0;
/// By how much ingest may grow while Redis is away. Two windows of payloads are some 100 KiB, the rest is the allocator's.
const GROWTH_KIB: u64 = 8 << 10;

#[tokio::test]
async fn without_redis_nothing_is_acknowledged_and_the_broker_keeps_it() -> Result<()> {
    let plan = Plan::default().ingest_flags(&format!("--mqtt-receive-maximum={WINDOW}"));
    let mut scene = Scene::start(plan).await?;
    let mut growth = 0;
    for round in 0..scene.seed.rounds() {
        scene.moment().await;
        let ingest = &scene.stack.ingests[0];
        let before = ingest.process.resident_kib()?;
        let failures = ingest.metric("ingest_commit_failures_total").await?;
        if round % 2 == 0 {
            scene.stack.redis_proxy.cut();
        } else {
            // Redis hangs: it accepts everything and answers nothing.
            scene.stack.redis_proxy.black_hole();
        }
        // A commit that failed comes after every commit that succeeded: nothing is acknowledged from here on.
        eventually("the receive window is full", async || {
            let failed = ingest.metric("ingest_commit_failures_total").await? > failures;
            let waiting = ingest.metric("ingest_messages_unacknowledged").await?;
            ensure!(failed && waiting >= WINDOW_FULL, "{waiting} messages");
            Ok(())
        })
        .await?;
        let passed = ledger::passed(&scene.stack.broker_proxy).len();
        let accepted = scene.load.acknowledged();
        sleep(AWAY).await;
        eventually("the broker has more than three windows", async || {
            let accepted = scene.load.acknowledged() - accepted;
            ensure!(accepted > 3 * WINDOW, "only {accepted} readings");
            Ok(())
        })
        .await?;
        let passed = ledger::passed(&scene.stack.broker_proxy).len() - passed;
        ensure!(
            passed == 0,
            "the broker delivered {passed} more: somebody acknowledged a message"
        );
        let now = scene.stack.ingests[0].process.resident_kib()?;
        growth = growth.max(now.saturating_sub(before));
        scene.stack.redis_proxy.heal();
        // The next outage begins with an empty window.
        scene.load.passes(&scene.stack.broker_proxy).await?;
    }
    ensure!(growth <= GROWTH_KIB, "ingest grew by {growth} KiB");
    report::line(&format!(
        "Redis away, window {WINDOW}: ingest grew by {growth} KiB"
    ));
    let verdict = scene.finish("Redis away").await?;
    ensure!(verdict.late == 0, "committed out of order: {verdict:?}");
    Ok(())
}

#[tokio::test]
async fn an_ingest_that_was_stopped_past_every_timeout_overwrites_nothing() -> Result<()> {
    // The broker ends a connection after one and a half keep-alives.
    const ASLEEP: Duration = Duration::from_secs(9);
    let plan = Plan::default()
        .ingests(2)
        .ingest_flags("--mqtt-keep-alive=5s --redis-timeout=1s");
    let mut scene = Scene::start(plan).await?;
    // With this latency an ingest is mostly between reading a state and committing. With a longer one it could not keep up
    // with the load.
    scene.stack.redis_proxy.delay(Duration::from_millis(20));
    for round in 0..scene.seed.rounds() {
        scene.moment().await;
        let sleeper = &mut scene.stack.ingests[round % 2];
        sleeper.process.pause()?;
        sleep(ASLEEP).await;
        sleeper.process.resume()?;
    }
    scene.stack.redis_proxy.delay(Duration::ZERO);
    let verdict = scene.finish("SIGSTOP of one of two ingests").await?;
    ensure!(verdict.late > 0, "no reading was late: {verdict:?}");
    Ok(())
}

/// The broker delivers a receive window again while ingest still has the first copy: far more messages of one device than
/// its state has fingerprints.
#[tokio::test]
async fn a_receive_window_that_is_delivered_twice_is_committed_once() -> Result<()> {
    const SERIAL: &str = "OTSM-0001";
    const READINGS: i64 = 300;
    let stack = Stack::start().await?;
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
    // After both copies.
    device.send(READINGS + 1).await?;
    stack.shows(SERIAL, READINGS + 1).await?;
    let path = format!("/api/devices/{SERIAL}/history?limit=1000");
    let history = stack.get(&path).await?.expect(200)?;
    ensure!(history["count"] == READINGS + 1, "{}", history["count"]);
    stack.pass()
}

//! SIGTERM ends both services with exit code 0, and no message is lost. Without Redis, both services stay alive.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use shared::lifecycle::SAME_SIGNAL;
use tests::eventually::eventually;
use tests::stack::{Plan, Stack};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn sigterm_ends_both_services_with_exit_code_0() -> Result<()> {
    let mut stack = Stack::start().await?;
    let browser = stack.browser().await?;
    browser.subscribe("OTSM-0001").await?;
    stack.device("OTSM-0001").send(1).await?;
    browser.event_after(0, "device:data", "OTSM-0001").await?;
    let services = stack.ingests.iter_mut().chain(&mut stack.gateways);
    for service in services {
        let status = service.process.terminate().await?;
        ensure!(
            status.code() == Some(0),
            "{}: {status}",
            service.process.name()
        );
    }
    browser
        .wait_for("the end of the connection", |seen| {
            seen.what == "disconnect"
        })
        .await?;
    stack.pass()
}

#[tokio::test]
async fn sigterm_twice_within_a_second_is_one_signal_and_a_later_one_ends_the_process() -> Result<()>
{
    let plan = Plan::default().gateway_flags("--drain-delay=10m");
    let mut stack = plan.start().await?;
    let gateway = &mut stack.gateways[0].process;
    let begun = Instant::now();
    gateway.signal(Signal::TERM)?;
    eventually("the drain begins", async || {
        let output = gateway.output();
        ensure!(output.contains("stopping: finishing the work"), "not yet");
        Ok(())
    })
    .await?;
    gateway.signal(Signal::TERM)?;
    let is_same = eventually("the second signal arrives", async || {
        let output = gateway.output();
        let is_same = output.contains("the same signal again");
        ensure!(is_same || output.contains("second signal"), "not yet");
        Ok(is_same)
    })
    .await?;
    // On a very busy machine more than a second may have passed.
    ensure!(
        is_same || begun.elapsed() >= SAME_SIGNAL,
        "it ended at once"
    );
    if is_same {
        gateway.check_alive()?;
        sleep(SAME_SIGNAL).await;
        gateway.signal(Signal::TERM)?;
    }
    let status = gateway.wait().await?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(
        gateway.output().contains("second signal"),
        "{}",
        gateway.output()
    );
    stack.pass()
}

#[tokio::test]
async fn sigterm_during_a_burst_of_messages_loses_no_reading() -> Result<()> {
    // Every reading is one to find in the history.
    let plan = Plan::default().ingest_flags("--device-rate=0");
    let mut stack = plan.start().await?;
    let device = stack.device("OTSM-0001");
    let ingest = &mut stack.ingests[0];
    let has_begun = Notify::new();
    let (published, ended) = tokio::join!(
        async {
            for value in 1..=200 {
                device.send(value).await?;
                if value == 20 {
                    has_begun.notify_one();
                }
            }
            anyhow::Ok(())
        },
        async {
            has_begun.notified().await;
            ingest.process.terminate().await
        }
    );
    published?;
    ensure!(ended?.code() == Some(0), "ingest did not exit with code 0");
    stack.ingests[0].process.restart()?;
    stack.shows("OTSM-0001", 200).await?;
    let history = stack
        .get("/api/devices/OTSM-0001/history?limit=1000")
        .await?
        .expect(200)?;
    assert_eq!(history["count"], 200);
    stack.pass()
}

#[tokio::test]
async fn when_a_member_leaves_the_share_group_the_other_member_gets_all_messages() -> Result<()> {
    let mut stack = Plan::default().ingests(2).start().await?;
    let device = stack.device("OTSM-0001");
    for value in 1..=100 {
        device.send(value).await?;
        if value == 50 {
            let status = stack.ingests[0].process.terminate().await?;
            ensure!(status.code() == Some(0), "{status}");
        }
    }
    stack.shows("OTSM-0001", 100).await?;
    let history = stack
        .get("/api/devices/OTSM-0001/history?limit=1000")
        .await?
        .expect(200)?;
    let lost = 100 - history["count"].as_u64().unwrap_or_default();
    assert_eq!(lost, 0, "{history}");
    stack.pass()
}

#[tokio::test]
async fn without_redis_both_services_are_live_and_ingest_is_not_ready() -> Result<()> {
    let mut stack = Stack::start().await?;
    stack.redis_proxy.cut();
    eventually("an ingest that is not ready", async || {
        let answer = stack.ingests[0].get("/readyz").await?;
        ensure!(answer.status == 503, "{answer:?}");
        let body: Value = answer.json()?;
        ensure!(body["status"] == "unready", "{body}");
        Ok(())
    })
    .await?;
    for service in stack.ingests.iter().chain(&stack.gateways) {
        let answer = service.get("/livez").await?;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    stack.redis_proxy.heal();
    for service in stack.ingests.iter_mut().chain(&mut stack.gateways) {
        service.ready().await?;
    }
    stack.pass()
}

//! Replicas of the gateway restart: every client is notified, reconnects, and misses nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use tests::balancer::Balancer;
use tests::browser::{Browser, BrowserEvent};
use tests::crowd::Crowd;
use tests::episodes::{Episodes, Habit, every_client_received_the_log};
use tests::eventually::eventually;
use tests::report;
use tests::stack::Plan;

#[tokio::test]
async fn a_draining_gateway_is_not_ready_and_announces_every_close() -> Result<()> {
    let mut stack = Plan::default()
        .gateway_flags("--drain-delay=2s --drain-period=2s")
        .start()
        .await?;
    let options = json!({"transports": ["websocket"], "reconnection": false});
    let port = stack.gateways[0].port();
    let mut browsers = Vec::new();
    for _ in 0..3 {
        let browser = Browser::open(port, options.clone()).await?;
        browser
            .wait_for("the connection", |seen| seen.what == "connect")
            .await?;
        browsers.push(browser);
    }
    let started = Instant::now();
    stack.gateways[0].process.signal(Signal::TERM)?;
    eventually("the gateway is not ready", async || {
        let answer = stack.gateways[0].get("/readyz").await?;
        ensure!(answer.status == 503, "{answer:?}");
        Ok(())
    })
    .await?;
    let late = Browser::open(port, options).await?;
    late.wait_for("a refusal", |seen| seen.what == "connect_error")
        .await?;

    let closed = |seen: &BrowserEvent| seen.what == "disconnect";
    let mut notices = Vec::new();
    for browser in &browsers {
        let notice = browser
            .wait_for("the notice", |seen| seen.is_event("server:drain"))
            .await?;
        let millis = notice.body["reconnectInMs"].as_u64().unwrap_or_default();
        let seen = browser.seen();
        let announced_at = seen.iter().position(|seen| seen.is_event("server:drain"));
        let closed_at = seen.iter().position(closed);
        ensure!(
            closed_at.is_none_or(|at| announced_at < Some(at)),
            "{seen:?}"
        );
        notices.push((millis, browser));
    }
    notices.sort_by_key(|(millis, _)| *millis);
    let times: Vec<u64> = notices.iter().map(|(millis, _)| *millis).collect();
    // Drain delay + notice of 100 ms + an even share of the rest of the drain period.
    assert_eq!(times, [2100, 2733, 3366]);
    for (millis, browser) in notices {
        let end = browser.wait_for("the close", closed).await?;
        assert_eq!(end.name, "transport close");
        let elapsed = started.elapsed();
        ensure!(
            elapsed >= Duration::from_millis(millis),
            "announced {millis} ms, closed after {elapsed:?}"
        );
    }
    let status = stack.gateways[0].process.wait().await?;
    ensure!(status.code() == Some(0), "{status}");
    stack.pass()
}

const CLIENTS: usize = 1000;
const DRAIN_DELAY: Duration = Duration::from_millis(500);
const DRAIN_PERIOD: Duration = Duration::from_secs(4);
/// How long all clients may take to return after the drain period, on an idle machine.
const RETURN_LIMIT: Duration = Duration::from_secs(5);
const SERIALS: [&str; 4] = ["OTSM-0001", "OTSM-0002", "OTSM-0003", "OTSM-0004"];

#[tokio::test]
async fn a_rolling_restart_loses_no_alarm_change_and_no_client() -> Result<()> {
    let drain = format!(
        "--drain-delay={}ms --drain-period={}s",
        DRAIN_DELAY.as_millis(),
        DRAIN_PERIOD.as_secs()
    );
    let mut stack = Plan::default()
        .gateways(2)
        .gateway_flags(&drain)
        .every_raise_is_an_alarm()
        .start()
        .await?;
    for serial in SERIALS {
        stack.device(serial).send(1).await?;
        stack.shows(serial, 1).await?;
    }
    let balancer = Balancer::start(stack.gateways.iter().map(|gateway| gateway.port()))?;
    let clients: Vec<Vec<String>> = (0..CLIENTS)
        .map(|number| vec![SERIALS[number % SERIALS.len()].to_owned()])
        .collect();
    let mut crowd = Crowd::open(balancer.port(), &clients).await?;

    // Every other reading raises an alarm, which the next one clears.
    let habit = Habit {
        every: Duration::from_secs(2),
        raises: Some(2),
    };
    let devices = SERIALS.map(|serial| (stack.device(serial), habit.clone()));
    let episodes = Episodes::begin(devices);
    for index in 0..stack.gateways.len() {
        let before = crowd.counts().await?.connections;
        let started = Instant::now();
        let status = stack.gateways[index].process.terminate().await?;
        ensure!(status.code() == Some(0), "{status}");
        crowd.wait_until_answered().await?;
        report::duration(
            &format!("rolling restart, gateway {index}: all clients have returned"),
            started.elapsed(),
            DRAIN_DELAY + DRAIN_PERIOD + RETURN_LIMIT,
        );
        stack.gateways[index].process.restart()?;
        stack.gateways[index].ready().await?;
        let closings = crowd.closings().await?;
        let returned = crowd.counts().await?.connections - before;
        ensure!(returned > 0, "no client was closed");
        ensure!(
            closings.len() >= returned,
            "{returned} clients were closed, {} were notified",
            closings.len()
        );
        check_spread(closings)?;
    }
    let raised = episodes.end().await?;
    let changes = every_client_received_the_log(&stack, &mut crowd, &raised).await?;
    let counts = crowd.counts().await?;
    ensure!(counts.backwards == 0, "{counts:?}");
    ensure!(changes > 0, "no alarm was raised");
    report::line(&format!(
        "rolling restart: {CLIENTS} clients, {changes} alarm changes, each seen exactly once and in order by every client; \
         {} subscriptions not recovered",
        counts.fresh
    ));
    stack.pass()
}

/// Checks that the announced closes are spread evenly over the drain period. No tenth of it may have more than twice the even
/// share, plus ten for clients that connected just before the drain.
fn check_spread(closings: Vec<u64>) -> Result<()> {
    let bound = closings.len() / 10 * 2 + 10;
    let tenth = u64::try_from(DRAIN_PERIOD.as_millis())? / 10;
    let mut counts = BTreeMap::<u64, usize>::new();
    for closing in closings {
        *counts.entry(closing / tenth).or_default() += 1;
    }
    let most = counts.values().max().copied().unwrap_or_default();
    ensure!(most <= bound, "{most} of at most {bound}: {counts:?}");
    Ok(())
}

//! Replicas of the gateway that go and come back: everybody is told, comes back in time and loses nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use tests::balancer::Balancer;
use tests::browser::{Browser, Seen};
use tests::crowd::Crowd;
use tests::episodes::{Episodes, Habit, everybody_saw_the_log};
use tests::eventually::eventually;
use tests::report;
use tests::stack::Plan;

#[tokio::test]
async fn a_draining_gateway_is_not_ready_and_tells_every_client_when_it_is_closed() -> Result<()> {
    let mut stack = Plan::default()
        .gateway("--drain-delay=2s --drain-period=2s")
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
    let begun = Instant::now();
    stack.gateways[0].process.signal(Signal::TERM)?;
    eventually("a gateway that is not ready and says so", async || {
        let answer = stack.gateways[0].get("/readyz").await?;
        ensure!(answer.status == 503, "{answer:?}");
        Ok(())
    })
    .await?;
    let late = Browser::open(port, options).await?;
    late.wait_for("a refusal", |seen| seen.what == "connect_error")
        .await?;

    let closed = |seen: &Seen| seen.what == "disconnect";
    let mut told = Vec::new();
    for browser in &browsers {
        let notice = browser
            .wait_for("the notice", |seen| seen.is_event("server:drain"))
            .await?;
        // The delay, 100 ms of notice, and its part of what remains of the period.
        let millis = notice.body["reconnectInMs"].as_u64().unwrap_or_default();
        ensure!(!browser.seen().iter().any(closed), "closed with the notice");
        told.push((millis, browser));
    }
    told.sort_by_key(|(millis, _)| *millis);
    let times: Vec<u64> = told.iter().map(|(millis, _)| *millis).collect();
    assert_eq!(times, [2100, 2733, 3366]);
    for (millis, browser) in told {
        let end = browser.wait_for("its end", closed).await?;
        assert_eq!(end.name, "transport close");
        let elapsed = begun.elapsed();
        ensure!(
            elapsed >= Duration::from_millis(millis),
            "told {millis} ms, closed after {elapsed:?}"
        );
    }
    let status = stack.gateways[0].process.wait().await?;
    ensure!(status.code() == Some(0), "{status}");
    stack.pass()
}

const CLIENTS: usize = 2000;
const DRAIN_DELAY: Duration = Duration::from_millis(500);
const DRAIN_PERIOD: Duration = Duration::from_secs(7);
/// What everybody may take to be back behind that.
const RETURN: Duration = Duration::from_secs(5);
const SERIALS: [&str; 4] = ["OTSM-0001", "OTSM-0002", "OTSM-0003", "OTSM-0004"];

#[tokio::test]
async fn a_rolling_restart_loses_no_alarm_change_and_no_client() -> Result<()> {
    let drain = format!(
        "--drain-delay={}ms --drain-period={}s",
        DRAIN_DELAY.as_millis(),
        DRAIN_PERIOD.as_secs()
    );
    let mut stack = Plan::default().gateways(2).gateway(&drain).start().await?;
    for serial in SERIALS {
        stack.device(serial).send(1).await?;
        stack.shows(serial, 1).await?;
    }
    let balancer = Balancer::start(stack.gateways.iter().map(tests::stack::Service::port))?;
    let clients: Vec<Vec<String>> = (0..CLIENTS)
        .map(|number| vec![SERIALS[number % SERIALS.len()].to_owned()])
        .collect();
    let mut crowd = Crowd::open(balancer.port(), &clients).await?;
    crowd.handshakes().await?;

    // Every other reading raises an alarm, which the next one clears.
    let habit = Habit {
        every: Duration::from_secs(2),
        raises: Some(2),
        padding: 0,
    };
    let devices = SERIALS.map(|serial| (stack.device(serial), habit.clone()));
    let episodes = Episodes::begin(devices);
    for index in 0..stack.gateways.len() {
        let before = crowd.counts().await?.drains;
        let begun = Instant::now();
        let status = stack.gateways[index].process.terminate().await?;
        ensure!(status.code() == Some(0), "{status}");
        let gone = begun.elapsed();
        crowd.all_answered().await?;
        let back = begun.elapsed();
        stack.gateways[index].process.restart()?;
        stack.gateways[index].ready().await?;
        let handshakes = crowd.handshakes().await?;
        let told = crowd.counts().await?.drains - before;
        report::line(&format!(
            "rolling restart, gateway {index}: {told} of {CLIENTS} clients told, gone after {gone:.1?} (drain {:?}), all \
             back after {back:.1?}, at most {} handshakes in a second",
            DRAIN_DELAY + DRAIN_PERIOD,
            handshakes.most
        ));
        ensure!(handshakes.count > 0, "nobody was closed");
        ensure!(
            told >= handshakes.count as u64,
            "{told} told, {} closed",
            handshakes.count
        );
        ensure!(
            back <= DRAIN_DELAY + DRAIN_PERIOD + RETURN,
            "all were back after {back:?}"
        );
        // Closings are spread evenly, and everybody waits 250 to 750 ms: that moves them and does not gather them. Twice
        // the even rate, and a tenth of all, are for a machine that stands still for a moment and then does the work of
        // that moment too; without the spreading they would all come within one second.
        let bound = CLIENTS / usize::try_from(DRAIN_PERIOD.as_secs())? * 2 + CLIENTS / 10;
        ensure!(handshakes.most <= bound, "{handshakes:?}, bound {bound}");
    }
    let raised = episodes.end().await?;
    let changes = everybody_saw_the_log(&stack, &mut crowd, &raised).await?;
    let counts = crowd.counts().await?;
    ensure!(counts.backwards == 0, "{counts:?}");
    ensure!(changes > 0, "no alarm was raised");
    report::line(&format!(
        "rolling restart: {CLIENTS} clients, {changes} alarm changes, each seen exactly once and in order by everybody \
         who watched; {} subscriptions not recovered",
        counts.fresh
    ));
    stack.pass()
}

//! How late alarms of quiet detectors are while another detector sends as much as it can.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tests::browser::Browser;
use tests::device::Device;
use tests::latencies::Latencies;
use tests::stack::{Plan, Target};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::flood::{self, Sent};
use crate::print;

/// Together they send 20 readings per second. Each reading raises or clears an alarm.
const NEIGHBOURS: usize = 10;
const PAUSE: Duration = Duration::from_millis(500);
const FLOOD: Duration = Duration::from_secs(15);

/// What the other detector does, and how far Redis is away.
struct Condition {
    name: &'static str,
    per_second: u64,
    /// Round trip to Redis, in addition to that of the machine.
    to_redis: Duration,
}

pub(crate) async fn run() -> Result<()> {
    let conditions = [
        ("no other detector", 0, 0),
        ("one detector at 20000/s", 20_000, 0),
        ("one detector at 600/s, 2 ms to Redis", 600, 2),
        ("one detector at 600/s, 20 ms to Redis", 600, 20),
    ];
    print("neighbours: from the detector's message to the browser's `device:alerts:changed`");
    for (name, per_second, millis) in conditions {
        let to_redis = Duration::from_millis(millis);
        let condition = Condition {
            name,
            per_second,
            to_redis,
        };
        measure(&condition).await?;
    }
    Ok(())
}

async fn measure(condition: &Condition) -> Result<()> {
    // Every raise is an alarm of its own, which ends as soon as the value is back.
    let plan = Plan::default()
        .without_proxy(Target::Broker)
        .ingest_flags("--returned-levels=none --chatter-calm=0s");
    let plan = if condition.to_redis.is_zero() {
        plan.without_proxy(Target::Redis)
    } else {
        plan
    };
    let mut stack = plan.start().await?;
    let browser = stack.browser().await?;
    let mut neighbours = Vec::new();
    for number in 0..NEIGHBOURS {
        let device = stack.device(&format!("OTSM-{number:04}"));
        device.send(10).await?;
        stack.shows(device.serial(), 10).await?;
        browser.subscribe(device.serial()).await?;
        neighbours.push(device);
    }
    let babbler = stack.device("OTSM-0666");
    babbler.send(10).await?;
    stack.shows(babbler.serial(), 10).await?;
    // In each direction half of the round trip.
    stack.redis_proxy.delay(condition.to_redis / 2);

    let ingest = Arc::new(stack.ingests.remove(0));
    let (flooded, is_flooded) = watch::channel(false);
    let neighbours = try_join_all(
        neighbours
            .iter()
            .enumerate()
            .map(|(number, device)| alternate(device, number, is_flooded.clone())),
    );
    let before = ingest.metric("ingest_messages_committed_total").await?;
    let flood = async {
        let sent = if condition.per_second == 0 {
            tokio::time::sleep(FLOOD).await;
            None
        } else {
            let broker = stack.broker.port();
            let payload = babbler.newest(10);
            Some(flood::send(broker, payload, condition.per_second, FLOOD).await?)
        };
        flooded.send_replace(true);
        anyhow::Ok(sent)
    };
    let memory = async {
        let mut most = 0;
        let mut is_flooded = is_flooded.clone();
        while !*is_flooded.borrow_and_update() {
            most = most.max(ingest.process.resident_kib()?);
            tokio::time::timeout(Duration::from_millis(200), is_flooded.changed())
                .await
                .ok();
        }
        anyhow::Ok(most)
    };
    let (sent_at, sent, most_kib) = tokio::try_join!(neighbours, flood, memory)?;
    let end_of_flood = Instant::now();

    let latencies = latencies(&browser, &sent_at).await?;
    print(&format!(
        "{:<40} alarm changes: {latencies}",
        condition.name
    ));
    if let Some(Sent { messages, took }) = sent {
        let alarms = u32::try_from(latencies.count())?;
        let all = before + f64::from(u32::try_from(messages)?) + f64::from(alarms);
        while ingest.metric("ingest_messages_committed_total").await? < all {
            ensure!(
                end_of_flood.elapsed() < 20 * FLOOD,
                "the backlog does not end"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        print(&format!(
            "{:<40} {messages} messages in {:.1} s; the last was committed {:.1} s later; ingest {} MiB",
            "",
            took.as_secs_f64(),
            end_of_flood.elapsed().as_secs_f64(),
            most_kib / 1024,
        ));
    }
    stack
        .ingests
        .push(Arc::into_inner(ingest).context("ingest is still in use")?);
    stack.pass()
}

/// Sends readings that raise and clear an alarm in turn until the flood ends. Returns when each was sent.
async fn alternate(
    device: &Device,
    number: usize,
    is_flooded: watch::Receiver<bool>,
) -> Result<Vec<Instant>> {
    let offset = PAUSE * u32::try_from(number)? / u32::try_from(NEIGHBOURS)?;
    let mut ticks = tokio::time::interval_at(Instant::now() + offset, PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent_at = Vec::new();
    while !*is_flooded.borrow() {
        ticks.tick().await;
        let value = if sent_at.len() % 2 == 0 { 1200 } else { 10 };
        sent_at.push(Instant::now());
        device.send(value).await?;
    }
    Ok(sent_at)
}

/// Waits for the change of every reading, and returns how long each took.
async fn latencies(browser: &Browser, sent_at: &[Vec<Instant>]) -> Result<Latencies> {
    let mut times = Latencies::default();
    for (number, sent_at) in sent_at.iter().enumerate() {
        let serial = format!("OTSM-{number:04}");
        let mut seen = 0;
        for sent in sent_at {
            let what = format!("an alarm change of {serial}");
            let (index, event) = browser
                .find_after(seen, &what, |event| {
                    event.is_of("device:alerts:changed", &serial)
                })
                .await?;
            seen = index + 1;
            times.add(event.arrived.duration_since(*sent));
        }
    }
    Ok(times)
}

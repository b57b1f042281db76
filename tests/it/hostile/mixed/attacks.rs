//! The attackers of the mixed test. They go on whatever fails: a part of the system may be broken at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use tests::browser::{Browser, Transport};
use tests::http;
use tests::stack::Stack;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::connections::{HALF_A_HEAD, hold};
use super::super::floods::{Babbler, one_each};
use super::super::readers::{ask_and_stop_reading, ask_much};
use super::super::strangers::REFUSED;
use super::super::watchers::{come_and_go, subscribe_to_nothing};

/// The longest time for one attack.
const LONGEST: Duration = Duration::from_secs(8);
/// How many attackers there are beside the babbling device.
const ATTACKERS: usize = 2;

/// How often each attack was begun.
pub(super) type Counts = BTreeMap<&'static str, usize>;

/// The ports that attackers reach, and the detectors that exist.
#[derive(Clone, Debug)]
struct Targets {
    broker: u16,
    gateways: Vec<u16>,
    ingest: u16,
    serials: Vec<String>,
}

/// The running attackers.
pub(super) struct Attackers {
    over: watch::Sender<bool>,
    tasks: JoinSet<Counts>,
}

impl Attackers {
    /// Starts them. They subscribe to these detectors.
    pub(super) fn start(stack: &Stack, serials: &[String], random: &mut Rng) -> Self {
        let targets = Targets {
            broker: stack.broker.port(),
            gateways: stack
                .gateways
                .iter()
                .map(|gateway| gateway.port())
                .collect(),
            ingest: stack.ingests[0].port(),
            serials: serials.to_vec(),
        };
        let (over, is_over) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for _ in 0..ATTACKERS {
            let attacker = attack(targets.clone(), random.fork(), is_over.clone());
            tasks.spawn(attacker);
        }
        tasks.spawn(babble(targets.broker, is_over));
        Self { over, tasks }
    }

    /// Ends them, and returns what they did.
    pub(super) async fn end(mut self) -> Result<Counts> {
        self.over.send_replace(true);
        let mut counts = Counts::new();
        while let Some(of_one) = self.tasks.join_next().await {
            for (name, count) in of_one? {
                *counts.entry(name).or_default() += count;
            }
        }
        Ok(counts)
    }
}

/// A device that never stops to send 600 readings per second.
async fn babble(broker: u16, over: watch::Receiver<bool>) -> Counts {
    const SECOND: usize = 600;
    let babbler = Babbler::connect(broker, "OTSM-BABBLER");
    let mut seconds = 0;
    while !*over.borrow() {
        match timeout(LONGEST, babbler.at_600_per_second(SECOND)).await {
            Ok(Ok(())) => seconds += 1,
            // The broker is away.
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
    Counts::from([("seconds of babbling", seconds)])
}

async fn attack(targets: Targets, mut random: Rng, over: watch::Receiver<bool>) -> Counts {
    let mut counts = Counts::new();
    while !*over.borrow() {
        let (name, attack) = choose(&targets, &mut random);
        *counts.entry(name).or_default() += 1;
        // It may fail or hang: a part of the system may be broken.
        timeout(LONGEST, attack).await.ok();
        sleep(Duration::from_millis(random.u64(50..500))).await;
    }
    counts
}

type Attack = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;

fn choose(targets: &Targets, random: &mut Rng) -> (&'static str, Attack) {
    let gateway = targets.gateways[random.usize(..targets.gateways.len())];
    let (broker, ingest) = (targets.broker, targets.ingest);
    let count = random.usize(20..200);
    let mut serials = targets.serials.clone();
    random.shuffle(&mut serials);
    match random.u8(..9) {
        0 => ("floods", Box::pin(flood(broker, count * 10))),
        1 => (
            "payloads of many objects",
            Box::pin(many_objects(broker, count / 10)),
        ),
        2 => (
            "readings of many devices",
            Box::pin(async move { one_each(broker, &serials).await }),
        ),
        3 => (
            "clients that come and go",
            Box::pin(churn(gateway, serials)),
        ),
        4 => (
            "names that never existed",
            Box::pin(nothing(gateway, count)),
        ),
        5 => ("costly requests", Box::pin(costly(gateway))),
        6 => (
            "readers that stop",
            Box::pin(stop_reading(gateway, count / 4)),
        ),
        7 => (
            "idle and half requests",
            Box::pin(say_little(gateway, ingest, count)),
        ),
        _ => ("refused requests", Box::pin(refused(gateway))),
    }
}

async fn flood(broker: u16, count: usize) -> Result<()> {
    Babbler::connect(broker, "OTSM-FLOOD").flood(count).await
}

async fn many_objects(broker: u16, payloads: usize) -> Result<()> {
    let babbler = Babbler::connect(broker, "OTSM-OBJECTS");
    babbler.many_objects(payloads, 64).await
}

async fn churn(gateway: u16, serials: Vec<String>) -> Result<()> {
    let client = Browser::connect(gateway, Transport::WebSocket).await?;
    come_and_go(&client, &serials).await
}

async fn nothing(gateway: u16, count: usize) -> Result<()> {
    let client = Browser::connect(gateway, Transport::Polling).await?;
    subscribe_to_nothing(&client, "OTSM-NOBODY", count).await?;
    Ok(())
}

async fn costly(gateway: u16) -> Result<()> {
    let paths = [
        "/health",
        "/api/devices",
        "/alarm-logs?alarm_type=bogus&limit=1",
        "/alarm-logs?limit=1000",
        "/alarm-logs/statistics",
    ];
    ask_much(gateway, &paths, 5, 6).await?;
    Ok(())
}

async fn stop_reading(gateway: u16, count: usize) -> Result<()> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(ask_and_stop_reading(gateway).await?);
    }
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

async fn say_little(gateway: u16, ingest: u16, count: usize) -> Result<()> {
    let mut held = hold(gateway, count, HALF_A_HEAD).await?;
    held.extend(hold(ingest, count, "").await?);
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

async fn refused(gateway: u16) -> Result<()> {
    for (_, head) in REFUSED.iter().cycle().take(60) {
        http::send_raw(gateway, &format!("{head}connection: close\r\n\r\n")).await?;
    }
    Ok(())
}

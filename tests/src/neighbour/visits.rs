//! Requests, and clients that connect, subscribe, and leave again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::browser::{Browser, Transport};
use crate::http;
use crate::latencies::Latencies;

/// The pause between two requests, and between two new clients.
const PAUSE: Duration = Duration::from_millis(100);

/// What the test does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Every request and every new client must be answered.
    Judged,
    /// A part of the system is broken by the test itself.
    Broken,
    Over,
}

/// What was answered, and how fast.
#[derive(Debug, Default)]
pub struct Visits {
    /// Requests to REST.
    pub requests: Latencies,
    /// From a subscription of a client that has just connected until its answer.
    pub subscriptions: Latencies,
    /// Visits during which the test broke something.
    pub abandoned: usize,
}

impl Visits {
    pub(super) fn append(&mut self, other: Self) {
        self.requests.append(other.requests);
        self.subscriptions.append(other.subscriptions);
        self.abandoned += other.abandoned;
    }
}

/// Waits while something is broken. Returns whether to go on.
async fn goes_on(phases: &mut watch::Receiver<Phase>) -> Result<bool> {
    let phase = *phases.wait_for(|phase| *phase != Phase::Broken).await?;
    Ok(phase == Phase::Judged)
}

/// Carries out one visit. `None`: the test broke something meanwhile.
async fn visit<T>(
    phases: &watch::Receiver<Phase>,
    visit: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    let mut later = phases.clone();
    tokio::select! {
        outcome = visit => match outcome {
            Err(_) if *phases.borrow() == Phase::Broken => Ok(None),
            outcome => outcome.map(Some),
        },
        _ = later.wait_for(|phase| *phase == Phase::Broken) => Ok(None),
    }
}

/// Sends requests until the end.
pub(super) async fn requests(
    ports: Vec<u16>,
    serials: Vec<String>,
    mut phases: watch::Receiver<Phase>,
) -> Result<Visits> {
    let mut visits = Visits::default();
    let mut turns = (0..).map(|turn: usize| {
        let serial = &serials[turn % serials.len()];
        let path = match turn % 7 {
            0 => "/health".to_owned(),
            1 => format!("/devices/{serial}/subtronics/telemetry/latest"),
            2 => format!("/devices/{serial}/subtronics/alerts"),
            3 => format!("/devices/{serial}/alarm-logs?limit=20"),
            4 => format!("/api/devices/{serial}/history?limit=20"),
            5 => "/api/devices?limit=10".to_owned(),
            _ => "/alarm-logs?limit=20".to_owned(),
        };
        (ports[turn % ports.len()], path)
    });
    while goes_on(&mut phases).await? {
        let (port, path) = turns.next().context("turns never end")?;
        let started = Instant::now();
        let answer = http::send(port, "GET", &path, &[], b"");
        match visit(&phases, answer).await? {
            Some(answer) => {
                visits.requests.add(started.elapsed());
                answer
                    .expect(200)
                    .with_context(|| format!("a neighbour asked for {path}"))?;
            }
            None => visits.abandoned += 1,
        }
        sleep(PAUSE).await;
    }
    Ok(visits)
}

/// Connects clients that subscribe and leave, until the end.
pub(super) async fn subscriptions(
    ports: Vec<u16>,
    serials: Vec<String>,
    mut phases: watch::Receiver<Phase>,
) -> Result<Visits> {
    let mut visits = Visits::default();
    let mut serials = serials.iter().cycle();
    let mut ports = ports.iter().cycle();
    while goes_on(&mut phases).await? {
        let port = *ports.next().context("no gateway")?;
        let stay = stay(port, &mut serials, &mut visits.subscriptions, &phases);
        if visit(&phases, stay).await?.is_none() {
            visits.abandoned += 1;
        }
    }
    Ok(visits)
}

/// One client process, which connects again and again.
async fn stay(
    port: u16,
    serials: &mut impl Iterator<Item = &String>,
    took: &mut Latencies,
    phases: &watch::Receiver<Phase>,
) -> Result<()> {
    const CONNECTIONS: usize = 100;
    let client = Browser::connect(port, Transport::WebSocket).await?;
    for connection in 1..=CONNECTIONS {
        let serial = serials.next().context("no device")?;
        let from = client.seen_count();
        let started = Instant::now();
        let answer = client.subscribe(serial).await?;
        took.add(started.elapsed());
        ensure!(
            answer["ok"] == true,
            "a neighbour subscribed to {serial}: {answer}"
        );
        let is_snapshot = |seen: &crate::browser::BrowserEvent| {
            seen.is_of("device:data", serial) && seen.body["snapshot"] == true
        };
        ensure!(
            client.seen_after(from).iter().any(is_snapshot),
            "no snapshot of {serial} before {answer}"
        );
        sleep(PAUSE).await;
        if connection == CONNECTIONS || *phases.borrow() != Phase::Judged {
            break;
        }
        client.disconnect().await?;
        client.reconnect().await?;
    }
    Ok(())
}

//! A well-behaved client beside an attack or a fault. Whatever others do, it must miss nothing.
//!
//! A few detectors send 20 readings per second together, one of them with an alarm that flaps. Official clients follow them
//! all. Other clients send requests, or connect, subscribe, and leave again. At the end, the ledger of the detectors must
//! agree with the history, the alarm log and what each client received. All times go to the report.

mod visits;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::browser::{Browser, BrowserEvent, Transport};
use crate::eventually::eventually;
use crate::latencies::Latencies;
use crate::ledger::{Ledger, Load, Verdict};
use crate::report;
use crate::seed::Seed;
use crate::stack::Stack;
use crate::tcp_proxy::TcpProxy;

use visits::{Phase, Visits};

/// How many detectors there are.
pub const DEVICES: usize = 4;
const PERIOD: Duration = Duration::from_millis(200);

/// The running neighbour.
#[derive(Debug)]
pub struct Neighbour {
    load: Load,
    clients: Vec<Browser>,
    /// The proxy between each client and its gateway.
    pub proxies: Vec<TcpProxy>,
    phase: watch::Sender<Phase>,
    /// When something was broken, and when it worked again, in turn.
    turns: Mutex<Vec<Instant>>,
    visits: JoinSet<Result<Visits>>,
    started: Instant,
}

/// What the neighbour saw.
#[derive(Debug, Default)]
pub struct Figures {
    pub verdict: Verdict,
    /// From sending a reading until a client has it, once per client, while nothing was broken.
    pub readings: Latencies,
    /// The same for readings that changed an alarm.
    pub alarms: Latencies,
    /// The same for readings that were under way while something was broken.
    pub during_faults: Latencies,
    pub visits: Visits,
    /// Connections that the following clients made after their first one.
    pub reconnects: usize,
    /// Events that a client received again after it had connected again.
    pub again: usize,
}

impl Neighbour {
    /// Starts it. Returns when every detector is known and every client follows it.
    pub async fn start(stack: &Stack, seed: &mut Seed) -> Result<Self> {
        Self::start_with(stack, &Load::serials(DEVICES), seed).await
    }

    /// As [`Self::start`], with detectors of these serials.
    pub async fn start_with(stack: &Stack, serials: &[String], seed: &mut Seed) -> Result<Self> {
        let ports: Vec<u16> = stack
            .gateways
            .iter()
            .map(|gateway| gateway.port())
            .collect();
        let (mut clients, mut proxies) = (Vec::new(), Vec::new());
        for (index, transport) in [Transport::WebSocket, Transport::Polling]
            .into_iter()
            .enumerate()
        {
            let proxy = TcpProxy::start(ports[index % ports.len()]).await?;
            let client = Browser::connect(proxy.port(), transport).await?;
            for serial in serials {
                client.follow(serial).await?;
            }
            clients.push(client);
            proxies.push(proxy);
        }
        let load = Load::start_with_a_flapping_alarm(stack, serials, PERIOD, seed);
        for serial in serials {
            stack.latest_with(serial, "a reading", |_| true).await?;
        }
        let (phase, phases) = watch::channel(Phase::Judged);
        let mut visits = JoinSet::new();
        visits.spawn(visits::requests(
            ports.clone(),
            serials.to_vec(),
            phases.clone(),
        ));
        visits.spawn(visits::subscriptions(ports, serials.to_vec(), phases));
        Ok(Self {
            load,
            clients,
            proxies,
            phase,
            turns: Mutex::default(),
            visits,
            started: Instant::now(),
        })
    }

    /// From now on requests and new clients may fail, because the test breaks a part of the system: there are none until
    /// [`Self::is_whole_again`]. The clients that follow the detectors stay, and must miss nothing.
    pub fn breaks_now(&self) {
        self.phase.send_replace(Phase::Broken);
        self.turns().push(Instant::now());
    }

    /// Requests and new clients must be answered again.
    pub fn is_whole_again(&self) {
        self.phase.send_replace(Phase::Judged);
        self.turns().push(Instant::now());
    }

    fn turns(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.turns
            .lock()
            .expect("no thread panics while holding the lock")
    }

    /// Waits until this many readings were sent since the start.
    pub async fn has_sent(&self, count: usize) -> Result<()> {
        eventually("the neighbour has sent enough", async || {
            let sent = self.load.acknowledged();
            ensure!(sent >= count, "{sent} readings");
            Ok(())
        })
        .await
    }

    /// Ends it beside an attack that broke no part of the system: besides nothing missed, no client lost its connection, and
    /// every request and every new client was answered.
    pub async fn finish(self, stack: &Stack, attack: &str) -> Result<Figures> {
        let figures = self.end(stack).await?;
        report::line(&format!("beside {attack}: {figures}"));
        let Figures {
            verdict, visits, ..
        } = &figures;
        ensure!(figures.reconnects == 0, "lost its connection: {figures}");
        ensure!(verdict.recovered + verdict.gaps == 0, "{figures}");
        ensure!(verdict.changes > 0, "no alarm: {figures}");
        ensure!(visits.requests.count() > 0, "no request: {figures}");
        ensure!(visits.subscriptions.count() > 0, "no visit: {figures}");
        ensure!(visits.abandoned == 0, "{figures}");
        Ok(figures)
    }

    /// Ends it. Fails if anything was missed, invented, doubled or out of order.
    pub async fn end(mut self, stack: &Stack) -> Result<Figures> {
        let mut figures = Figures::default();
        self.phase.send_replace(Phase::Over);
        while let Some(ended) = self.visits.join_next().await {
            figures.visits.append(ended??);
        }
        let took = self.started.elapsed();
        let load = std::mem::replace(&mut self.load, Load::idle());
        let ledger = load.stop(stack).await?;
        let judged = ledger.judge(stack, &self.clients, None);
        figures.verdict = judged
            .await
            .with_context(|| format!("the neighbour, after {took:?}"))?;
        ensure!(figures.verdict.alarm_gaps == 0, "missed: {figures}");
        let turns = self.turns().clone();
        for client in &self.clients {
            figures.add_client(&ledger, &client.seen(), &turns);
        }
        Ok(figures)
    }
}

impl Figures {
    /// Adds the times at which a client received the readings, and its connections.
    fn add_client(&mut self, ledger: &Ledger, seen: &[BrowserEvent], turns: &[Instant]) {
        let entries = ledger.entries.iter();
        let sent: HashMap<(&str, &str), Instant> = entries
            .filter_map(|entry| Some(((&*entry.serial, &*entry.time), entry.sent?)))
            .collect();
        let mut sent_by_position = HashMap::new();
        for event in seen {
            let device = event.body["deviceId"].as_str().unwrap_or_default();
            let is_new = event.body["snapshot"].is_null() && event.body["stale"].is_null();
            let position = (device, event.body["epoch"].as_str(), event.seq());
            if is_new && event.is_event("device:data") {
                let time = event.body["data"]["timestamp"].as_str().unwrap_or_default();
                if let Some(sent) = sent.get(&(device, time)) {
                    let is_calm = is_calm(turns, *sent, event.at);
                    let latencies = if is_calm {
                        sent_by_position.insert(position, *sent);
                        &mut self.readings
                    } else {
                        &mut self.during_faults
                    };
                    latencies.add(event.at - *sent);
                }
            }
            if event.is_event("device:alerts:changed")
                && let Some(sent) = sent_by_position.get(&position)
            {
                self.alarms.add(event.at - *sent);
            }
            self.again += usize::from(event.what == "again");
            self.reconnects += usize::from(event.what == "connect");
        }
        // The first connection.
        self.reconnects -= 1;
    }

    /// Adds those of another round.
    pub fn append(&mut self, other: Self) {
        self.verdict.append(&other.verdict);
        self.readings.append(other.readings);
        self.alarms.append(other.alarms);
        self.during_faults.append(other.during_faults);
        self.visits.append(other.visits);
        self.reconnects += other.reconnects;
        self.again += other.again;
    }
}

/// Returns whether nothing was broken from the first time until the second.
fn is_calm(turns: &[Instant], from: Instant, until: Instant) -> bool {
    let before = turns.partition_point(|turn| *turn <= from);
    // An odd number of turns has passed while something is broken.
    before.is_multiple_of(2) && turns.get(before).is_none_or(|next| *next > until)
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verdict,
            readings,
            alarms,
            during_faults,
            visits,
            reconnects,
            again,
        } = self;
        write!(
            f,
            "{verdict}; 0 missed; readings: {readings}; alarm changes: {alarms}; requests: {}; new subscriptions: {}",
            visits.requests, visits.subscriptions
        )?;
        if during_faults.count() > 0 {
            write!(
                f,
                "; readings under way during a fault: {during_faults}; {reconnects} reconnects, {again} events again after them"
            )?;
        }
        Ok(())
    }
}

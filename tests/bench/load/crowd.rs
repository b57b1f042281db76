//! Many clients, and what they received together.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{self, Tallies};
use super::clock::Clock;
use super::histogram::Histogram;
use super::schedule::Schedule;
use super::tally::Sums;

/// Clients that connect at the same time, unless all do.
const AT_ONCE: usize = 64;
const PAUSE: Duration = Duration::from_millis(5);
/// Without an event for so long, no more are expected.
const SETTLED: Duration = Duration::from_secs(1);
/// How long the last events may take after the last message.
const LAST_EVENTS: Duration = Duration::from_secs(20);

/// How a client reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Only a websocket.
    WebSocket,
    /// Long polling that becomes a websocket: the default of the official client.
    Upgrade,
}

/// What one client does.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) port: u16,
    pub(crate) transport: Transport,
    pub(crate) devices: Vec<u64>,
    /// It stops reading once its subscriptions are answered.
    pub(crate) is_stalled: bool,
}

/// What all clients received.
#[derive(Debug)]
pub(crate) struct Seen {
    clock: Clock,
    /// Set when publishing begins.
    pub(crate) schedule: OnceLock<Schedule>,
    /// Clients whose subscriptions are all answered.
    pub(crate) ready: AtomicUsize,
    pub(crate) deliveries: AtomicU64,
    /// Bytes of events, with the heads of their frames.
    pub(crate) bytes: AtomicU64,
    /// Events of alarms. There should be none.
    pub(crate) alarm_events: AtomicU64,
    /// Events with which a server says that it may be late: `system:status`.
    pub(crate) status_events: AtomicU64,
    /// Clients whose connection ended while they watched.
    pub(crate) closed: AtomicU64,
    latency: Histogram,
    /// Only messages that were due in this time count for the latency.
    from_us: AtomicU64,
    until_us: AtomicU64,
}

impl Seen {
    /// Counts the latency of a message that was due at this time and is here now.
    pub(crate) fn add_latency(&self, due_us: u64) {
        let from = self.from_us.load(Ordering::Relaxed);
        let until = self.until_us.load(Ordering::Relaxed);
        if (from..until).contains(&due_us) {
            self.latency.add(self.clock.micros().saturating_sub(due_us));
        }
    }

    /// Latencies of the messages that were due while it was measured.
    pub(crate) fn latency(&self) -> &Histogram {
        &self.latency
    }
}

/// Connected clients.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) seen: Arc<Seen>,
    clients: JoinSet<Result<Tallies>>,
    /// What clients received whose connection has ended.
    ended: Vec<Tallies>,
    stop: watch::Sender<bool>,
    count: usize,
}

impl Crowd {
    pub(crate) fn new(clock: Clock) -> Self {
        let seen = Seen {
            clock,
            schedule: OnceLock::new(),
            ready: AtomicUsize::new(0),
            deliveries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            alarm_events: AtomicU64::new(0),
            status_events: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            latency: Histogram::default(),
            from_us: AtomicU64::new(u64::MAX),
            until_us: AtomicU64::new(u64::MAX),
        };
        Self {
            seen: Arc::new(seen),
            clients: JoinSet::new(),
            ended: Vec::new(),
            stop: watch::Sender::new(false),
            count: 0,
        }
    }

    /// Connects clients, some at a time, and waits until all subscriptions are answered.
    pub(crate) async fn connect(&mut self, wishes: Vec<Wish>) -> Result<()> {
        for wish in wishes {
            while self.count >= self.ready() + AT_ONCE {
                self.check()?;
                tokio::time::sleep(PAUSE).await;
            }
            self.start(wish);
        }
        self.all_ready().await
    }

    /// Connects all clients at the same time, and waits until all subscriptions are answered.
    pub(crate) async fn storm(&mut self, wishes: Vec<Wish>) -> Result<()> {
        for wish in wishes {
            self.start(wish);
        }
        self.all_ready().await
    }

    fn start(&mut self, wish: Wish) {
        let stop = self.stop.subscribe();
        let seen = Arc::clone(&self.seen);
        self.clients.spawn(client::run(wish, seen, stop));
        self.count += 1;
    }

    async fn all_ready(&mut self) -> Result<()> {
        while self.ready() < self.count {
            self.check()?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn ready(&self) -> usize {
        self.seen.ready.load(Ordering::Relaxed)
    }

    /// Fails if a client could not connect or subscribe.
    pub(crate) fn check(&mut self) -> Result<()> {
        while let Some(ended) = self.clients.try_join_next() {
            self.ended.push(ended?.context("a client")?);
        }
        Ok(())
    }

    /// Counts only messages that are due from now on for the latency.
    pub(crate) fn measure(&self) {
        let now = self.seen.clock.micros();
        self.seen.from_us.store(now, Ordering::Relaxed);
    }

    /// Messages that are due from now on do not count any more.
    pub(crate) fn measured(&self) {
        let now = self.seen.clock.micros();
        self.seen.until_us.store(now, Ordering::Relaxed);
    }

    /// Begins with this schedule. Only messages that are due between these times count for the latency.
    pub(crate) fn measure_between(
        &self,
        schedule: Schedule,
        from_us: u64,
        until_us: u64,
    ) -> Result<()> {
        let once = self.seen.schedule.set(schedule);
        once.ok().context("a second schedule")?;
        self.seen.from_us.store(from_us, Ordering::Relaxed);
        self.seen.until_us.store(until_us, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until no more events arrive.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        let begun = tokio::time::Instant::now();
        let mut before = None;
        while begun.elapsed() < LAST_EVENTS {
            let now = self.seen.deliveries.load(Ordering::Relaxed);
            if before == Some(now) {
                break;
            }
            before = Some(now);
            self.check()?;
            tokio::time::sleep(SETTLED).await;
        }
        Ok(())
    }

    /// Compares what each client received with what was published below `end`, once no more events arrive.
    pub(crate) async fn finish(mut self, end: u64) -> Result<Sums> {
        self.settle().await?;
        self.stop.send_replace(true);
        while let Some(client) = self.clients.join_next().await {
            self.ended.push(client?.context("a client")?);
        }
        let mut sums = Sums::default();
        if let Some(schedule) = self.seen.schedule.get() {
            for (device, tally) in self.ended.iter().flatten() {
                sums += tally.sums(&schedule.turns(*device, end));
            }
        }
        Ok(sums)
    }
}

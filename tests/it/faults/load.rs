//! The load under which these tests run, and the checks at their end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::browser::{Browser, Transport};
use tests::ledger::{self, Ledger, Load, Verdict};
use tests::report;
use tests::seed::Seed;
use tests::stack::{Plan, Stack};
use tests::tcp_proxy::TcpProxy;
use tokio::time::{Instant, sleep};

const DEVICES: usize = 12;
const PERIOD: Duration = Duration::from_millis(200);

/// How long a killed process stays dead, and how long a connection stays cut.
pub(super) const OUTAGE: Duration = Duration::from_secs(5);
/// The random time before each fault.
const BEFORE_FAULT: std::ops::Range<Duration> = Duration::from_millis(300)..Duration::from_secs(2);

/// A stack under load. Its clients follow every device from its first reading on.
pub(super) struct Scene {
    pub(super) stack: Stack,
    pub(super) seed: Seed,
    pub(super) clients: Vec<Browser>,
    /// The proxy of each client, those of the first gateway first.
    pub(super) proxies: Vec<TcpProxy>,
    pub(super) load: Load,
    started: Instant,
}

impl Scene {
    /// Starts the stack with two clients at each gateway, which follow every device.
    pub(super) async fn start(plan: Plan) -> Result<Self> {
        Self::with_clients(plan, 2, DEVICES).await
    }

    /// As [`Scene::start`], with a load of which readings overtake each other when one of two replicas is behind. It may be behind
    /// by a minute: fewer readings of each device pass in this time than its state has fingerprints, so those that are delivered
    /// again are recognised.
    pub(super) async fn start_to_overtake(plan: Plan) -> Result<Self> {
        // The broker gives messages to the members of a share group in turn. With an even number of devices that send in turn,
        // each device would always have the same member, and no reading could overtake another.
        const ODD: usize = DEVICES - 1;
        Self::begin(plan, 2, (ODD, ODD), Duration::from_secs(1)).await
    }

    /// Starts the stack with `count` clients at each gateway, alternately by WebSocket and by polling. Each client follows
    /// `devices` devices.
    pub(super) async fn with_clients(plan: Plan, count: usize, devices: usize) -> Result<Self> {
        Self::begin(plan, count, (devices, DEVICES), PERIOD).await
    }

    /// Starts the stack with `count` clients at each gateway and a load of `all` devices, of which each client follows `devices`.
    async fn begin(
        plan: Plan,
        count: usize,
        (devices, all): (usize, usize),
        period: Duration,
    ) -> Result<Self> {
        let mut seed = Seed::from_environment();
        // The readings alone must decide the alarm changes, and there must be many.
        let stack = plan.every_raise_is_an_alarm().start().await?;
        // The record shows which payloads reached an ingest before the broker was killed.
        stack.broker_proxy.record();
        let serials = Load::serials(all);
        let (mut clients, mut proxies) = (Vec::new(), Vec::new());
        for gateway in &stack.gateways {
            for number in 0..count {
                let proxy = TcpProxy::start(gateway.port()).await?;
                let transport = [Transport::WebSocket, Transport::Polling][number % 2];
                let client = Browser::connect(proxy.port(), transport).await?;
                let turn = clients.len() * devices % all;
                for serial in serials.iter().cycle().skip(turn).take(devices) {
                    client.follow(serial).await?;
                }
                clients.push(client);
                proxies.push(proxy);
            }
        }
        let load = Load::start(&stack, &serials, period, &mut seed);
        Ok(Self {
            stack,
            seed,
            clients,
            proxies,
            load,
            started: Instant::now(),
        })
    }

    /// Waits until the random time of the next fault.
    pub(super) async fn wait_for_random_time(&mut self) {
        sleep(self.seed.duration(BEFORE_FAULT)).await;
    }

    /// Ends the load. Every acknowledged payload must be stored once.
    pub(super) async fn finish(self, what: &str) -> Result<Verdict> {
        self.end(what, false).await
    }

    /// Ends the load. Every payload that reached an ingest must be stored once. Those that the broker lost are counted.
    pub(super) async fn finish_with_a_lossy_broker(self, what: &str) -> Result<Verdict> {
        self.end(what, true).await
    }

    async fn end(mut self, what: &str, may_lose: bool) -> Result<Verdict> {
        if may_lose {
            // A broker drops messages that it receives without a subscription.
            self.load
                .wait_for_delivery(&self.stack.broker_proxy)
                .await?;
        }
        let load = std::mem::replace(&mut self.load, Load::idle());
        let ledger = load.stop(&self.stack).await?;
        self.judge(what, &ledger, may_lose).await
    }

    /// Ends the load with a Redis that may lose commits it answered within `loss` before each of these kills. Nothing else may
    /// be missing, and nothing may be stored twice. If nothing is missing, all the other checks apply too.
    pub(super) async fn finish_with_a_lossy_redis(
        mut self,
        what: &str,
        loss: Duration,
        kills: &[Instant],
    ) -> Result<()> {
        let load = std::mem::replace(&mut self.load, Load::idle());
        let ledger = load.stop(&self.stack).await?;
        let missing = ledger.missing(&self.stack).await?;
        // A reading that was written again is not missing. But until then clients were sent an older state.
        let mut reasserted = 0.0;
        for ingest in &self.stack.ingests {
            reasserted += ingest.metric("ingest_reasserted_devices_total").await?;
        }
        if missing.is_empty() && reasserted < 0.5 {
            return self.judge(what, &ledger, false).await.map(drop);
        }
        for entry in &missing {
            let at = entry.acknowledged.context("never acknowledged")?;
            let is_near = |kill: &Instant| at <= *kill && *kill - at <= loss;
            ensure!(
                kills.iter().any(is_near),
                "lost without a kill near it: {entry:?}"
            );
        }
        report::line(&format!(
            "{what}: {} of {} readings lost by Redis, all within {loss:?} before a kill",
            missing.len(),
            ledger.entries.len()
        ));
        self.stack.pass()
    }

    async fn judge(self, what: &str, ledger: &Ledger, may_lose: bool) -> Result<Verdict> {
        if may_lose {
            // When the last reading of each device has arrived, every message that the broker kept has arrived too.
            ledger.wait_for_last_readings(&self.stack).await?;
        }
        let delivered = may_lose.then(|| ledger::delivered_tokens(&self.stack.broker_proxy));
        let judged = ledger.judge(&self.stack, &self.clients, delivered.as_ref());
        let verdict = judged.await?;
        // None of these faults may lose alarm changes, announced or not.
        ensure!(verdict.alarm_gaps == 0, "announced as missing: {verdict}");
        let seconds = self.started.elapsed().as_secs();
        report::line(&format!("{what}, {seconds} s: {verdict}"));
        self.stack.pass()?;
        Ok(verdict)
    }
}

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

/// How long a killed process stays away.
pub(super) const AWAY: Duration = Duration::from_secs(5);
/// The time before each fault.
const STRIKES: std::ops::Range<Duration> = Duration::from_millis(300)..Duration::from_secs(2);

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
    /// Two clients at each gateway.
    pub(super) async fn start(plan: Plan) -> Result<Self> {
        Self::with_clients(plan, 2, DEVICES).await
    }

    /// So many clients at each gateway, alternately by WebSocket and by polling. Each follows so many devices.
    pub(super) async fn with_clients(plan: Plan, count: usize, devices: usize) -> Result<Self> {
        let mut seed = Seed::of_this_test();
        let stack = plan.start().await?;
        // Shows what reached an ingest, and what a broker had not sent yet when it was killed.
        stack.broker_proxy.record();
        let serials = Load::serials(DEVICES);
        let (mut clients, mut proxies) = (Vec::new(), Vec::new());
        for gateway in &stack.gateways {
            for number in 0..count {
                let proxy = TcpProxy::start(gateway.port()).await?;
                let transport = [Transport::WebSocket, Transport::Polling][number % 2];
                let client = Browser::connect(proxy.port(), transport).await?;
                let turn = clients.len() * devices % DEVICES;
                for serial in serials.iter().cycle().skip(turn).take(devices) {
                    client.follow(serial).await?;
                }
                clients.push(client);
                proxies.push(proxy);
            }
        }
        let load = Load::start(&stack, &serials, PERIOD, &mut seed);
        Ok(Self {
            stack,
            seed,
            clients,
            proxies,
            load,
            started: Instant::now(),
        })
    }

    /// Waits for the next random moment.
    pub(super) async fn moment(&mut self) {
        sleep(self.seed.moment(STRIKES)).await;
    }

    /// Ends the load. Everything that was acknowledged must be stored once.
    pub(super) async fn finish(self, what: &str) -> Result<Verdict> {
        self.end(what, false).await
    }

    /// Ends the load. Everything that reached an ingest must be stored once. What the broker lost is counted.
    pub(super) async fn finish_with_a_lossy_broker(self, what: &str) -> Result<Verdict> {
        self.end(what, true).await
    }

    async fn end(mut self, what: &str, may_lose: bool) -> Result<Verdict> {
        if may_lose {
            // A broker drops what it receives while nobody has a subscription.
            self.load.passes(&self.stack.broker_proxy).await?;
        }
        let load = std::mem::replace(&mut self.load, Load::idle());
        let ledger = load.stop(&self.stack).await?;
        self.judge(what, &ledger, may_lose).await
    }

    /// Ends the load with a Redis that may lose what it answered within `loss` before each of these kills. Nothing else may
    /// be missing, and nothing stored twice. If nothing is missing, all the other checks apply too.
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
            // When the last reading of each device has arrived, everything that the broker kept has arrived too.
            ledger.ends_arrived(&self.stack).await?;
        }
        let delivered = may_lose.then(|| ledger::passed(&self.stack.broker_proxy));
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

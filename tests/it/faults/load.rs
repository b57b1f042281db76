//! The load all these tests run under, and the end they all come to.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::browser::{Browser, Transport};
use tests::ledger::{self, Ledger, Load, Verdict};
use tests::report;
use tests::seed::Seed;
use tests::stack::{Plan, Service, Stack};
use tests::tcp_proxy::TcpProxy;
use tokio::time::{Instant, sleep};

const DEVICES: usize = 12;
const PERIOD: Duration = Duration::from_millis(200);

/// How long whatever is killed stays away.
pub(super) const AWAY: Duration = Duration::from_secs(5);
/// When after the last round the next fault strikes.
const STRIKES: std::ops::Range<Duration> = Duration::from_millis(300)..Duration::from_secs(2);

/// A stack under load with clients that follow every device from its first reading on.
pub(super) struct Scene {
    pub(super) stack: Stack,
    pub(super) seed: Seed,
    pub(super) clients: Vec<Browser>,
    /// The network of each client; those of the first gateway come first.
    pub(super) proxies: Vec<TcpProxy>,
    pub(super) load: Load,
    started: Instant,
}

impl Scene {
    /// Two clients at each gateway.
    pub(super) async fn start(plan: Plan) -> Result<Self> {
        Self::with_clients(plan, 2, DEVICES).await
    }

    /// So many clients at each gateway, by turns by WebSocket and by polling, each following so many of the devices.
    pub(super) async fn with_clients(plan: Plan, count: usize, devices: usize) -> Result<Self> {
        let mut seed = Seed::of_this_test();
        let stack = plan.start().await?;
        // What an ingest got can be told apart from what a broker that was killed had not sent yet.
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

    /// Everything that was acknowledged must be there, once.
    pub(super) async fn finish(self, what: &str) -> Result<Verdict> {
        self.end(what, false).await
    }

    /// The same for everything that reached an ingest: what the broker lost is counted.
    pub(super) async fn finish_with_a_lossy_broker(self, what: &str) -> Result<Verdict> {
        self.end(what, true).await
    }

    async fn end(mut self, what: &str, may_lose: bool) -> Result<Verdict> {
        if may_lose {
            // What the broker takes while nobody has a subscription is nobody's.
            self.load.passes(&self.stack.broker_proxy).await?;
        }
        let load = std::mem::replace(&mut self.load, Load::idle());
        let ledger = load.stop(&self.stack).await?;
        self.judge(what, &ledger, may_lose).await
    }

    /// For a Redis that may lose what it answered within the last `loss` before each of these kills: nothing else is
    /// missing, nothing is there twice; and if nothing is missing at all, everything is as it should be.
    pub(super) async fn finish_with_a_lossy_redis(
        mut self,
        what: &str,
        loss: Duration,
        kills: &[Instant],
    ) -> Result<()> {
        let load = std::mem::replace(&mut self.load, Load::idle());
        let ledger = load.stop(&self.stack).await?;
        let missing = ledger.missing(&self.stack).await?;
        // What was asserted again is not missing; until it was, clients were shown what Redis had gone back to.
        let went_back = |service: &Service| service.process.output().contains("Redis went back");
        if missing.is_empty() && !self.stack.ingests.iter().any(went_back) {
            return self.judge(what, &ledger, false).await.map(drop);
        }
        for entry in &missing {
            let at = entry.acknowledged.context("never taken")?;
            let is_near = |kill: &Instant| at <= *kill && *kill - at <= loss;
            ensure!(
                kills.iter().any(is_near),
                "lost without a reason: {entry:?}"
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
            // What the broker kept is on its way when the last reading of each device, sent after it, has arrived.
            ledger.ends_arrived(&self.stack).await?;
        }
        let delivered = may_lose.then(|| ledger::passed(&self.stack.broker_proxy));
        let judged = ledger.judge(&self.stack, &self.clients, delivered.as_ref());
        let verdict = judged.await?;
        // An announced loss is still one: none of these faults is a reason for it.
        ensure!(verdict.alarm_gaps == 0, "announced as missing: {verdict}");
        let seconds = self.started.elapsed().as_secs();
        report::line(&format!("{what}, {seconds} s: {verdict}"));
        self.stack.pass()?;
        Ok(verdict)
    }
}

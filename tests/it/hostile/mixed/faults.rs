//! The faults of the mixed test: each breaks one part of the system for a few seconds, and waits until it works again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::eventually::eventually;
use tests::http;
use tests::neighbour::Neighbour;
use tests::seed::Seed;
use tests::server::Server;
use tests::stack::Stack;
use tokio::time::sleep;

use super::super::watchers::cut_subscriber;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    IngestKilled,
    IngestPaused,
    GatewayKilled,
    GatewayPaused,
    RedisKilled,
    RedisCut,
    RedisSilent,
    RedisHalfOpen,
    RedisSlow,
    BrokerRestarted,
    BrokerCut,
    BrokerSilent,
    SubscribersLost,
    ClientsLost,
}

const ALL: [Fault; 14] = [
    Fault::IngestKilled,
    Fault::IngestPaused,
    Fault::GatewayKilled,
    Fault::GatewayPaused,
    Fault::RedisKilled,
    Fault::RedisCut,
    Fault::RedisSilent,
    Fault::RedisHalfOpen,
    Fault::RedisSlow,
    Fault::BrokerRestarted,
    Fault::BrokerCut,
    Fault::BrokerSilent,
    Fault::SubscribersLost,
    Fault::ClientsLost,
];

/// How long a part stays broken.
const OUTAGE: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(4);

impl Fault {
    pub(super) fn random(seed: &mut Seed) -> Self {
        ALL[seed.below(ALL.len())]
    }

    /// Whether it ends a process, which is started again.
    pub(super) fn is_restart(self) -> bool {
        use Fault as F;
        [
            F::IngestKilled,
            F::GatewayKilled,
            F::RedisKilled,
            F::BrokerRestarted,
        ]
        .contains(&self)
    }

    /// Breaks the part, heals it, and waits until everything works.
    pub(super) async fn strike(
        self,
        stack: &mut Stack,
        neighbour: &Neighbour,
        seed: &mut Seed,
    ) -> Result<()> {
        let outage = seed.duration(OUTAGE);
        let gateway = seed.below(stack.gateways.len());
        neighbour.breaks_now();
        match self {
            Self::IngestKilled => kill(&mut stack.ingests[0], outage).await?,
            Self::GatewayKilled => kill(&mut stack.gateways[gateway], outage).await?,
            Self::RedisKilled => kill(&mut stack.redis, outage).await?,
            Self::IngestPaused => pause(&mut stack.ingests[0], outage).await?,
            Self::GatewayPaused => pause(&mut stack.gateways[gateway], outage).await?,
            Self::BrokerRestarted => {
                // It saves its sessions when it is stopped.
                stack.broker.process.terminate().await?;
                sleep(outage).await;
                stack.broker.process.restart()?;
                stack.broker.listens().await?;
            }
            Self::SubscribersLost => cut_subscriber(stack).await?,
            Self::ClientsLost => {
                for proxy in &neighbour.proxies {
                    proxy.reset();
                }
            }
            Self::RedisCut => stack.redis_proxy.cut(),
            Self::RedisSilent => stack.redis_proxy.black_hole(),
            Self::RedisHalfOpen => stack.redis_proxy.half_open(),
            Self::RedisSlow => stack.redis_proxy.delay(Duration::from_millis(50)),
            Self::BrokerCut => stack.broker_proxy.cut(),
            Self::BrokerSilent => stack.broker_proxy.black_hole(),
        }
        if self.is_of_network() {
            sleep(outage).await;
            stack.redis_proxy.delay(Duration::ZERO);
            stack.redis_proxy.heal();
            stack.broker_proxy.heal();
        }
        works_again(stack).await?;
        neighbour.is_whole_again();
        Ok(())
    }

    fn is_of_network(self) -> bool {
        use Fault as F;
        let redis = [F::RedisCut, F::RedisSilent, F::RedisHalfOpen, F::RedisSlow];
        redis.contains(&self) || [F::BrokerCut, F::BrokerSilent].contains(&self)
    }
}

async fn kill(server: &mut Server, outage: Duration) -> Result<()> {
    server.process.kill().await?;
    sleep(outage).await;
    server.process.restart()?;
    server.listens().await
}

async fn pause(server: &mut Server, outage: Duration) -> Result<()> {
    server.process.pause()?;
    sleep(outage).await;
    server.process.resume()
}

/// Waits until every service says that all parts work, and every gateway answers a request.
async fn works_again(stack: &Stack) -> Result<()> {
    for service in stack.ingests.iter().chain(&stack.gateways) {
        let what = format!("{} works again", service.process.name());
        eventually(&what, async || {
            let status = service.get("/readyz").await?.expect(200)?;
            ensure!(status["status"] == "ok", "{status}");
            Ok(())
        })
        .await?;
    }
    for gateway in &stack.gateways {
        eventually("a gateway answers", async || {
            let answer = http::send(gateway.port(), "GET", "/health", &[], b"").await?;
            answer.expect(200).map(drop).context("not healthy")
        })
        .await?;
    }
    Ok(())
}

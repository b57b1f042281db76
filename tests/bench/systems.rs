//! What is measured: ours, and what a user would take instead. Each is started with a Redis and a Mosquitto of its own.

pub(crate) mod floor;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::eventually::eventually;
use tests::ports::Port;
use tests::repository;
use tests::server::{self, Server};
use tests::server_process::ServerProcess;
use tests::stack::{Plan, Service, Stack, Target};

/// A kind of server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One frame for all, and one write per socket: [`floor`].
    Floor,
    /// Socket.IO on uWebSockets.js.
    UWebSockets,
    /// Socket.IO as it is installed.
    SocketIo,
    /// Two processes of Socket.IO with the Redis adapter between them.
    Scaled,
    /// Ingest and gateway, from this folder.
    Ours(PathBuf),
}

/// One of the servers that are compared.
#[derive(Clone, Debug)]
pub(crate) struct System {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

impl System {
    /// Ours from the folder of this program and from these, then what it is compared with.
    pub(crate) fn all(binaries: &[PathBuf]) -> Result<Vec<Self>> {
        let named = |kind, name: &str| Self {
            kind,
            name: name.to_owned(),
        };
        let own = repository::binary("ingest")?;
        let own = own.parent().context("a binary lies in a folder")?;
        let mut all = vec![
            named(Kind::Floor, FLOOR),
            named(Kind::UWebSockets, U_WEB_SOCKETS),
            named(Kind::SocketIo, SOCKET_IO),
            named(Kind::Scaled, SCALED),
            named(Kind::Ours(own.to_owned()), OURS),
        ];
        for folder in binaries {
            ensure!(
                folder.join("ingest").is_file() && folder.join("gateway").is_file(),
                "no `ingest` and `gateway` in `{}`",
                folder.display()
            );
            let folder = folder.canonicalize()?;
            let name = folder.file_name().context("a folder with a name")?;
            let name = name.to_string_lossy().into_owned();
            all.push(named(Kind::Ours(folder), &name));
        }
        Ok(all)
    }

    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Ours(_))
    }
}

pub(crate) const FLOOR: &str = "floor";
pub(crate) const U_WEB_SOCKETS: &str = "Socket.IO on uWebSockets.js";
pub(crate) const SOCKET_IO: &str = "Socket.IO";
pub(crate) const OURS: &str = "ours";
pub(crate) const SCALED: &str = "Socket.IO, Redis adapter";

/// How a system is started. Ours has default settings except for addresses.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) gateways: usize,
    pub(crate) gateway_flags: Option<&'static str>,
    pub(crate) ingest_flags: Option<&'static str>,
    /// A broker in this process, instead of Mosquitto.
    pub(crate) broker: Option<u16>,
    /// The gateways serve the built dashboard.
    pub(crate) has_dashboard: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            gateways: 1,
            gateway_flags: None,
            ingest_flags: None,
            broker: None,
            has_dashboard: false,
        }
    }
}

/// What a process does in a system. One that reads MQTT and has clients is a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Ingest,
    Gateway,
    Redis,
}

/// A system that is started.
pub(crate) enum Running {
    Ours(Box<Stack>),
    Peer(Box<Peer>),
}

/// Processes that are not ours.
pub(crate) struct Peer {
    // Dropped in this order: the folder last.
    ingest: Option<Server>,
    gateways: Vec<Server>,
    redis: Option<Server>,
    broker: Server,
    folder: TempDir,
}

impl Running {
    pub(crate) async fn start(system: &System, setup: &Setup) -> Result<Self> {
        let running = match &system.kind {
            Kind::Ours(folder) => Self::Ours(Box::new(start_ours(folder, setup).await?)),
            _ => Self::Peer(Box::new(Peer::start(&system.kind, setup).await?)),
        };
        Ok(running)
    }

    pub(crate) fn broker_port(&self) -> u16 {
        match self {
            Self::Ours(stack) => stack.broker.port(),
            Self::Peer(peer) => peer.broker.port(),
        }
    }

    /// The ports to which clients connect.
    pub(crate) fn ports(&self) -> Vec<u16> {
        match self {
            Self::Ours(stack) => stack.gateways.iter().map(|server| server.port()).collect(),
            Self::Peer(peer) => peer.gateways.iter().map(Server::port).collect(),
        }
    }

    /// The processor time that the processes of a role have used.
    pub(crate) fn cpu_time(&self, role: Role) -> Result<Duration> {
        let processes = self.processes(role).into_iter();
        processes.map(ServerProcess::cpu_time).sum()
    }

    /// The resident memory of the processes of a role.
    pub(crate) fn resident_kib(&self, role: Role) -> Result<u64> {
        let processes = self.processes(role).into_iter();
        processes.map(ServerProcess::resident_kib).sum()
    }

    fn processes(&self, role: Role) -> Vec<&ServerProcess> {
        fn of<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Vec<&'a ServerProcess> {
            servers.into_iter().map(|server| &server.process).collect()
        }
        match (self, role) {
            (Self::Ours(stack), Role::Ingest) => of(stack.ingests.iter().map(|one| &**one)),
            (Self::Ours(stack), Role::Gateway) => of(stack.gateways.iter().map(|one| &**one)),
            (Self::Ours(stack), Role::Redis) => of([&stack.redis]),
            (Self::Peer(peer), Role::Ingest) => of(&peer.ingest),
            (Self::Peer(peer), Role::Gateway) => of(&peer.gateways),
            (Self::Peer(peer), Role::Redis) => of(&peer.redis),
        }
    }

    /// Waits until this many messages are processed. Others than ours do not count them: a second is enough for them.
    pub(crate) async fn processed(&self, messages: u64) -> Result<()> {
        let Self::Ours(stack) = self else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Ok(());
        };
        eventually("every message is committed", async || {
            let committed = self.committed(&stack.ingests).await?;
            ensure!(committed >= messages, "{committed} of {messages}");
            Ok(())
        })
        .await
    }

    async fn committed(&self, ingests: &[Service]) -> Result<u64> {
        let mut sum = 0;
        for ingest in ingests {
            let text = ingest.metric("ingest_messages_committed_total").await?;
            sum += text.to_string().parse::<u64>()?;
        }
        Ok(sum)
    }

    /// Ends it. Fails if a process ended before.
    pub(crate) fn stop(self) -> Result<()> {
        match self {
            Self::Ours(stack) => stack.pass(),
            Self::Peer(peer) => peer.stop(),
        }
    }
}

/// All load comes from one address.
const NO_LIMITS: &str = "--max-connections-per-address=0 --max-tcp-connections-per-address=0 --handshake-rate=0 \
                         --handshake-rate-per-address=0 --request-rate=0";

async fn start_ours(folder: &Path, setup: &Setup) -> Result<Stack> {
    let mut plan = Plan::default()
        .gateways(setup.gateways)
        .without_proxy(Target::Broker)
        .without_proxy(Target::Redis)
        .gateway_flags(NO_LIMITS)
        .replica_from("ingest-0", folder);
    for gateway in 0..setup.gateways {
        plan = plan.replica_from(&format!("gateway-{gateway}"), folder);
    }
    if let Some(flags) = setup.gateway_flags {
        plan = plan.gateway_flags(flags);
    }
    if setup.has_dashboard {
        let folder = repository::dashboard()?;
        plan = plan.gateway_flags(&format!("--dashboard-dir={}", folder.display()));
    }
    if let Some(flags) = setup.ingest_flags {
        plan = plan.ingest_flags(flags);
    }
    if let Some(port) = setup.broker {
        plan = plan.other_broker(port);
    }
    let stack = plan.start().await?;
    // A gateway is ready before it knows of any ingest, but then it tells its clients.
    for gateway in &stack.gateways {
        eventually("the gateway knows of ingest", async || {
            let status = gateway.get("/readyz").await?.expect(200)?;
            ensure!(status["status"] == "ok", "{status}");
            Ok(())
        })
        .await?;
    }
    Ok(stack)
}

impl Peer {
    async fn start(kind: &Kind, setup: &Setup) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder")?;
        let broker = server::mosquitto(folder.path(), &[])?;
        broker.listens().await?;
        let mut peer = Self {
            ingest: None,
            gateways: Vec::new(),
            redis: None,
            broker,
            folder,
        };
        match kind {
            Kind::Floor => {
                let port = Port::reserve()?;
                let program = std::env::current_exe().context("this program")?;
                let arguments = [
                    format!("--floor={}", port.number()),
                    format!("--broker={}", peer.broker.port()),
                ];
                let process =
                    ServerProcess::start("floor", &program, arguments, peer.folder.path())?;
                peer.gateways.push(Server::new(process, port));
            }
            Kind::UWebSockets => peer.gateways.push(peer.node("uws", 0)?),
            Kind::SocketIo => peer.gateways.push(peer.node("plain", 0)?),
            Kind::Scaled => {
                let redis = server::redis(peer.folder.path(), &[])?;
                redis.listens().await?;
                peer.redis = Some(redis);
                peer.ingest = Some(peer.node("scaled-ingest", 0)?);
                for number in 0..setup.gateways {
                    peer.gateways.push(peer.node("scaled-gateway", number)?);
                }
            }
            Kind::Ours(_) => anyhow::bail!("ours is not a peer"),
        }
        for server in peer.gateways.iter().chain(&peer.ingest) {
            server.listens().await?;
        }
        Ok(peer)
    }

    fn node(&self, kind: &str, number: usize) -> Result<Server> {
        let script = repository::root().join("tests/bench/peers/server.mjs");
        ensure!(
            script.with_file_name("node_modules").is_dir(),
            "the peers are not installed: run `tests/bench/run`"
        );
        let port = Port::reserve()?;
        let redis = self.redis.as_ref().map_or(0, Server::port);
        let arguments = [
            script.to_string_lossy().into_owned(),
            kind.to_owned(),
            port.number().to_string(),
            self.broker.port().to_string(),
            redis.to_string(),
        ];
        let process = ServerProcess::start(
            &format!("{kind}-{number}"),
            Path::new("node"),
            arguments,
            self.folder.path(),
        )?;
        Ok(Server::new(process, port))
    }

    fn stop(mut self) -> Result<()> {
        let servers = self.gateways.iter_mut().chain(&mut self.ingest);
        for server in servers.chain(&mut self.redis).chain([&mut self.broker]) {
            let alive = server.process.check_alive();
            alive.with_context(|| server.process.output())?;
        }
        Ok(())
    }
}

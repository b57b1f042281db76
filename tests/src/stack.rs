//! The system of one test: its own Redis and Mosquitto, and the real binaries of both services.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tempfile::TempDir;

use crate::browser::{Browser, Transport};
use crate::device::{Device, Publisher};
use crate::eventually::{LATE, eventually};
use crate::excerpt::excerpt;
use crate::http::{self, Response};
use crate::ports::Port;
use crate::repository;
use crate::server::{self, PASSWORD, Server};
use crate::server_process::ServerProcess;
use crate::tcp_proxy::TcpProxy;

/// The name of the servers in their certificates.
pub(crate) const HOST: &str = "localhost";

/// A server that the services reach through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The MQTT broker.
    Broker,
    /// Redis.
    Redis,
}

/// The processes that a test starts. The default is one ingest and one gateway.
#[derive(Debug)]
pub struct Plan {
    ingests: usize,
    gateways: usize,
    share_group: bool,
    ingest_flags: Vec<String>,
    gateway_flags: Vec<String>,
    variables: Vec<(String, String)>,
    redis_flags: Vec<String>,
    broker_lines: Vec<String>,
    redis_contents: Option<PathBuf>,
    operator_port: bool,
    without_proxy: Vec<Target>,
    other_broker: Option<u16>,
    /// The ports of Redis and of the broker for TLS.
    tls_ports: Option<(u16, u16)>,
    /// Binaries that replace the built ones, by the name of the replica.
    other_binaries: HashMap<String, PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            ingests: 1,
            gateways: 1,
            share_group: false,
            ingest_flags: Vec::new(),
            gateway_flags: Vec::new(),
            variables: Vec::new(),
            redis_flags: Vec::new(),
            broker_lines: Vec::new(),
            redis_contents: None,
            operator_port: false,
            without_proxy: Vec::new(),
            other_broker: None,
            tls_ports: None,
            other_binaries: HashMap::new(),
        }
    }
}

impl Plan {
    /// Starts `count` replicas of ingest. Several replicas form a share group.
    #[must_use]
    pub fn ingests(mut self, count: usize) -> Self {
        self.ingests = count;
        self.share_group = count > 1;
        self
    }

    /// Lets every replica of ingest receive every message.
    #[must_use]
    pub fn without_share_group(mut self) -> Self {
        self.share_group = false;
        self
    }

    /// Starts `count` replicas of the gateway.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// Adds flags, separated by spaces, for every replica of ingest.
    #[must_use]
    pub fn ingest_flags(mut self, flags: &str) -> Self {
        self.ingest_flags
            .extend(flags.split(' ').map(str::to_owned));
        self
    }

    /// Makes every raise an alarm of its own, which ends as soon as the value is back. For tests whose point is many alarm
    /// changes: by the default rules, an alarm of A2 or A3 stays open until somebody acknowledges it, and one that is raised
    /// again and again is soon a single alarm, which chatters and stays open for ten minutes.
    #[must_use]
    pub fn every_raise_is_an_alarm(self) -> Self {
        self.every_raise_is_an_alarm_up_to_the_rate()
            .ingest_flags("--device-rate=0")
    }

    /// As [`Self::every_raise_is_an_alarm`], with the default rate per device, above which a device is babbling.
    #[must_use]
    pub fn every_raise_is_an_alarm_up_to_the_rate(self) -> Self {
        self.ingest_flags("--returned-levels=none --chatter-calm=0s --log-burst=0")
    }

    /// Adds flags, separated by spaces, for every replica of the gateway.
    #[must_use]
    pub fn gateway_flags(mut self, flags: &str) -> Self {
        self.gateway_flags
            .extend(flags.split(' ').map(str::to_owned));
        self
    }

    /// Sets an environment variable of every service.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds command-line flags for Redis, which override `deploy/redis.conf`.
    #[must_use]
    pub fn redis_flags(mut self, flags: &str) -> Self {
        self.redis_flags.extend(flags.split(' ').map(str::to_owned));
        self
    }

    /// Adds a setting of the broker, which overrides `deploy/mosquitto.conf`.
    #[must_use]
    pub fn broker_line(mut self, line: &str) -> Self {
        self.broker_lines.push(line.to_owned());
        self
    }

    /// Starts Redis with the contents of this append-only file.
    #[must_use]
    pub fn redis_contents(mut self, append_only_file: PathBuf) -> Self {
        self.redis_contents = Some(append_only_file);
        self
    }

    /// Gives every gateway a port for operators, which has the probes and retires detectors.
    #[must_use]
    pub fn operator_port(mut self) -> Self {
        self.operator_port = true;
        self
    }

    /// Connects the services to this server itself. For measurements, in which a proxy would cost time.
    #[must_use]
    pub fn without_proxy(mut self, target: Target) -> Self {
        self.without_proxy.push(target);
        self
    }

    /// Connects ingest to the broker on this port, which the caller runs.
    #[must_use]
    pub fn other_broker(mut self, port: u16) -> Self {
        self.other_broker = Some(port);
        self
    }

    /// Connects the services to these ports of Redis and the broker over TLS, without a proxy.
    #[must_use]
    pub(crate) fn over_tls(mut self, redis: u16, broker: u16) -> Self {
        self.tls_ports = Some((redis, broker));
        self
    }

    /// Runs one replica, such as `ingest-0`, from the binary in another folder.
    #[must_use]
    pub fn replica_from(mut self, replica: &str, folder: &Path) -> Self {
        let program = replica.split('-').next().unwrap_or(replica);
        self.other_binaries
            .insert(replica.to_owned(), folder.join(program));
        self
    }

    /// Starts everything and waits until it is ready.
    pub async fn start(self) -> Result<Stack> {
        Stack::from_plan(self).await
    }
}

/// A running replica of ingest or the gateway.
#[derive(Debug)]
pub struct Service {
    server: Server,
    operator_port: Option<Port>,
}

impl Deref for Service {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Service {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

impl Service {
    /// Returns the port that has the probes.
    pub fn operator_port(&self) -> u16 {
        let own = self.operator_port.as_ref().map(Port::number);
        own.unwrap_or_else(|| self.port())
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Result<Response> {
        let is_probe = ["/livez", "/readyz", "/metrics"].contains(&path);
        let port = if is_probe {
            self.operator_port()
        } else {
            self.port()
        };
        http::send(port, "GET", path, &[], b"").await
    }

    /// Asks this gateway to retire a device.
    pub async fn retire(&self, serial: &str, body: &str) -> Result<Response> {
        let path = format!("/api/devices/{serial}");
        let headers = [("content-type", "application/json")];
        let port = self.operator_port();
        http::send(port, "DELETE", &path, &headers, body.as_bytes()).await
    }

    /// Sums the values in `/metrics` whose lines begin with this text, such as a name with or without labels.
    pub async fn metric(&self, line_start: &str) -> Result<f64> {
        let text = self.get("/metrics").await?;
        let text = String::from_utf8(text.body.to_vec())?;
        let values = text.lines().filter(|line| line.starts_with(line_start));
        let values = values.filter_map(|line| line.rsplit(' ').next());
        values.map(|value| Ok(value.parse::<f64>()?)).sum()
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&mut self) -> Result<()> {
        let what = format!("{} is ready", self.process.name());
        let port = self.operator_port();
        eventually(&what, async || {
            let answer = http::send(port, "GET", "/readyz", &[], b"").await;
            // If the process has exited, waiting is useless: the check below fails.
            if self.server.process.check_alive().is_err() {
                return Ok(());
            }
            let answer = answer?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await?;
        self.process.check_alive()
    }
}

/// The running system of one test. Dropping it stops everything.
#[derive(Debug)]
pub struct Stack {
    // Fields are dropped in this order: the services before the servers they use, the folder last.
    pub ingests: Vec<Service>,
    pub gateways: Vec<Service>,
    publisher: Arc<Publisher>,
    /// The proxy between the services and Redis.
    pub redis_proxy: TcpProxy,
    /// The proxy between ingest and the broker.
    pub broker_proxy: TcpProxy,
    pub redis: Server,
    pub broker: Server,
    passed: bool,
    redis_users: PathBuf,
    folder: TempDir,
}

impl Stack {
    /// Starts one ingest and one gateway.
    pub async fn start() -> Result<Self> {
        Plan::default().start().await
    }

    async fn from_plan(plan: Plan) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("subtronics-")
            .tempdir()
            .context("a folder for the test")?;
        if let Some(append_only_file) = &plan.redis_contents {
            server::prepare_redis(folder.path(), append_only_file)?;
        }
        let users = server::redis_users(folder.path())?;
        let mut redis_flags = vec!["--aclfile".to_owned(), users.display().to_string()];
        redis_flags.extend(plan.redis_flags.iter().cloned());
        let redis = server::redis(folder.path(), &redis_flags)?;
        let broker = server::mosquitto(folder.path(), &plan.broker_lines)?;
        redis.listens().await?;
        broker.listens().await?;
        let mut stack = Self {
            ingests: Vec::new(),
            gateways: Vec::new(),
            publisher: Arc::new(Publisher::connect(broker.port())),
            redis_proxy: TcpProxy::start(redis.port()).await?,
            broker_proxy: TcpProxy::start(broker.port()).await?,
            redis,
            broker,
            passed: false,
            redis_users: users,
            folder,
        };
        for index in 0..plan.ingests {
            let service = stack.start_ingest(&plan, index)?;
            stack.ingests.push(service);
        }
        for index in 0..plan.gateways {
            let service = stack.start_gateway(&plan, index)?;
            stack.gateways.push(service);
        }
        for service in stack.ingests.iter_mut().chain(&mut stack.gateways) {
            service.ready().await?;
        }
        Ok(stack)
    }

    fn start_ingest(&self, plan: &Plan, index: usize) -> Result<Service> {
        let port = Port::reserve()?;
        let broker_port = match plan.other_broker {
            Some(port) => port,
            None if plan.without_proxy.contains(&Target::Broker) => self.broker.port(),
            None => self.broker_proxy.port(),
        };
        let broker = match plan.tls_ports {
            Some((_, port)) => format!("mqtts://{HOST}:{port}"),
            None => format!("mqtt://127.0.0.1:{broker_port}"),
        };
        let mut flags = vec![
            format!("--mqtt-broker={broker}"),
            self.redis_flag(plan, "ingest", index),
            format!("--http-port={}", port.number()),
            format!("--mqtt-client-id=ingest-{index}"),
            "--listen-address=127.0.0.1".to_owned(),
        ];
        if plan.share_group {
            flags.push("--mqtt-share-group=tests".to_owned());
        }
        flags.extend(plan.ingest_flags.iter().cloned());
        self.start_service("ingest", index, flags, plan, port, None)
    }

    fn start_gateway(&self, plan: &Plan, index: usize) -> Result<Service> {
        let port = Port::reserve()?;
        let mut flags = vec![
            self.redis_flag(plan, "gateway", index),
            format!("--http-port={}", port.number()),
            "--listen-address=127.0.0.1".to_owned(),
        ];
        let is_anonymity = |flag: &String| flag.starts_with("--allow-anonymous");
        if !plan.gateway_flags.iter().any(is_anonymity) {
            flags.push("--allow-anonymous".to_owned());
        }
        let is_drain = |flag: &String| flag.starts_with("--drain-period");
        if !plan.gateway_flags.iter().any(is_drain) {
            flags.push("--drain-period=200ms".to_owned());
        }
        let operator_port = plan.operator_port.then(Port::reserve).transpose()?;
        if let Some(port) = &operator_port {
            flags.push(format!("--ops-port={}", port.number()));
        }
        flags.extend(plan.gateway_flags.iter().cloned());
        self.start_service("gateway", index, flags, plan, port, operator_port)
    }

    /// Returns the flag with which a replica reaches Redis, as the user of its service in `deploy/redis-users.acl`. Only our own
    /// connections have all rights.
    fn redis_flag(&self, plan: &Plan, program: &str, index: usize) -> String {
        let port = if plan.without_proxy.contains(&Target::Redis) {
            self.redis.port()
        } else {
            self.redis_proxy.port()
        };
        // Other releases need other rights.
        let name = format!("{program}-{index}");
        let user = if plan.other_binaries.contains_key(&name) {
            String::new()
        } else {
            format!("{program}:{PASSWORD}@")
        };
        match plan.tls_ports {
            Some((port, _)) => format!("--redis-url=rediss://{user}{HOST}:{port}"),
            None => format!("--redis-url=redis://{user}127.0.0.1:{port}"),
        }
    }

    fn start_service(
        &self,
        program: &str,
        index: usize,
        flags: Vec<String>,
        plan: &Plan,
        port: Port,
        operator_port: Option<Port>,
    ) -> Result<Service> {
        let name = format!("{program}-{index}");
        let path = match plan.other_binaries.get(&name) {
            Some(path) => path.clone(),
            None => repository::binary(program)?,
        };
        let process =
            ServerProcess::start_with(&name, &path, flags, &plan.variables, self.folder.path())?;
        let server = Server::new(process, port);
        Ok(Service {
            server,
            operator_port,
        })
    }

    /// Creates a detector with this serial.
    pub fn device(&self, serial: &str) -> Device {
        Device::new(serial, Arc::clone(&self.publisher))
    }

    /// Returns the folder in which Redis and the broker store their data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the file with the users of the services, for another Redis that takes the place of the first one.
    pub fn redis_users(&self) -> &Path {
        &self.redis_users
    }

    /// Returns the MQTT connection that all detectors of this test share.
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// Connects a browser to the first gateway.
    pub async fn browser(&self) -> Result<Browser> {
        Browser::connect(self.gateways[0].port(), Transport::WebSocket).await
    }

    /// Asks the first gateway to retire a device.
    pub async fn retire(&self, serial: &str, body: &str) -> Result<Response> {
        self.gateways[0].retire(serial, body).await
    }

    /// Sends a GET request to the first gateway.
    pub async fn get(&self, path: &str) -> Result<Response> {
        self.gateways[0].get(path).await
    }

    /// Reads the latest reading of a device, from the REST API.
    pub async fn latest(&self, device: &str) -> Result<Value> {
        let path = format!("/devices/{device}/subtronics/telemetry/latest");
        self.get(&path).await?.expect(200)
    }

    /// Reads the alerts of a device, from the REST API.
    pub async fn alerts(&self, device: &str) -> Result<Vec<Value>> {
        let path = format!("/devices/{device}/subtronics/alerts");
        let alerts = self.get(&path).await?.expect(200)?;
        alerts
            .as_array()
            .cloned()
            .context("the alerts are not an array")
    }

    /// Waits until the latest reading of a device satisfies `is_expected`, and returns the reading. `what` describes it.
    pub async fn latest_with(
        &self,
        device: &str,
        what: &str,
        is_expected: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        eventually(&format!("{device} shows {what}"), async || {
            let latest = self.latest(device).await?;
            ensure!(is_expected(&latest), "it shows {latest}");
            Ok(latest)
        })
        .await
    }

    /// Waits until the latest reading of a device has this value.
    pub async fn shows(&self, device: &str, value: impl Into<Value>) -> Result<Value> {
        let value = value.into();
        self.latest_with(device, &value.to_string(), |latest| {
            latest["sensor_reading"] == value
        })
        .await
    }

    /// Acknowledges an alarm at the first gateway.
    pub async fn acknowledge(&self, device: &str, alarm: &str, body: &str) -> Result<Response> {
        let path = format!("/devices/{device}/subtronics/alerts/{alarm}/acknowledge");
        let headers = [("content-type", "application/json")];
        http::send(
            self.gateways[0].port(),
            "POST",
            &path,
            &headers,
            body.as_bytes(),
        )
        .await
    }

    /// Opens a connection to Redis that bypasses the proxy.
    #[expect(
        clippy::disallowed_methods,
        reason = "tests read and change Redis directly, not through the store of the services"
    )]
    pub async fn redis_connection(&self) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.redis.port()))?;
        // By default the library waits half a second for an answer, and a busy machine may need more.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LATE))
            .set_response_timeout(Some(LATE));
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .context("connecting to the test's Redis")
    }

    /// Must be called at the end of a test. Fails if a process has exited unexpectedly. Unless this succeeds, dropping the
    /// stack prints the output of all processes.
    pub fn pass(mut self) -> Result<()> {
        for service in self.ingests.iter_mut().chain(&mut self.gateways) {
            service.process.check_alive()?;
        }
        self.redis.process.check_alive()?;
        self.broker.process.check_alive()?;
        self.passed = true;
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if !self.passed {
            let services = self.ingests.iter().chain(&self.gateways);
            let servers = services.map(|service| &service.server);
            for server in servers.chain([&self.redis, &self.broker]) {
                print_output(&server.process);
            }
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the output of a failing test, which the test runner captures"
)]
fn print_output(process: &ServerProcess) {
    eprintln!("--- {}", process.name());
    for line in excerpt(&process.output()) {
        eprintln!("{line}");
    }
}

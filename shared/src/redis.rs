//! The link to Redis: configuration, one checked connection, and what is done whenever a new one is made.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::error_chain::error_chain;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo};
use tokio::sync::Mutex;

use crate::clock::{Clock, SystemClock, Time};
use crate::keys::{self, PartitionKeys};
use crate::position::Epoch;

/// Oldest Redis that has what the scripts use.
const MIN_VERSION: (u32, u32) = (7, 0);

/// Shorter than any Redis answers over a network: nothing but connecting again and again would come of it.
const SHORTEST: Duration = Duration::from_millis(100);

fn not_too_short(text: &str) -> Result<Duration, String> {
    let time = crate::args::duration(text)?;
    if time < SHORTEST {
        return Err("must be at least 100ms".to_owned());
    }
    Ok(time)
}

fn never_or_not_too_short(text: &str) -> Result<Duration, String> {
    match crate::args::duration(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => not_too_short(text),
    }
}

/// How to reach Redis.
#[derive(Clone, Debug, clap::Args)]
pub struct RedisConfig {
    /// Redis server, e.g. `redis://127.0.0.1:6379` or `rediss://user:password@host:6379/0` for TLS.
    #[arg(long, env = "REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: RedisUrl,

    /// How long one answer of Redis may take before the connection counts as lost; at least 100ms
    #[arg(long, env = "REDIS_TIMEOUT", value_name = "DURATION", default_value = "2s", value_parser = not_too_short)]
    pub redis_timeout: Duration,

    /// How often a fresh connection and a canary check that the standing connections lead to the server that is at this
    /// address now, and that what is published arrives; at least 100ms, or 0s: never
    #[arg(long, env = "REDIS_WATCH", value_name = "DURATION", default_value = "1s", value_parser = never_or_not_too_short)]
    pub redis_watch: Duration,

    /// Number of partitions. Recorded in Redis at the first start; another number is refused from then on.
    #[arg(long, env = "PARTITIONS", value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub partitions: u16,
}

/// A `redis://` or `rediss://` URL; its user part is never printed.
#[derive(Clone)]
pub struct RedisUrl {
    client: Client,
    shown: String,
}

impl FromStr for RedisUrl {
    type Err = String;

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that makes clients"
    )]
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = url::Url::parse(text).map_err(|err| format!("not a URL: {err}"))?;
        if !matches!(url.scheme(), "redis" | "rediss") {
            return Err("the scheme must be redis:// or rediss://".to_owned());
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the URL names no host".to_owned());
        }
        let info = text.into_connection_info().map_err(|err| err.to_string())?;
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_user_timeout(Duration::from_secs(20));
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let client = Client::open(info).map_err(|err| err.to_string())?;
        let port = url.port().unwrap_or(6379);
        let database = client.get_connection_info().redis_settings().db();
        let database = Some(database).filter(|number| *number != 0);
        let shown = format!(
            "{}://{}:{port}{}",
            url.scheme(),
            url.host_str().unwrap_or_default(),
            database.map_or_else(String::new, |number| format!("/{number}"))
        );
        Ok(Self { client, shown })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Redis cannot be reached, did not answer in time, or is loading: try again.
    #[error("redis is away")]
    Away(#[source] redis::RedisError),
    /// This server cannot be used: an operator must act.
    #[error("redis cannot be used: {0}")]
    Unusable(String),
}

/// The scripts, loaded on every new connection.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    pub(crate) load: String,
    pub(crate) snapshot: String,
    pub(crate) commit: String,
    pub(crate) retire: String,
    pub(crate) epoch: String,
    pub(crate) heartbeat: String,
    pub(crate) canary: String,
}

macro_rules! script {
    ($flags:literal, $name:literal) => {
        concat!(
            "#!lua",
            $flags,
            "\n",
            include_str!(concat!("store/", $name))
        )
    };
    ($flags:literal, state, $name:literal) => {
        concat!(
            "#!lua",
            $flags,
            "\n",
            include_str!("store/state.lua"),
            include_str!(concat!("store/", $name))
        )
    };
}

const LOAD: &str = script!(" flags=no-writes", state, "load.lua");
const SNAPSHOT: &str = script!(" flags=no-writes", state, "snapshot.lua");
const COMMIT: &str = script!("", state, "commit.lua");
const RETIRE: &str = script!("", state, "retire.lua");
const EPOCH: &str = script!("", "epoch.lua");
const HEARTBEAT: &str = script!("", "heartbeat.lua");
const CANARY: &str = script!("", "canary.lua");

/// A connection that was checked, with the scripts it knows.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) redis: MultiplexedConnection,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) run_id: Arc<str>,
    generation: u64,
}

/// A connection for subscriptions, and the run of the server it leads to.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// The connection.
    pub connection: MultiplexedConnection,
    /// `run_id` of its server.
    pub run_id: Arc<str>,
}

/// One connection at a time, made anew and checked anew whenever the last one failed.
#[derive(Debug)]
pub struct Link {
    config: RedisConfig,
    clock: Arc<SystemClock>,
    current: RwLock<Option<Connection>>,
    /// Held while connecting: the others wait for the outcome instead of connecting too.
    connecting: Mutex<u64>,
    /// Connections made so far.
    made: AtomicU64,
}

impl Link {
    pub(crate) fn new(config: RedisConfig, clock: Arc<SystemClock>) -> Self {
        if config.redis_url.shown.starts_with("rediss:") {
            // TLS without a provider panics. An error says that the process has one already.
            rustls::crypto::ring::default_provider()
                .install_default()
                .ok();
        }
        Self {
            config,
            clock,
            current: RwLock::new(None),
            connecting: Mutex::new(0),
            made: AtomicU64::new(0),
        }
    }

    pub(crate) fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// The corrected clock's present moment.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(crate) fn clock(&self) -> &Arc<SystemClock> {
        &self.clock
    }

    /// The present connection, or a new one that was checked.
    pub(crate) async fn connection(&self) -> Result<Connection, LinkError> {
        if let Some(connection) = self.present() {
            return Ok(connection);
        }
        let mut generation = self.connecting.lock().await;
        if let Some(connection) = self.present() {
            return Ok(connection);
        }
        *generation += 1;
        let connection = self.connect(*generation).await?;
        self.made.fetch_add(1, Ordering::Relaxed);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        Ok(connection)
    }

    /// Connections made so far.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Gives up a connection that failed.
    pub(crate) fn lost(&self, connection: &Connection) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_some_and(|c| c.generation == connection.generation)
        {
            *current = None;
        }
    }

    /// Gives up whatever connection there is, so that the next one is checked again.
    pub(crate) fn renew(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A connection of its own for subscriptions: commands on it have no response timeout of the crate.
    pub(crate) async fn subscriber(
        &self,
        pushes: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Subscriber, LinkError> {
        // What the crate does with an error of the sender is to drop the push: ours never fails.
        let sender = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
            pushes(push);
            Ok(())
        };
        let config = self.connection_config().set_push_sender(sender);
        let mut connection = self.open(config).await?;
        let server = ask_server(&mut connection).await?;
        server.check_role()?;
        Ok(Subscriber {
            connection,
            run_id: server.run_id.into(),
        })
    }

    /// A connection for reading, which leaves the server as it is: no partitions recorded, no epochs opened.
    pub(crate) async fn reader(&self) -> Result<MultiplexedConnection, LinkError> {
        let mut connection = self.open(self.connection_config()).await?;
        ask_server(&mut connection).await?;
        Ok(connection)
    }

    /// Asks on a fresh connection which server now is at the configured address. Where it is another one than that of the
    /// standing connection (a failover, a name that leads elsewhere), that one is given up.
    pub(crate) async fn identify_server(&self) -> Result<Arc<str>, LinkError> {
        let mut fresh = self.open(self.connection_config()).await?;
        let server = ask_server(&mut fresh).await?;
        let standing = self.present().map(|connection| connection.run_id);
        // A replica there is on its way to become the master: what is still committed elsewhere is lost with the old one.
        let is_other = |run_id: Arc<str>| *run_id != *server.run_id || server.is_replica;
        if standing.is_some_and(is_other) {
            tracing::warn!("another Redis answers at our address: connecting anew");
            self.renew();
        }
        Ok(server.run_id.into())
    }

    fn present(&self) -> Option<Connection> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn connection_config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.redis_timeout))
            .set_response_timeout(Some(self.config.redis_timeout))
            .set_pipeline_buffer_size(1024)
    }

    async fn open(
        &self,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, LinkError> {
        let client = &self.config.redis_url.client;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        // The crate's own timeout covers the socket, not the handshake that follows it.
        match tokio::time::timeout(self.config.redis_timeout * 2, connecting).await {
            Ok(connection) => connection.map_err(LinkError::Away),
            Err(_) => Err(LinkError::Away(
                (redis::ErrorKind::Io, "no answer while connecting").into(),
            )),
        }
    }

    async fn connect(&self, generation: u64) -> Result<Connection, LinkError> {
        let mut redis = self.open(self.connection_config()).await?;
        let run_id = check_server(&mut redis, generation == 1).await?.run_id;
        self.measure_clock(&mut redis)
            .await
            .map_err(LinkError::Away)?;
        self.check_partitions(&mut redis).await?;
        let scripts = load_scripts(&mut redis).await.map_err(LinkError::Away)?;
        open_epochs(&mut redis, &scripts, self.config.partitions, &run_id)
            .await
            .map_err(LinkError::Away)?;
        tracing::info!(server = %self.config.redis_url, "connected to Redis");
        Ok(Connection {
            redis,
            scripts: Arc::new(scripts),
            run_id: run_id.into(),
            generation,
        })
    }

    /// Measures how far this machine's clock is from that of Redis.
    pub(crate) async fn measure_clock(
        &self,
        redis: &mut MultiplexedConnection,
    ) -> Result<(), redis::RedisError> {
        let asked = SystemClock::local();
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(redis).await?;
        let answered = SystemClock::local();
        let middle = Time::from_millis(i64::midpoint(asked.as_millis(), answered.as_millis()));
        let server = Time::from_millis(seconds * 1_000 + micros / 1_000);
        self.clock.adjust(server, middle);
        Ok(())
    }

    async fn check_partitions(&self, redis: &mut MultiplexedConnection) -> Result<(), LinkError> {
        let wanted = self.config.partitions;
        let mut pipe = redis::pipe();
        pipe.cmd("SET")
            .arg(keys::PARTITIONS)
            .arg(wanted)
            .arg("NX")
            .ignore();
        pipe.cmd("GET").arg(keys::PARTITIONS);
        let (recorded,): (u16,) = pipe.query_async(redis).await.map_err(LinkError::Away)?;
        self.same_partitions(recorded)
    }

    fn same_partitions(&self, recorded: u16) -> Result<(), LinkError> {
        let wanted = self.config.partitions;
        if recorded == wanted {
            return Ok(());
        }
        Err(LinkError::Unusable(format!(
            "its data has {recorded} partitions, --partitions is {wanted}"
        )))
    }
}

/// What stands at the configured address.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Version of the server.
    pub version: String,
    /// Partitions of the data; `None` where there is none yet.
    pub partitions: Option<u16>,
}

/// Looks whether a service could run with this, and writes nothing: a connection of a service records partitions and
/// opens epochs.
///
/// # Errors
/// As when a service starts.
pub async fn probe(config: RedisConfig) -> Result<Probe, LinkError> {
    let link = Link::new(config, Arc::default());
    let mut redis = link.open(link.connection_config()).await?;
    let server = check_server(&mut redis, true).await?;
    let recorded: Option<u16> = redis::cmd("GET")
        .arg(keys::PARTITIONS)
        .query_async(&mut redis)
        .await
        .map_err(LinkError::Away)?;
    if let Some(recorded) = recorded {
        link.same_partitions(recorded)?;
    }
    Ok(Probe {
        version: server.version,
        partitions: recorded,
    })
}

/// Checks version and settings.
async fn check_server(
    redis: &mut MultiplexedConnection,
    at_start: bool,
) -> Result<Server, LinkError> {
    let server = ask_server(redis).await?;
    server.check_role()?;
    let version = &server.version;
    let mut numbers = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < MIN_VERSION {
        return Err(LinkError::Unusable(format!(
            "version {version} is older than 7.0"
        )));
    }
    check_settings(redis, at_start).await?;
    check_channels(redis).await?;
    Ok(server)
}

/// Who answers.
struct Server {
    version: String,
    run_id: String,
    is_replica: bool,
}

impl Server {
    /// A replica is no server for us: what it shows is old, and it takes nothing.
    fn check_role(&self) -> Result<(), LinkError> {
        if self.is_replica {
            let replica = (redis::ErrorKind::Io, "a replica answers at this address");
            return Err(LinkError::Away(replica.into()));
        }
        Ok(())
    }
}

async fn ask_server(redis: &mut MultiplexedConnection) -> Result<Server, LinkError> {
    let info: String = redis::cmd("INFO")
        .query_async(redis)
        .await
        .map_err(LinkError::Away)?;
    let field = |name: &str| {
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    Ok(Server {
        is_replica: field("role") == "slave",
        version: field("redis_version"),
        run_id: field("run_id"),
    })
}

/// At the start a wrong eviction policy is refused; later a loud error is better than no alarms at all.
async fn check_settings(
    redis: &mut MultiplexedConnection,
    at_start: bool,
) -> Result<(), LinkError> {
    let mut setting = redis::cmd("CONFIG");
    setting.arg("GET").arg("maxmemory-policy").arg("appendonly");
    let answer: Result<std::collections::HashMap<String, String>, _> =
        setting.query_async(redis).await;
    let settings = match answer {
        Ok(settings) => settings,
        Err(err) if err.is_io_error() || err.is_timeout() => return Err(LinkError::Away(err)),
        Err(_) => {
            // Hosted servers forbid CONFIG: then nobody but the operator can know.
            tracing::warn!(
                "Redis does not tell its settings: eviction must be `noeviction`, `appendonly` on"
            );
            return Ok(());
        }
    };
    let policy = settings
        .get("maxmemory-policy")
        .map_or("noeviction", String::as_str);
    if policy != "noeviction" {
        let problem =
            format!("maxmemory-policy is `{policy}`: it would drop alarms, set it to `noeviction`");
        if at_start {
            return Err(LinkError::Unusable(problem));
        }
        tracing::error!("redis must not be used like this: {problem}");
    }
    if settings
        .get("appendonly")
        .is_some_and(|value| value == "no")
    {
        tracing::warn!(
            "Redis has no append-only file: a restart of Redis loses readings and alarms"
        );
    }
    Ok(())
}

/// A user without the right to publish would fail in the middle of a commit, with everything else written.
async fn check_channels(redis: &mut MultiplexedConnection) -> Result<(), LinkError> {
    let published = redis::cmd("SPUBLISH")
        .arg(keys::PROBE_CHANNEL)
        .arg("")
        .exec_async(redis)
        .await;
    match published {
        Err(err) if err.code() == Some("NOPERM") => Err(LinkError::Unusable(
            "its user may not publish: allow the channels `st:*`".to_owned(),
        )),
        Err(err) => Err(LinkError::Away(err)),
        Ok(()) => Ok(()),
    }
}

pub(crate) async fn load_scripts(redis: &mut MultiplexedConnection) -> redis::RedisResult<Scripts> {
    let mut pipe = redis::pipe();
    for text in [LOAD, SNAPSHOT, COMMIT, RETIRE, EPOCH, HEARTBEAT, CANARY] {
        pipe.cmd("SCRIPT").arg("LOAD").arg(text);
    }
    let (load, snapshot, commit, retire, epoch, heartbeat, canary) =
        pipe.query_async(redis).await?;
    Ok(Scripts {
        load,
        snapshot,
        commit,
        retire,
        epoch,
        heartbeat,
        canary,
    })
}

/// One partition whose hash cannot be used does not stop the others: its devices are refused one by one.
async fn open_epochs(
    redis: &mut MultiplexedConnection,
    scripts: &Scripts,
    partitions: u16,
    run_id: &str,
) -> redis::RedisResult<()> {
    let mut pipe = redis::pipe();
    pipe.ignore_errors();
    for number in 0..partitions {
        open_epoch(&mut pipe, scripts, number, run_id, None);
    }
    let answers: Vec<redis::RedisResult<redis::Value>> = pipe.query_async(redis).await?;
    for (number, answer) in answers.into_iter().enumerate() {
        if let Err(err) = answer {
            let error = error_chain(&err);
            tracing::error!(error, partition = number, "partition cannot be used");
        }
    }
    Ok(())
}

pub(crate) fn open_epoch(
    pipe: &mut redis::Pipeline,
    scripts: &Scripts,
    partition: u16,
    run_id: &str,
    given_up: Option<Epoch>,
) {
    pipe.cmd("EVALSHA")
        .arg(&scripts.epoch)
        .arg(1)
        .arg(PartitionKeys::new(partition).partition())
        .arg(run_id)
        .arg(Epoch::from_bits(fastrand::u64(..)).to_string())
        .arg(given_up.map_or_else(String::new, |epoch| epoch.to_string()));
}

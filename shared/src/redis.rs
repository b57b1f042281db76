//! Connections to Redis.
//!
//! `RedisConnector` keeps one checked connection. When it fails, the next one is made and checked again. Making a connection
//! checks the server and the rights of our user, measures the clock, records the number of partitions, loads the scripts and
//! opens epochs.

mod command_connection;
mod config;
mod connect_error;
mod dialer;
mod epochs;
mod push_connection;
mod refusal;
mod rights;
mod scripts;
mod server_check;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;

use crate::clock::{Clock, SystemClock, Time};
use crate::keys;

pub(crate) use self::command_connection::CommandConnection;
pub use self::config::{RedisConfig, RedisUrl};
pub use self::connect_error::ConnectError;
use self::dialer::Dialer;
pub(crate) use self::epochs::open_epoch;
use self::epochs::open_epochs;
pub use self::push_connection::PushConnection;
pub use self::refusal::NO_MEMORY;
pub(crate) use self::refusal::{NO_PERMISSION, refusal};
pub(crate) use self::rights::RightsCheck;
pub use self::rights::ServiceRole;
use self::rights::check_rights;
use self::scripts::RECORD_PARTITIONS;
pub(crate) use self::scripts::{Scripts, load_scripts};
use self::server_check::{check_server, read_server_info};

/// A checked connection, with the scripts that are loaded on its server.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) redis: CommandConnection,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) run_id: Arc<str>,
    generation: u64,
}

/// Keeps one connection, and replaces it by a new, checked one when it failed.
#[derive(Debug)]
pub(crate) struct RedisConnector {
    config: RedisConfig,
    dialer: Dialer,
    role: ServiceRole,
    clock: Arc<SystemClock>,
    current: RwLock<Option<Connection>>,
    /// Attempts to connect so far. Locked while connecting, so that others wait for the outcome instead of connecting too.
    connecting: Mutex<u64>,
    /// Connections made so far.
    made: AtomicU64,
}

impl RedisConnector {
    pub(crate) fn new(config: RedisConfig, role: ServiceRole, clock: Arc<SystemClock>) -> Self {
        Self {
            dialer: Dialer::new(&config),
            config,
            role,
            clock,
            current: RwLock::new(None),
            connecting: Mutex::new(0),
            made: AtomicU64::new(0),
        }
    }

    pub(crate) fn config(&self) -> &RedisConfig {
        &self.config
    }

    pub(crate) fn role(&self) -> ServiceRole {
        self.role
    }

    /// Returns the server time: this machine's clock, corrected by Redis `TIME`.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(crate) fn clock(&self) -> &Arc<SystemClock> {
        &self.clock
    }

    /// Returns the current connection, or opens and checks a new one.
    pub(crate) async fn connection(&self) -> Result<Connection, ConnectError> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let mut generation = self.connecting.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        *generation += 1;
        let connection = self.connect(*generation).await?;
        self.made.fetch_add(1, Ordering::Relaxed);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        Ok(connection)
    }

    /// Returns the number of connections made so far.
    pub(crate) fn connections_made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Drops a connection that failed, unless it has been replaced already.
    pub(crate) fn discard(&self, connection: &Connection) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_some_and(|c| c.generation == connection.generation)
        {
            *current = None;
        }
    }

    /// Drops the current connection, so that the next one is checked again.
    pub(crate) fn discard_current(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Opens a separate connection for subscriptions, and subscribes to one channel.
    pub(crate) async fn push_connection(
        &self,
        channel: &str,
    ) -> Result<PushConnection, ConnectError> {
        let limit = self.config.redis_timeout * 2;
        PushConnection::open(&self.dialer, limit, channel).await
    }

    /// Opens a connection for reading. That changes nothing on the server: it records no partitions and opens no epochs.
    pub(crate) async fn reader(&self) -> Result<CommandConnection, ConnectError> {
        let mut connection = self.dialer.commands().await?;
        read_server_info(&mut connection).await?;
        Ok(connection)
    }

    /// Returns the `run_id` of the server that is at the configured address now, read on a new connection. If it is not the
    /// server of the current connection (after a failover, or because the name resolves to another server), the current
    /// connection is dropped.
    pub(crate) async fn identify_server(&self) -> Result<Arc<str>, ConnectError> {
        let mut fresh = self.dialer.commands().await?;
        let server = read_server_info(&mut fresh).await?;
        let current = self.current().map(|connection| connection.run_id);
        // A replica at this address will become the master. Commits to the old master will be lost.
        let is_other = |run_id: Arc<str>| *run_id != *server.run_id || server.is_replica;
        if current.is_some_and(is_other) {
            tracing::warn!("another Redis server answers at the configured address: reconnecting");
            self.discard_current();
        }
        Ok(server.run_id.into())
    }

    fn current(&self) -> Option<Connection> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn connect(&self, generation: u64) -> Result<Connection, ConnectError> {
        let mut redis = self.dialer.commands().await?;
        let run_id = check_server(&mut redis, generation == 1).await?.run_id;
        // Nothing is written before this.
        check_rights(&mut redis, self.role, self.config.partitions).await?;
        self.measure_clock(&mut redis).await?;
        self.record_partitions(&mut redis).await?;
        let scripts = load_scripts(&mut redis).await?;
        open_epochs(&mut redis, &scripts, self.config.partitions, &run_id).await?;
        tracing::info!(server = self.config.shown_url(), "connected to Redis");
        Ok(Connection {
            redis,
            scripts: Arc::new(scripts),
            run_id: run_id.into(),
            generation,
        })
    }

    /// Measures the offset of this machine's clock from Redis `TIME`.
    pub(crate) async fn measure_clock(
        &self,
        redis: &mut CommandConnection,
    ) -> Result<(), redis::RedisError> {
        let asked = SystemClock::local();
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(redis).await?;
        let answered = SystemClock::local();
        let server = Time::from_millis(seconds * 1_000 + micros / 1_000);
        self.clock.adjust(server, (asked, answered));
        Ok(())
    }

    /// Records the number of partitions if none is recorded yet, and compares it with the configured one.
    async fn record_partitions(&self, redis: &mut CommandConnection) -> Result<(), ConnectError> {
        let configured = self.config.partitions;
        let mut pipe = redis::pipe();
        // By a script: a full Redis refuses `SET`, even where the number is recorded already.
        pipe.cmd("EVAL").arg(RECORD_PARTITIONS).arg(1);
        pipe.arg(keys::PARTITIONS).arg(configured).ignore();
        pipe.cmd("GET").arg(keys::PARTITIONS);
        let (recorded,): (u16,) = pipe.query_async(redis).await?;
        self.compare_partitions(recorded)
    }

    fn compare_partitions(&self, recorded: u16) -> Result<(), ConnectError> {
        let configured = self.config.partitions;
        if recorded == configured {
            return Ok(());
        }
        Err(ConnectError::Unusable(format!(
            "its data has {recorded} partitions, --partitions is {configured}"
        )))
    }
}

/// The server at the configured address.
#[derive(Clone, Debug)]
pub struct ServerSummary {
    /// Version of the server.
    pub version: String,
    /// Number of partitions of its data; `None` if it has no data yet.
    pub partitions: Option<u16>,
    /// `maxmemory`; 0 if there is none.
    pub maxmemory: u64,
}

/// Checks whether a service could run with these settings. Writes nothing, unlike the connection of a service, which records
/// partitions and opens epochs.
///
/// # Errors
/// The same errors as when a service starts.
pub async fn inspect(
    config: RedisConfig,
    role: ServiceRole,
) -> Result<ServerSummary, ConnectError> {
    let connector = RedisConnector::new(config, role, Arc::default());
    let mut redis = connector.dialer.commands().await?;
    let server = check_server(&mut redis, true).await?;
    check_rights(&mut redis, role, connector.config.partitions).await?;
    let recorded: Option<u16> = redis::cmd("GET")
        .arg(keys::PARTITIONS)
        .query_async(&mut redis)
        .await?;
    if let Some(recorded) = recorded {
        connector.compare_partitions(recorded)?;
    }
    Ok(ServerSummary {
        version: server.version,
        partitions: recorded,
        maxmemory: server.maxmemory,
    })
}

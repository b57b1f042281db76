//! Checks whether a Redis server can be used: its role, version and settings.

use std::collections::HashMap;

use super::command_connection::CommandConnection;
use super::connect_error::ConnectError;

/// The oldest version of Redis that supports the scripts.
const MIN_VERSION: (u32, u32) = (7, 0);

/// Fields of a server's answer to `INFO`.
pub(super) struct ServerInfo {
    pub(super) version: String,
    pub(super) run_id: String,
    pub(super) is_replica: bool,
    /// `maxmemory`; 0 if there is none, or the server does not report it.
    pub(super) maxmemory: u64,
}

impl ServerInfo {
    /// Reads the answer to `INFO`.
    pub(super) fn read(info: &str) -> Self {
        let field = |name: &str| {
            let line = info
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        Self {
            is_replica: field("role") == "slave",
            version: field("redis_version"),
            maxmemory: field("maxmemory").parse().unwrap_or_default(),
            run_id: field("run_id"),
        }
    }

    /// Rejects a replica: its data may be old, and it accepts no writes.
    pub(super) fn check_role(&self) -> Result<(), ConnectError> {
        if self.is_replica {
            let readonly = redis::ErrorKind::Server(redis::ServerErrorKind::ReadOnly);
            let replica = (readonly, "a replica answers at this address");
            return Err(ConnectError::Unavailable(replica.into()));
        }
        Ok(())
    }

    fn check_version(&self) -> Result<(), ConnectError> {
        let version = &self.version;
        let mut numbers = version
            .split('.')
            .map_while(|part| part.parse::<u32>().ok());
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < MIN_VERSION {
            return Err(ConnectError::Unusable(format!(
                "version {version} is older than 7.0"
            )));
        }
        Ok(())
    }
}

pub(super) async fn read_server_info(
    redis: &mut CommandConnection,
) -> Result<ServerInfo, ConnectError> {
    let info: String = redis::cmd("INFO").query_async(redis).await?;
    Ok(ServerInfo::read(&info))
}

/// Checks role, version and settings. `at_start` is true for the process's first connection.
pub(super) async fn check_server(
    redis: &mut CommandConnection,
    at_start: bool,
) -> Result<ServerInfo, ConnectError> {
    let server = read_server_info(redis).await?;
    server.check_role()?;
    server.check_version()?;
    check_settings(redis, at_start).await?;
    Ok(server)
}

/// Checks the eviction policy and the append-only file. A wrong eviction policy is an error at the start of the process. Later
/// it is only logged: alarms on an unsafe server are better than no alarms.
async fn check_settings(redis: &mut CommandConnection, at_start: bool) -> Result<(), ConnectError> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg("maxmemory-policy").arg("appendonly");
    let answer: Result<HashMap<String, String>, _> = command.query_async(redis).await;
    let settings = match answer {
        Ok(settings) => settings,
        Err(err) if err.is_io_error() || err.is_timeout() => {
            return Err(ConnectError::Unavailable(err));
        }
        Err(_) => {
            // Many hosted servers forbid CONFIG. Then only the operator can check the settings.
            tracing::warn!(
                "cannot read the settings of Redis: `maxmemory-policy` must be `noeviction`, `appendonly` must be `yes`"
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
            return Err(ConnectError::Unusable(problem));
        }
        tracing::error!("Redis has unsafe settings: {problem}");
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

//! The rights that the Redis user of a service needs: every command, key pattern and channel. They are checked on every new
//! connection before anything is written, and then once a second. The scripts check them again before their first write. A test
//! compares them with `deploy/redis-users.acl`.

use redis::aio::ConnectionLike;

use super::connect_error::ConnectError;
use super::scripts::RIGHTS;
use crate::device::DeviceId;
use crate::keys::{self, PartitionKeys};
use crate::rollup::Width;

/// The service that uses a connection. The services need different rights, and may have users of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceRole {
    /// Commits messages and deadlines, reports that it listens, and stores dead letters.
    Ingest,
    /// Reads, subscribes, and commits acknowledgements and retirements.
    Gateway,
}

/// Stands for every device in the names of keys and channels.
const ANY_DEVICE: &str = "any-device";

/// Stands for every replica of the gateway in the names of keys.
const ANY_REPLICA: &str = "any-replica";

/// Stands for every width of a rollup in the names of keys.
const ANY_WIDTH: Width = match Width::from_seconds(60) {
    Some(width) => width,
    None => unreachable!(),
};

type Command = Vec<String>;

fn command(words: &[&str]) -> Command {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Returns the commands that do not belong to one partition.
fn general_commands(role: ServiceRole) -> Vec<Command> {
    let members = keys::INGEST_MEMBERS;
    let listening = keys::INGEST_LISTENING;
    let quiet = keys::INGEST_QUIET;
    let (limits, admitted, counted) = (keys::INGEST_LIMITS, keys::ADMITTED, keys::ADMITTED_COUNTED);
    let rules = keys::INGEST_RULES;
    let mut commands = vec![
        command(&["TIME"]),
        command(&["INFO"]),
        command(&["SCRIPT", "LOAD", ""]),
        command(&["GET", keys::PARTITIONS]),
        command(&["SET", keys::PARTITIONS, "1", "NX"]),
        command(&["EVAL", "", "1", keys::PARTITIONS]),
        command(&["GET", keys::CANARY]),
        command(&["INCR", keys::CANARY]),
        command(&["SPUBLISH", keys::CANARY_CHANNEL, ""]),
        command(&["EVALSHA", "", "1", keys::CANARY]),
        command(&["EVALSHA", "", "1", keys::CANARY_CHANNEL]),
        command(&["ZREVRANGE", members, "0", "0"]),
        command(&["ZCOUNT", members, "0", "0"]),
        command(&["ZCOUNT", quiet, "0", "0"]),
        command(&["HGETALL", limits]),
        // A retirement frees the place of its device.
        command(&["EVALSHA", "", "1", admitted]),
        command(&["ZSCORE", admitted, ""]),
        command(&["ZREM", admitted, ""]),
        command(&["HGET", listening, "topics"]),
        // A retirement must know which rollups a device may have.
        command(&["HGETALL", keys::ROLLUP_LEVELS]),
    ];
    commands.extend(match role {
        ServiceRole::Ingest => vec![
            command(&["EVALSHA", "", "1", listening]),
            command(&["EVALSHA", "", "1", members]),
            command(&["EVALSHA", "", "1", quiet]),
            command(&["EVALSHA", "", "1", limits]),
            command(&["EVALSHA", "", "1", rules]),
            command(&["EVALSHA", "", "1", keys::DEAD_LETTERS]),
            command(&["HSET", listening, "topics", ""]),
            command(&["ZADD", members, "0", ""]),
            command(&["ZADD", quiet, "0", ""]),
            command(&["ZREMRANGEBYSCORE", members, "0", "0"]),
            command(&["ZREMRANGEBYSCORE", quiet, "0", "0"]),
            command(&["ZREM", members, ""]),
            command(&["ZREM", quiet, ""]),
            command(&["HSET", limits, "", ""]),
            command(&["HDEL", limits, ""]),
            command(&["EVALSHA", "", "1", counted]),
            command(&["TYPE", admitted]),
            command(&["TYPE", counted]),
            command(&["SET", counted, ""]),
            command(&["ZADD", admitted, "0", ""]),
            command(&["ZCARD", admitted]),
            command(&["ZRANGE", admitted, "0", "0"]),
            command(&["ZRANGEBYSCORE", members, "0", "0"]),
            command(&["HSET", rules, "", ""]),
            command(&["HGETALL", rules]),
            command(&["HDEL", rules, ""]),
            command(&["HSET", keys::ROLLUP_LEVELS, "", ""]),
            command(&["HDEL", keys::ROLLUP_LEVELS, ""]),
            command(&["XADD", keys::DEAD_LETTERS, "*", "", ""]),
            command(&["XLEN", keys::DEAD_LETTERS]),
            command(&["XRANGE", keys::DEAD_LETTERS, "-", "+"]),
            command(&["XTRIM", keys::DEAD_LETTERS, "MAXLEN", "0"]),
            command(&["RENAME", keys::DEAD_LETTERS, &keys::dead_letters_aside(0)]),
            command(&["SET", keys::RAW_SETTINGS, ""]),
            command(&["GET", keys::RAW_SETTINGS]),
            command(&["XADD", keys::RAW_PAYLOADS, "*", "", ""]),
            command(&["XRANGE", keys::RAW_PAYLOADS, "-", "+"]),
            command(&["XREVRANGE", keys::RAW_PAYLOADS, "+", "-"]),
        ],
        ServiceRole::Gateway => {
            let report = keys::watchers_of(ANY_REPLICA);
            vec![
                command(&["SSUBSCRIBE", keys::CANARY_CHANNEL]),
                command(&["PING"]),
                command(&["GET", keys::FLEET_SAMPLE]),
                command(&["SET", keys::FLEET_SAMPLE, ""]),
                command(&["ZADD", keys::WATCHERS, "0", ""]),
                command(&["ZREMRANGEBYSCORE", keys::WATCHERS, "0", "0"]),
                command(&["ZREM", keys::WATCHERS, ""]),
                command(&["ZRANGE", keys::WATCHERS, "0", "0"]),
                command(&["XADD", keys::AUDIT, "*", "", ""]),
                command(&["XREVRANGE", keys::AUDIT, "+", "-"]),
                command(&["XADD", keys::AUDIT_REFUSED, "*", "", ""]),
                command(&["XREVRANGE", keys::AUDIT_REFUSED, "+", "-"]),
                command(&["XADD", keys::AUDIT_SESSIONS, "*", "", ""]),
                command(&["XREVRANGE", keys::AUDIT_SESSIONS, "+", "-"]),
                command(&["GET", keys::REVOKED_CHANGES]),
                command(&["SET", keys::REVOKED_CHANGES, ""]),
                command(&["ZADD", keys::REVOKED, "0", ""]),
                command(&["ZREM", keys::REVOKED, ""]),
                command(&["ZREMRANGEBYSCORE", keys::REVOKED, "0", "0"]),
                command(&["ZRANGE", keys::REVOKED, "0", "0"]),
                command(&["GET", &report]),
                command(&["SET", &report, ""]),
                command(&["DEL", &report]),
                command(&["XLEN", keys::DEAD_LETTERS]),
                command(&["XREVRANGE", keys::DEAD_LETTERS, "+", "-"]),
            ]
        }
    });
    commands
}

/// Returns the commands on the keys and channels of one partition.
fn partition_commands(role: ServiceRole, keys: &PartitionKeys, device: &DeviceId) -> Vec<Command> {
    let state = keys.device(device);
    let [partition, seen, deadlines] = [keys.partition(), keys.seen(), keys.deadlines()];
    let [listings, log, quarantine] = [keys.listings(), keys.log(), keys.quarantine()];
    let [events, changes, history] = [
        keys.events(device),
        keys.changes(device),
        keys.history(device),
    ];
    let rollup = keys.rollup(device, ANY_WIDTH);
    let channel = keys.channel(device);
    let mut commands = vec![
        command(&["HMGET", &state, ""]),
        command(&["HGET", &state, ""]),
        command(&["HEXISTS", &state, ""]),
        command(&["HLEN", &state]),
        command(&["HGETALL", &state]),
        command(&["DEL", &state]),
        command(&["HSET", &state, "", ""]),
        command(&["HMGET", &partition, ""]),
        command(&["HGET", &partition, ""]),
        command(&["HSET", &partition, "", ""]),
        command(&["ZSCORE", &seen, ""]),
        command(&["ZRANGE", &seen, "0", "0"]),
        command(&["ZCARD", &seen]),
        command(&["ZADD", &seen, "0", ""]),
        command(&["ZADD", &deadlines, "0", ""]),
        // `--forget-after` of ingest retires devices, too.
        command(&["UNLINK", &state, &events, &changes, &history, &rollup]),
        command(&["ZREM", &seen, ""]),
        command(&["ZREM", &listings, ""]),
        command(&["ZREM", &deadlines, ""]),
        command(&["ZADD", &listings, "0", ""]),
        command(&["XREVRANGE", &log, "+", "-"]),
        command(&["SPUBLISH", &channel, ""]),
    ];
    commands.push(command(&["XLEN", &events]));
    for stream in [&events, &changes] {
        commands.push(command(&["XRANGE", stream, "-", "+"]));
        commands.push(command(&["XREVRANGE", stream, "+", "-"]));
    }
    for stream in [&events, &changes, &history, &log, &quarantine] {
        commands.push(command(&["XADD", stream, "*", "", ""]));
    }
    for stream in [&history, &log] {
        commands.push(command(&["XTRIM", stream, "MINID", "0"]));
    }
    // A call of a script needs the right to read and write each key that it names, and the scripts name the channel too.
    let named = [
        &state,
        &partition,
        &seen,
        &deadlines,
        &listings,
        &log,
        &quarantine,
        &events,
        &changes,
        &history,
        &rollup,
        &channel,
    ];
    for key in named {
        commands.push(command(&["EVALSHA", "", "1", key]));
        commands.push(command(&["TYPE", key]));
    }
    commands.extend(history_commands(role, keys, device));
    commands.extend(match role {
        ServiceRole::Ingest => vec![
            command(&["ZRANGEBYSCORE", &deadlines, "0", "0"]),
            command(&["ZRANGEBYSCORE", &seen, "0", "0"]),
            command(&["XTRIM", &events, "MAXLEN", "0"]),
        ],
        ServiceRole::Gateway => vec![
            command(&["XRANGE", &log, "-", "+"]),
            command(&["XLEN", &log]),
            command(&["SSUBSCRIBE", &channel]),
            command(&["SUNSUBSCRIBE", &channel]),
            command(&["ZRANGE", &listings, "0", "0"]),
        ],
    });
    commands
}

/// Returns the commands on the samples of a device and on what is made of them.
fn history_commands(role: ServiceRole, keys: &PartitionKeys, device: &DeviceId) -> Vec<Command> {
    let (history, rollup) = (keys.history(device), keys.rollup(device, ANY_WIDTH));
    let copy = keys.thinned(device, 0);
    let mut commands = vec![
        command(&["XREVRANGE", &history, "+", "-"]),
        command(&["XRANGE", &history, "-", "+"]),
        command(&["XRANGE", &rollup, "-", "+"]),
    ];
    if role == ServiceRole::Ingest {
        commands.extend([
            command(&["XLEN", &history]),
            command(&["XDEL", &history, "0"]),
            command(&["MEMORY", "USAGE", &history]),
            command(&["XADD", &copy, "*", "", ""]),
            command(&["PEXPIRE", &copy, "1"]),
            command(&["PERSIST", &copy]),
            command(&["RENAME", &copy, &history]),
            command(&["XLEN", &copy]),
            command(&["XREVRANGE", &rollup, "+", "-"]),
            command(&["XADD", &rollup, "*", "", ""]),
            command(&["PEXPIRE", &rollup, "1"]),
            command(&["XTRIM", &rollup, "MINID", "0"]),
            command(&["XLEN", &rollup]),
            command(&["MEMORY", "USAGE", &rollup]),
        ]);
    }
    commands
}

/// The rights to check: those that do not belong to a partition, and those on one partition.
pub(crate) struct RightsCheck {
    commands: Vec<Command>,
}

impl RightsCheck {
    pub(crate) fn new(role: ServiceRole, partition: u16) -> Self {
        let keys = PartitionKeys::new(partition);
        let mut commands = general_commands(role);
        // The name is a valid serial.
        if let Ok(device) = ANY_DEVICE.parse() {
            commands.extend(partition_commands(role, &keys, &device));
        }
        Self { commands }
    }

    /// Adds the arguments of `rights.lua`.
    pub(crate) fn arguments(&self, pipe: &mut redis::Pipeline) {
        pipe.arg(0);
        for command in &self.commands {
            pipe.arg(command.len()).arg(command);
        }
    }

    /// Returns what the user may not do, by the answer of `rights.lua`; `None` if nothing is missing.
    pub(crate) fn missing(&self, denied: &[usize]) -> Option<String> {
        let mut denied = denied.iter().filter_map(|index| self.commands.get(*index));
        let first = denied.next()?;
        let is_script = first.first().is_some_and(|name| name.starts_with("EVAL"));
        let target = if is_script {
            first.last()
        } else {
            first.get(1)
        };
        let name = first.first().map_or("", String::as_str);
        let others = match denied.count() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Some(format!(
            "it may not run `{name} {}`{others}; allow what deploy/redis-users.acl lists",
            target.map_or("", String::as_str)
        ))
    }
}

/// Checks the rights on every partition. Writes nothing and loads no script.
pub(super) async fn check_rights(
    redis: &mut (impl ConnectionLike + Send),
    role: ServiceRole,
    partitions: u16,
) -> Result<(), ConnectError> {
    let checks: Vec<RightsCheck> = (0..partitions)
        .map(|number| RightsCheck::new(role, number))
        .collect();
    let mut pipe = redis::pipe();
    for check in &checks {
        pipe.cmd("EVAL").arg(RIGHTS);
        check.arguments(&mut pipe);
    }
    let answers: Vec<Vec<usize>> = pipe.query_async(redis).await?;
    let missing = checks
        .iter()
        .zip(answers)
        .find_map(|(check, denied)| check.missing(&denied));
    missing.map_or(Ok(()), |missing| Err(ConnectError::MissingRight(missing)))
}

#[cfg(test)]
mod tests;

//! Compares the limit of file descriptors with the connections that the settings allow: one that is too low refuses clients and
//! probes long before `--max-connections`.

use crate::config::Config;
use crate::listener::RESERVE;

/// Descriptors for everything but accepted connections: Redis, the collector, log files and the runtime, with room.
const OWN: usize = 64;

/// Logs a warning if this process may open too few descriptors for the settings.
pub(crate) fn check(config: &Config) {
    // Absent outside of Linux.
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else {
        return;
    };
    let needed = needed(config);
    if let Some(limit) = open_files(&limits).filter(|limit| *limit < needed) {
        tracing::warn!(
            limit,
            needed,
            max_connections = config.max_connections,
            "the limit of open files is too low for --max-connections: raise it (`ulimit -n`, LimitNOFILE of systemd, \
             `ulimits` of compose) or lower --max-connections"
        );
    }
}

fn needed(config: &Config) -> usize {
    let main = config.max_connections.saturating_add(RESERVE);
    let operators = match config.ops_port {
        Some(_) => crate::ports::OPERATOR_CONNECTIONS + RESERVE,
        None => 0,
    };
    main.saturating_add(operators + OWN)
}

/// Returns the limit that applies, in the format of `/proc/self/limits`. `None` if there is no limit.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;

//! The memory that this service needs in the worst case. Pure.

use shared::memory_need::Need;

use super::Config;

/// What a running process takes before anybody has connected. Measured: 14 MB.
const EMPTY_BYTES: u64 = 20 << 20;
/// A connected client to which nothing waits to be sent. Measured: 27 KB.
const CONNECTION_BYTES: u64 = 40 << 10;
/// A watched device and its channel. Measured with 10 000 devices: 2.5 KB.
const WATCHED_BYTES: u64 = 8 << 10;

pub(super) fn needs(config: &Config) -> Vec<Need> {
    let connections = (config.max_connections as u64, "connections");
    let watched = (config.max_watched as u64).saturating_add(config.linger_max as u64);
    vec![
        Need::fixed("the process", "measured without clients", EMPTY_BYTES),
        Need::product(
            "connections",
            "connection",
            [connections, (1, "client")],
            CONNECTION_BYTES,
        ),
        // Clients of the same device share its packets, so the true need is far lower unless all watch different devices.
        Need::product(
            "packets that wait for clients that do not read, for --alarm-deadline at most",
            "client",
            [connections, (1, "outbox")],
            config.outbox_bytes as u64,
        ),
        Need::product(
            "watched devices",
            "device",
            [(watched, "devices"), (1, "channel")],
            WATCHED_BYTES,
        ),
        Need::fixed(
            "large answers that are being read",
            "--answer-bytes",
            config.answer_bytes as u64,
        ),
    ]
}

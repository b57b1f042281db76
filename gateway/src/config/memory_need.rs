//! The memory that this service needs in the worst case. Pure.

use shared::keys::MAX_LOG;
use shared::memory_need::{ALARM_BYTES, MAX_ALARMS, Need};

use super::{Config, SPARE_COMMANDS};
use crate::admission::usage::MAX_CALLERS;

/// What a running process takes before anybody has connected. Measured: 14 MB.
const EMPTY_BYTES: u64 = 20 << 20;
/// A connected client to which nothing waits to be sent. Measured: 4 KB with a WebSocket. A client that polls also has a session of the
/// library, for which the rest is.
const CONNECTION_BYTES: u64 = 40 << 10;
/// What TLS adds to a connection. Measured with a WebSocket: 7 KB.
const TLS_BYTES: u64 = 16 << 10;
/// What waits for a client that does not read, beside its outbox: over long polling up to 256 KiB in the library's queue, over a
/// WebSocket less.
const WRITE_BUFFER_BYTES: u64 = 256 << 10;
/// A packet in the queue of the Socket.IO library, or in the answer to a poll.
const PACKET_BYTES: u64 = 1 << 10;
/// A watched device and its channel. Measured with 10 000 devices: 2.5 KB.
const WATCHED_BYTES: u64 = 4 << 10;
/// Devices that are read from Redis at the same time: `MAX_LOADS` of each of the shards of the relay, of which there are `MAX_SHARDS` at most.
const DEVICES_READ: u64 = 4 * 64;
/// Events of a device that are kept for its clients meanwhile: `MAX_KEPT` of the relay.
const EVENTS_KEPT: u64 = 256;
/// One of them.
const EVENT_BYTES: u64 = 1 << 10;
/// What the index of the alarm log keeps of a raise or an escalation: the row, its alarm with an entry of a table, and 56 bytes more of
/// the alarm until the log was read to its beginning.
const LOG_ROW_BYTES: u64 = 72 + 48 + 39 + 56;
/// An address of which it is known what it used lately, with its share of a table that has grown.
const CALLER_BYTES: u64 = 112;
/// A client's subscription to a device that others watch, too.
const SUBSCRIPTION_BYTES: u64 = 400;
/// A command of a client that waits: a serial of 128 bytes, and a position.
const COMMAND_BYTES: u64 = 256;
/// The most devices of which a process keeps the last committed state. A gateway keeps those of its acknowledgements, also if
/// another process retires the device.
const COMMITTED_STATES: u64 = 100_000;
/// Such a state without open alarms. Measured in ingest: 3.7 KB.
const STATE_BYTES: u64 = 6 << 10;

/// What a client's token says of its devices, and a new token that waits.
const TOKEN_BYTES: u64 = 24 << 10;

pub(super) fn needs(config: &Config) -> Vec<Need> {
    let tls_bytes = config.tls_cert_file.as_ref().map_or(0, |_| TLS_BYTES);
    let connections = (config.max_connections as u64, "connections");
    let watched = [config.max_watched, config.max_unlisted, config.linger_max];
    let watched = watched
        .iter()
        .fold(0_u64, |sum, number| sum.saturating_add(*number as u64));
    let subscriptions = config.subscriptions_per_client as u64;
    let commands = subscriptions.saturating_add(SPARE_COMMANDS as u64);
    let mut needs = vec![
        Need::fixed("the process", "measured without clients", EMPTY_BYTES),
        Need::product(
            "connections",
            "connection",
            [connections, (1, "client")],
            CONNECTION_BYTES + tls_bytes,
        ),
        Need::product(
            "packets in front of the outboxes of clients that do not read",
            "client",
            [connections, (1, "buffer")],
            WRITE_BUFFER_BYTES,
        ),
        Need::product(
            "packets in the queues of the Socket.IO library",
            "packet",
            [connections, (config.client_buffer as u64, "packets")],
            PACKET_BYTES,
        ),
        Need::product(
            "commands of clients that wait",
            "command",
            [connections, (commands, "commands")],
            COMMAND_BYTES,
        ),
        Need::product(
            "subscriptions of clients",
            "subscription",
            [connections, (subscriptions, "subscriptions")],
            SUBSCRIPTION_BYTES,
        ),
        // Clients of the same device share its packets, so the true need is far lower unless all watch different devices.
        Need::product(
            "packets that wait for clients that do not read, for --alarm-deadline at most",
            "client",
            [connections, (1, "outbox")],
            config.outbox_bytes as u64,
        ),
        Need::product(
            "watched devices: --max-watched, --max-unlisted and --linger-max together",
            "device",
            [(watched, "devices"), (1, "channel")],
            WATCHED_BYTES,
        ),
        Need::product(
            "events of devices that are being read",
            "event",
            [(DEVICES_READ, "devices"), (EVENTS_KEPT, "events")],
            EVENT_BYTES,
        ),
        Need::product(
            "index of the alarm log, at the highest --log-max of ingest",
            "line",
            [
                (config.redis.partitions.into(), "partitions"),
                (MAX_LOG, "lines"),
            ],
            LOG_ROW_BYTES,
        ),
        Need::product(
            "last committed states of devices with an acknowledgement",
            "state",
            [(COMMITTED_STATES, "devices"), (1, "state")],
            STATE_BYTES,
        ),
        Need::product(
            "open alarms in these states",
            "alarm",
            [(COMMITTED_STATES, "devices"), (MAX_ALARMS, "alarms")],
            ALARM_BYTES,
        ),
        Need::product(
            "what addresses used lately, for handshakes, for requests and for signatures of tokens",
            "address",
            [(MAX_CALLERS as u64, "addresses"), (3, "tables")],
            CALLER_BYTES,
        ),
        Need::fixed(
            "large answers that are being read",
            "--answer-bytes",
            config.answer_bytes as u64,
        ),
    ];
    needs.extend(of_tokens(config));
    needs
}

fn of_tokens(config: &Config) -> Option<Need> {
    let connections = (config.max_connections as u64, "connections");
    config.tokens.has_keys().then(|| {
        Need::product(
            "what the tokens of clients allow, and new tokens that wait",
            "client",
            [connections, (1, "client")],
            TOKEN_BYTES,
        )
    })
}

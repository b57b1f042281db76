//! The gauges of this replica. They read the state of its other parts when the metrics are requested.

use shared::metrics::Meters;
use shared::store::Store;

use crate::access::remote_keys::RemoteKeys;
use crate::clients::Clients;
use crate::feeds::Feeds;
use crate::monitor::Monitor;
use crate::relay::Relay;
use crate::relay::watch_counts::WatchCounts;
use crate::session::Sessions;
use crate::watches::Watches;

/// Registers the gauges of all parts, and the counters that the store maintains itself.
pub(crate) fn register(
    meters: &Meters,
    clients: Clients,
    relay: &Relay,
    monitor: &Monitor,
    store: &Store,
) {
    register_clients(meters, clients);
    register_relay(meters, relay);
    register_monitor(meters, monitor);
    register_store(meters, store);
}

fn register_clients(meters: &Meters, clients: Clients) {
    meters.gauges(
        "gateway.connections",
        "Connected clients by their present transport.",
        move |observe| {
            let counts = clients.by_transport();
            observe(counts.websocket, &[("transport", "websocket")]);
            observe(counts.polling, &[("transport", "polling")]);
        },
    );
}

/// Registers how many clients follow all devices.
pub(crate) fn register_feeds(meters: &Meters, feeds: Feeds) {
    meters.gauges(
        "gateway.feeds",
        "Subscriptions of clients of this replica to all devices at once: to \
         their rows (`fleet`) or to their open alarms (`alarms`). While \
         there is none, nothing is read for them.",
        move |observe| {
            let (fleet, alarms) = feeds.clients();
            observe(fleet as u64, &[("feed", "fleet")]);
            observe(alarms as u64, &[("feed", "alarms")]);
        },
    );
}

fn register_relay(meters: &Meters, relay: &Relay) {
    let read = |of: fn(&WatchCounts) -> u64| {
        let relay = relay.clone();
        move || of(&relay.watch_counts())
    };
    meters.gauge(
        "gateway.rooms",
        "Devices with a subscribed client at this replica.",
        read(|counts| counts.rooms),
    );
    meters.gauge(
        "gateway.subscriptions",
        "Subscriptions of clients of this replica, one per client and device.",
        read(|counts| counts.subscriptions),
    );
    meters.gauge(
        "gateway.channels",
        "Redis channels this replica is subscribed to. A channel stays for `--linger` after its \
         last client has left.",
        read(|counts| counts.channels),
    );
    meters.gauge(
        "gateway.channels.lingering",
        "Redis channels this replica is subscribed to although no client watches the device any \
         more, at most `--linger-max` for long.",
        read(|counts| counts.lingering),
    );
    meters.gauge(
        "gateway.devices.unconfirmed",
        "Watched devices whose clients may lack events, because the subscription in Redis was \
         lost and is not confirmed again, or what was missed is not caught up yet. While it is \
         not 0, `/readyz` says `degraded`.",
        read(|counts| counts.unconfirmed),
    );
    let waiting = relay.clone();
    meters.gauge(
        "gateway.devices.unlisted",
        "Names that clients subscribed to and that are not in the device list: devices that have \
         sent nothing yet, or do not exist. They have no Redis channel.",
        move || waiting.unlisted() as u64,
    );
    let relay = relay.clone();
    meters.gauge(
        "gateway.subscriber.up",
        "1 while every Redis connection that receives published events is open, else 0.",
        move || u64::from(relay.is_connected()),
    );
}

/// Registers what is known about published keys: of tokens, and of the provider with which people sign in. `None` without such.
pub(crate) fn register_keys(
    meters: &Meters,
    tokens: Option<RemoteKeys>,
    sign_in: Option<RemoteKeys>,
) {
    let all = [("tokens", tokens), ("sign_in", sign_in)];
    let fetches = all.clone();
    meters.observed_counts(
        "gateway.jwks.fetches",
        "Fetches of published keys, by what they are for (`--token-jwks-url`, `--oidc-issuer`) and outcome. After a failure the keys \
         before go on to count.",
        move |observe| {
            for (of, keys) in &fetches {
                let (good, failed) = keys.as_ref().map_or((0, 0), RemoteKeys::fetches);
                observe(good, &[("of", of), ("outcome", "fetched")]);
                observe(failed, &[("of", of), ("outcome", "failed")]);
            }
        },
    );
    meters.gauges(
        "gateway.jwks.keys",
        "Published keys, by what they are for. 0 until they are fetched once.",
        move |observe| {
            for (of, keys) in &all {
                let count = keys.as_ref().map_or(0, RemoteKeys::count);
                observe(count as u64, &[("of", of)]);
            }
        },
    );
}

/// Registers the gauge of the bounded watches.
pub(crate) fn register_watches(meters: &Meters, watches: Watches) {
    meters.gauge(
        "gateway.devices.watched",
        "Distinct devices that clients of this replica watch or wait for, at most \
         `--max-watched` and `--max-unlisted` together. Beyond it subscriptions to further devices are \
         refused.",
        move || watches.devices() as u64,
    );
}

/// Registers the gauge of the long polling sessions.
pub(crate) fn register_sessions(meters: &Meters, sessions: Sessions) {
    meters.gauge(
        "gateway.polling.sessions",
        "Long polling sessions. Each holds one place of `--max-connections` until it ends or has a \
         WebSocket.",
        move || sessions.count() as u64,
    );
}

fn register_monitor(meters: &Meters, monitor: &Monitor) {
    let read = |of: fn(&Monitor) -> bool| {
        let monitor = monitor.clone();
        move || u64::from(of(&monitor))
    };
    meters.gauge(
        "gateway.redis.link.up",
        "1 while Redis answers, else 0.",
        read(|monitor| monitor.status().dependencies.redis.ok),
    );
    meters.gauge(
        "gateway.ingest.listening",
        "1 while at least one ingest reports an active subscription at the broker. 0 if none \
         does, or while Redis does not answer.",
        read(|monitor| monitor.status().dependencies.ingest.ok),
    );
    meters.gauge(
        "gateway.draining",
        "1 while this replica is shutting down, else 0.",
        read(Monitor::is_draining),
    );
}

fn register_store(meters: &Meters, store: &Store) {
    let full = store.clone();
    meters.gauge(
        "gateway.redis.full",
        "1 while Redis is at `maxmemory`: alarms are stored within `--memory-reserve`, history is \
         not. Else 0.",
        move || u64::from(full.full().is_some()),
    );
    let connections = store.clone();
    meters.observed_count(
        "gateway.redis.connections",
        "Connections made to Redis for queries and commits.",
        move || connections.connections(),
    );
    let reassertions = store.clone();
    meters.observed_count(
        "gateway.reasserted.devices",
        "Devices written to Redis again because it had lost an acknowledgement committed by this \
         replica.",
        move || reassertions.reasserted(),
    );
}

//! Every metric of this service but those of the fleet; `deploy/METRICS.md` lists them. Labels are bounded: constants of
//! the code, our own routes, status codes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use opentelemetry::KeyValue;
use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, URL_SCHEME,
};
use opentelemetry_semantic_conventions::metric::HTTP_SERVER_REQUEST_DURATION;
use shared::clock::Time;
use shared::metrics::{Count, Durations, LabelledCount, Meters};
use shared::store::Store;

use crate::monitor::Monitor;
use crate::relay::{Relay, SHARDS};
use crate::rest::edge::{self, SCHEME};
use crate::socket::{self, Clients, LetGo};

/// Transitions that people cause: an acknowledgement may end a latch, and what stands ends with its device.
const BY_PEOPLE: [&str; 3] = ["acknowledged", "cleared", "retired"];

/// The counters of this service. Each is registered when it is created.
pub(crate) struct Metrics {
    reader: Box<dyn Fn() -> String + Send + Sync>,
    pub(crate) connected: Count,
    pub(crate) disconnected: LabelledCount,
    /// Connection attempts refused, by reason.
    pub(crate) refused: LabelledCount,
    pub(crate) commands_refused: LabelledCount,
    pub(crate) events: Count,
    pub(crate) unreadable: Count,
    pub(crate) alarm_packets: Count,
    pub(crate) telemetry_packets: Count,
    pub(crate) conflated: Count,
    pub(crate) dropped: Count,
    /// Catch-ups of clients that came back.
    pub(crate) client_recoveries: LabelledCount,
    /// Catch-ups of this replica.
    pub(crate) replica_recoveries: LabelledCount,
    /// Connections for subscriptions given up, by reason.
    pub(crate) subscriber_lost: LabelledCount,
    pub(crate) lagging: Count,
    pub(crate) acknowledged: LabelledCount,
    pub(crate) retired: Count,
    pub(crate) alarm_changes: LabelledCount,
    /// What each shard watches, as of its last tick.
    pub(crate) watching: Arc<[Watching; SHARDS]>,
    latency: Durations,
    alarm_wait: Durations,
    requests: Durations,
}

/// What one shard watches.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    /// Devices with members.
    pub(crate) rooms: AtomicU64,
    /// Members of all of them.
    pub(crate) subscriptions: AtomicU64,
    /// Channels in Redis.
    pub(crate) channels: AtomicU64,
}

/// Where the present state is read.
pub(crate) struct Present {
    pub(crate) clients: Clients,
    pub(crate) relay: Relay,
    pub(crate) monitor: Monitor,
    pub(crate) store: Store,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Registers every counter and histogram of this service.
    pub(crate) fn new(meters: &Meters) -> Arc<Self> {
        const RECOVERIES: [&str; 3] = ["recovered", "snapshot", "alarms_incomplete"];
        let [client_recoveries, replica_recoveries] = meters.count_by_two(
            "gateway.recoveries",
            "Recoveries after a gap: of a client that subscribed again with its position, or of this replica after it had missed events.",
            ("of", ["client", "replica"]),
            ("outcome", &RECOVERIES),
        );
        let [alarm_packets, telemetry_packets] = meters.count_of_each(
            "gateway.packets",
            "Packets for clients by lane, whether sent at once or after waiting.",
            "lane",
            ["alarms", "telemetry"],
        );
        let watching = Arc::<[Watching; SHARDS]>::default();
        register_watching(meters, &watching);
        Arc::new(Self {
            reader: Box::new(meters.reader()),
            connected: meters.count("gateway.connections.opened", "Clients that connected."),
            disconnected: meters.count_by(
                "gateway.disconnections",
                "Clients whose connection ended, by reason.",
                "reason",
                &LetGo::CODES,
            ),
            refused: meters.count_by(
                "gateway.handshakes.refused",
                "Socket.IO connection attempts that were refused, by reason.",
                "reason",
                &["draining", "full", "origin", "invalid"],
            ),
            commands_refused: meters.count_by(
                "gateway.commands.refused",
                "Commands of clients that were refused, by code.",
                "code",
                &["invalid", "limit"],
            ),
            events: meters.count("gateway.events", "Events received from Redis."),
            unreadable: meters.count(
                "gateway.events.unreadable",
                "Events received from Redis that could not be parsed.",
            ),
            alarm_packets,
            telemetry_packets,
            conflated: meters.count(
                "gateway.packets.conflated",
                "Readings not sent because a newer one of the same device replaced them while they waited.",
            ),
            dropped: meters.count(
                "gateway.packets.dropped",
                "Waiting packets discarded because the connection of their client had ended.",
            ),
            client_recoveries,
            replica_recoveries,
            subscriber_lost: meters.count_by(
                "gateway.subscriber.lost",
                "Times the Redis connection that receives published events was lost or given up, by reason. `deaf`: it was open, but nothing was received.",
                "reason",
                &["closed", "silent", "deaf", "elsewhere"],
            ),
            lagging: meters.count(
                "gateway.lagging",
                "Times this replica dropped events because they were published faster than it processed them. It then reads them from the event streams in Redis.",
            ),
            acknowledged: meters.count_by(
                "gateway.acknowledgements",
                "Requests to acknowledge an alarm, by outcome.",
                "outcome",
                &["covered", "escalated", "not_found"],
            ),
            retired: meters.count("gateway.retirements", "Devices retired."),
            alarm_changes: meters.count_by(
                "gateway.alarm.changes",
                "Alarm changes caused by acknowledgements and retirements.",
                "change",
                &BY_PEOPLE,
            ),
            watching,
            latency: meters.durations(
                "gateway.event.latency",
                "Time from the decision of an event (by the clock of Redis) until it was queued for all its subscribers. Includes events that were missed at first and caught up later.",
            ),
            alarm_wait: meters.durations(
                "gateway.alarm.wait",
                "Time that packets of the alarm lane (alarms, snapshots, replays) waited until the client took them or was disconnected. One value per send: the longest wait in it, 0 if nothing had to wait.",
            ),
            requests: meters.durations(HTTP_SERVER_REQUEST_DURATION, "Duration of REST requests."),
        })
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn read(&self) -> String {
        (self.reader)()
    }

    /// An event decided at this time was handed to all its watchers now, by the same clock.
    pub(crate) fn event_reached(&self, decided: Time, now: Time) {
        let millis = u64::try_from(now.millis_since(decided)).unwrap_or(0);
        let latency = Duration::from_millis(millis);
        self.latency.record(latency);
    }

    /// A client took alarms, of which one had waited for so long.
    pub(crate) fn alarm_waited(&self, time: Duration) {
        self.alarm_wait.record(time);
    }

    /// A request was refused before any route was looked for: the beginning of a connection, one of a connection that
    /// stands, or a question of REST.
    pub(crate) fn turned_away(&self, request: &Request, reason: &'static str, status: u16) {
        if !socket::is_for(request.uri()) {
            let method = edge::method(request.method());
            self.answered(method, None, Some(status), Duration::ZERO);
        } else if socket::session_of(request.uri()).is_none() {
            self.refused.increment(reason);
        }
    }

    /// A request of this route was answered; `status`: `None` where nobody waited for the answer.
    pub(crate) fn answered(
        &self,
        method: &'static str,
        route: Option<&str>,
        status: Option<u16>,
        time: Duration,
    ) {
        let mut labels = vec![
            KeyValue::new(HTTP_REQUEST_METHOD, method),
            KeyValue::new(URL_SCHEME, SCHEME),
        ];
        let code = status.map(i64::from);
        labels.extend(code.map(|code| KeyValue::new(HTTP_RESPONSE_STATUS_CODE, code)));
        let route = route.map(str::to_owned);
        labels.extend(route.map(|route| KeyValue::new(HTTP_ROUTE, route)));
        let error = edge::error_of(status).map(Cow::into_owned);
        labels.extend(error.map(|error| KeyValue::new(ERROR_TYPE, error)));
        self.requests.record_with(time, &labels);
    }
}

/// Registers the gauges of what all shards watch together.
fn register_watching(meters: &Meters, watching: &Arc<[Watching; SHARDS]>) {
    let total = |read: fn(&Watching) -> &AtomicU64| {
        let watching = Arc::clone(watching);
        move || {
            let counts = watching.iter().map(read);
            counts.map(|count| count.load(Ordering::Relaxed)).sum()
        }
    };
    meters.gauge(
        "gateway.rooms",
        "Devices with a subscribed client at this replica.",
        total(|shard| &shard.rooms),
    );
    meters.gauge(
        "gateway.subscriptions",
        "Subscriptions of clients of this replica, one per client and device.",
        total(|shard| &shard.subscriptions),
    );
    meters.gauge(
        "gateway.channels",
        "Redis channels this replica is subscribed to. A channel stays for `--linger` after its last client has left.",
        total(|shard| &shard.channels),
    );
}

impl Present {
    /// Registers the gauges that read them.
    pub(crate) fn register(self, meters: &Meters) {
        let Self {
            clients,
            relay,
            monitor,
            store,
        } = self;
        meters.gauges(
            "gateway.connections",
            "Connected clients by their present transport.",
            move |observe| {
                let all = clients.all();
                let carried = all
                    .iter()
                    .filter(|client| client.transport().is_websocket());
                let websockets = carried.count();
                let counts = [
                    ("websocket", websockets),
                    ("polling", all.len() - websockets),
                ];
                for (transport, count) in counts {
                    observe(count as u64, &[("transport", transport)]);
                }
            },
        );
        meters.gauge(
            "gateway.subscriber.up",
            "1 while the Redis connection that receives published events is open, else 0.",
            move || u64::from(relay.is_linked()),
        );
        let of_status = |read: fn(&Monitor) -> bool| {
            let monitor = monitor.clone();
            move || u64::from(read(&monitor))
        };
        meters.gauge(
            "gateway.redis.link.up",
            "1 while Redis answers, else 0.",
            of_status(|monitor| monitor.status().dependencies.redis.ok),
        );
        meters.gauge(
            "gateway.ingest.listening",
            "1 while at least one ingest reports an active subscription at the broker. 0 if none does, or while Redis does not answer.",
            of_status(|monitor| monitor.status().dependencies.ingest.ok),
        );
        meters.gauge(
            "gateway.draining",
            "1 while this replica is shutting down, else 0.",
            of_status(Monitor::is_draining),
        );
        let counted = store.clone();
        meters.observed_count(
            "gateway.redis.connections",
            "Connections made to Redis for queries and commits.",
            move || counted.connections(),
        );
        meters.observed_count(
            "gateway.reasserted.devices",
            "Devices written to Redis again because it had lost an acknowledgement committed by this replica.",
            move || store.reasserted(),
        );
    }
}

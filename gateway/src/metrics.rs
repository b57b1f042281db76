//! Every metric of this service but those of the fleet; `deploy/METRICS.md` lists them. Labels are bounded: constants of
//! the code, our own routes, status codes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, URL_SCHEME,
};
use opentelemetry_semantic_conventions::metric::HTTP_SERVER_REQUEST_DURATION;
use shared::clock::Time;
use shared::metrics::{Counts, Meters, reading, telling};
use shared::store::Store;

use crate::monitor::Monitor;
use crate::relay::{Relay, SHARDS};
use crate::rest::edge::{self, SCHEME};
use crate::socket::{self, Clients, LetGo};

/// Transitions that people cause: an acknowledgement may end a latch, and what stands ends with its device.
const BY_PEOPLE: [&str; 3] = ["acknowledged", "cleared", "retired"];

/// Counts since the start of the process.
pub(crate) struct Metrics {
    reader: Box<dyn Fn() -> String + Send + Sync>,
    pub(crate) connected: AtomicU64,
    pub(crate) disconnected: Counts,
    /// Connection attempts refused, by reason.
    pub(crate) refused: Counts,
    pub(crate) commands_refused: Counts,
    pub(crate) events: AtomicU64,
    pub(crate) unreadable: AtomicU64,
    pub(crate) alarm_packets: AtomicU64,
    pub(crate) telemetry_packets: AtomicU64,
    pub(crate) conflated: AtomicU64,
    pub(crate) dropped: AtomicU64,
    /// Catch-ups of clients and of this replica.
    pub(crate) client_recoveries: Counts,
    pub(crate) replica_recoveries: Counts,
    /// Connections for subscriptions given up, by reason.
    pub(crate) subscriber_lost: Counts,
    pub(crate) lagging: AtomicU64,
    pub(crate) acknowledged: Counts,
    pub(crate) retired: AtomicU64,
    pub(crate) alarm_changes: Counts,
    /// What each shard watches, as of its last tick.
    pub(crate) watching: [Watching; SHARDS],
    latency: Histogram<f64>,
    alarm_wait: Histogram<f64>,
    requests: Histogram<f64>,
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
    /// Everything at 0, told by these meters.
    pub(crate) fn new(meters: &Meters) -> Arc<Self> {
        const RECOVERIES: [&str; 3] = ["recovered", "snapshot", "alarms_incomplete"];
        let metrics = Arc::new(Self {
            reader: Box::new(meters.reader()),
            connected: AtomicU64::new(0),
            disconnected: Counts::new(&LetGo::CODES),
            refused: Counts::new(&["draining", "full", "origin", "invalid"]),
            commands_refused: Counts::new(&["invalid", "limit"]),
            events: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            alarm_packets: AtomicU64::new(0),
            telemetry_packets: AtomicU64::new(0),
            conflated: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            client_recoveries: Counts::new(&RECOVERIES),
            replica_recoveries: Counts::new(&RECOVERIES),
            subscriber_lost: Counts::new(&["closed", "silent", "deaf", "elsewhere"]),
            lagging: AtomicU64::new(0),
            acknowledged: Counts::new(&["covered", "escalated", "not_found"]),
            retired: AtomicU64::new(0),
            alarm_changes: Counts::new(&BY_PEOPLE),
            watching: Default::default(),
            latency: meters.durations(
                "gateway.event.latency",
                "From the decision of an event (by the clock of Redis) until it was handed to the lanes of all its watchers, missed ones included.",
            ),
            alarm_wait: meters.durations(
                "gateway.alarm.wait",
                "How long alarms, snapshots and replays waited for their client until it took them or was let go: the longest of each time, 0 where they went at once.",
            ),
            requests: meters.durations(HTTP_SERVER_REQUEST_DURATION, "Requests of REST."),
        });
        metrics.tell_clients(meters);
        metrics.tell_events(meters);
        metrics.tell_packets(meters);
        metrics.tell_rest(meters);
        metrics
    }

    fn tell_clients(self: &Arc<Self>, meters: &Meters) {
        meters.counter(
            "gateway.connections.opened",
            "Clients that connected.",
            reading(self, |metrics| &metrics.connected),
        );
        meters.counters(
            "gateway.disconnections",
            "Clients that left or were let go.",
            telling(self, "reason", |metrics| &metrics.disconnected),
        );
        meters.counters(
            "gateway.handshakes.refused",
            "Connection attempts that were refused.",
            telling(self, "reason", |metrics| &metrics.refused),
        );
        meters.counters(
            "gateway.commands.refused",
            "Commands of clients that were refused.",
            telling(self, "code", |metrics| &metrics.commands_refused),
        );
        let of_shards = |read: fn(&Watching) -> &AtomicU64| {
            let metrics = Arc::clone(self);
            let load = move |shard: &Watching| read(shard).load(Ordering::Relaxed);
            move || metrics.watching.iter().map(load).sum()
        };
        meters.gauge(
            "gateway.rooms",
            "Devices watched by clients of this replica.",
            of_shards(|shard| &shard.rooms),
        );
        meters.gauge(
            "gateway.subscriptions",
            "Subscriptions of clients of this replica.",
            of_shards(|shard| &shard.subscriptions),
        );
        meters.gauge(
            "gateway.channels",
            "Channels of Redis this replica listens to; those nobody watches any more linger.",
            of_shards(|shard| &shard.channels),
        );
    }

    fn tell_events(self: &Arc<Self>, meters: &Meters) {
        meters.counter(
            "gateway.events",
            "Events taken from Redis.",
            reading(self, |metrics| &metrics.events),
        );
        meters.counter(
            "gateway.events.unreadable",
            "Events from Redis that could not be read.",
            reading(self, |metrics| &metrics.unreadable),
        );
        meters.counter(
            "gateway.lagging",
            "Times more was published than could be taken, and was caught up from the streams.",
            reading(self, |metrics| &metrics.lagging),
        );
        meters.counters(
            "gateway.subscriber.lost",
            "Times that connection was given up; `deaf`: it stood, and nothing was heard.",
            telling(self, "reason", |metrics| &metrics.subscriber_lost),
        );
        let metrics = Arc::clone(self);
        meters.counters(
            "gateway.recoveries",
            "Catch-ups of a client that came back, and of this replica after it missed something.",
            move |tell| {
                let counts = [
                    ("client", &metrics.client_recoveries),
                    ("replica", &metrics.replica_recoveries),
                ];
                for (of, counts) in counts {
                    for (outcome, count) in counts.read() {
                        let labels = [KeyValue::new("of", of), KeyValue::new("outcome", outcome)];
                        tell(count, &labels);
                    }
                }
            },
        );
    }

    fn tell_packets(self: &Arc<Self>, meters: &Meters) {
        let metrics = Arc::clone(self);
        meters.counters(
            "gateway.packets",
            "Packets for clients by lane, whether sent at once or after waiting.",
            move |tell| {
                let lanes = [
                    ("alarms", &metrics.alarm_packets),
                    ("telemetry", &metrics.telemetry_packets),
                ];
                for (lane, count) in lanes {
                    let labels = [KeyValue::new("lane", lane)];
                    tell(count.load(Ordering::Relaxed), &labels);
                }
            },
        );
        meters.counter(
            "gateway.packets.conflated",
            "Readings left out because a newer one took their place.",
            reading(self, |metrics| &metrics.conflated),
        );
        meters.counter(
            "gateway.packets.dropped",
            "Packets that waited for a client that was let go or gone.",
            reading(self, |metrics| &metrics.dropped),
        );
    }

    fn tell_rest(self: &Arc<Self>, meters: &Meters) {
        meters.counters(
            "gateway.acknowledgements",
            "Acknowledgements of alarms.",
            telling(self, "outcome", |metrics| &metrics.acknowledged),
        );
        meters.counters(
            "gateway.alarm.changes",
            "Transitions of alarms by acknowledgements and retirements.",
            telling(self, "change", |metrics| &metrics.alarm_changes),
        );
        meters.counter(
            "gateway.retirements",
            "Devices retired.",
            reading(self, |metrics| &metrics.retired),
        );
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn read(&self) -> String {
        (self.reader)()
    }

    /// An event decided at this time was handed to all its watchers now, by the same clock.
    pub(crate) fn event_reached(&self, decided: Time, now: Time) {
        let millis = u64::try_from(now.millis_since(decided)).unwrap_or(0);
        let latency = Duration::from_millis(millis);
        self.latency.record(latency.as_secs_f64(), &[]);
    }

    /// A client took alarms, of which one had waited for so long.
    pub(crate) fn alarm_waited(&self, time: Duration) {
        self.alarm_wait.record(time.as_secs_f64(), &[]);
    }

    /// A request was refused before any route was looked for: the beginning of a connection, one of a connection that
    /// stands, or a question of REST.
    pub(crate) fn turned_away(&self, request: &Request, reason: &'static str, status: u16) {
        if !socket::is_for(request.uri()) {
            let method = edge::method(request.method());
            self.answered(method, None, Some(status), Duration::ZERO);
        } else if socket::session_of(request.uri()).is_none() {
            self.refused.add(reason);
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
        self.requests.record(time.as_secs_f64(), &labels);
    }
}

impl Present {
    /// Tells how things stand, whenever somebody asks.
    pub(crate) fn tell(self, meters: &Meters) {
        let Self {
            clients,
            relay,
            monitor,
            store,
        } = self;
        meters.gauges(
            "gateway.connections",
            "Connected clients by what carries them now.",
            move |tell| {
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
                    tell(count as u64, &[KeyValue::new("transport", transport)]);
                }
            },
        );
        meters.gauge(
            "gateway.subscriber.up",
            "1 while the connection stands that brings what is published.",
            move || u64::from(relay.is_linked()),
        );
        let of_status = |read: fn(&Monitor) -> bool| {
            let monitor = monitor.clone();
            move || u64::from(read(&monitor))
        };
        meters.gauge(
            "gateway.redis.link.up",
            "1 while Redis answers.",
            of_status(|monitor| monitor.status().dependencies.redis.ok),
        );
        meters.gauge(
            "gateway.ingest.listening",
            "1 while an ingest reports that it listens to the detectors; 0 also while Redis cannot be asked.",
            of_status(|monitor| monitor.status().dependencies.ingest.ok),
        );
        meters.gauge(
            "gateway.draining",
            "1 while this replica closes its clients to go.",
            of_status(Monitor::is_draining),
        );
        let counted = store.clone();
        meters.counter(
            "gateway.redis.connections",
            "Connections made to Redis for questions and commits.",
            move || counted.connections(),
        );
        meters.counter(
            "gateway.reasserted.devices",
            "Devices asserted again after Redis went back behind what was acknowledged here.",
            move || store.reasserted(),
        );
    }
}

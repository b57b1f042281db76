//! The counters and histograms of this service, one struct per part that counts; `deploy/METRICS.md` lists them all.
//!
//! Every instrument is registered when it is created. Label values are bounded: they are constants of the code, our own
//! routes or status codes. The gauges are in `gauges` and `fleet`, which read the present state of the other parts.

use std::fmt;
use std::sync::Arc;

use opentelemetry_semantic_conventions::metric::HTTP_SERVER_REQUEST_DURATION;
use shared::alarm::ChangeKind;
use shared::clock::Time;
use shared::metrics::{Count, Durations, LabelledCount, Meters};

use crate::access::REFUSAL_CODES;
use crate::admission::limit_metrics::LimitMetrics;
use crate::client::close_reason::CloseReason;
use crate::replay::Outcome;
use crate::socket::refusal::Refusal;

/// Transitions of alarms that people cause: an acknowledgement may end a latched alarm, a retirement ends every open one.
const CHANGES_BY_PEOPLE: [&str; 3] = [
    ChangeKind::Acknowledged.code(),
    ChangeKind::Cleared.code(),
    ChangeKind::Retired.code(),
];

/// The counters and histograms of all parts.
pub(crate) struct Metrics {
    pub(crate) client: Arc<ClientMetrics>,
    pub(crate) socket: Arc<SocketMetrics>,
    pub(crate) relay: Arc<RelayMetrics>,
    pub(crate) rest: Arc<RestMetrics>,
    pub(crate) tls: Arc<TlsMetrics>,
    pub(crate) limits: Arc<LimitMetrics>,
    reader: Box<dyn Fn() -> String + Send + Sync>,
}

impl Metrics {
    pub(crate) fn new(meters: &Meters) -> Arc<Self> {
        let [socket_refused, rest_refused] = meters.count_by_two(
            "gateway.access.refused",
            "Clients that were not admitted, and requests that their senders may not make, by door and reason.",
            ("door", ["socket", "rest"]),
            ("reason", &REFUSAL_CODES),
        );
        Arc::new(Self {
            client: Arc::new(ClientMetrics::new(meters)),
            socket: Arc::new(SocketMetrics::new(meters, socket_refused)),
            relay: Arc::new(RelayMetrics::new(meters)),
            rest: Arc::new(RestMetrics::new(meters, rest_refused)),
            tls: Arc::new(TlsMetrics::new(meters)),
            limits: Arc::new(LimitMetrics::new(meters)),
            reader: Box::new(meters.reader()),
        })
    }

    /// Renders every metric of this process in Prometheus' text format, gauges included.
    pub(crate) fn to_text(&self) -> String {
        (self.reader)()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// TLS of the main port.
#[derive(Debug)]
pub(crate) struct TlsMetrics {
    pub(crate) handshake_failed: Count,
    pub(crate) reloaded: Count,
    pub(crate) reload_failed: Count,
}

impl TlsMetrics {
    fn new(meters: &Meters) -> Self {
        let [reloaded, reload_failed] = meters.count_of_each(
            "gateway.certificate.reloads",
            "Times the files of the certificate changed, by outcome.",
            "outcome",
            ["done", "failed"],
        );
        Self {
            handshake_failed: meters.count(
                "gateway.tls.handshakes_failed",
                "TLS handshakes of clients that failed or took too long.",
            ),
            reloaded,
            reload_failed,
        }
    }
}

/// Connected clients and the packets sent to them.
#[derive(Debug)]
pub(crate) struct ClientMetrics {
    pub(crate) connected: Count,
    pub(crate) disconnected: LabelledCount,
    pub(crate) alarm_packets: Count,
    pub(crate) telemetry_packets: Count,
    pub(crate) conflated: Count,
    pub(crate) dropped: Count,
    pub(crate) alarm_wait: Durations,
}

impl ClientMetrics {
    fn new(meters: &Meters) -> Self {
        let [alarm_packets, telemetry_packets] = meters.count_of_each(
            "gateway.packets",
            "Packets for clients by lane, whether sent at once or after waiting.",
            "lane",
            ["alarms", "telemetry"],
        );
        Self {
            connected: meters.count("gateway.connections.opened", "Clients that connected."),
            disconnected: meters.count_by(
                "gateway.disconnections",
                "Clients whose connection ended, by reason.",
                "reason",
                &CloseReason::CODES,
            ),
            alarm_packets,
            telemetry_packets,
            conflated: meters.count(
                "gateway.packets.conflated",
                "Readings not sent because a newer one of the same device replaced them while \
                 they waited.",
            ),
            dropped: meters.count(
                "gateway.packets.dropped",
                "Waiting packets discarded because the connection of their client had ended.",
            ),
            alarm_wait: meters.durations(
                "gateway.alarm.wait",
                "Time that packets of the alarm lane (alarms, snapshots, replays) waited until \
                 the client took them or was disconnected. One value per send: the longest wait \
                 in it, 0 if nothing had to wait.",
            ),
        }
    }
}

/// The Socket.IO handshakes and commands that were refused.
#[derive(Debug)]
pub(crate) struct SocketMetrics {
    pub(crate) handshakes_refused: HandshakesRefused,
    pub(crate) polling: PollingRefused,
    pub(crate) commands_refused: LabelledCount,
    /// Clients that did not join because of their token, or because they have none.
    pub(crate) not_admitted: LabelledCount,
}

/// Requests of long polling sessions that were refused, by reason.
#[derive(Debug)]
pub(crate) struct PollingRefused {
    /// This replica does not know the session.
    pub(crate) unknown: Count,
    /// The client sent more packets than it may. The session is closed.
    pub(crate) packets: Count,
    /// The client joined a namespace again. The session is closed.
    pub(crate) connects: Count,
    /// The session has a WebSocket, or is about to get one.
    pub(crate) upgrades: Count,
}

/// Connection attempts that were refused, by reason.
#[derive(Debug)]
pub(crate) struct HandshakesRefused {
    /// This replica is shutting down.
    pub(crate) draining: Count,
    /// Every connection is taken.
    pub(crate) full: Count,
    /// The client exceeds a limit of connections or handshakes.
    pub(crate) limited: Count,
    /// The page's origin is not allowed.
    pub(crate) origin: Count,
    /// The request names a host that is not allowed.
    pub(crate) host: Count,
    /// The request cannot be read, or two servers could read it differently; or the client of a WebSocket broke the protocol before
    /// it joined the namespace, or did not join in time.
    pub(crate) invalid: Count,
}

impl SocketMetrics {
    fn new(meters: &Meters, not_admitted: LabelledCount) -> Self {
        let [draining, full, limited, origin, host, invalid] = meters.count_of_each(
            "gateway.handshakes.refused",
            "Socket.IO connection attempts that were refused, by reason.",
            "reason",
            ["draining", "full", "limited", "origin", "host", "invalid"],
        );
        let [unknown, packets, connects, upgrades] = meters.count_of_each(
            "gateway.polling.refused",
            "Requests of long polling sessions that were refused, by reason. `unknown`: the session \
             has ended, or another replica has it. `packets`: more than `--packet-rate`, \
             `connects`: the namespace joined again; both close the session. `upgrades`: the \
             session has a WebSocket already.",
            "reason",
            ["unknown", "packets", "connects", "upgrades"],
        );
        Self {
            handshakes_refused: HandshakesRefused {
                draining,
                full,
                limited,
                origin,
                host,
                invalid,
            },
            polling: PollingRefused {
                unknown,
                packets,
                connects,
                upgrades,
            },
            commands_refused: meters.count_by(
                "gateway.commands.refused",
                "Commands of clients that were refused, by code.",
                "code",
                &Refusal::CODES,
            ),
            not_admitted,
        }
    }
}

/// Events on their way from Redis to the clients.
#[derive(Debug)]
pub(crate) struct RelayMetrics {
    pub(crate) events: Count,
    pub(crate) unreadable: Count,
    /// Clients that reconnected and caught up.
    pub(crate) client_recoveries: LabelledCount,
    /// Catch-ups of this replica after it missed something.
    pub(crate) replica_recoveries: LabelledCount,
    pub(crate) subscriber_lost: SubscriberLost,
    pub(crate) subscriptions_failed: Count,
    pub(crate) overruns: Count,
    latency: Durations,
}

/// Connections for subscriptions that were given up, by reason.
#[derive(Debug)]
pub(crate) struct SubscriberLost {
    /// It was closed.
    pub(crate) closed: Count,
    /// It did not answer.
    pub(crate) silent: Count,
    /// It answered but received nothing that was published.
    pub(crate) deaf: Count,
    /// Another server answers at the configured address now.
    pub(crate) elsewhere: Count,
}

impl RelayMetrics {
    fn new(meters: &Meters) -> Self {
        let [client_recoveries, replica_recoveries] = meters.count_by_two(
            "gateway.recoveries",
            "Recoveries after a gap: of a client that subscribed again with its position, or of \
             this replica after it had missed events.",
            ("of", ["client", "replica"]),
            ("outcome", &Outcome::CODES),
        );
        let [closed, silent, deaf, elsewhere] = meters.count_of_each(
            "gateway.subscriber.lost",
            "Times a Redis connection that receives published events was lost or given up, by \
             reason. A replica has one per processor, at most four. `deaf`: it was open, but nothing \
             was received.",
            "reason",
            ["closed", "silent", "deaf", "elsewhere"],
        );
        Self {
            events: meters.count("gateway.events", "Events received from Redis."),
            unreadable: meters.count(
                "gateway.events.unreadable",
                "Events received from Redis that could not be parsed.",
            ),
            client_recoveries,
            replica_recoveries,
            subscriber_lost: SubscriberLost {
                closed,
                silent,
                deaf,
                elsewhere,
            },
            subscriptions_failed: meters.count(
                "gateway.subscriptions.failed",
                "Requests to subscribe to Redis channels, or to end subscriptions, that Redis \
                 refused or did not answer in time. Each is up to 500 channels, and is tried \
                 again.",
            ),
            overruns: meters.count(
                "gateway.lagging",
                "Times a part of this replica dropped events, because it had not kept up with what was \
                 published for 3 s. It then reads them from the event streams in Redis.",
            ),
            latency: meters.durations(
                "gateway.event.latency",
                "Time from the decision of an event (by the clock of Redis) until it was queued \
                 for all its subscribers. Includes events that were missed at first and caught up \
                 later.",
            ),
        }
    }

    /// Records that an event decided at this time is in the outboxes of all its watchers now, by the same clock.
    pub(crate) fn record_latency(&self, decided: Time, now: Time) {
        self.latency.record(now.duration_since(decided));
    }
}

/// REST requests and the changes they made.
#[derive(Debug)]
pub(crate) struct RestMetrics {
    pub(crate) requests: Durations,
    pub(crate) acknowledgements: Acknowledgements,
    pub(crate) retired: Count,
    pub(crate) alarm_changes: LabelledCount,
    /// Entries of the audit trail that could not be written.
    pub(crate) audit_lost: Count,
    /// Requests that their senders may not make.
    pub(crate) access_refused: LabelledCount,
    /// Large answers that were refused, because others wait for their clients.
    pub(crate) answers_refused: Count,
    /// Large answers that were not read fast enough.
    pub(crate) answers_unread: Count,
}

/// Acknowledgements of alarms, by outcome.
#[derive(Debug)]
pub(crate) struct Acknowledgements {
    pub(crate) covered: Count,
    /// The alarm had reached a higher level than the one that was seen.
    pub(crate) escalated: Count,
    pub(crate) not_found: Count,
}

impl RestMetrics {
    fn new(meters: &Meters, access_refused: LabelledCount) -> Self {
        let [covered, escalated, not_found] = meters.count_of_each(
            "gateway.acknowledgements",
            "Requests to acknowledge an alarm, by outcome.",
            "outcome",
            ["covered", "escalated", "not_found"],
        );
        Self {
            requests: meters.durations(HTTP_SERVER_REQUEST_DURATION, "Duration of REST requests."),
            acknowledgements: Acknowledgements {
                covered,
                escalated,
                not_found,
            },
            retired: meters.count("gateway.retirements", "Devices retired."),
            alarm_changes: meters.count_by(
                "gateway.alarm.changes",
                "Alarm changes caused by acknowledgements and retirements.",
                "change",
                &CHANGES_BY_PEOPLE,
            ),
            audit_lost: meters.count(
                "gateway.audit.lost",
                "Entries of the audit trail that could not be written, because Redis was unavailable or had no memory.",
            ),
            access_refused,
            answers_refused: meters.count(
                "gateway.answers.refused",
                "Large REST answers refused because `--answer-bytes` wait for clients to read them, or \
                 half of them for one address.",
            ),
            answers_unread: meters.count(
                "gateway.answers.unread",
                "Connections closed because the client did not read a large REST answer fast enough: in \
                 `--answer-time`, or with `--answer-rate`.",
            ),
        }
    }
}

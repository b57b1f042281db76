//! One connected client: its lanes, and the ways to let it go.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use shared::clock::SystemClock;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use shared::rate_limit::RateLimit;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::{DisconnectReason, Sid, Socket};
use socketioxide::{SendError, SocketError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::transport::Transport;
use crate::lanes::{Address, BROADCAST, DATA, Flushed, Handed, Lanes, Limits, Overflow, Packet};
use crate::metrics::Metrics;
use crate::replay::Published;

/// How long one replay may hold up the next of a client.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Number of a client within this process; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientId(u64);

/// Why we end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetGo {
    /// It did not take what was sent: too much waits, or for too long.
    TooSlow(Overflow),
    /// It sends commands faster than they can be worked off.
    TooFast,
    /// Nothing was heard of it for longer than a heartbeat may take.
    Silent,
    /// This replica goes.
    Draining,
    /// A part of ours failed.
    Broken,
}

impl LetGo {
    /// Every reason for which a client is gone: our own, then what the transport tells.
    pub(crate) const CODES: [&'static str; 13] = [
        "outbox_packets",
        "outbox_bytes",
        "outbox_deadline",
        "too_many_commands",
        "silent",
        "draining",
        "broken",
        "client",
        "transport_close",
        "transport_error",
        "heartbeat",
        "invalid",
        "server",
    ];

    /// A short constant for logs and counters.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::TooSlow(Overflow::Packets) => "outbox_packets",
            Self::TooSlow(Overflow::Bytes) => "outbox_bytes",
            Self::TooSlow(Overflow::Deadline) => "outbox_deadline",
            Self::TooFast => "too_many_commands",
            Self::Silent => "silent",
            Self::Draining => "draining",
            Self::Broken => "broken",
        }
    }
}

/// A short constant for what the transport tells.
fn code_of(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::ClientNSDisconnect => "client",
        DisconnectReason::TransportClose => "transport_close",
        DisconnectReason::TransportError => "transport_error",
        DisconnectReason::HeartbeatTimeout => "heartbeat",
        DisconnectReason::MultipleHttpPollingError | DisconnectReason::PacketParsingError => {
            "invalid"
        }
        DisconnectReason::ServerNSDisconnect | DisconnectReason::ClosingServer => "server",
    }
}

/// A connected client. Holds its socket weakly: the library's own table keeps the socket alive, and only as long as it
/// is connected.
pub(crate) struct Client {
    id: ClientId,
    sid: Sid,
    socket: Weak<Socket>,
    transport: Transport,
    // A std mutex: held while packets are handed to the library's queue, which never waits.
    lanes: Mutex<Lanes>,
    /// Told when something begins to wait in the lanes.
    waiting: Notify,
    /// Cancelled when the client left or was let go, whichever comes first.
    gone: CancellationToken,
    /// Subscriptions that are not answered yet.
    unanswered: AtomicUsize,
    /// Told when a subscription was answered, and when the lanes became empty.
    caught_up: Notify,
    /// Its end was counted.
    is_counted: AtomicBool,
    metrics: Arc<Metrics>,
}

/// Lines about clients, who come and go as they like.
static LINES: RateLimit = RateLimit::six_hundred_per_minute();

/// Tells a line about a client, if it may still be told.
pub(super) fn tell(line: impl FnOnce(u64)) {
    if let Some(held_back) = LINES.allow(SystemClock::local()) {
        line(held_back);
    }
}

impl Client {
    pub(crate) fn id(&self) -> ClientId {
        self.id
    }

    pub(crate) fn sid(&self) -> Sid {
        self.sid
    }

    /// Ends when the client left or was let go.
    pub(crate) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn waiting(&self) -> &Notify {
        &self.waiting
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Sends an event that is of no device, behind every other alarm.
    pub(crate) fn send(&self, name: &'static str, payload: &Arc<RawValue>) {
        self.push_alarms(None, [Packet::event(name, payload)]);
    }

    /// Answers an event of the client that is of no device.
    pub(crate) fn acknowledge(&self, ack: i64, payload: Box<RawValue>) {
        self.push_alarms(None, [Packet::ack(ack, payload)]);
    }

    /// Answers an event of the client behind everything sent of this device.
    pub(crate) fn answer(&self, device: &DeviceId, ack: i64, payload: Box<RawValue>) {
        self.push_alarms(Some(device), [Packet::ack(ack, payload)]);
    }

    /// Sends a position of a device as a whole: complete if it tells of alarms, else as telemetry, which the next one
    /// may replace.
    pub(crate) fn send_position(
        &self,
        device: &DeviceId,
        position: &Published,
        is_broadcast: bool,
    ) {
        if position.tells_of_alarms() {
            let packets = position.packets().flat_map(|(name, payload)| {
                let copy = (is_broadcast && name == DATA).then_some((BROADCAST, payload));
                std::iter::once((name, payload)).chain(copy)
            });
            self.push_alarms(
                Some(device),
                packets.map(|(name, payload)| Packet::event(name, payload)),
            );
        } else if let Some(data) = &position.data {
            let copy = is_broadcast.then_some((BROADCAST, data));
            self.push_telemetry(device, std::iter::once((DATA, data)).chain(copy));
        }
    }

    /// Sends what must arrive as it is of one device: a snapshot, a replay, or that it went stale.
    pub(crate) fn send_complete<'a>(
        &self,
        device: &DeviceId,
        packets: impl IntoIterator<Item = (&'static str, &'a Arc<RawValue>)>,
    ) {
        let packets = packets.into_iter();
        self.push_alarms(
            Some(device),
            packets.map(|(name, payload)| Packet::event(name, payload)),
        );
    }

    /// Sends a reading of a device the client need not have subscribed to.
    pub(crate) fn broadcast(&self, device: &DeviceId, payload: &Arc<RawValue>) {
        self.push_telemetry(device, [(BROADCAST, payload)]);
    }

    /// Hands over what waits.
    pub(crate) fn flush(&self) -> Flushed {
        let mut lanes = self.lanes();
        let flushed = lanes.flush(Instant::now(), |packet| self.hand_over(packet));
        self.count(&mut lanes);
        drop(lanes);
        let flushed = flushed.unwrap_or_else(|overflow| {
            self.let_go(LetGo::TooSlow(overflow));
            Flushed::All
        });
        if !self.lanes().has_alarms() {
            self.caught_up.notify_one();
        }
        flushed
    }

    /// Waits until every subscription is answered and no alarm waits to be sent: replays of many devices at once would
    /// break the bounds of a client that did nothing but come back, again and again. One device that cannot be read must
    /// not hold up the others: it waits for a while only.
    pub(crate) async fn catches_up(&self) {
        let caught_up = async {
            while self.unanswered.load(Ordering::Acquire) > 0 || self.lanes().has_alarms() {
                self.caught_up.notified().await;
            }
        };
        // Whether in time or not, the subscription goes on.
        tokio::time::timeout(CATCH_UP, caught_up).await.ok();
    }

    /// A subscription was answered.
    pub(crate) fn has_answered(&self) {
        self.unanswered.fetch_sub(1, Ordering::AcqRel);
        self.caught_up.notify_one();
    }

    /// Ends the connection; the client may come back and go on from its last position.
    pub(crate) fn let_go(&self, reason: LetGo) {
        if self.gone.is_cancelled() {
            return;
        }
        let (client, reason_code) = (self.sid, reason.code());
        self.count_end(reason_code);
        if reason == LetGo::Draining {
            tracing::debug!(%client, reason = reason_code, "client let go");
        } else {
            tell(|held_back| {
                tracing::warn!(%client, reason = reason_code, held_back, "client let go");
            });
        }
        self.gone.cancel();
        self.transport.kill();
    }

    /// The client left by itself, or its connection is closed.
    pub(crate) fn has_left(&self, reason: DisconnectReason) {
        self.count_end(code_of(reason));
        self.gone.cancel();
    }

    /// Nothing is done for the client any more; what still waits for it is thrown away.
    pub(crate) fn end(&self) {
        self.gone.cancel();
        let mut lanes = self.lanes();
        lanes.close(Instant::now());
        self.count(&mut lanes);
    }

    /// The first reason is the one that counts.
    fn count_end(&self, reason: &str) {
        if !self.is_counted.swap(true, Ordering::Relaxed) {
            self.metrics.disconnected.increment(reason);
        }
    }

    /// Joins the Socket.IO room. A join after the client left would never be cleaned up by the library.
    pub(crate) fn join_room(&self, room: String) {
        let Some(socket) = self.socket.upgrade() else {
            return;
        };
        socket.join(room);
        if self.gone.is_cancelled() {
            socket.leave_all();
        }
    }

    pub(crate) fn leave_room(&self, room: String) {
        if let Some(socket) = self.socket.upgrade() {
            socket.leave(room);
        }
    }

    pub(crate) fn unanswered(&self) -> &AtomicUsize {
        &self.unanswered
    }

    fn push_alarms(&self, device: Option<&DeviceId>, packets: impl IntoIterator<Item = Packet>) {
        let count = &self.metrics.alarm_packets;
        let packets = packets.into_iter().inspect(|_| {
            count.increment();
        });
        self.push(|lanes| {
            lanes.push_alarms(device, packets, Instant::now(), |packet| {
                self.hand_over(packet)
            })
        });
    }

    fn push_telemetry<'a>(
        &self,
        device: &DeviceId,
        packets: impl IntoIterator<Item = (&'static str, &'a Arc<RawValue>)>,
    ) {
        self.push(|lanes| {
            let now = Instant::now();
            let mut waits = false;
            for (name, payload) in packets {
                self.metrics.telemetry_packets.increment();
                waits = lanes
                    .push_telemetry(device, name, payload, now, |packet| self.hand_over(packet))?;
            }
            Ok(waits)
        });
    }

    fn push(&self, push: impl FnOnce(&mut Lanes) -> Result<bool, Overflow>) {
        if self.gone.is_cancelled() {
            return;
        }
        let mut lanes = self.lanes();
        let pushed = push(&mut lanes);
        self.count(&mut lanes);
        drop(lanes);
        match pushed {
            Ok(true) => self.waiting.notify_one(),
            Ok(false) => {}
            Err(overflow) => self.let_go(LetGo::TooSlow(overflow)),
        }
    }

    /// What became of packets since this was last asked.
    fn count(&self, lanes: &mut Lanes) {
        if let Some(waited) = lanes.take_waited() {
            self.metrics.alarm_waited(waited);
        }
        let losses = [
            (&self.metrics.conflated, lanes.take_conflated()),
            (&self.metrics.dropped, lanes.take_dropped()),
        ];
        for (counter, count) in losses {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    fn hand_over(&self, packet: &Packet) -> Handed {
        let Some(socket) = self.socket.upgrade() else {
            return Handed::Closed;
        };
        let payload = packet.payload();
        let sent = match packet.address() {
            Address::Event(name) => socket.emit(name, &*payload),
            Address::Ack(id) => {
                let mut nothing = Value::Bytes(axum::body::Bytes::new());
                let Ok(ack) = AckSender::from_message_parts(&socket, &mut nothing, &Some(id));
                ack.send(&*payload)
            }
        };
        match sent {
            Ok(()) => Handed::Taken,
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Handed::Full,
            Err(SendError::Socket(SocketError::Closed)) => Handed::Closed,
            Err(SendError::Serialize(error)) => {
                let client = self.sid;
                tracing::error!(%client, error = error_chain(&error), "packet cannot be written");
                // The lanes are locked here: the connection ends by its token, at once as well.
                self.count_end(LetGo::Broken.code());
                self.gone.cancel();
                self.transport.kill();
                Handed::Closed
            }
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("sid", &self.sid)
            .finish_non_exhaustive()
    }
}

/// Every connected client of this replica.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    next_id: AtomicU64,
    metrics: Arc<Metrics>,
    // A std mutex: held for one insertion, removal or copy, never across an await. Bounded by the connections.
    connected: Mutex<HashMap<ClientId, Arc<Client>>>,
}

impl Clients {
    pub(crate) fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        let inner = Inner {
            limits,
            next_id: AtomicU64::new(1),
            metrics,
            connected: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// A client for a socket that is about to connect; it counts from [`Self::register`] on.
    pub(crate) fn create(&self, socket: &Arc<Socket>, transport: Transport) -> Arc<Client> {
        Arc::new(Client {
            id: ClientId(self.inner.next_id.fetch_add(1, Ordering::Relaxed)),
            sid: socket.id,
            socket: Arc::downgrade(socket),
            transport,
            lanes: Mutex::new(Lanes::new(self.inner.limits)),
            waiting: Notify::new(),
            gone: CancellationToken::new(),
            unanswered: AtomicUsize::new(0),
            caught_up: Notify::new(),
            is_counted: AtomicBool::new(false),
            metrics: Arc::clone(&self.inner.metrics),
        })
    }

    /// Counts the client as connected until the registration is dropped.
    pub(crate) fn register(&self, client: &Arc<Client>) -> Registration {
        self.metrics().connected.increment();
        self.connected().insert(client.id, Arc::clone(client));
        Registration {
            clients: self.clone(),
            id: client.id,
        }
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    pub(crate) fn count(&self) -> usize {
        self.connected().len()
    }

    /// The clients connected at this moment.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.connected().values().cloned().collect()
    }

    fn connected(&self) -> MutexGuard<'_, HashMap<ClientId, Arc<Client>>> {
        self.inner
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the client out of [`Clients`] when it is dropped.
pub(crate) struct Registration {
    clients: Clients,
    id: ClientId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.connected().remove(&self.id);
    }
}

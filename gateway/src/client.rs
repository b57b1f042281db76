//! A connected client: sends packets to it and closes its connection.

pub(crate) mod close_reason;
pub(crate) mod coalescer;
pub(crate) mod link;
pub(crate) mod log_limit;
pub(crate) mod outbox;
pub(crate) mod pending_replies;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::clock::millis;
use shared::device::DeviceId;
use shared::error_chain::error_chain;
use socketioxide::socket::Sid;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::access::identity::Identity;
use crate::admission::connections::CallerPlace;
use crate::config::Config;
use crate::event_names::{BROADCAST_DATA, DEVICE_DATA, SERVER_DRAIN};
use crate::json;
use crate::metrics::ClientMetrics;
use crate::replay::PublishedEvent;
use crate::websocket::writer::{FrameWriter, Written};
use close_reason::CloseReason;
use coalescer::Coalescer;
use link::Link;
use log_limit::limited;
use outbox::{Flushed, Outbox, OutboxLimits, Overflow, Packet, SendOutcome};
use pending_replies::PendingReplies;

/// Maximum time that the catch-up of one device may delay the catch-up of the client's next device.
const MAX_CATCH_UP_WAIT: Duration = Duration::from_secs(3);

/// The shortest time between announcing that a connection will be closed and closing it, so that the announcement is sent
/// first.
pub(crate) const DRAIN_NOTICE: Duration = Duration::from_millis(100);

/// Number of a client; unique within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientId(pub(crate) u64);

/// Who has joined.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) identity: Arc<Identity>,
    /// Counts the client for the subject of its token.
    pub(crate) place: CallerPlace,
}

/// A connected client.
pub(crate) struct Client {
    id: ClientId,
    sid: Sid,
    link: Link,
    // A std mutex: held for a copy.
    identity: Mutex<Arc<Identity>>,
    /// Counts it for the subject of its token.
    place: Mutex<CallerPlace>,
    // A std mutex: it is held only while packets are handed over, and that never blocks.
    outbox: Mutex<Outbox>,
    /// Notified when packets wait in the outbox of a client that polls.
    waiting: Notify,
    /// Notified when packets have left the outbox.
    left: Notify,
    /// Cancelled when the connection ends, for any reason.
    closed: CancellationToken,
    pending_replies: Arc<PendingReplies>,
    is_end_counted: AtomicBool,
    shared: Arc<ClientContext>,
}

/// What all clients share.
#[derive(Debug)]
pub(crate) struct ClientContext {
    pub(crate) limits: OutboxLimits,
    pub(crate) coalescer: Arc<Coalescer>,
    pub(crate) metrics: Arc<ClientMetrics>,
}

impl ClientContext {
    pub(crate) fn new(config: &Config, metrics: Arc<ClientMetrics>) -> Self {
        let limits = OutboxLimits {
            packets: config.outbox_packets,
            bytes: config.outbox_bytes,
            deadline: config.alarm_deadline,
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            limits,
            coalescer: Arc::new(Coalescer::new(config.coalesce, threads)),
            metrics,
        }
    }

    /// Counts an event that so many clients got at once.
    pub(crate) fn count_at_once(&self, event: &PublishedEvent, clients: u64) {
        if clients == 0 {
            return;
        }
        if event.has_alarm_changes() {
            let packets = event.packets().count() as u64;
            self.metrics.alarm_packets.add(packets * clients);
            for _ in 0..clients {
                self.metrics.alarm_wait.record(Duration::ZERO);
            }
        } else {
            self.metrics.telemetry_packets.add(clients);
        }
    }
}

/// Payload of `server:drain`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerDrain {
    reconnect_in_ms: i64,
}

impl Client {
    pub(crate) fn new(
        id: ClientId,
        sid: Sid,
        link: Link,
        admitted: Admitted,
        shared: Arc<ClientContext>,
    ) -> Self {
        Self {
            id,
            sid,
            link,
            identity: Mutex::new(admitted.identity),
            place: Mutex::new(admitted.place),
            outbox: Mutex::new(Outbox::new(shared.limits)),
            waiting: Notify::new(),
            left: Notify::new(),
            closed: CancellationToken::new(),
            pending_replies: Arc::default(),
            is_end_counted: AtomicBool::new(false),
            shared,
        }
    }

    pub(crate) fn id(&self) -> ClientId {
        self.id
    }

    pub(crate) fn sid(&self) -> Sid {
        self.sid
    }

    /// Returns who the client is.
    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.lock_identity())
    }

    /// Replaces who the client is, as its token is replaced.
    pub(crate) fn set_identity(&self, identity: Arc<Identity>) {
        *self.lock_identity() = identity;
    }

    /// Counts the client for the subject of its first token from now on.
    pub(crate) fn set_place(&self, place: CallerPlace) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    fn lock_identity(&self) -> MutexGuard<'_, Arc<Identity>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the client may be sent readings of every device.
    fn reads_all(&self) -> bool {
        self.lock_identity().permission().reads_all()
    }

    /// Returns the token that is cancelled when the connection ends, for any reason.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Returns the handle that is notified when packets wait in the outbox, and when frames wait for the kernel.
    pub(crate) fn waiting(&self) -> &Notify {
        let writer = self.link.websocket();
        writer.map_or(&self.waiting, |writer| writer.waiting())
    }

    /// Returns the WebSocket that the client uses now; `None` while it polls.
    pub(crate) fn websocket(&self) -> Option<&Arc<FrameWriter>> {
        self.link.websocket()
    }

    /// Holds back everything for a client that moves from long polling to a WebSocket.
    pub(crate) fn begin_move(&self) {
        let _sending = self.outbox();
        self.link.begin_move();
    }

    /// Sends everything over this WebSocket from now on.
    pub(crate) fn finish_move(&self, writer: Arc<FrameWriter>) {
        self.link.finish_move(writer);
    }

    pub(crate) fn pending_replies(&self) -> &Arc<PendingReplies> {
        &self.pending_replies
    }

    /// Sends an event that is not about a device, after all alarms that wait.
    pub(crate) fn send_event(&self, name: &'static str, payload: &Arc<RawValue>) {
        self.push_alarms(None, [Packet::event(name, payload)]);
    }

    /// Announces that the connection will be closed after `after`.
    pub(crate) fn announce_drain(&self, after: Duration) {
        let payload = ServerDrain {
            reconnect_in_ms: millis(after),
        };
        self.send_event(SERVER_DRAIN, &json::to_raw(&payload).into());
    }

    /// Replies to the client's event that has this acknowledgement id. If `device` is given, the reply is sent after
    /// everything about that device.
    pub(crate) fn reply(&self, device: Option<&DeviceId>, id: i64, payload: Box<RawValue>) {
        self.push_alarms(device, [Packet::reply(id, payload)]);
    }

    /// Sends the payloads of a published event. If it has alarm changes, all its payloads must arrive. Otherwise it is only
    /// a reading, and a newer reading may replace it. `with_broadcast`: the reading is also sent as [`BROADCAST_DATA`].
    /// Returns whether it left at once, as frames. The caller counts those, once for all clients:
    /// [`ClientContext::count_at_once`].
    pub(crate) fn send_published(
        self: &Arc<Self>,
        device: &DeviceId,
        event: &PublishedEvent,
        with_broadcast: bool,
        now: Instant,
    ) -> bool {
        let with_broadcast = with_broadcast && self.reads_all();
        if !with_broadcast
            && let Some(was_sent) =
                self.send_frames(event, |compressed| event.frames(compressed), now)
        {
            return was_sent;
        }
        if event.has_alarm_changes() {
            let packets = event.packets().flat_map(|(name, payload)| {
                let is_copied = with_broadcast && name == DEVICE_DATA;
                let copy = is_copied.then_some((BROADCAST_DATA, payload));
                std::iter::once((name, payload)).chain(copy)
            });
            self.send_complete(device, packets);
        } else if let Some(data) = &event.data {
            let copy = with_broadcast.then_some((BROADCAST_DATA, data));
            self.push_telemetry(
                Some(device),
                std::iter::once((DEVICE_DATA, data)).chain(copy),
            );
        }
        false
    }

    /// Sends these frames of an event, which several clients share. `frames` returns them compressed or not. Returns whether they were
    /// sent; `None` if the event must wait, or the client polls.
    pub(crate) fn send_frames<'a>(
        self: &Arc<Self>,
        event: &PublishedEvent,
        frames: impl FnOnce(bool) -> &'a Bytes,
        now: Instant,
    ) -> Option<bool> {
        let writer = self.link.websocket()?;
        let mut outbox = self.outbox();
        if !outbox.is_idle() {
            return None;
        }
        let coalescer = &self.shared.coalescer;
        let frames = frames(writer.compresses());
        let written = if event.has_alarm_changes() {
            writer.send(frames, true)
        } else {
            writer.send_telemetry(frames, now, coalescer.window())
        };
        match written {
            Written::Full => return None,
            Written::Whole | Written::Begun | Written::HeldBehind => {}
            Written::Held => coalescer.add(self),
            Written::Closed => {
                outbox.close(Instant::now());
                return Some(false);
            }
        }
        Some(true)
    }

    /// Sends the telemetry that is held.
    fn release_held(&self, now: Instant) {
        if let Some(writer) = self.link.websocket() {
            writer.release(now);
        }
    }

    /// Sends packets about a device that must all arrive: a snapshot, a replay, or the notice that the device is stale.
    pub(crate) fn send_complete<'a>(
        &self,
        device: &DeviceId,
        packets: impl IntoIterator<Item = (&'static str, &'a Arc<RawValue>)>,
    ) {
        let packets = packets.into_iter();
        let packets = packets.map(|(name, payload)| Packet::event(name, payload));
        self.push_alarms(Some(device), packets);
    }

    /// Sends a reading to a client that may not have subscribed to the device, if it may read every device.
    pub(crate) fn broadcast(&self, device: &DeviceId, payload: &Arc<RawValue>) {
        if !self.reads_all() {
            return;
        }
        self.push_telemetry(Some(device), [(BROADCAST_DATA, payload)]);
    }

    /// Sends rows or locations of many devices. None of the same kind may wait: see [`Self::wait_until_rows_left`] and
    /// [`Self::wait_until_locations_left`].
    pub(crate) fn send_rows(&self, name: &'static str, payload: Box<RawValue>) {
        self.push_telemetry(None, [(name, &payload.into())]);
    }

    /// Drops the rows of many devices that wait. Nobody may be sending any.
    pub(crate) fn drop_rows(&self) {
        self.outbox().drop_rows();
    }

    /// Waits until no rows of many devices wait to be sent.
    pub(crate) async fn wait_until_rows_left(&self) {
        self.wait_while(Outbox::has_rows).await;
    }

    /// Waits until no location event waits to be sent.
    pub(crate) async fn wait_until_locations_left(&self) {
        self.wait_while(Outbox::has_locations).await;
    }

    /// Waits until no alarm waits to be sent.
    pub(crate) async fn wait_until_alarms_left(&self) {
        self.wait_while(Outbox::has_alarms).await;
    }

    async fn wait_while(&self, waits: fn(&Outbox) -> bool) {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            if !waits(&self.outbox()) {
                return;
            }
            left.await;
        }
    }

    /// Sends the packets that wait, until nothing more is accepted.
    pub(crate) fn flush(&self) -> Flushed {
        let mut outbox = self.outbox();
        let now = Instant::now();
        let unsent = self
            .link
            .websocket()
            .and_then(|writer| writer.alarm_waits());
        let flushed = outbox
            .check_unsent_alarm(unsent, now)
            .and_then(|()| outbox.flush(now, |packet| self.send_now(packet)));
        self.record_counts(&mut outbox);
        drop(outbox);
        let flushed = flushed.unwrap_or_else(|overflow| {
            self.close(overflow.into());
            Flushed::All
        });
        if !self.outbox().has_alarms() {
            self.pending_replies.progress.notify_one();
        }
        self.left.notify_waiters();
        flushed
    }

    /// Waits until every subscription is answered and no alarm waits to be sent, but not longer than [`MAX_CATCH_UP_WAIT`].
    ///
    /// Catching up on many devices at once would exceed the bounds of the outbox, and the client would be disconnected every
    /// time it reconnects. The time is limited because one device that cannot be read must not block the others.
    pub(crate) async fn wait_until_caught_up(&self) {
        let caught_up = async {
            while !self.pending_replies.are_answered() || self.outbox().has_alarms() {
                self.pending_replies.progress.notified().await;
            }
        };
        // After a timeout the next subscription continues, too.
        if tokio::time::timeout(MAX_CATCH_UP_WAIT, caught_up)
            .await
            .is_err()
        {
            self.pending_replies.give_up();
        }
    }

    /// Closes the connection without sending the reason. The client may reconnect and recover from its last position.
    pub(crate) fn close(&self, reason: CloseReason) {
        if self.closed.is_cancelled() {
            return;
        }
        let (client, code) = (self.id.0, reason.code());
        if reason == CloseReason::Draining {
            tracing::debug!(client, reason = code, "closing the connection of a client");
        } else {
            limited(|suppressed| {
                tracing::warn!(
                    client,
                    reason = code,
                    held_back = suppressed,
                    "closing the connection of a client"
                );
            });
        }
        self.abort(reason);
    }

    /// Records the end of the connection, as socketioxide reported it.
    pub(crate) fn record_disconnect(&self, reason: CloseReason) {
        self.count_end(reason);
        self.closed.cancel();
    }

    /// Drops all packets that still wait. Called after the connection has ended.
    pub(crate) fn discard_outbox(&self) {
        self.closed.cancel();
        let mut outbox = self.outbox();
        outbox.close(Instant::now());
        self.record_counts(&mut outbox);
    }

    /// Joins the Socket.IO room of socketioxide, if the client polls. socketioxide would never remove a client that joins after it disconnected, so this method does.
    pub(crate) fn join_room(&self, room: String) {
        self.link.join(room);
        if self.closed.is_cancelled() {
            self.link.leave_all();
        }
    }

    pub(crate) fn leave_room(&self, room: String) {
        self.link.leave(room);
    }

    /// Ends the connection without locking the outbox, which the caller may hold.
    fn abort(&self, reason: CloseReason) {
        self.count_end(reason);
        self.closed.cancel();
        self.link.abort();
    }

    /// Counts the end of the connection once, under the first reason.
    fn count_end(&self, reason: CloseReason) {
        if !self.is_end_counted.swap(true, Ordering::Relaxed) {
            self.shared.metrics.disconnected.increment(reason.code());
        }
    }

    fn push_alarms(&self, device: Option<&DeviceId>, packets: impl IntoIterator<Item = Packet>) {
        let count = &self.shared.metrics.alarm_packets;
        let packets = packets.into_iter().inspect(|_| count.increment());
        self.push(|outbox| {
            outbox.push_alarms(device, packets, Instant::now(), |packet| {
                self.send_now(packet)
            })
        });
    }

    fn push_telemetry<'a>(
        &self,
        device: Option<&DeviceId>,
        packets: impl IntoIterator<Item = (&'static str, &'a Arc<RawValue>)>,
    ) {
        self.push(|outbox| {
            let now = Instant::now();
            let mut waits = false;
            for (name, payload) in packets {
                self.shared.metrics.telemetry_packets.increment();
                waits = outbox
                    .push_telemetry(device, name, payload, now, |packet| self.send_now(packet))?;
            }
            Ok(waits)
        });
    }

    /// Runs `push`, which returns whether packets wait in the outbox afterwards.
    fn push(&self, push: impl FnOnce(&mut Outbox) -> Result<bool, Overflow>) {
        if self.closed.is_cancelled() {
            return;
        }
        let mut outbox = self.outbox();
        let pushed = push(&mut outbox);
        self.record_counts(&mut outbox);
        drop(outbox);
        match pushed {
            Ok(true) => self.waiting().notify_one(),
            Ok(false) => {}
            Err(overflow) => self.close(overflow.into()),
        }
    }

    fn record_counts(&self, outbox: &mut Outbox) {
        let counts = outbox.take_counts();
        if let Some(wait) = counts.longest_alarm_wait {
            self.shared.metrics.alarm_wait.record(wait);
        }
        for (counter, count) in [
            (&self.shared.metrics.conflated, counts.conflated),
            (&self.shared.metrics.dropped, counts.dropped),
        ] {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    /// Hands a packet over. The caller holds the lock of the outbox.
    fn send_now(&self, packet: &Packet) -> SendOutcome {
        self.link.send(packet).unwrap_or_else(|error| {
            let client = self.sid;
            tracing::error!(%client, error = error_chain(&error), "cannot serialise a packet");
            self.abort(CloseReason::Broken);
            SendOutcome::Closed
        })
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
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

//! The sessions of clients that began with long polling. Each holds one place of `--max-connections`, as its requests may share a
//! few connections with those of many others.
//!
//! socketioxide keeps the extensions of the request that opened a session for as long as the session lives. The [`Session`] is
//! among them, so its place is free again exactly when socketioxide has freed everything of the session, for any reason.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use socketioxide::socket::Sid;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::access::credential::Credential;
use crate::admission::caller::Caller;
use crate::admission::connections::CallerPlace;
use crate::admission::enforcement::Enforcement;
use crate::admission::limit::Limit;
use crate::client::close_reason::CloseReason;
use crate::client_address::ClientAddress;
use crate::packet_budget::{Budget, PacketRate};
use crate::websocket::reader::MessageReader;

/// Maximum number of bytes in the queue of socketioxide for a client that must poll for them; one packet may be larger. The rest
/// waits in the client's outbox.
const UNPOLLED_BYTES: usize = 256 * 1024;

/// Separates the packets in the answer to a poll.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// How long a poll may wait for packets while the client is about to use a WebSocket. As long as in the server of Node.js.
const PROBED_POLL: Duration = Duration::from_millis(100);

/// The sessions of one address may hold one in so many of all places. A session costs a client next to nothing: without a share, one
/// TCP connection could take every place.
const SHARE: usize = 2;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    sessions: Sessions,
    sid: OnceLock<Sid>,
    // Std mutexes: none is held across an await.
    place: Mutex<Option<Place>>,
    /// Counts it for its caller, until its WebSocket has this.
    counted: Mutex<Option<CallerPlace>>,
    budget: Mutex<Budget>,
    /// The credential in the head of the request that opened it, until the client joins.
    credential: Mutex<Credential>,
    /// The client's packet for joining the namespace is handled.
    is_joining: AtomicBool,
    join_ended: Notify,
    /// The client has asked for an upgrade to a WebSocket.
    is_upgrading: AtomicBool,
    /// The client has a WebSocket and is about to use it: polls do not wait for packets any more.
    is_probed: AtomicBool,
    probed: Notify,
    /// Held while socketioxide answers a poll.
    polling: tokio::sync::Mutex<()>,
    upgrade: Mutex<Upgrade>,
    upgraded: Notify,
    unpolled: Mutex<Unpolled>,
    /// Why the gateway ended it.
    refused: OnceLock<CloseReason>,
}

/// The events and replies in the queue of socketioxide, which wait for a poll. Without its own packets, which are a few bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Unpolled {
    packets: usize,
    /// With a separator for each.
    bytes: usize,
}

/// The place of a session. It is free again when this is dropped.
#[derive(Debug)]
struct Place {
    held: Arc<Mutex<HashMap<ClientAddress, usize>>>,
    address: ClientAddress,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

/// How far a session's upgrade to a WebSocket is.
#[derive(Debug, Default)]
enum Upgrade {
    #[default]
    None,
    /// The client has joined the namespace. Its task takes over the WebSocket.
    Joined,
    /// The WebSocket waits for the client's task.
    Ready(MessageReader),
    /// The client uses a WebSocket. The session has ended.
    Done,
}

/// Every session. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    table: Arc<Mutex<HashMap<Sid, Weak<Session>>>>,
    /// The places of connections and sessions.
    places: Arc<Semaphore>,
    /// Number of places that the sessions of each address hold.
    held: Arc<Mutex<HashMap<ClientAddress, usize>>>,
    max_per_address: usize,
    max_unpolled: usize,
    rate: PacketRate,
    enforcement: Enforcement,
}

impl Sessions {
    /// Creates the table. Sessions take their places from `places`, of which there are `count`. For each, at most `max_unpolled`
    /// events and replies wait for a poll.
    pub(crate) fn new(
        places: Arc<Semaphore>,
        count: usize,
        max_unpolled: usize,
        rate: PacketRate,
        enforcement: Enforcement,
    ) -> Self {
        Self {
            table: Arc::default(),
            places,
            held: Arc::default(),
            max_per_address: count.div_ceil(SHARE),
            max_unpolled,
            rate,
            enforcement,
        }
    }

    /// Takes a place for a new session of a client at this address; `None` if it is refused because every place is taken, or those
    /// of the address are.
    pub(crate) fn begin(&self, address: ClientAddress) -> Option<Arc<Session>> {
        let place = self.take_place(address);
        let caller = Caller::Address(address);
        if place.is_none()
            && self
                .enforcement
                .refuses(Limit::MaxConnections, Some(caller))
        {
            return None;
        }
        Some(self.create(place))
    }

    /// Opens a session without a place, over a connection that has none either because that limit is only tried out. Both count as one.
    pub(crate) fn begin_beyond(&self) -> Arc<Session> {
        self.create(None)
    }

    fn create(&self, place: Option<Place>) -> Arc<Session> {
        Arc::new(Session {
            sessions: self.clone(),
            sid: OnceLock::new(),
            place: Mutex::new(place),
            counted: Mutex::default(),
            budget: Mutex::new(Budget::new(self.rate, Instant::now())),
            credential: Mutex::default(),
            is_joining: AtomicBool::new(false),
            join_ended: Notify::new(),
            is_upgrading: AtomicBool::new(false),
            is_probed: AtomicBool::new(false),
            probed: Notify::new(),
            polling: tokio::sync::Mutex::default(),
            upgrade: Mutex::default(),
            upgraded: Notify::new(),
            unpolled: Mutex::default(),
            refused: OnceLock::new(),
        })
    }

    fn take_place(&self, address: ClientAddress) -> Option<Place> {
        let mut held = lock(&self.held);
        let count = held.get(&address).copied().unwrap_or_default();
        if count >= self.max_per_address {
            return None;
        }
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        held.insert(address, count + 1);
        drop(held);
        Some(Place {
            held: Arc::clone(&self.held),
            address,
            _permit: permit,
        })
    }

    /// Makes a session known under the id that socketioxide has given it. The entry lives as long as the session.
    pub(crate) fn insert(&self, sid: Sid, session: &Arc<Session>) {
        if session.sid.set(sid).is_ok() {
            self.table().insert(sid, Arc::downgrade(session));
        }
    }

    pub(crate) fn find(&self, sid: Sid) -> Option<Arc<Session>> {
        self.table().get(&sid).and_then(Weak::upgrade)
    }

    /// Returns the number of sessions that hold a place.
    pub(crate) fn count(&self) -> usize {
        // The strong references are dropped without the lock of the table, which the end of a session takes.
        let sessions: Vec<Arc<Session>> = self.table().values().filter_map(Weak::upgrade).collect();
        let holds = |session: &&Arc<Session>| lock(&session.place).is_some();
        sessions.iter().filter(holds).count()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Sid, Weak<Session>>> {
        lock(&self.table)
    }
}

impl Session {
    /// Checks the packets in the body of a request, before socketioxide reads them.
    ///
    /// # Errors
    /// The session must be closed for this reason.
    pub(crate) fn admit(&self, body: &[u8]) -> Result<(), CloseReason> {
        if let Some(refused) = self.refused.get() {
            return Err(*refused);
        }
        let Sessions {
            rate, enforcement, ..
        } = &self.sessions;
        let refuses = || enforcement.refuses(Limit::PacketRate, None);
        let admitted = lock(&self.budget).admit(*rate, body, Instant::now(), refuses);
        admitted.inspect_err(|reason| {
            self.refused.set(*reason).ok();
        })
    }

    /// Returns what the client may still send, for its WebSocket.
    pub(crate) fn budget(&self) -> Budget {
        lock(&self.budget).clone()
    }

    /// Keeps the credential in the head of the request that opened it.
    pub(crate) fn keep_credential(&self, credential: Credential) {
        *lock(&self.credential) = credential;
    }

    /// Takes the credential that the client sent before it joined.
    pub(crate) fn take_credential(&self) -> Credential {
        std::mem::take(&mut *lock(&self.credential))
    }

    /// Keeps what counts the session for its caller.
    pub(crate) fn keep_counted(&self, counted: CallerPlace) {
        *lock(&self.counted) = Some(counted);
    }

    /// Hands what counts the session over to its WebSocket.
    pub(crate) fn take_counted(&self) -> Option<CallerPlace> {
        lock(&self.counted).take()
    }

    /// Returns the id that socketioxide has given it.
    pub(crate) fn sid(&self) -> Option<Sid> {
        self.sid.get().copied()
    }

    /// Returns why the gateway ended the session, if it did.
    pub(crate) fn refused(&self) -> Option<CloseReason> {
        self.refused.get().copied()
    }

    /// Begins an upgrade to a WebSocket. Returns false if another one is under way or done.
    pub(crate) fn begin_upgrade(&self) -> bool {
        !self.is_upgrading.swap(true, Ordering::AcqRel)
    }

    /// Forgets an upgrade that has failed. The client goes on polling.
    pub(crate) fn cancel_upgrade(&self) {
        self.is_probed.store(false, Ordering::Release);
        self.is_upgrading.store(false, Ordering::Release);
    }

    /// Lets no poll wait from now on, also the one in flight, so that the client can stop polling.
    pub(crate) fn begin_probe(&self) {
        self.is_probed.store(true, Ordering::Release);
        self.probed.notify_waiters();
    }

    /// Runs a poll. Returns `None` if it must be answered with nothing, because the client is about to use a WebSocket.
    pub(crate) async fn poll<T>(&self, poll: impl Future<Output = T>) -> Option<T> {
        let probed = self.probed.notified();
        let is_probed = self.is_probed.load(Ordering::Acquire);
        let nothing = async {
            if !is_probed {
                probed.await;
            }
            // What waits is still sent as long as the client polls: it may not have got the answer to its probe.
            sleep(PROBED_POLL).await;
        };
        // A second poll at the same time is answered by socketioxide, which ends the session.
        let _polling = self.polling.try_lock();
        tokio::select! {
            biased;
            answer = poll => Some(answer),
            () = nothing => None,
        }
    }

    /// Waits until no poll is in flight, and keeps it so while the result lives.
    pub(crate) async fn without_poll(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.polling.lock().await
    }

    /// Records that the client's packet for joining the namespace has arrived. socketioxide answers the packet before it handles it, and
    /// the client may then finish its upgrade: that must wait for [`Self::end_join`].
    pub(crate) fn begin_join(&self) {
        self.is_joining.store(true, Ordering::Release);
    }

    /// Records that the packet was handled: the client has joined, or was refused.
    pub(crate) fn end_join(&self) {
        self.is_joining.store(false, Ordering::Release);
        self.join_ended.notify_waiters();
    }

    /// Waits while a packet for joining is handled.
    pub(crate) async fn wait_for_join(&self) {
        let ended = self.join_ended.notified();
        if self.is_joining.load(Ordering::Acquire) {
            ended.await;
        }
    }

    /// Records that the client joins the namespace. Returns false if the session has ended.
    pub(crate) fn join(&self) -> bool {
        let mut upgrade = lock(&self.upgrade);
        let is_open = matches!(*upgrade, Upgrade::None);
        if is_open {
            *upgrade = Upgrade::Joined;
        }
        is_open
    }

    /// Gives the WebSocket to the task of the client. If no client has joined, returns it, and the session has ended.
    pub(crate) fn offer_websocket(&self, reader: MessageReader) -> Option<MessageReader> {
        let mut upgrade = lock(&self.upgrade);
        if matches!(*upgrade, Upgrade::Joined) {
            *upgrade = Upgrade::Ready(reader);
            self.upgraded.notify_one();
            return None;
        }
        *upgrade = Upgrade::Done;
        Some(reader)
    }

    /// Waits until the client uses a WebSocket, and takes it over. The session has ended then.
    pub(crate) async fn take_websocket(&self) -> MessageReader {
        loop {
            self.upgraded.notified().await;
            let mut upgrade = lock(&self.upgrade);
            if let Upgrade::Ready(reader) = std::mem::replace(&mut *upgrade, Upgrade::Done) {
                return reader;
            }
        }
    }

    /// Returns whether the client uses a WebSocket now.
    pub(crate) fn has_moved(&self) -> bool {
        matches!(*lock(&self.upgrade), Upgrade::Ready(_) | Upgrade::Done)
    }

    /// Gives the place back. The session has a WebSocket now, whose connection has a place.
    pub(crate) fn release_place(&self) {
        *lock(&self.place) = None;
    }

    /// Counts a packet of so many bytes that is about to wait for a poll. Returns false if too much waits already.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let mut unpolled = lock(&self.unpolled);
        let total = unpolled.bytes + bytes;
        let fits = unpolled.packets == 0 || total <= UNPOLLED_BYTES;
        if !fits || unpolled.packets >= self.sessions.max_unpolled {
            return false;
        }
        *unpolled = Unpolled {
            packets: unpolled.packets + 1,
            bytes: total,
        };
        true
    }

    /// Records that a packet of so many bytes does not wait any more.
    pub(crate) fn release(&self, bytes: usize) {
        let mut unpolled = lock(&self.unpolled);
        unpolled.packets = unpolled.packets.saturating_sub(1);
        unpolled.bytes = unpolled.bytes.saturating_sub(bytes);
    }

    /// Records that the packets of this answer to a poll do not wait any more.
    pub(crate) fn record_polled(&self, answer: &[u8]) {
        for packet in answer.split(|byte| *byte == SEPARATOR) {
            // The others are of socketioxide, and were not counted.
            let is_counted = packet.starts_with(b"42") || packet.starts_with(b"43");
            if is_counted {
                self.release(packet.len() + 1);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(sid) = self.sid.get() {
            self.sessions.table().remove(sid);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! The sessions of clients that began with long polling. Each holds one place of `--max-connections`, as its requests may share a
//! few connections with those of many others.
//!
//! socketioxide keeps the extensions of the request that opened a session for as long as the session lives. The [`Session`] is
//! among them, so its place is free again exactly when socketioxide has freed everything of the session, for any reason.

pub(crate) mod packets;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use socketioxide::socket::Sid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::close_reason::CloseReason;
use crate::listener::connection::ConnectionHandle;
use packets::{Budget, PacketRate};

/// Maximum number of bytes in the queue of socketioxide for a client that must poll for them; one packet may be larger. The rest
/// waits in the client's outbox.
const UNPOLLED_BYTES: usize = 256 * 1024;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    sessions: Sessions,
    sid: OnceLock<Sid>,
    // Std mutexes: none is held across an await.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    budget: Mutex<Budget>,
    /// The connection on which the client asked for the upgrade to a WebSocket.
    upgrade: Mutex<Weak<ConnectionHandle>>,
    /// What is sent does not wait for polls any more.
    is_upgrading: AtomicBool,
    /// Bytes that wait for a poll. Without pings and the connect answer, which are a few bytes.
    unpolled: AtomicUsize,
    /// Why the gateway ended it.
    refused: OnceLock<CloseReason>,
}

/// Every session. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    table: Arc<Mutex<HashMap<Sid, Weak<Session>>>>,
    /// The places of connections and sessions.
    places: Arc<Semaphore>,
    rate: PacketRate,
}

impl Sessions {
    /// Creates the table. Sessions take their places from `places`.
    pub(crate) fn new(places: Arc<Semaphore>, rate: PacketRate) -> Self {
        Self {
            table: Arc::default(),
            places,
            rate,
        }
    }

    /// Takes a place for a new session; `None` if every place is taken.
    pub(crate) fn begin(&self) -> Option<Arc<Session>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Arc::new(Session {
            sessions: self.clone(),
            sid: OnceLock::new(),
            place: Mutex::new(Some(place)),
            budget: Mutex::new(Budget::new(self.rate, Instant::now())),
            upgrade: Mutex::default(),
            is_upgrading: AtomicBool::new(false),
            unpolled: AtomicUsize::new(0),
            refused: OnceLock::new(),
        }))
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
        let admitted = lock(&self.budget).admit(self.sessions.rate, body, Instant::now());
        admitted.inspect_err(|reason| {
            self.refused.set(*reason).ok();
        })
    }

    /// Returns why the gateway ended the session, if it did.
    pub(crate) fn refused(&self) -> Option<CloseReason> {
        self.refused.get().copied()
    }

    /// Begins an upgrade to a WebSocket on this connection. Returns false if another one is under way or done.
    pub(crate) fn begin_upgrade(&self, connection: &Arc<ConnectionHandle>) -> bool {
        let mut upgrade = lock(&self.upgrade);
        let is_first = upgrade.strong_count() == 0;
        if is_first {
            *upgrade = Arc::downgrade(connection);
            self.is_upgrading.store(true, Ordering::Relaxed);
        }
        is_first
    }

    /// Forgets an upgrade that socketioxide has refused.
    pub(crate) fn cancel_upgrade(&self) {
        *lock(&self.upgrade) = Weak::new();
        self.is_upgrading.store(false, Ordering::Relaxed);
    }

    /// Returns the connection of the WebSocket, if the client asked for an upgrade.
    pub(crate) fn websocket(&self) -> Option<Arc<ConnectionHandle>> {
        lock(&self.upgrade).upgrade()
    }

    /// Gives the place back. The session has a WebSocket now, whose connection has a place.
    pub(crate) fn release_place(&self) {
        *lock(&self.place) = None;
    }

    /// Counts bytes that are about to wait for a poll. Returns false if too many wait already.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        if self.is_upgrading.load(Ordering::Relaxed) {
            return true;
        }
        let fits = |unpolled: usize| {
            let total = unpolled + bytes;
            (unpolled == 0 || total <= UNPOLLED_BYTES).then_some(total)
        };
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        self.unpolled.fetch_update(set, get, fits).is_ok()
    }

    /// Records that so many bytes do not wait any more.
    pub(crate) fn release(&self, bytes: usize) {
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        let less = |unpolled: usize| Some(unpolled.saturating_sub(bytes));
        // Never fails: the closure always returns a number.
        self.unpolled.fetch_update(set, get, less).ok();
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

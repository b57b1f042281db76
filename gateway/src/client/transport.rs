//! The network connection of one client, which the gateway can end even if the client does not respond.
//!
//! A WebSocket has a TCP connection of its own, which is aborted. Long polling has none: a proxy may send the requests of
//! many clients over one connection. There the session is closed by the request that a leaving client would send.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use socketioxide::socket::Sid;

use crate::listener::connection::ConnectionHandle;

/// How one client is connected.
#[derive(Debug)]
pub(crate) struct Transport {
    sid: Sid,
    /// The connection, if the client started with a WebSocket.
    own: Option<Arc<ConnectionHandle>>,
    upgrades: Upgrades,
}

impl Transport {
    pub(crate) fn new(sid: Sid, own: Option<Arc<ConnectionHandle>>, upgrades: Upgrades) -> Self {
        Self { sid, own, upgrades }
    }

    /// Aborts the WebSocket, if there is one.
    pub(crate) fn abort(&self) {
        if let Some(websocket) = self.websocket() {
            websocket.abort();
        }
    }

    /// Returns whether the client started with polling: then it has a session that must be closed by a request.
    pub(crate) fn began_with_polling(&self) -> bool {
        self.own.is_none()
    }

    /// Returns whether the client uses WebSocket now.
    pub(crate) fn is_websocket(&self) -> bool {
        self.websocket().is_some()
    }

    /// Returns how long nothing has arrived on the WebSocket; `None` without a WebSocket.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.websocket().map(|websocket| websocket.silence())
    }

    fn websocket(&self) -> Option<Arc<ConnectionHandle>> {
        self.own.clone().or_else(|| self.upgrades.find(self.sid))
    }
}

/// The connections on which polling clients asked for an upgrade to a WebSocket. Bounded by the open connections: entries
/// of closed connections are removed from time to time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upgrades {
    // A std mutex: held for one look-up or insertion, never across an await.
    table: Arc<Mutex<UpgradeTable>>,
}

#[derive(Debug, Default)]
struct UpgradeTable {
    connections: HashMap<Sid, Weak<ConnectionHandle>>,
    /// Number of entries at which those of closed connections are removed.
    sweep_at: usize,
}

/// The smallest value of `sweep_at`: fewer entries are not worth a sweep.
const MIN_SWEEP: usize = 256;

impl Upgrades {
    /// Records that this session asked for an upgrade on this connection.
    pub(crate) fn insert(&self, sid: Sid, connection: &Arc<ConnectionHandle>) {
        let mut table = self.table();
        if table.connections.len() >= table.sweep_at {
            let is_open = |connection: &Weak<ConnectionHandle>| connection.strong_count() > 0;
            table
                .connections
                .retain(|_, connection| is_open(connection));
            table.sweep_at = (table.connections.len() * 2).max(MIN_SWEEP);
        }
        table.connections.insert(sid, Arc::downgrade(connection));
    }

    fn find(&self, sid: Sid) -> Option<Arc<ConnectionHandle>> {
        self.table().connections.get(&sid).and_then(Weak::upgrade)
    }

    fn table(&self) -> MutexGuard<'_, UpgradeTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

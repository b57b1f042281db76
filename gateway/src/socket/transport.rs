//! What carries a client's connection, so that it can be ended although the client does not answer.
//!
//! A websocket has a TCP connection of its own: it is killed. Long polling has none (a proxy may send many clients'
//! requests through one connection), there the session is closed by the request a leaving client would send.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use socketioxide::socket::Sid;

use crate::listener::Link;

/// How one client is connected.
#[derive(Debug)]
pub(crate) struct Transport {
    sid: Sid,
    /// The connection of a client that began with a websocket.
    own: Option<Arc<Link>>,
    upgrades: Upgrades,
}

impl Transport {
    pub(crate) fn new(sid: Sid, own: Option<Arc<Link>>, upgrades: Upgrades) -> Self {
        Self { sid, own, upgrades }
    }

    /// Ends the websocket, if there is one.
    pub(crate) fn kill(&self) {
        if let Some(link) = self.link() {
            link.kill();
        }
    }

    /// Whether the client began with polling: then there is a session to be closed by a request.
    pub(crate) fn began_with_polling(&self) -> bool {
        self.own.is_none()
    }

    /// Whether a websocket carries it now.
    pub(crate) fn is_websocket(&self) -> bool {
        self.link().is_some()
    }

    /// How long nothing has arrived on the websocket; `None` while there is none.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.link().map(|link| link.silence())
    }

    fn link(&self) -> Option<Arc<Link>> {
        self.own.clone().or_else(|| self.upgrades.find(self.sid))
    }
}

/// The connections on which polling clients asked for an upgrade to a websocket. Bounded by the open connections: an
/// entry of a connection that is gone is swept out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upgrades {
    // A std mutex: held for one look-up or insertion, never across an await.
    inner: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    links: HashMap<Sid, Weak<Link>>,
    /// Number of entries at which the dead ones are swept out.
    sweep_at: usize,
}

/// Entries below which sweeping is not worth the while.
const MIN_SWEEP: usize = 256;

impl Upgrades {
    /// A request for an upgrade of this session came in on this connection.
    pub(crate) fn note(&self, sid: Sid, link: &Arc<Link>) {
        let mut table = self.table();
        if table.links.len() >= table.sweep_at {
            table.links.retain(|_, link| link.strong_count() > 0);
            table.sweep_at = (table.links.len() * 2).max(MIN_SWEEP);
        }
        table.links.insert(sid, Arc::downgrade(link));
    }

    fn find(&self, sid: Sid) -> Option<Arc<Link>> {
        self.table().links.get(&sid).and_then(Weak::upgrade)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

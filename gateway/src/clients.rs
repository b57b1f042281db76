//! Every connected client of this replica.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socketioxide::socket::Sid;

use crate::client::link::Link;
use crate::client::{Admitted, Client, ClientContext, ClientId};

/// Every connected client of this replica. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    registry: Arc<ClientRegistry>,
}

#[derive(Debug)]
struct ClientRegistry {
    shared: Arc<ClientContext>,
    next_id: AtomicU64,
    // A std mutex: held for one insertion, removal or copy, never across an await. Bounded by the connections.
    connected: Mutex<HashMap<ClientId, Arc<Client>>>,
}

/// The connected clients by how they are connected.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TransportCounts {
    pub(crate) websocket: u64,
    pub(crate) polling: u64,
}

impl Clients {
    pub(crate) fn new(shared: ClientContext) -> Self {
        let registry = ClientRegistry {
            shared: Arc::new(shared),
            next_id: AtomicU64::new(1),
            connected: Mutex::default(),
        };
        Self {
            registry: Arc::new(registry),
        }
    }

    /// Creates a client that is about to connect. The client is counted once it is registered.
    pub(crate) fn create(&self, sid: Sid, link: Link, admitted: Admitted) -> Arc<Client> {
        let id = ClientId(self.registry.next_id.fetch_add(1, Ordering::Relaxed));
        let shared = Arc::clone(&self.registry.shared);
        Arc::new(Client::new(id, sid, link, admitted, shared))
    }

    /// Counts the client as connected until the registration is dropped.
    pub(crate) fn register(&self, client: &Arc<Client>) -> Registration {
        self.registry.shared.metrics.connected.increment();
        self.connected().insert(client.id(), Arc::clone(client));
        Registration {
            clients: self.clone(),
            id: client.id(),
        }
    }

    /// Returns what all clients share.
    pub(crate) fn shared(&self) -> &ClientContext {
        &self.registry.shared
    }

    pub(crate) fn count(&self) -> usize {
        self.connected().len()
    }

    /// Returns the clients that are connected now.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.connected().values().cloned().collect()
    }

    /// Counts the clients that are connected now, by transport.
    pub(crate) fn by_transport(&self) -> TransportCounts {
        let mut counts = TransportCounts::default();
        for client in self.all() {
            if client.websocket().is_some() {
                counts.websocket += 1;
            } else {
                counts.polling += 1;
            }
        }
        counts
    }

    fn connected(&self) -> MutexGuard<'_, HashMap<ClientId, Arc<Client>>> {
        self.registry
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the client from [`Clients`] when it is dropped.
pub(crate) struct Registration {
    clients: Clients,
    id: ClientId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.connected().remove(&self.id);
    }
}

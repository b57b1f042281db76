//! Passes acknowledgements from the code that finished a message to the connection on which the message came.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ack_order::{AckOrder, Ticket};
use super::protocol::{Client, Request};

/// Acknowledges one message. If it is dropped without [`AckHandle::done`], neither this message nor any later one of this
/// connection is acknowledged, and the broker sends them again on the next connection.
#[must_use = "a message that is not finished delays the acknowledgements of all later ones"]
pub(crate) struct AckHandle(Option<(Arc<Acks>, Ticket)>);

impl AckHandle {
    /// Creates a handle for a message that is not acknowledged: QoS 0, or of a connection that was lost.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Marks the message as committed or stored as a dead letter. It is acknowledged once all earlier ones are. Does not wait.
    pub(crate) fn done(self) {
        if let Some((acks, ticket)) = self.0 {
            let mut state = acks.lock();
            state.order.finish(ticket);
            state.send_ready();
        }
    }
}

impl fmt::Debug for AckHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AckHandle")
            .field(&self.0.as_ref().map(|(_, ticket)| ticket))
            .finish()
    }
}

/// The unacknowledged messages of the current connection.
#[derive(Default)]
pub(super) struct Acks {
    // A std mutex: held for a few moves in memory, never across an await. Checking that the connection is still the current
    // one, and sending on it, must be one step.
    state: Mutex<AckState>,
}

impl fmt::Debug for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acks").field("len", &self.len()).finish()
    }
}

#[derive(Default)]
struct AckState {
    order: AckOrder,
    client: Option<Client>,
}

impl Acks {
    /// Begins a new connection. Messages now arrive on this connection.
    pub(super) fn connect(&self, client: Client) {
        let mut state = self.lock();
        state.order.reset();
        state.client = Some(client);
    }

    /// Ends the connection. None of its messages can be acknowledged now.
    pub(super) fn disconnect(&self) {
        let mut state = self.lock();
        state.order.reset();
        state.client = None;
    }

    /// Adds a message that has arrived, and returns its handle.
    pub(super) fn receive(this: &Arc<Self>, packet_id: u16) -> AckHandle {
        let ticket = this.lock().order.push(packet_id);
        AckHandle(Some((Arc::clone(this), ticket)))
    }

    /// Sends the acknowledgements that did not fit into the request channel before.
    pub(super) fn send_ready(&self) {
        self.lock().send_ready();
    }

    /// Returns the number of messages received but not acknowledged yet.
    pub(super) fn len(&self) -> usize {
        self.lock().order.len()
    }

    /// Whether every message of this connection is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().order.is_empty()
    }

    /// Whether the oldest message is finished.
    #[cfg(test)]
    pub(super) fn is_ready(&self) -> bool {
        self.lock().order.ready().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, AckState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AckState {
    fn send_ready(&mut self) {
        let Some(client) = &self.client else { return };
        while let Some(packet_id) = self.order.ready() {
            if client.send(Request::Acknowledge(packet_id)).is_err() {
                return;
            }
            self.order.pop();
        }
    }
}

//! Acknowledgements: from whoever finished a message to the connection on which it came.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;

use super::ring::{Ring, Ticket};

/// Acknowledges one message. Dropped without [`AckHandle::done`], the message is not acknowledged, and none behind it
/// on this connection: the broker sends them again on the next.
#[must_use = "a message that is not finished holds back all acknowledgements behind it"]
pub(crate) struct AckHandle(Option<(Arc<Acks>, Ticket)>);

impl AckHandle {
    /// Of a message that needs no acknowledgement (QoS 0).
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// The message is safe: acknowledge it once those before it are. Waits for nothing.
    pub(crate) fn done(self) {
        if let Some((acks, ticket)) = self.0 {
            let mut state = acks.lock();
            state.ring.finish(ticket);
            state.release();
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

/// The messages in hand of the present connection.
#[derive(Default)]
pub(super) struct Acks {
    // A std mutex: held for a few moves in memory, never across an await. It makes "is this still the connection" and
    // "send it there" one step.
    state: Mutex<State>,
}

impl fmt::Debug for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acks").field("len", &self.len()).finish()
    }
}

#[derive(Default)]
struct State {
    ring: Ring,
    client: Option<AsyncClient>,
}

impl Acks {
    /// From now on, messages come on this connection.
    pub(super) fn connect(&self, client: AsyncClient) {
        let mut state = self.lock();
        state.ring.renew();
        state.client = Some(client);
    }

    /// The connection is gone: nothing in hand can be acknowledged any more.
    pub(super) fn disconnect(&self) {
        let mut state = self.lock();
        state.ring.renew();
        state.client = None;
    }

    /// A message arrived.
    pub(super) fn receive(this: &Arc<Self>, packet: u16) -> AckHandle {
        let ticket = this.lock().ring.push(packet);
        AckHandle(Some((Arc::clone(this), ticket)))
    }

    /// Sends what is finished, should the request channel have been full before.
    pub(super) fn release(&self) {
        self.lock().release();
    }

    /// Messages received and not acknowledged yet.
    pub(super) fn len(&self) -> usize {
        self.lock().ring.len()
    }

    /// Whether every message of this connection was acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().ring.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn release(&mut self) {
        let Some(client) = &self.client else { return };
        while let Some(packet) = self.ring.ready() {
            let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new(), None);
            publish.pkid = packet;
            if client.try_ack(&publish).is_err() {
                return;
            }
            self.ring.pop();
        }
    }
}

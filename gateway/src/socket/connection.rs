//! What the connections of both transports have in common: a client from its connect answer to its end.

use std::sync::Arc;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::command::Subscriptions;
use super::context::ConnectionContext;
use super::feed_command::start_locations;
use crate::client::close_reason::CloseReason;
use crate::client::log_limit::limited;
use crate::client::{Client, DRAIN_NOTICE};
use crate::client_address::ClientAddress;
use crate::clients::Registration;
use crate::event_names::SYSTEM_STATUS;

/// A client that has joined the namespace.
pub(super) struct JoinedClient {
    pub(super) client: Arc<Client>,
    pub(super) subscriptions: Subscriptions,
    /// It connected after the drain had begun and was not announced its end.
    pub(super) was_draining: bool,
    registration: Registration,
    _guard: CloseOnDrop,
}

impl JoinedClient {
    /// Registers the client as connected.
    pub(super) fn new(
        context: &ConnectionContext,
        client: Arc<Client>,
        address: ClientAddress,
    ) -> Box<Self> {
        let registration = context.clients.register(&client);
        context.token_expiry.watch(&client);
        let guard = CloseOnDrop {
            client: Arc::clone(&client),
            serving: context.serving.clone(),
        };
        // After it is registered: whoever is registered is closed when its token is revoked.
        if context.access.is_revoked(&client.identity()) {
            client.close(CloseReason::TokenRevoked);
        }
        let total = context.clients.count();
        limited(|suppressed| {
            tracing::info!(
                client = client.id().0,
                total,
                held_back = suppressed,
                "client connected"
            );
        });
        if let Some(status) = context.monitor.degraded_payload() {
            client.send_event(SYSTEM_STATUS, &status);
        }
        start_locations(&client, context);
        let watches = context.watches.clone();
        let subscriptions = Subscriptions::new(
            context.limits.max_subscriptions,
            watches,
            address,
            context.admission.enforcement().clone(),
        );
        Box::new(Self {
            client,
            subscriptions,
            was_draining: context.monitor.is_draining(),
            registration,
            _guard: guard,
        })
    }

    /// Ends what the client has. It stays registered as connected until the result is dropped.
    pub(super) async fn end(self: Box<Self>, context: &ConnectionContext) -> Registration {
        let client = &self.client;
        client.discard_outbox();
        context.token_expiry.forget(client);
        let devices = self.subscriptions.devices();
        context.relay.remove_client(client, devices).await;
        self.registration
    }
}

/// Closes the connection when its task ends, even by a panic. Otherwise the client would still appear to be connected.
struct CloseOnDrop {
    client: Arc<Client>,
    serving: CancellationToken,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        // Does nothing if the connection has ended already, which is the usual case.
        self.client.close(if self.serving.is_cancelled() {
            CloseReason::Draining
        } else {
            CloseReason::Broken
        });
    }
}

/// Closes a client that connected just before the drain began and may have missed the announcement.
pub(super) async fn close_draining(client: &Client) {
    client.announce_drain(DRAIN_NOTICE);
    sleep(DRAIN_NOTICE).await;
    client.close(CloseReason::Draining);
}

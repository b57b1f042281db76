//! The task of one connection.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::command::{ClientCommand, Subscriptions, carry_out_all};
use crate::client::close_reason::CloseReason;
use crate::client::log_limit::limited;
use crate::client::outbox::Flushed;
use crate::client::{Client, DRAIN_NOTICE};
use crate::client_address::ClientAddress;
use crate::clients::Clients;
use crate::event_names::SYSTEM_STATUS;
use crate::metrics::SocketMetrics;
use crate::monitor::Monitor;
use crate::relay::Relay;
use crate::watches::Watches;

/// Pause before the next try to send while socketioxide's queue is full.
const RETRY_PAUSE: Duration = Duration::from_millis(8);
/// The longest pause. The pause doubles up to this while the queue accepts nothing.
const MAX_RETRY_PAUSE: Duration = Duration::from_millis(128);
/// How often the silence of a WebSocket is checked.
const SILENCE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The handles and limits that the tasks of all connections share.
#[derive(Debug)]
pub(super) struct ConnectionContext {
    pub(super) clients: Clients,
    pub(super) relay: Relay,
    pub(super) monitor: Monitor,
    pub(super) watches: Watches,
    pub(super) metrics: Arc<SocketMetrics>,
    /// Maximum number of devices that one client may subscribe to.
    pub(super) max_subscriptions: usize,
    /// Maximum time without any bytes from the client of a WebSocket.
    pub(super) max_silence: Duration,
}

/// A connection that the connect middleware has prepared for the connect handler.
pub(super) struct Connection {
    client: Arc<Client>,
    address: ClientAddress,
    // A std mutex is enough: it is locked once, to take the receiver out.
    commands: Mutex<Option<mpsc::Receiver<ClientCommand>>>,
}

impl Connection {
    pub(super) fn new(
        client: Arc<Client>,
        address: ClientAddress,
        commands: mpsc::Receiver<ClientCommand>,
    ) -> Self {
        Self {
            client,
            address,
            commands: Mutex::new(Some(commands)),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Carries out commands, flushes the outbox and checks for silence until the connection ends, then closes the session.
    /// The client stays registered as connected until the session is closed.
    pub(super) async fn run(
        &self,
        context: &ConnectionContext,
        close_session: impl Future<Output = ()>,
    ) {
        let commands = self
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(commands) = commands else {
            return;
        };
        let client = &self.client;
        let _registration = context.clients.register(client);
        let _guard = CloseOnDrop(Arc::clone(client));
        let total = context.clients.count();
        limited(|suppressed| {
            tracing::info!(client = %client.sid(), total, held_back = suppressed, "client connected");
        });
        if let Some(status) = context.monitor.degraded_payload() {
            client.send_event(SYSTEM_STATUS, &status);
        }
        let watches = context.watches.clone();
        let mut subscriptions =
            Subscriptions::new(context.max_subscriptions, watches, self.address);
        let (relay, metrics) = (&context.relay, &context.metrics);
        tokio::select! {
            () = client.closed().cancelled() => {}
            () = carry_out_all(client, commands, relay, &mut subscriptions, metrics) => {}
            () = keep_flushing(client) => {}
            () = close_when_silent(client, context.max_silence) => {}
            () = close_if_draining(client, context.monitor.is_draining()) => {}
        }
        client.discard_outbox();
        relay.remove_client(client, subscriptions.devices()).await;
        drop(subscriptions);
        close_session.await;
    }
}

/// Closes the connection when its task ends, even by a panic. Otherwise the client would still appear to be connected.
struct CloseOnDrop(Arc<Client>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        // Does nothing if the connection has ended already, which is the usual case.
        self.0.close(CloseReason::Broken);
    }
}

/// Sends the packets that wait in the outbox. socketioxide does not notify when its queue has room again, so this function
/// retries after a pause.
async fn keep_flushing(client: &Client) {
    loop {
        client.waiting().notified().await;
        let mut pause = RETRY_PAUSE;
        loop {
            match client.flush() {
                Flushed::All => break,
                Flushed::Some => pause = RETRY_PAUSE,
                Flushed::Nothing => pause = (pause * 2).min(MAX_RETRY_PAUSE),
            }
            sleep(pause).await;
        }
    }
}

/// Closes a WebSocket on which nothing arrives, not even answers to pings. The heartbeat of socketioxide cannot end a
/// connection whose writer is stuck. Also notices that a client has upgraded to a WebSocket.
async fn close_when_silent(client: &Client, max_silence: Duration) {
    let mut ticks = tokio::time::interval(SILENCE_CHECK_INTERVAL);
    loop {
        ticks.tick().await;
        client.release_place_after_upgrade();
        let silence = client.transport().silence();
        if silence.is_some_and(|silence| silence > max_silence) {
            client.close(CloseReason::Silent);
        }
    }
}

/// Closes a client that connected just before the drain began and may have missed the announcement. Never returns unless
/// the replica is draining.
async fn close_if_draining(client: &Client, is_draining: bool) {
    if !is_draining {
        std::future::pending::<()>().await;
    }
    client.announce_drain(DRAIN_NOTICE);
    sleep(DRAIN_NOTICE).await;
    client.close(CloseReason::Draining);
}

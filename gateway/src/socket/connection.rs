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
use crate::client::transport::Upgrades;
use crate::client::{Client, DRAIN_NOTICE};
use crate::clients::Clients;
use crate::event_names::SYSTEM_STATUS;
use crate::metrics::SocketMetrics;
use crate::monitor::Monitor;
use crate::relay::Relay;

/// Pause before something is sent again after the library's queue was full, if it accepted something since.
const RETRY: Duration = Duration::from_millis(8);
/// The longest pause. It doubles up to this while the queue accepts nothing.
const MAX_RETRY: Duration = Duration::from_millis(128);
/// How often the silence of a websocket is checked.
const SILENCE_CHECK: Duration = Duration::from_secs(5);

/// What the tasks of all connections use.
#[derive(Debug)]
pub(super) struct ConnectionContext {
    pub(super) clients: Clients,
    pub(super) relay: Relay,
    pub(super) monitor: Monitor,
    pub(super) upgrades: Upgrades,
    pub(super) metrics: Arc<SocketMetrics>,
    /// Devices one client may subscribe to.
    pub(super) max_subscriptions: usize,
    /// How long nothing may arrive on a websocket.
    pub(super) max_silence: Duration,
}

/// What the connect middleware prepares for the connect handler.
pub(super) struct Connection {
    client: Arc<Client>,
    // A std mutex: held while the receiver is taken out, which happens once.
    commands: Mutex<Option<mpsc::Receiver<ClientCommand>>>,
}

impl Connection {
    pub(super) fn new(client: Arc<Client>, commands: mpsc::Receiver<ClientCommand>) -> Self {
        Self {
            client,
            commands: Mutex::new(Some(commands)),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Carries out commands, flushes the outbox and checks for silence until the connection ends, then closes the session.
    /// The client counts as connected until all of that is done.
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
        let mut subscriptions = Subscriptions::new(context.max_subscriptions);
        let (relay, metrics) = (&context.relay, &context.metrics);
        tokio::select! {
            () = client.closed().cancelled() => {}
            () = carry_out_all(client, commands, relay, &mut subscriptions, metrics) => {}
            () = keep_flushing(client) => {}
            () = close_when_silent(client, context.max_silence) => {}
            () = close_if_draining(client, context.monitor.is_draining()) => {}
        }
        client.discard_outbox();
        relay
            .remove_client(client, subscriptions.into_devices())
            .await;
        close_session.await;
    }
}

/// Closes the connection when its task ends, even by a panic: otherwise the client would seem to be connected.
struct CloseOnDrop(Arc<Client>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        // Does nothing if the connection has ended already, which is the usual case.
        self.0.close(CloseReason::Broken);
    }
}

/// Sends what waits, whenever something does. The library does not notify when its queue has room again, so this tries again
/// and again.
async fn keep_flushing(client: &Client) {
    loop {
        client.waiting().notified().await;
        let mut pause = RETRY;
        loop {
            match client.flush() {
                Flushed::All => break,
                Flushed::Some => pause = RETRY,
                Flushed::Nothing => pause = (pause * 2).min(MAX_RETRY),
            }
            sleep(pause).await;
        }
    }
}

/// Closes a websocket on which nothing arrives, not even answers to pings. The library's own heartbeat cannot end a
/// connection whose writer is stuck.
async fn close_when_silent(client: &Client, max_silence: Duration) {
    let mut ticks = tokio::time::interval(SILENCE_CHECK);
    loop {
        ticks.tick().await;
        let silence = client.transport().silence();
        if silence.is_some_and(|silence| silence > max_silence) {
            client.close(CloseReason::Silent);
        }
    }
}

/// Closes a client whose session was opened just before the drain began, so that it may have missed the announcement. Never
/// returns unless the replica is draining.
async fn close_if_draining(client: &Client, is_draining: bool) {
    if !is_draining {
        std::future::pending::<()>().await;
    }
    client.announce_drain(DRAIN_NOTICE);
    sleep(DRAIN_NOTICE).await;
    client.close(CloseReason::Draining);
}

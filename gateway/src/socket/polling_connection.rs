//! The connection of a client that began with long polling, until it ends or moves to a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Sockets;
use super::command_queue::CommandQueue;
use super::connection::{JoinedClient, close_draining};
use super::context::ConnectionContext;
use super::websocket_connection::WebSocketConnection;
use crate::client::Client;
use crate::client::outbox::Flushed;
use crate::client_address::ClientAddress;
use crate::session::Session;

/// Pause before the next try to send while socketioxide's queue is full.
const RETRY_PAUSE: Duration = Duration::from_millis(8);
/// The longest pause. The pause doubles up to this while the queue accepts nothing.
const MAX_RETRY_PAUSE: Duration = Duration::from_millis(128);

/// A connection that the connect middleware has prepared for the connect handler.
pub(super) struct PollingConnection {
    client: Arc<Client>,
    session: Arc<Session>,
    address: ClientAddress,
    commands: Arc<CommandQueue>,
}

impl PollingConnection {
    pub(super) fn new(
        client: Arc<Client>,
        session: Arc<Session>,
        address: ClientAddress,
        commands: Arc<CommandQueue>,
    ) -> Self {
        Self {
            client,
            session,
            address,
            commands,
        }
    }

    /// Carries out commands and sends what waits until the client moves to a WebSocket or the connection ends. Then ends the
    /// session. The client stays registered as connected until the session is closed.
    pub(super) async fn run(&self, context: &Arc<ConnectionContext>, sockets: &Sockets) {
        let client = &self.client;
        let mut joined = JoinedClient::new(context, Arc::clone(client), self.address);
        let has_moved = CancellationToken::new();
        let moving = async {
            let reader = self.session.take_websocket().await;
            let writer = Arc::clone(reader.writer());
            sockets
                .move_session(&self.session, Some(client), &writer)
                .await;
            has_moved.cancel();
            reader
        };
        let subscriptions = &mut joined.subscriptions;
        let carrying_out =
            self.commands
                .carry_out_until(&has_moved, client, context, subscriptions);
        let closing = joined
            .was_draining
            .then(|| Box::pin(close_draining(client)));
        let reader = tokio::select! {
            () = client.closed().cancelled() => None,
            () = keep_flushing(client) => None,
            Some(()) = OptionFuture::from(closing) => None,
            // Commands that were sent before the move are carried out before it is done.
            (reader, ()) = async { tokio::join!(moving, carrying_out) } => Some(reader),
        };
        if let Some(reader) = reader {
            let connection = WebSocketConnection::moved(Arc::clone(context), reader, &self.session);
            // In a task of its own: this one holds what socketioxide needs for its handlers.
            context.spawn("websocket", connection.serve_joined(joined));
            return;
        }
        let registration = joined.end(context).await;
        sockets.close_polling(client.sid()).await;
        drop(registration);
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

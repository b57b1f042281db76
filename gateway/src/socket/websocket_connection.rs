//! The connection of a client that uses a WebSocket: one task, which reads packets, carries out commands, sends pings and
//! whatever the kernel did not take at once.

mod heartbeat;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::OptionFuture;
use serde::Serialize;
use shared::error_chain::error_chain;
use socketioxide::socket::Sid;
use tokio::time::{timeout, timeout_at};

use super::command::ClientCommand;
use super::command_queue::CommandQueue;
use super::connection::{JoinedClient, close_draining};
use super::context::ConnectionContext;
use super::open_packet::OpenPacket;
use super::packet::{ClientEvent, ClientPacket, InvalidPacket, MAIN};
use super::refusal::Refusal;
use crate::access::credential::{Credential, JoinPayload};
use crate::admission::connections::CallerPlace;
use crate::admission::limit::Limit;
use crate::client::close_reason::CloseReason;
use crate::client::link::Link;
use crate::client::log_limit::limited;
use crate::client::outbox::Flushed;
use crate::client::{Admitted, Client};
use crate::client_address::ClientAddress;
use crate::packet_budget::Budget;
use crate::session::Session;
use crate::websocket::frame;
use crate::websocket::reader::{MessageReader, ReadEnd, Received};
use crate::websocket::writer::FrameWriter;
use heartbeat::{Due, Heartbeat};

/// How often a client that takes nothing is checked for an alarm that has waited too long.
const DEADLINE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A WebSocket with an Engine.IO session.
///
/// Connections are many and most are idle. So whatever is needed for a moment only is on the heap meanwhile, and this itself is passed
/// on as a box: a future keeps room for each value that passes through it.
pub(super) struct WebSocketConnection {
    context: Arc<ConnectionContext>,
    reader: MessageReader,
    heartbeat: Heartbeat,
    budget: Budget,
    /// Attachments of the last event that are still to come. They are ignored.
    attachments: u32,
    /// Counts the session for its caller.
    _counted: Option<CallerPlace>,
}

/// The answer to a client that has joined the namespace.
#[derive(Serialize)]
struct Connected {
    sid: String,
}

#[derive(Serialize)]
struct ConnectError<'a> {
    message: &'a str,
}

impl WebSocketConnection {
    /// A WebSocket with a session of its own.
    pub(super) fn new(
        context: Arc<ConnectionContext>,
        reader: MessageReader,
        counted: Option<CallerPlace>,
    ) -> Box<Self> {
        let limits = context.limits;
        let now = Instant::now();
        Box::new(Self {
            context,
            reader,
            heartbeat: Heartbeat::new(limits.ping_interval, limits.ping_timeout, now),
            budget: Budget::new(limits.packet_rate, now),
            attachments: 0,
            _counted: counted,
        })
    }

    /// A WebSocket to which a session has moved from long polling.
    pub(super) fn moved(
        context: Arc<ConnectionContext>,
        reader: MessageReader,
        session: &Session,
    ) -> Box<Self> {
        let mut connection = Self::new(context, reader, session.take_counted());
        // When the last ping was sent over polling is not known, and the client waits for the next.
        connection.heartbeat.ping_now(Instant::now());
        connection.budget = session.budget();
        connection
    }

    /// Opens a session and serves it until its end.
    pub(super) async fn serve_new(self: Box<Self>, address: ClientAddress, credential: Credential) {
        let sid = Sid::new();
        let open = OpenPacket {
            sid: sid.to_string(),
            upgrades: Vec::new(),
            ping_interval: millis(self.context.limits.ping_interval),
            ping_timeout: millis(self.context.limits.ping_timeout),
            max_payload: self.context.limits.max_event_bytes,
        };
        self.writer().send_behind(frame::text(&packet("0", &open)));
        self.serve_unjoined(sid, address, credential).await;
    }

    /// Serves a session whose client has not joined the namespace. `credential`: the one in the head of its first request.
    pub(super) async fn serve_unjoined(
        mut self: Box<Self>,
        sid: Sid,
        address: ClientAddress,
        credential: Credential,
    ) {
        if let Some(joined) = Box::pin(self.join(sid, address, credential)).await {
            self.serve_joined(joined).await;
        }
    }

    /// Serves a client that has joined, until its connection ends.
    pub(super) async fn serve_joined(mut self: Box<Self>, mut joined: Box<JoinedClient>) {
        Box::pin(self.serve_until_end(&mut joined)).await;
        self.writer().shut_down();
        drop(Box::pin(joined.end(&self.context)).await);
    }

    /// Waits until the client joins the namespace. Returns `None` if the connection has ended.
    async fn join(
        &mut self,
        sid: Sid,
        address: ClientAddress,
        credential: Credential,
    ) -> Option<Box<JoinedClient>> {
        let writer = Arc::clone(self.writer());
        let joining = timeout(
            self.context.limits.connect_timeout,
            self.wait_for_join(credential, address),
        );
        let joined = tokio::select! {
            joined = joining => joined,
            () = writer.keep_flushing() => return None,
        };
        let joined = joined.unwrap_or(Err(CloseReason::Invalid));
        let admitted = joined.map_err(|reason| {
            let code = reason.code();
            tracing::debug!(client = %sid, reason = code, "a WebSocket ended before its client joined");
            // Otherwise the client has left by itself.
            if reason.is_ours() || reason == CloseReason::Invalid {
                let refused = &self.context.metrics.handshakes_refused;
                refused.invalid.increment();
            }
            writer.shut_down();
        });
        let admitted = admitted.ok()?;
        let link = Link::WebSocket(Arc::clone(&writer));
        let client = self.context.clients.create(sid, link, admitted);
        let connected = Connected {
            sid: sid.to_string(),
        };
        writer.send_behind(frame::text(&packet("40", &connected)));
        Some(JoinedClient::new(&self.context, client, address))
    }

    async fn serve_until_end(&mut self, joined: &mut JoinedClient) {
        let context = Arc::clone(&self.context);
        let writer = Arc::clone(self.writer());
        let client = Arc::clone(&joined.client);
        let commands = CommandQueue::new(context.limits.max_commands());
        let closing = joined
            .was_draining
            .then(|| Box::pin(close_draining(&client)));
        tokio::select! {
            () = client.closed().cancelled() => {}
            reason = self.read(&client, &commands) => end(&client, reason),
            () = commands.carry_out_all(&client, &context, &mut joined.subscriptions) => {}
            () = send_waiting(&client, &writer) => {}
            Some(()) = OptionFuture::from(closing) => {}
        }
    }

    fn writer(&self) -> &Arc<FrameWriter> {
        self.reader.writer()
    }

    /// Waits until the client joins the namespace, and returns who it is. A client that is not admitted may stay for as long as it may
    /// take to join: it closes the connection once it has read why.
    async fn wait_for_join(
        &mut self,
        credential: Credential,
        address: ClientAddress,
    ) -> Result<Admitted, CloseReason> {
        loop {
            let text = match self.receive().await? {
                Received::Text(text) => text,
                Received::Control => {
                    self.admit("")?;
                    continue;
                }
                Received::Binary => return Err(CloseReason::Invalid),
            };
            self.admit(&text)?;
            match ClientPacket::parse(&text)? {
                ClientPacket::Connect(MAIN, payload) => {
                    let sent = JoinPayload::parse(payload).credential();
                    let shown = sent.or(credential.clone());
                    match self.context.admit(&shown, address).await {
                        Ok(admitted) => return Ok(admitted),
                        Err(error) => self.refuse_to_join("44", &error.to_string()),
                    }
                }
                ClientPacket::Connect(namespace, _) => self.refuse_namespace(namespace),
                ClientPacket::Ignored | ClientPacket::Probe | ClientPacket::Upgrade => {}
                _ => return Err(CloseReason::Invalid),
            }
        }
    }

    /// Reads packets until the connection must end.
    async fn read(&mut self, client: &Client, commands: &CommandQueue) -> CloseReason {
        loop {
            let handled = match self.receive().await {
                Ok(received) => self.handle(received, client, commands),
                Err(reason) => Err(reason),
            };
            if let Err(reason) = handled {
                return reason;
            }
        }
    }

    /// Waits for the next message. Sends pings meanwhile, also to a client that always has something to read.
    async fn receive(&mut self) -> Result<Received, CloseReason> {
        loop {
            let due = self.heartbeat.due(self.reader.last_read());
            let message_due = self.reader.message_due();
            let due = message_due.map_or(due, |message| due.min(message));
            let received = timeout_at(due.into(), self.reader.next()).await;
            let now = Instant::now();
            let action = self.heartbeat.act(self.reader.last_read(), now);
            if action == Due::Ping {
                self.writer().send_small(frame::PING);
            }
            if let Ok(received) = received {
                return Ok(received?);
            }
            if action == Due::Close {
                return Err(CloseReason::Heartbeat);
            }
            if self.reader.message_due().is_some_and(|due| now >= due) {
                return Err(CloseReason::Invalid);
            }
        }
    }

    fn handle(
        &mut self,
        received: Received,
        client: &Client,
        commands: &CommandQueue,
    ) -> Result<(), CloseReason> {
        let text = match received {
            Received::Text(text) => text,
            Received::Binary => {
                let left = self.attachments.checked_sub(1);
                self.attachments = left.ok_or(CloseReason::Invalid)?;
                return self.admit("");
            }
            Received::Control => return self.admit(""),
        };
        self.admit(&text)?;
        match ClientPacket::parse(&text)? {
            ClientPacket::Ignored
            | ClientPacket::Probe
            | ClientPacket::Upgrade
            | ClientPacket::Reply => Ok(()),
            ClientPacket::Close => Err(CloseReason::TransportClose),
            _ if self.attachments > 0 => Err(CloseReason::Invalid),
            // The budget admits one for the main namespace, which is behind us.
            ClientPacket::Connect(namespace, _) => {
                self.refuse_namespace(namespace);
                Ok(())
            }
            ClientPacket::Disconnect(MAIN) => Err(CloseReason::Client),
            ClientPacket::Disconnect(_) => Ok(()),
            ClientPacket::Event(event) => {
                if event.namespace != MAIN {
                    return Err(CloseReason::Invalid);
                }
                let command = ClientCommand::from_event(&event);
                command.map_or(Ok(()), |command| commands.push(command))
            }
            ClientPacket::BinaryEvent { event, attachments } => {
                self.attachments = attachments;
                refuse_attachments(client, &event);
                Ok(())
            }
        }
    }

    fn admit(&mut self, packet: &str) -> Result<(), CloseReason> {
        let rate = self.context.limits.packet_rate;
        let enforcement = self.context.admission.enforcement();
        let refuses = || enforcement.refuses(Limit::PacketRate, None);
        let now = Instant::now();
        self.budget.admit(rate, packet.as_bytes(), now, refuses)
    }

    fn refuse_namespace(&self, namespace: &str) {
        self.refuse_to_join(&format!("44{namespace},"), "Invalid namespace");
    }

    fn refuse_to_join(&self, prefix: &str, message: &str) {
        let text = packet(prefix, &ConnectError { message });
        self.writer().send_small(frame::text(&text));
    }
}

/// No event of a client has attachments.
fn refuse_attachments(client: &Client, event: &ClientEvent<'_>) {
    if let Some(ack) = event.ack {
        client.reply(None, ack, Refusal::Invalid.to_reply());
    }
}

/// Sends what the kernel did not take at once, when it takes more. Never returns.
async fn send_waiting(client: &Client, writer: &FrameWriter) {
    loop {
        loop {
            writer.flush();
            // This also checks how long an alarm has waited, of which the kernel has a part.
            if client.flush() == Flushed::All && !writer.has_unsent() {
                break;
            }
            // On the heap, as most clients never wait here.
            let writable = Box::pin(timeout(DEADLINE_CHECK_INTERVAL, writer.writable()));
            writable.await.ok();
        }
        writer.waiting().notified().await;
    }
}

/// Ends the connection for this reason.
fn end(client: &Client, reason: CloseReason) {
    if reason.is_ours() {
        client.close(reason);
    } else {
        limited(|suppressed| {
            tracing::info!(
                client = client.id().0,
                reason = reason.code(),
                held_back = suppressed,
                "client disconnected"
            );
        });
        client.record_disconnect(reason);
    }
}

impl From<ReadEnd> for CloseReason {
    fn from(end: ReadEnd) -> Self {
        match end {
            ReadEnd::Closed => Self::TransportClose,
            ReadEnd::Failed => Self::TransportError,
            ReadEnd::Invalid => Self::Invalid,
        }
    }
}

impl From<InvalidPacket> for CloseReason {
    fn from(_: InvalidPacket) -> Self {
        Self::Invalid
    }
}

fn packet(prefix: &str, content: &impl Serialize) -> String {
    let content = serde_json::to_string(content)
        .inspect_err(|error| tracing::error!(error = error_chain(error), "cannot write a packet"));
    format!("{prefix}{}", content.unwrap_or_default())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

//! The commands of clients, received in the order in which they were sent, and carried out one by one.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;

use serde::Deserialize;
use shared::device::DeviceId;
use shared::position::Position;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::Data;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::context::ConnectionContext;
use super::packet::ClientEvent;
use super::refusal::Refusal;
use crate::client::Client;
use crate::client::close_reason::CloseReason;
use crate::client_address::ClientAddress;
use crate::event_names::{SUBSCRIBE_DEVICE, UNSUBSCRIBE_DEVICE};
use crate::relay::Relay;
use crate::relay::command::Join;
use crate::watches::{Watch, Watches};

/// One event of a client.
#[derive(Debug)]
pub(super) struct ClientCommand {
    kind: CommandKind,
    argument: Argument,
    /// The acknowledgement id under which the client expects a reply.
    ack: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum CommandKind {
    Subscribe,
    Unsubscribe,
}

/// The argument of both events. Older front ends send the bare id.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Argument {
    Id(String),
    #[serde(rename_all = "camelCase")]
    Object {
        device_id: String,
        #[serde(default)]
        since: Option<Position>,
    },
    Unreadable(serde::de::IgnoredAny),
}

impl ClientCommand {
    /// Reads an event; `None` if it has another name.
    pub(super) fn from_event(event: &ClientEvent<'_>) -> Option<Self> {
        let kind = match event.name.as_str() {
            SUBSCRIBE_DEVICE => CommandKind::Subscribe,
            UNSUBSCRIBE_DEVICE => CommandKind::Unsubscribe,
            _ => return None,
        };
        let argument = event.argument.map(|text| serde_json::from_str(text.get()));
        let unreadable = Argument::Unreadable(serde::de::IgnoredAny);
        Some(Self {
            kind,
            argument: argument.and_then(Result::ok).unwrap_or(unreadable),
            ack: event.ack,
        })
    }
}

/// The connection's queue of commands, stored with the socket for the extractors.
#[derive(Clone)]
pub(super) struct CommandQueue {
    pub(super) client: Arc<Client>,
    pub(super) commands: mpsc::Sender<ClientCommand>,
}

/// Extractor of `subscribe:device`. Extractors run in the order in which events arrive, handlers do not.
pub(super) struct Subscribe;

/// Extractor of `unsubscribe:device`.
pub(super) struct Unsubscribe;

impl FromMessageParts<LocalAdapter> for Subscribe {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket>,
        value: &mut Value,
        ack: &Option<i64>,
    ) -> Result<Self, Infallible> {
        enqueue(socket, CommandKind::Subscribe, value, *ack);
        Ok(Self)
    }
}

impl FromMessageParts<LocalAdapter> for Unsubscribe {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket>,
        value: &mut Value,
        ack: &Option<i64>,
    ) -> Result<Self, Infallible> {
        enqueue(socket, CommandKind::Unsubscribe, value, *ack);
        Ok(Self)
    }
}

/// Puts a command into the connection's queue. If the queue is full, the client is disconnected.
fn enqueue(socket: &Arc<Socket>, kind: CommandKind, value: &mut Value, ack: Option<i64>) {
    let Some(queue) = socket.extensions.get::<CommandQueue>() else {
        return;
    };
    let argument = match Data::<Argument>::from_message_parts(socket, value, &ack) {
        Ok(Data(argument)) => argument,
        Err(_) => Argument::Unreadable(serde::de::IgnoredAny),
    };
    let sent = queue.commands.try_send(ClientCommand {
        kind,
        argument,
        ack,
    });
    if let Err(mpsc::error::TrySendError::Full(_)) = sent {
        queue.client.close(CloseReason::TooManyCommands);
    }
}

/// The devices a client subscribed to.
pub(super) struct Subscriptions {
    devices: HashMap<DeviceId, Arc<Watch>>,
    limit: usize,
    watches: Watches,
    address: ClientAddress,
}

impl Subscriptions {
    /// Creates an empty set of at most `limit` devices.
    pub(super) fn new(limit: usize, watches: Watches, address: ClientAddress) -> Self {
        Self {
            devices: HashMap::new(),
            limit,
            watches,
            address,
        }
    }

    pub(super) fn devices(&self) -> HashSet<DeviceId> {
        self.devices.keys().cloned().collect()
    }

    /// Adds a device, if the limits allow it. A device that is already subscribed to is always allowed.
    fn add(&mut self, device: &DeviceId) -> Result<Arc<Watch>, Refusal> {
        if let Some(watch) = self.devices.get(device) {
            return Ok(Arc::clone(watch));
        }
        if self.devices.len() >= self.limit {
            return Err(Refusal::Limit(self.limit));
        }
        let watch = Arc::new(self.watches.begin(device, self.address)?);
        self.devices.insert(device.clone(), Arc::clone(&watch));
        Ok(watch)
    }
}

/// Carries out the queued commands of one client in order, until no more can arrive, or `stop` is cancelled and the queue is
/// empty.
pub(super) async fn carry_out_all(
    client: &Arc<Client>,
    commands: &mut mpsc::Receiver<ClientCommand>,
    stop: &CancellationToken,
    context: &ConnectionContext,
    subscriptions: &mut Subscriptions,
) {
    while let Some(Some(command)) = stop.run_until_cancelled(commands.recv()).await {
        carry_out(client, command, context, subscriptions).await;
    }
    while let Ok(command) = commands.try_recv() {
        carry_out(client, command, context, subscriptions).await;
    }
}

/// Carries out one command. While it waits for the relay, only this client waits with it.
pub(super) async fn carry_out(
    client: &Arc<Client>,
    command: ClientCommand,
    context: &ConnectionContext,
    subscriptions: &mut Subscriptions,
) {
    let ack = command.ack;
    if let Err(refusal) = try_to_carry_out(client, command, &context.relay, subscriptions).await {
        context.metrics.commands_refused.increment(refusal.code());
        tracing::debug!(client = %client.sid(), code = refusal.code(), "command refused");
        if let Some(ack) = ack {
            client.reply(None, ack, refusal.to_reply());
        }
    }
}

async fn try_to_carry_out(
    client: &Arc<Client>,
    command: ClientCommand,
    relay: &Relay,
    subscriptions: &mut Subscriptions,
) -> Result<(), Refusal> {
    let (device, since) = match command.argument {
        Argument::Id(id) => (id, None),
        Argument::Object { device_id, since } => (device_id, since),
        Argument::Unreadable(_) => return Err(Refusal::Invalid),
    };
    let device: DeviceId = device.parse().map_err(|_| Refusal::Invalid)?;
    match command.kind {
        CommandKind::Subscribe => {
            if since.is_some() {
                // A client that catches up on many devices does so on one after the other.
                client.wait_until_caught_up().await;
            }
            let reply = client.pending_replies().begin();
            if reply.is_above(subscriptions.limit) {
                return Err(Refusal::Limit(subscriptions.limit));
            }
            let watch = subscriptions.add(&device)?;
            tracing::debug!(client = %client.sid(), device.id = %device.for_log(), "client subscribed to device");
            let join = Join {
                client: Arc::clone(client),
                device,
                since,
                ack: command.ack,
                _reply: reply,
                _watch: watch,
            };
            relay.join(join).await;
        }
        CommandKind::Unsubscribe => {
            subscriptions.devices.remove(&device);
            // The relay replies, after everything it has sent about the device.
            relay.leave(client, device, command.ack).await;
        }
    }
    Ok(())
}

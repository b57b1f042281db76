//! What clients ask for, taken in the order of the wire and worked off one by one.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::device::DeviceId;

use shared::position::Position;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::Data;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;
use tokio::sync::mpsc;

use super::{Client, LetGo};
use crate::relay::{Join, Relay};

/// One event of a client.
#[derive(Debug)]
pub(super) struct Command {
    kind: Kind,
    argument: Argument,
    /// The client waits for an answer with this id.
    ack: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Subscribe,
    Unsubscribe,
}

/// The argument of both events; older front ends send the bare id.
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

/// The connection's queue, kept with the socket for the handlers.
#[derive(Clone)]
pub(super) struct Queue {
    pub(super) client: Arc<Client>,
    pub(super) commands: mpsc::Sender<Command>,
}

/// Extractor of `subscribe:device`. Extractors run in the order of the wire, handlers do not.
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
        take(socket, Kind::Subscribe, value, *ack);
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
        take(socket, Kind::Unsubscribe, value, *ack);
        Ok(Self)
    }
}

fn take(socket: &Arc<Socket>, kind: Kind, value: &mut Value, ack: Option<i64>) {
    let Some(queue) = socket.extensions.get::<Queue>() else {
        return;
    };
    let read = Data::<Argument>::from_message_parts(socket, value, &ack);
    let argument = read.map_or(
        Argument::Unreadable(serde::de::IgnoredAny),
        |Data(argument)| argument,
    );
    let taken = queue.commands.try_send(Command {
        kind,
        argument,
        ack,
    });
    if let Err(mpsc::error::TrySendError::Full(_)) = taken {
        queue.client.let_go(LetGo::TooFast);
    }
}

/// The devices a client subscribed to, and how many it may.
pub(super) struct Subscriptions {
    devices: HashSet<DeviceId>,
    limit: usize,
}

impl Subscriptions {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            devices: HashSet::new(),
            limit,
        }
    }

    pub(super) fn into_devices(self) -> HashSet<DeviceId> {
        self.devices
    }

    /// Whether one more may be had; one that is there already always may.
    fn add(&mut self, device: &DeviceId) -> bool {
        if self.devices.len() >= self.limit && !self.devices.contains(device) {
            return false;
        }
        self.devices.insert(device.clone());
        true
    }
}

/// Works off the commands in their order. Waiting for the relay holds up this client alone.
pub(super) async fn work_off(
    client: &Arc<Client>,
    mut commands: mpsc::Receiver<Command>,
    relay: &Relay,
    subscriptions: &mut Subscriptions,
) {
    while let Some(command) = commands.recv().await {
        let ack = command.ack;
        if let Err(refusal) = perform(client, command, relay, subscriptions).await {
            client.metrics().commands_refused.increment(refusal.code());
            tracing::debug!(client = %client.sid(), code = refusal.code(), "command refused");
            if let Some(ack) = ack {
                client.acknowledge(ack, refusal.to_payload());
            }
        }
    }
}

async fn perform(
    client: &Arc<Client>,
    command: Command,
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
        Kind::Subscribe => {
            if since.is_some() {
                // One replay after the other, each in its own time.
                client.catches_up().await;
            }
            let unanswered = Unanswered::count(client);
            if unanswered.is_above(subscriptions.limit) || !subscriptions.add(&device) {
                return Err(Refusal::Limit(subscriptions.limit));
            }
            tracing::debug!(client = %client.sid(), device.id = %device.for_log(), "client subscribed to device");
            let ack = command.ack;
            let client = Arc::clone(client);
            relay
                .join(Join {
                    client,
                    device,
                    since,
                    ack,
                    _unanswered: unanswered,
                })
                .await;
        }
        Kind::Unsubscribe => {
            subscriptions.devices.remove(&device);
            // Answered by the relay, behind everything it has sent for the device.
            relay.leave(client, device, command.ack).await;
        }
    }
    Ok(())
}

/// A subscription that was not answered yet; counted per client, so that asking again and again stays bounded.
#[derive(Debug)]
pub(crate) struct Unanswered {
    client: Arc<Client>,
    number: usize,
}

impl Unanswered {
    fn count(client: &Arc<Client>) -> Self {
        let before = counter(client).fetch_add(1, Ordering::Relaxed);
        Self {
            client: Arc::clone(client),
            number: before + 1,
        }
    }

    fn is_above(&self, limit: usize) -> bool {
        self.number > limit
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.client.has_answered();
    }
}

fn counter(client: &Client) -> &AtomicUsize {
    client.unanswered()
}

/// Why a command is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("expected a device id of 1 to 128 bytes, or an object with `deviceId` and `since`")]
    Invalid,
    #[error("no more than {0} subscriptions per connection")]
    Limit(usize),
}

#[derive(Serialize)]
struct RefusalAck {
    ok: bool,
    error: RefusalError,
}

#[derive(Serialize)]
struct RefusalError {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Limit(_) => "limit",
        }
    }

    fn to_payload(self) -> Box<RawValue> {
        let error = RefusalError {
            code: self.code(),
            message: self.to_string(),
        };
        to_raw(&RefusalAck { ok: false, error })
    }
}

fn to_raw<T: Serialize>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("structs of texts always serialise")
}

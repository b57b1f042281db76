//! Takes the commands of a client that polls out of the events of socketioxide.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{DeserializeOwned, IgnoredAny};
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::Data;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;

use super::command::{Argument, ClientCommand, DeviceCommand, TokenArgument};
use super::command_queue::CommandQueue;
use super::feed_command::{AlarmsArgument, FeedKind, FleetArgument};
use crate::client::Client;

/// The client of a socket and its commands, stored with the socket for the extractors.
#[derive(Clone)]
pub(super) struct SocketCommands {
    pub(super) client: Arc<Client>,
    pub(super) queue: Arc<CommandQueue>,
}

/// Extractor of an event: puts its command into the queue. Extractors run in the order in which events arrive, handlers do not.
pub(super) struct Enqueue<E>(PhantomData<E>);

/// An event that clients send.
pub(super) trait Event {
    type Argument: DeserializeOwned;

    /// `argument`: `None` without one, or if it cannot be read.
    fn command(argument: Option<Self::Argument>, ack: Option<i64>) -> ClientCommand;
}

/// `subscribe:device`
pub(super) struct Subscribe;

/// `unsubscribe:device`
pub(super) struct Unsubscribe;

/// `auth:refresh`
pub(super) struct Refresh;

/// `subscribe:fleet`
pub(super) struct SubscribeFleet;

/// `unsubscribe:fleet`
pub(super) struct UnsubscribeFleet;

/// `subscribe:alarms`
pub(super) struct SubscribeAlarms;

/// `unsubscribe:alarms`
pub(super) struct UnsubscribeAlarms;

impl Event for Subscribe {
    type Argument = Argument;

    fn command(argument: Option<Argument>, ack: Option<i64>) -> ClientCommand {
        ClientCommand::of_device(DeviceCommand::Subscribe, argument, ack)
    }
}

impl Event for Unsubscribe {
    type Argument = Argument;

    fn command(argument: Option<Argument>, ack: Option<i64>) -> ClientCommand {
        ClientCommand::of_device(DeviceCommand::Unsubscribe, argument, ack)
    }
}

impl Event for Refresh {
    type Argument = TokenArgument;

    fn command(argument: Option<TokenArgument>, ack: Option<i64>) -> ClientCommand {
        ClientCommand::refresh(argument, ack)
    }
}

impl Event for SubscribeFleet {
    type Argument = FleetArgument;

    fn command(argument: Option<FleetArgument>, ack: Option<i64>) -> ClientCommand {
        ClientCommand::follow_fleet(argument, ack)
    }
}

impl Event for UnsubscribeFleet {
    type Argument = IgnoredAny;

    fn command(_: Option<IgnoredAny>, ack: Option<i64>) -> ClientCommand {
        ClientCommand::unfollow(FeedKind::Fleet, ack)
    }
}

impl Event for SubscribeAlarms {
    type Argument = AlarmsArgument;

    fn command(argument: Option<AlarmsArgument>, ack: Option<i64>) -> ClientCommand {
        ClientCommand::follow_alarms(argument, ack)
    }
}

impl Event for UnsubscribeAlarms {
    type Argument = IgnoredAny;

    fn command(_: Option<IgnoredAny>, ack: Option<i64>) -> ClientCommand {
        ClientCommand::unfollow(FeedKind::Alarms, ack)
    }
}

impl<E: Event> FromMessageParts<LocalAdapter> for Enqueue<E> {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket>,
        value: &mut Value,
        ack: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let argument = Data::<E::Argument>::from_message_parts(socket, value, ack).ok();
        let argument = argument.map(|Data(argument)| argument);
        enqueue(socket, E::command(argument, *ack));
        Ok(Self(PhantomData))
    }
}

/// Puts a command into the connection's queue. If the queue is full, the client is disconnected.
fn enqueue(socket: &Arc<Socket>, command: ClientCommand) {
    let Some(SocketCommands { client, queue }) = socket.extensions.get() else {
        return;
    };
    if let Err(reason) = queue.push(command) {
        client.close(reason);
    }
}

//! Takes the commands of a client that polls out of the events of socketioxide.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::Data;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;

use super::command::{Argument, ClientCommand, DeviceCommand, TokenArgument};
use super::command_queue::CommandQueue;
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

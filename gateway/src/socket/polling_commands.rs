//! Takes the commands of a client that polls out of the events of socketioxide.

use std::convert::Infallible;
use std::sync::Arc;

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

/// Extractor of `subscribe:device`. Extractors run in the order in which events arrive, handlers do not.
pub(super) struct Subscribe;

/// Extractor of `unsubscribe:device`.
pub(super) struct Unsubscribe;

/// Extractor of `auth:refresh`.
pub(super) struct Refresh;

impl FromMessageParts<LocalAdapter> for Subscribe {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket>,
        value: &mut Value,
        ack: &Option<i64>,
    ) -> Result<Self, Infallible> {
        enqueue_of_device(socket, DeviceCommand::Subscribe, value, *ack);
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
        enqueue_of_device(socket, DeviceCommand::Unsubscribe, value, *ack);
        Ok(Self)
    }
}

impl FromMessageParts<LocalAdapter> for Refresh {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket>,
        value: &mut Value,
        ack: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let argument = Data::<TokenArgument>::from_message_parts(socket, value, ack).ok();
        let argument = argument.map(|Data(argument)| argument);
        enqueue(socket, ClientCommand::refresh(argument, *ack));
        Ok(Self)
    }
}

fn enqueue_of_device(
    socket: &Arc<Socket>,
    command: DeviceCommand,
    value: &mut Value,
    ack: Option<i64>,
) {
    let argument = Data::<Argument>::from_message_parts(socket, value, &ack).ok();
    let argument = argument.map(|Data(argument)| argument);
    enqueue(socket, ClientCommand::of_device(command, argument, ack));
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

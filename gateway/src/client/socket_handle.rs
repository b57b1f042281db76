//! A client's socket in the Socket.IO library.

use std::sync::{Arc, Weak};

use axum::body::Bytes;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;
use socketioxide::{ParserError, SendError, SocketError};

use super::outbox::{Packet, PacketKind, SendOutcome};

/// A weak reference to the socket: the table of socketioxide keeps the socket alive, and only while it is connected.
#[derive(Debug)]
pub(super) struct SocketHandle(Weak<Socket>);

impl SocketHandle {
    pub(super) fn new(socket: &Arc<Socket>) -> Self {
        Self(Arc::downgrade(socket))
    }

    /// Puts a packet into the queue of socketioxide. Never waits.
    ///
    /// # Errors
    /// The payload cannot be serialised.
    pub(super) fn send(&self, packet: &Packet) -> Result<SendOutcome, ParserError> {
        let Some(socket) = self.0.upgrade() else {
            return Ok(SendOutcome::Closed);
        };
        let payload = packet.payload();
        let sent = match packet.kind() {
            PacketKind::Event(name) => socket.emit(name, &*payload),
            PacketKind::Reply(id) => {
                // An `AckSender` can only be extracted from a message, so one without content is made up.
                let mut nothing = Value::Bytes(Bytes::new());
                let Ok(ack) = AckSender::from_message_parts(&socket, &mut nothing, &Some(id));
                ack.send(&*payload)
            }
        };
        match sent {
            Ok(()) => Ok(SendOutcome::Sent),
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Ok(SendOutcome::Full),
            Err(SendError::Socket(SocketError::Closed)) => Ok(SendOutcome::Closed),
            Err(SendError::Serialize(error)) => Err(error),
        }
    }

    pub(super) fn join(&self, room: String) {
        if let Some(socket) = self.0.upgrade() {
            socket.join(room);
        }
    }

    pub(super) fn leave(&self, room: String) {
        if let Some(socket) = self.0.upgrade() {
            socket.leave(room);
        }
    }

    pub(super) fn leave_all(&self) {
        if let Some(socket) = self.0.upgrade() {
            socket.leave_all();
        }
    }
}

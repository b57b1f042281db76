//! A client's socket in the Socket.IO library.

use std::sync::{Arc, Weak};

use axum::body::Bytes;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;
use socketioxide::{ParserError, SendError, SocketError, TransportType};

use super::outbox::{Packet, PacketKind, SendOutcome};
use crate::session::Session;

/// A weak reference to the socket: the table of socketioxide keeps the socket alive, and only while it is connected.
#[derive(Debug)]
pub(super) struct SocketHandle {
    socket: Weak<Socket>,
    /// The session of a client that started with polling.
    session: Option<Arc<Session>>,
}

impl SocketHandle {
    pub(super) fn new(socket: &Arc<Socket>, session: Option<&Arc<Session>>) -> Self {
        Self {
            socket: Arc::downgrade(socket),
            session: session.cloned(),
        }
    }

    /// Returns whether the client sends and receives over a WebSocket now.
    pub(super) fn has_websocket(&self) -> bool {
        let socket = self.socket.upgrade();
        socket.is_some_and(|socket| socket.transport_type() == TransportType::Websocket)
    }

    /// Puts a packet into the queue of socketioxide. Never waits.
    ///
    /// # Errors
    /// The payload cannot be serialised.
    pub(super) fn send(&self, packet: &Packet) -> Result<SendOutcome, ParserError> {
        let Some(socket) = self.socket.upgrade() else {
            return Ok(SendOutcome::Closed);
        };
        let payload = packet.payload();
        let bytes = encoded_bytes(packet.kind(), payload.get());
        if let Some(session) = &self.session
            && !session.reserve(bytes)
        {
            return Ok(SendOutcome::Full);
        }
        let sent = match packet.kind() {
            PacketKind::Event(name) => socket.emit(name, &*payload),
            PacketKind::Reply(id) => {
                // An `AckSender` can only be extracted from a message, so one without content is made up.
                let mut nothing = Value::Bytes(Bytes::new());
                let Ok(ack) = AckSender::from_message_parts(&socket, &mut nothing, &Some(id));
                ack.send(&*payload)
            }
        };
        if let (Err(_), Some(session)) = (&sent, &self.session) {
            session.release(bytes);
        }
        match sent {
            Ok(()) => Ok(SendOutcome::Sent),
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Ok(SendOutcome::Full),
            Err(SendError::Socket(SocketError::Closed)) => Ok(SendOutcome::Closed),
            Err(SendError::Serialize(error)) => Err(error),
        }
    }

    pub(super) fn join(&self, room: String) {
        if let Some(socket) = self.socket.upgrade() {
            socket.join(room);
        }
    }

    pub(super) fn leave(&self, room: String) {
        if let Some(socket) = self.socket.upgrade() {
            socket.leave(room);
        }
    }

    pub(super) fn leave_all(&self) {
        if let Some(socket) = self.socket.upgrade() {
            socket.leave_all();
        }
    }
}

/// Returns the length of a packet in the answer to a poll, with the separator: `42["name",payload]` or `43id[payload]`.
fn encoded_bytes(kind: PacketKind, payload: &str) -> usize {
    let frame = match kind {
        PacketKind::Event(name) => r#"42["",]"#.len() + name.len(),
        PacketKind::Reply(id) => "43[]".len() + id.to_string().len(),
    };
    frame + payload.len() + 1
}

//! The way to one client: its WebSocket, or the Socket.IO library's queue for long polling. A client that begins with long
//! polling may move to a WebSocket once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;
use socketioxide::{ParserError, SendError, SocketError};

use super::outbox::{Packet, PacketKind, SendOutcome};
use crate::session::Session;
use crate::websocket::frame;
use crate::websocket::writer::{FrameWriter, Written};

/// How one client is connected.
#[derive(Debug)]
pub(crate) enum Link {
    /// A WebSocket from the beginning.
    WebSocket(Arc<FrameWriter>),
    /// Long polling at the beginning.
    Polling(PollingLink),
}

/// The link of a client that began with long polling.
#[derive(Debug)]
pub(crate) struct PollingLink {
    // Weak: the table of socketioxide keeps the socket alive, and only while it is connected.
    socket: Weak<Socket>,
    session: Arc<Session>,
    /// Nothing is accepted: what socketioxide still holds is being passed on to the WebSocket.
    is_moving: AtomicBool,
    /// The client's WebSocket, once it uses one.
    websocket: OnceLock<Arc<FrameWriter>>,
}

impl Link {
    /// Creates the link of a client that polls.
    pub(crate) fn polling(socket: &Arc<Socket>, session: Arc<Session>) -> Self {
        Self::Polling(PollingLink {
            socket: Arc::downgrade(socket),
            session,
            is_moving: AtomicBool::new(false),
            websocket: OnceLock::new(),
        })
    }

    /// Returns the WebSocket that the client uses now.
    pub(crate) fn websocket(&self) -> Option<&Arc<FrameWriter>> {
        match self {
            Self::WebSocket(writer) => Some(writer),
            Self::Polling(link) => link.websocket.get(),
        }
    }

    /// Accepts nothing until [`Link::finish_move`]. The caller holds the lock of the outbox, so nothing is being sent.
    pub(super) fn begin_move(&self) {
        if let Self::Polling(link) = self {
            link.is_moving.store(true, Ordering::Relaxed);
        }
    }

    /// From now on everything is sent over this WebSocket.
    pub(super) fn finish_move(&self, writer: Arc<FrameWriter>) {
        if let Self::Polling(link) = self {
            // A client moves once.
            link.websocket.set(writer).ok();
        }
    }

    /// Ends the WebSocket, if there is one. A polling session must be closed by a request.
    pub(super) fn abort(&self) {
        if let Some(writer) = self.websocket() {
            writer.shut_down();
        }
    }

    /// Sends a packet if nothing is before it. Never waits. The caller holds the lock of the outbox.
    ///
    /// # Errors
    /// The payload cannot be serialised.
    pub(super) fn send(&self, packet: &Packet) -> Result<SendOutcome, ParserError> {
        if let Some(writer) = self.websocket() {
            // Encoding costs more than looking.
            if writer.has_unsent() {
                return Ok(SendOutcome::Full);
            }
            // Not compressed: only this client has it, and others would wait.
            let frames = encode(packet);
            return Ok(writer.send(&frames, !packet.is_telemetry()).into());
        }
        match self {
            Self::Polling(link) if !link.is_moving.load(Ordering::Relaxed) => {
                link.send_polling(packet)
            }
            _ => Ok(SendOutcome::Full),
        }
    }

    pub(super) fn join(&self, room: String) {
        if let Some(socket) = self.socket() {
            socket.join(room);
            // socketioxide has no end for the rooms of a client that has moved.
            if self.websocket().is_some() {
                socket.leave_all();
            }
        }
    }

    pub(super) fn leave(&self, room: String) {
        if let Some(socket) = self.socket() {
            socket.leave(room);
        }
    }

    pub(super) fn leave_all(&self) {
        if let Some(socket) = self.socket() {
            socket.leave_all();
        }
    }

    /// Returns the socket of socketioxide, if the client polls.
    fn socket(&self) -> Option<Arc<Socket>> {
        match self {
            Self::WebSocket(_) => None,
            Self::Polling(link) => link.socket.upgrade(),
        }
    }
}

impl PollingLink {
    /// Puts a packet into the queue of socketioxide.
    fn send_polling(&self, packet: &Packet) -> Result<SendOutcome, ParserError> {
        let Some(socket) = self.socket.upgrade() else {
            return Ok(SendOutcome::Closed);
        };
        let payload = packet.payload();
        let bytes = encoded_bytes(packet.kind(), payload.get());
        if !self.session.reserve(bytes) {
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
        if sent.is_err() {
            self.session.release(bytes);
        }
        match sent {
            Ok(()) => Ok(SendOutcome::Sent),
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Ok(SendOutcome::Full),
            Err(SendError::Socket(SocketError::Closed)) => Ok(SendOutcome::Closed),
            Err(SendError::Serialize(error)) => Err(error),
        }
    }
}

impl From<Written> for SendOutcome {
    fn from(written: Written) -> Self {
        match written {
            Written::Whole | Written::Begun | Written::Held | Written::HeldBehind => Self::Sent,
            Written::Full => Self::Full,
            Written::Closed => Self::Closed,
        }
    }
}

fn encode(packet: &Packet) -> Bytes {
    let payload = packet.payload();
    match packet.kind() {
        PacketKind::Event(name) => frame::events(std::iter::once((name, &*payload)), false),
        PacketKind::Reply(id) => frame::reply(id, &payload),
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

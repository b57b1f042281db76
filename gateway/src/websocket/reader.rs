//! The receiving side of a WebSocket: whole text messages. The rules of RFC 6455 are those of tungstenite: masks, fragments,
//! UTF-8, control frames and the closing handshake.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tungstenite::error::{CapacityError, Error};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Message, Utf8Bytes};

use super::writer::FrameWriter;

/// Bytes that are read at once. Small, as incoming messages are small and connections many.
const READ_BYTES: usize = 512;

/// The receiving side of a WebSocket.
#[derive(Debug)]
pub(crate) struct MessageReader {
    writer: Arc<FrameWriter>,
    // On the heap: it is larger than the rest of a waiting task.
    protocol: Box<WebSocketContext>,
    last_read: Instant,
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Text(Utf8Bytes),
    /// Bytes. Engine.IO uses them for attachments.
    Binary,
    /// A frame of the WebSocket protocol, which was handled.
    Control,
}

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// The client has closed the WebSocket, or its connection.
    Closed,
    /// The connection failed.
    Failed,
    /// The client broke the protocol.
    Invalid,
}

impl MessageReader {
    /// Reads from a connection. `received`: bytes that were received with the request. `max_bytes`: longest message.
    pub(crate) fn new(writer: Arc<FrameWriter>, received: Vec<u8>, max_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(max_bytes))
            .max_frame_size(Some(max_bytes));
        let protocol = WebSocketContext::from_partially_read(received, Role::Server, Some(config));
        Self {
            writer,
            protocol: Box::new(protocol),
            last_read: Instant::now(),
        }
    }

    /// Returns the sending side.
    pub(crate) fn writer(&self) -> &Arc<FrameWriter> {
        &self.writer
    }

    /// Returns when bytes were received last.
    pub(crate) fn last_read(&self) -> Instant {
        self.last_read
    }

    /// Waits for the next message or control frame. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Nothing more can be read. A closing handshake has been answered.
    pub(crate) async fn next(&mut self) -> Result<Received, ReadEnd> {
        loop {
            // A peer that reads nothing could otherwise make this process keep an answer to each of its pings.
            self.writer.wait_for_answers().await;
            match self.try_next() {
                Some(received) => return received,
                None => {
                    // It fails only when the runtime shuts down.
                    self.writer.stream().readable().await.ok();
                }
            }
        }
    }

    /// Returns the next message; `None` if the kernel has no more bytes.
    fn try_next(&mut self) -> Option<Result<Received, ReadEnd>> {
        let Self {
            writer,
            protocol,
            last_read,
        } = self;
        let mut stream = Stream { writer, last_read };
        let error = match protocol.read(&mut stream) {
            Ok(Message::Text(text)) => return Some(Ok(Received::Text(text))),
            Ok(Message::Binary(_)) => return Some(Ok(Received::Binary)),
            Ok(Message::Close(close)) => {
                let code = close.map_or(CloseCode::Normal, |close| close.code);
                writer.send_close(code.into());
                return Some(Err(ReadEnd::Closed));
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                return Some(Ok(Received::Control));
            }
            Err(error) => error,
        };
        let (end, code) = match error {
            Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Error::Io(_) => (ReadEnd::Failed, None),
            Error::ConnectionClosed | Error::AlreadyClosed => (ReadEnd::Closed, None),
            Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                (ReadEnd::Closed, None)
            }
            Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                (ReadEnd::Invalid, Some(CloseCode::Size))
            }
            Error::Utf8(_) => (ReadEnd::Invalid, Some(CloseCode::Invalid)),
            _ => (ReadEnd::Invalid, Some(CloseCode::Protocol)),
        };
        if let Some(code) = code {
            writer.send_close(code.into());
        }
        Some(Err(end))
    }
}

/// The connection as tungstenite sees it. What it writes are answers to pings, which go the way of all frames.
struct Stream<'a> {
    writer: &'a FrameWriter,
    last_read: &'a mut Instant,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.writer.stream().try_read(buffer)?;
        *self.last_read = Instant::now();
        Ok(read)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.send_behind(Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

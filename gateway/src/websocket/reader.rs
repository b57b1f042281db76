//! The receiving side of a WebSocket: whole text messages. The rules of RFC 6455 are those of tungstenite: masks, fragments,
//! UTF-8, control frames and the closing handshake.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::coop::consume_budget;
use tokio::task::yield_now;
use tungstenite::error::{CapacityError, Error};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Message, Utf8Bytes};

use super::writer::FrameWriter;
use crate::listener::take_over::TakenConnection;

/// Bytes that are read at once. Small, as incoming messages are small and connections many.
const READ_BYTES: usize = 512;
/// How long a client may take to send the rest of a message.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that are read before other tasks have a turn.
const TURN_BYTES: usize = 16 * 1024;
/// How many bytes one message may need beside its longest content: headers of fragments, and the beginning of the next message.
const MAX_OVERHEAD: usize = 16 * 1024;

/// The receiving side of a WebSocket.
#[derive(Debug)]
pub(crate) struct MessageReader {
    writer: Arc<FrameWriter>,
    // On the heap: it is larger than the rest of a waiting task.
    protocol: Box<WebSocketContext>,
    progress: Progress,
}

/// What was received.
#[derive(Debug)]
struct Progress {
    last_read: Instant,
    /// When the first byte of the unfinished message was received.
    message_begun: Option<Instant>,
    /// Bytes of it, and how many it may have.
    message_bytes: usize,
    max_message_bytes: usize,
    /// Bytes that may be read in this turn.
    turn_bytes: usize,
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
    /// Reads from a connection that has changed to this protocol. `max_bytes`: longest message.
    pub(crate) fn open(taken: TakenConnection, max_bytes: usize) -> Self {
        let writer = FrameWriter::new(taken.stream, taken.permit);
        Self::new(Arc::new(writer), taken.received, max_bytes)
    }

    /// Reads from a connection. `received`: bytes that were received with the request. `max_bytes`: longest message.
    fn new(writer: Arc<FrameWriter>, received: Vec<u8>, max_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(max_bytes))
            .max_frame_size(Some(max_bytes));
        let protocol = WebSocketContext::from_partially_read(received, Role::Server, Some(config));
        Self {
            writer,
            protocol: Box::new(protocol),
            progress: Progress {
                last_read: Instant::now(),
                message_begun: None,
                message_bytes: 0,
                max_message_bytes: max_bytes + MAX_OVERHEAD,
                turn_bytes: 0,
            },
        }
    }

    /// Returns the sending side.
    pub(crate) fn writer(&self) -> &Arc<FrameWriter> {
        &self.writer
    }

    /// Returns when bytes were received last.
    pub(crate) fn last_read(&self) -> Instant {
        self.progress.last_read
    }

    /// Returns when the message must be complete of which a part was received; `None` without one.
    pub(crate) fn message_due(&self) -> Option<Instant> {
        self.progress
            .message_begun
            .map(|begun| begun + MESSAGE_TIMEOUT)
    }

    /// Waits for the next message or control frame. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Nothing more can be read. A closing handshake has been answered.
    pub(crate) async fn next(&mut self) -> Result<Received, ReadEnd> {
        loop {
            // A peer that reads nothing could otherwise make this process keep an answer to each of its pings.
            self.writer.wait_for_answers().await;
            // A peer that always has more for us must not keep other tasks waiting.
            consume_budget().await;
            self.progress.turn_bytes = TURN_BYTES;
            match self.try_next() {
                Some(received) => return received,
                None if self.progress.turn_bytes == 0 => yield_now().await,
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
            progress,
        } = self;
        let read = protocol.read(&mut Stream { writer, progress });
        if read.is_ok() {
            progress.message_begun = None;
            progress.message_bytes = 0;
        } else if progress.message_bytes > progress.max_message_bytes {
            writer.send_close(CloseCode::Policy.into());
            return Some(Err(ReadEnd::Invalid));
        }
        let error = match read {
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
    progress: &'a mut Progress,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let progress = &mut *self.progress;
        if progress.turn_bytes == 0 || progress.message_bytes > progress.max_message_bytes {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.writer.stream().try_read(buffer)?;
        progress.last_read = Instant::now();
        progress.message_begun.get_or_insert(progress.last_read);
        progress.message_bytes += read;
        progress.turn_bytes = progress.turn_bytes.saturating_sub(read);
        Ok(read)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.send_small(Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

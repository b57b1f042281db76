//! The receiving side of a WebSocket: whole text messages. Pings are answered here, and so is what breaks the protocol.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::coop::consume_budget;
use tokio::task::yield_now;
use tungstenite::protocol::frame::coding::CloseCode;

use super::decoder::{Decoded, Decoder};
use super::frame;
use super::writer::FrameWriter;
use crate::listener::take_over::TakenConnection;

/// Bytes that are read at once.
const READ_BYTES: usize = 2048;
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
    decoder: Decoder,
    progress: Progress,
}

/// What was received.
#[derive(Debug)]
struct Progress {
    last_read: Instant,
    /// When the first byte of the unfinished message was read.
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
    Text(String),
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
    /// Reads from a connection that has changed to this protocol. `max_bytes`: longest message. `compresses`: compression was agreed
    /// on.
    pub(crate) fn open(taken: TakenConnection, max_bytes: usize, compresses: bool) -> Self {
        let writer = FrameWriter::new(taken.stream, taken.places, compresses);
        Self::new(Arc::new(writer), &taken.received, max_bytes)
    }

    /// Reads from a connection. `received`: bytes that were received with the request. `max_bytes`: longest message.
    fn new(writer: Arc<FrameWriter>, received: &[u8], max_bytes: usize) -> Self {
        let mut decoder = Decoder::new(max_bytes, writer.compresses());
        decoder.receive(received);
        Self {
            writer,
            decoder,
            progress: Progress {
                last_read: Instant::now(),
                message_begun: None,
                message_bytes: received.len(),
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

    /// Returns the next message; `None` if the kernel has no more bytes, or others must have a turn.
    fn try_next(&mut self) -> Option<Result<Received, ReadEnd>> {
        loop {
            match self.decoder.next() {
                Ok(Some(decoded)) => {
                    self.progress.message_bytes = 0;
                    // What follows is another message, unless this was a control frame between two fragments.
                    if !self.decoder.has_fragments() {
                        self.progress.message_begun = None;
                    }
                    self.note_message();
                    return Some(self.handle(decoded));
                }
                Ok(None) => self.note_message(),
                Err(violation) => return Some(Err(self.refuse(violation.0))),
            }
            if self.progress.message_bytes > self.progress.max_message_bytes {
                return Some(Err(self.refuse(CloseCode::Policy)));
            }
            if self.progress.turn_bytes == 0 {
                return None;
            }
            match self.read() {
                Ok(0) => return Some(Err(ReadEnd::Closed)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => return Some(Err(ReadEnd::Failed)),
            }
        }
    }

    /// Reads what the kernel has. The buffer is on the stack, so a connection that waits has none.
    fn read(&mut self) -> io::Result<usize> {
        let mut buffer = [0; READ_BYTES];
        let read = self.writer.stream().try_read(&mut buffer)?;
        self.decoder.receive(&buffer[..read]);
        let progress = &mut self.progress;
        progress.last_read = Instant::now();
        progress.message_bytes += read;
        progress.turn_bytes = progress.turn_bytes.saturating_sub(read);
        Ok(read)
    }

    /// Remembers since when a message is unfinished.
    fn note_message(&mut self) {
        let progress = &mut self.progress;
        if self.decoder.is_within_message() {
            progress.message_begun.get_or_insert(progress.last_read);
        } else {
            progress.message_begun = None;
        }
    }

    fn handle(&self, decoded: Decoded) -> Result<Received, ReadEnd> {
        match decoded {
            Decoded::Text(text) => Ok(Received::Text(text)),
            Decoded::Binary => Ok(Received::Binary),
            Decoded::Pong => Ok(Received::Control),
            Decoded::Ping(content) => {
                self.writer.send_small(frame::pong(&content));
                Ok(Received::Control)
            }
            Decoded::Close(code) => {
                self.writer.send_close(code.into());
                Err(ReadEnd::Closed)
            }
        }
    }

    fn refuse(&self, code: CloseCode) -> ReadEnd {
        self.writer.send_close(code.into());
        ReadEnd::Invalid
    }
}

#[cfg(test)]
mod tests;

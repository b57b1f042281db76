//! The sending side of a WebSocket. Any task may send: what the kernel takes at once needs no other task.
//!
//! A frame is sent whole or not at all, with one exception: the kernel may take only the beginning. The rest is kept and sent
//! before anything else. Until then no other frame is accepted, and the caller keeps it. So beside the rest of one buffer, the
//! writer holds only small frames: one ping, and answers to the client, which is not read while an answer waits.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::frame;

/// Number of buffers that may wait beside answers to the client: the rest of a frame, and a ping.
const WITHOUT_ANSWERS: usize = 2;

/// The sending side of a WebSocket, and its connection.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    stream: TcpStream,
    // A std mutex: held while bytes are handed to the kernel, which never blocks.
    unsent: Mutex<Unsent>,
    /// The place of the connection.
    _permit: OwnedSemaphorePermit,
}

/// What was accepted and the kernel has not taken yet.
#[derive(Debug, Default)]
struct Unsent {
    /// The rest of a frame, then control frames.
    bytes: VecDeque<Bytes>,
    /// Since when an alarm is among them.
    alarm_since: Option<Instant>,
    /// Nothing more may be sent: the connection has failed, or a close frame was sent.
    is_closed: bool,
}

/// The outcome of sending frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The kernel has all of them.
    Whole,
    /// They are accepted, and the kernel has their beginning: [`FrameWriter::flush`] must be called when it takes more.
    Begun,
    /// Nothing was accepted: try again later.
    Full,
    /// Nothing will be accepted any more.
    Closed,
}

impl FrameWriter {
    pub(crate) fn new(stream: TcpStream, permit: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            unsent: Mutex::default(),
            _permit: permit,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends whole frames if nothing waits. `is_alarm`: their rest must not wait for long (see [`Self::alarm_waits`]). Never waits.
    pub(crate) fn send(&self, frames: &Bytes, is_alarm: bool) -> Written {
        let mut unsent = self.unsent();
        if unsent.is_closed {
            return Written::Closed;
        }
        if !unsent.bytes.is_empty() {
            return Written::Full;
        }
        match self.stream.try_write(frames) {
            Ok(taken) if taken == frames.len() => Written::Whole,
            Ok(taken) => {
                unsent.bytes.push_back(frames.slice(taken..));
                unsent.alarm_since = is_alarm.then(Instant::now);
                Written::Begun
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Written::Full,
            Err(_) => {
                unsent.close();
                Written::Closed
            }
        }
    }

    /// Sends frames behind what waits, however much that is. Returns whether something waits now.
    pub(crate) fn send_behind(&self, frames: Bytes) -> bool {
        let mut unsent = self.unsent();
        if unsent.is_closed {
            return false;
        }
        unsent.bytes.push_back(frames);
        self.write(&mut unsent)
    }

    /// Sends a close frame behind what waits. Nothing is accepted after it.
    pub(crate) fn send_close(&self, code: u16) {
        let mut unsent = self.unsent();
        if !unsent.is_closed {
            unsent.bytes.push_back(frame::close(code));
            self.write(&mut unsent);
            unsent.is_closed = true;
        }
    }

    /// Sends what waits. Returns whether something still waits.
    pub(crate) fn flush(&self) -> bool {
        self.write(&mut self.unsent())
    }

    /// Returns whether anything waits.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent().bytes.is_empty()
    }

    /// Waits until no answer to the client waits.
    pub(super) async fn wait_for_answers(&self) {
        while self.unsent().bytes.len() > WITHOUT_ANSWERS {
            self.writable().await;
            self.flush();
        }
    }

    /// Returns how long the rest of an alarm has waited; `None` if none waits.
    pub(crate) fn alarm_waits(&self) -> Option<Duration> {
        self.unsent().alarm_since.map(|since| since.elapsed())
    }

    /// Waits until the kernel may take more.
    pub(crate) async fn writable(&self) {
        // It fails only when the runtime shuts down.
        self.stream.writable().await.ok();
    }

    /// Ends the connection in both directions and wakes whoever waits for it. The descriptor is closed with the last reference.
    pub(crate) fn shut_down(&self) {
        self.unsent().close();
        // It may have ended already.
        SockRef::from(&self.stream).shutdown(Shutdown::Both).ok();
    }

    fn write(&self, unsent: &mut Unsent) -> bool {
        while let Some(first) = unsent.bytes.front_mut() {
            match self.stream.try_write(first) {
                Ok(taken) if taken == first.len() => {
                    unsent.bytes.pop_front();
                }
                Ok(taken) => drop(first.split_to(taken)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => unsent.close(),
            }
        }
        unsent.free();
        false
    }

    fn unsent(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unsent {
    fn close(&mut self) {
        self.is_closed = true;
        self.free();
    }

    fn free(&mut self) {
        self.bytes = VecDeque::new();
        self.alarm_since = None;
    }
}

#[cfg(test)]
pub(super) mod tests;

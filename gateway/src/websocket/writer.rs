//! The sending side of a WebSocket. Any task may send: what the kernel takes at once needs no other task.
//!
//! A frame is sent whole or not at all, with one exception: the kernel may take only the beginning. The rest is kept and sent
//! before anything else. Until then no other frame is accepted, and the caller keeps it. So beside the rest of one buffer and held
//! telemetry, the writer holds only small frames: pings, and answers to the client, which is not read while answers wait.
//! Whenever something waits for the kernel, [`FrameWriter::waiting`] is notified.
//!
//! Telemetry may be held for a moment ([`FrameWriter::send_telemetry`]), so that several frames leave in one write. Whatever else
//! is sent takes it along, so the order is that of the calls.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::frame;
use crate::listener::connection::ConnectionPlaces;
use crate::shared_stream::SharedStream;

/// Number of pings and answers that may wait while the client is read.
const MAX_SMALL: usize = 2;
/// Telemetry is held only while it has fewer bytes than this, and in fewer buffers than [`HELD_BUFFERS`].
const HELD_BYTES: usize = 16 * 1024;
const HELD_BUFFERS: usize = 64;
/// Maximum number of buffers in one write.
const WRITE_BUFFERS: usize = 64;

/// The sending side of a WebSocket, and its connection.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    stream: SharedStream,
    // A std mutex: held while bytes are handed to the kernel, which never blocks.
    unsent: Mutex<Unsent>,
    waiting: Notify,
    compresses: bool,
    /// The place of the connection.
    _places: ConnectionPlaces,
}

/// What was accepted and the kernel has not taken yet.
#[derive(Debug, Default)]
struct Unsent {
    /// Telemetry that is held, or the rest of a frame and what came behind it.
    bytes: VecDeque<Bytes>,
    /// How many bytes of telemetry are held; `None` if the kernel has to take more first.
    held: Option<usize>,
    /// The stream itself keeps bytes that the kernel has to take first.
    is_in_stream: bool,
    /// How many of the last buffers are pings and answers to the client.
    small: usize,
    /// When telemetry was sent last.
    telemetry_sent: Option<Instant>,
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
    /// They are accepted, and the kernel has some of the bytes: [`FrameWriter::flush`] must be called when it takes more.
    Begun,
    /// They are accepted, and [`FrameWriter::release`] must be called at the end of the window.
    Held,
    /// They are accepted behind others that are held.
    HeldBehind,
    /// Nothing was accepted: try again later.
    Full,
    /// Nothing will be accepted any more.
    Closed,
}

impl FrameWriter {
    /// `compresses`: compression was agreed on with the client.
    pub(crate) fn new(stream: SharedStream, places: ConnectionPlaces, compresses: bool) -> Self {
        Self {
            stream,
            unsent: Mutex::default(),
            waiting: Notify::new(),
            compresses,
            _places: places,
        }
    }

    /// Returns whether messages may be compressed, in both directions.
    pub(crate) fn compresses(&self) -> bool {
        self.compresses
    }

    pub(super) fn stream(&self) -> &SharedStream {
        &self.stream
    }

    /// Sends whole frames if nothing waits. `is_alarm`: their rest must not wait for long (see [`Self::alarm_waits`]). Never waits.
    pub(crate) fn send(&self, frames: &Bytes, is_alarm: bool) -> Written {
        self.send_now(&mut self.unsent(), frames, is_alarm)
    }

    /// Sends readings as [`Self::send`] does. If others were sent less than `window` ago, they may be held until its end.
    pub(crate) fn send_telemetry(&self, frames: &Bytes, now: Instant, window: Duration) -> Written {
        let mut unsent = self.unsent();
        let sent = unsent.telemetry_sent;
        let is_within = sent.is_some_and(|sent| now.saturating_duration_since(sent) < window);
        let held = unsent.held.unwrap_or_default() + frames.len();
        let fits = held < HELD_BYTES && unsent.bytes.len() < HELD_BUFFERS;
        if is_within && fits && unsent.may_send() && !unsent.is_closed {
            unsent.bytes.push_back(frames.clone());
            return match unsent.held.replace(held) {
                None => Written::Held,
                Some(_) => Written::HeldBehind,
            };
        }
        unsent.telemetry_sent = Some(now);
        self.send_now(&mut unsent, frames, false)
    }

    /// Sends telemetry that is held.
    pub(crate) fn release(&self, now: Instant) {
        let mut unsent = self.unsent();
        if unsent.held.is_some() {
            unsent.telemetry_sent = Some(now);
            self.write(&mut unsent);
        }
    }

    fn send_now(&self, unsent: &mut Unsent, frames: &Bytes, is_alarm: bool) -> Written {
        if unsent.is_closed {
            return Written::Closed;
        }
        if !unsent.may_send() {
            return Written::Full;
        }
        if unsent.held.is_some() {
            unsent.bytes.push_back(frames.clone());
            if self.write(unsent) {
                unsent.alarm_since = is_alarm.then(Instant::now);
                return Written::Begun;
            }
            return if unsent.is_closed {
                Written::Closed
            } else {
                Written::Whole
            };
        }
        match self.stream.try_write(frames) {
            Ok(taken) if taken == frames.len() && !self.keeps_bytes(unsent) => {
                if unsent.is_closed {
                    Written::Closed
                } else {
                    Written::Whole
                }
            }
            Ok(taken) => {
                if taken < frames.len() {
                    unsent.bytes.push_back(frames.slice(taken..));
                }
                unsent.alarm_since = is_alarm.then(Instant::now);
                self.waiting.notify_one();
                Written::Begun
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Written::Full,
            Err(_) => {
                self.fail(unsent);
                Written::Closed
            }
        }
    }

    /// Sends a frame behind what waits, however much that is.
    pub(crate) fn send_behind(&self, frame: Bytes) {
        let mut unsent = self.unsent();
        if !unsent.is_closed {
            unsent.bytes.push_back(frame);
            self.write(&mut unsent);
        }
    }

    /// Sends a packet that a client did not get over polling, as [`Self::send_behind`] does. It may be an alarm, so its rest must not
    /// wait for long.
    pub(crate) fn send_moved(&self, frame: Bytes) {
        let mut unsent = self.unsent();
        if !unsent.is_closed {
            unsent.bytes.push_back(frame);
            if self.write(&mut unsent) {
                unsent.alarm_since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Sends a ping, or an answer to the client, behind what waits. The client is not read while several of them wait.
    pub(crate) fn send_small(&self, frame: Bytes) {
        let mut unsent = self.unsent();
        if !unsent.is_closed {
            unsent.bytes.push_back(frame);
            unsent.small += 1;
            self.write(&mut unsent);
        }
    }

    /// Returns the handle that is notified when something waits for the kernel.
    pub(crate) fn waiting(&self) -> &Notify {
        &self.waiting
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

    /// Sends what waits for the kernel, whenever it takes more. Never returns.
    pub(crate) async fn keep_flushing(&self) {
        loop {
            while self.flush() {
                self.writable().await;
            }
            self.waiting.notified().await;
        }
    }

    /// Returns whether anything waits for the kernel. Nothing else is accepted until it has been sent.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent().may_send()
    }

    /// Waits until few answers to the client wait.
    pub(super) async fn wait_for_answers(&self) {
        while self.unsent().small > MAX_SMALL {
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
        self.fail(&mut self.unsent());
    }

    /// Keeps nothing, and lets the reading side see the end.
    fn fail(&self, unsent: &mut Unsent) {
        unsent.close();
        self.stream.shut_down();
    }

    /// Returns whether the stream itself keeps bytes that the kernel does not take.
    fn keeps_bytes(&self, unsent: &mut Unsent) -> bool {
        unsent.is_in_stream = match self.stream.try_flush() {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Err(_) => {
                self.fail(unsent);
                false
            }
        };
        unsent.is_in_stream
    }

    /// Sends what waits and what is held. Returns whether something waits for the kernel now.
    fn write(&self, unsent: &mut Unsent) -> bool {
        unsent.held = None;
        while !unsent.bytes.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_BUFFERS];
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(&unsent.bytes) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(taken) => unsent.advance(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting.notify_one();
                    return true;
                }
                Err(_) => self.fail(unsent),
            }
        }
        if self.keeps_bytes(unsent) {
            self.waiting.notify_one();
            return true;
        }
        unsent.free();
        false
    }

    fn unsent(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unsent {
    /// Returns whether nothing waits for the kernel.
    fn may_send(&self) -> bool {
        (self.bytes.is_empty() || self.held.is_some()) && !self.is_in_stream
    }

    /// Forgets bytes that the kernel took.
    fn advance(&mut self, mut taken: usize) {
        while let Some(first) = self.bytes.front_mut() {
            if taken < first.len() {
                drop(first.split_to(taken));
                return;
            }
            taken -= first.len();
            self.bytes.pop_front();
            self.small = self.small.min(self.bytes.len());
        }
    }

    fn close(&mut self) {
        self.is_closed = true;
        self.free();
    }

    fn free(&mut self) {
        self.bytes = VecDeque::new();
        self.is_in_stream = false;
        self.held = None;
        self.small = 0;
        self.alarm_since = None;
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! The large answer that a connection is sending: how fast its peer must take it, and what it holds until it is sent.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The time over which the rate of an answer is measured. With less, a peer whose kernel takes bytes in large steps would seem
/// to stand still.
const WINDOW: Duration = Duration::from_secs(10);

/// How fast a peer must take an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerPace {
    /// The longest time for the whole answer.
    pub(crate) time: Duration,
    /// The fewest bytes per second within every [`WINDOW`].
    pub(crate) rate: u64,
}

/// What an answer holds until its last byte was handed to the kernel.
pub(crate) trait HeldAnswer: fmt::Debug + Send {
    /// Frees it. `was_too_slow`: the connection was closed because the peer did not take the answer fast enough.
    fn end(self: Box<Self>, was_too_slow: bool);
}

/// The present answer of one connection. HTTP/1.1 has one at a time.
#[derive(Debug, Default)]
pub(super) struct PresentAnswer {
    // A std mutex: never held across an await.
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Number of the answer on its connection, and its limits; `None` while there is no large answer.
    limits: Option<Limits>,
    begun: u64,
    /// Answers whose bytes are all in the buffer of hyper.
    unsent: Vec<Box<dyn HeldAnswer>>,
    is_buffered: bool,
    was_too_slow: bool,
    is_closed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    number: u64,
    until: Instant,
    /// The fewest bytes in a window.
    min_bytes: u64,
}

impl PresentAnswer {
    pub(super) fn begin(&self, pace: AnswerPace) {
        let mut slot = self.slot();
        slot.begun += 1;
        slot.is_buffered = false;
        slot.limits = Some(Limits {
            number: slot.begun,
            until: Instant::now() + pace.time,
            min_bytes: pace.rate.saturating_mul(WINDOW.as_secs()),
        });
    }

    /// Keeps what the answer holds until it is sent. Its body has ended.
    pub(super) fn finish(&self, held: Box<dyn HeldAnswer>) {
        let mut slot = self.slot();
        let was_too_slow = slot.was_too_slow;
        if slot.is_closed {
            drop(slot);
            held.end(was_too_slow);
        } else {
            slot.is_buffered = true;
            slot.unsent.push(held);
        }
    }

    /// Frees what was held. Every byte that hyper had was handed to the kernel.
    pub(super) fn sent(&self) {
        let mut slot = self.slot();
        if slot.is_buffered {
            slot.limits = None;
        }
        let sent = std::mem::take(&mut slot.unsent);
        drop(slot);
        for held in sent {
            held.end(false);
        }
    }

    /// Frees what is held. Nothing more will be sent.
    pub(super) fn close(&self) {
        let mut slot = self.slot();
        slot.is_closed = true;
        let was_too_slow = slot.was_too_slow;
        let unsent = std::mem::take(&mut slot.unsent);
        drop(slot);
        for held in unsent {
            held.end(was_too_slow);
        }
    }

    fn limits(&self) -> Option<Limits> {
        self.slot().limits
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures how fast the peer takes the present answer.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    present: Option<Window>,
}

#[derive(Debug)]
struct Window {
    limits: Limits,
    end: Instant,
    /// Bytes that were taken in it.
    taken: u64,
    timer: Pin<Box<Sleep>>,
}

impl Window {
    fn new(limits: Limits) -> Self {
        let end = Instant::now() + WINDOW;
        Self {
            limits,
            end,
            taken: 0,
            timer: Box::pin(sleep_until(end.min(limits.until))),
        }
    }
}

impl Pacer {
    /// Records the outcome of a write. Returns true if the peer is too slow; otherwise a write that waits is woken when this
    /// must be asked again.
    pub(super) fn is_too_slow(
        &mut self,
        cx: &mut Context<'_>,
        answer: &PresentAnswer,
        taken: Poll<usize>,
    ) -> bool {
        let Some(limits) = answer.limits() else {
            self.present = None;
            return false;
        };
        let window = match &mut self.present {
            Some(window) if window.limits.number == limits.number => window,
            present => present.insert(Window::new(limits)),
        };
        if let Poll::Ready(bytes) = taken {
            window.taken += bytes as u64;
            return false;
        }
        while window.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= limits.until || window.taken < limits.min_bytes {
                answer.slot().was_too_slow = true;
                return true;
            }
            window.taken = 0;
            window.end = now + WINDOW;
            let next = window.end.min(limits.until);
            window.timer.as_mut().reset(next);
        }
        false
    }
}

#[cfg(test)]
mod tests;

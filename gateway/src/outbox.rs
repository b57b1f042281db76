//! What waits to be sent to one client: complete and in order, or the client is let go. Pure.
//!
//! The library's queue refuses a packet when it is full and forgets it. Refused packets wait here instead, and from
//! then on everything for this client goes behind them, so that nothing is lost and nothing is overtaken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

/// One event or acknowledgement. The payload is shared by all clients that get it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) address: Address,
    pub(crate) payload: Arc<RawValue>,
}

/// What a packet is for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// An event of this name.
    Event(&'static str),
    /// The answer to the client's event with this acknowledgement id.
    Ack(i64),
}

/// What became of a packet that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    Taken,
    /// No room now: try again.
    Full,
    /// The connection is closed: nothing will ever be taken.
    Closed,
}

/// Bounds of one outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
    /// How old the oldest waiting packet may become.
    pub(crate) deadline: Duration,
}

/// Which bound a client broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    Packets,
    Bytes,
    Deadline,
}

/// Packets the library's queue had no room for, bounded by [`Limits`]: beyond them the client is let go.
#[derive(Debug)]
pub(crate) struct Outbox {
    limits: Limits,
    waiting: VecDeque<(Packet, Instant)>,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Hands the packet over at once if nothing waits before it, else lets it wait. Answers whether something waits.
    pub(crate) fn push(
        &mut self,
        packet: Packet,
        now: Instant,
        mut hand_over: impl FnMut(&Packet) -> Handed,
    ) -> Result<bool, Overflow> {
        if self.waiting.is_empty() {
            match hand_over(&packet) {
                Handed::Taken | Handed::Closed => return Ok(false),
                Handed::Full => {}
            }
        }
        self.bytes = self.bytes.saturating_add(size(&packet));
        self.waiting.push_back((packet, now));
        self.check(now)?;
        Ok(true)
    }

    /// Hands over what waits, as far as it is taken. Answers whether something still waits.
    pub(crate) fn flush(
        &mut self,
        now: Instant,
        mut hand_over: impl FnMut(&Packet) -> Handed,
    ) -> Result<bool, Overflow> {
        while let Some((packet, _)) = self.waiting.front() {
            match hand_over(packet) {
                Handed::Taken => {
                    self.bytes = self.bytes.saturating_sub(size(packet));
                    self.waiting.pop_front();
                }
                Handed::Full => break,
                Handed::Closed => {
                    self.clear();
                    break;
                }
            }
        }
        self.check(now)?;
        Ok(!self.waiting.is_empty())
    }

    /// Forgets everything: the client is gone.
    pub(crate) fn clear(&mut self) {
        self.waiting = VecDeque::new();
        self.bytes = 0;
    }

    fn check(&self, now: Instant) -> Result<(), Overflow> {
        let Some((_, oldest)) = self.waiting.front() else {
            return Ok(());
        };
        if self.waiting.len() > self.limits.packets {
            Err(Overflow::Packets)
        } else if self.bytes > self.limits.bytes {
            Err(Overflow::Bytes)
        } else if now.saturating_duration_since(*oldest) > self.limits.deadline {
            Err(Overflow::Deadline)
        } else {
            Ok(())
        }
    }
}

/// Bytes a packet counts: its payload and what it takes to keep it.
fn size(packet: &Packet) -> usize {
    packet.payload.get().len() + size_of::<(Packet, Instant)>()
}

#[cfg(test)]
mod tests;

//! When to send a ping, and when a client counts as gone. Pure.
//!
//! Engine.IO (protocol 4): the server sends a ping in regular intervals, and the client answers. A client is gone when nothing at
//! all has arrived for an interval and the timeout after it. So a slow client, to which a ping travels behind other data, is kept
//! as long as anything arrives from it.

use std::time::{Duration, Instant};

/// The heartbeat of one connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    next_ping: Instant,
}

/// What must be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    /// The client is gone.
    Close,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self {
            interval,
            timeout,
            next_ping: now + interval,
        }
    }

    /// Makes the next ping due now.
    pub(super) fn ping_now(&mut self, now: Instant) {
        self.next_ping = now;
    }

    /// Returns when something must be done, if nothing arrives until then.
    pub(super) fn due(&self, last_read: Instant) -> Instant {
        self.next_ping.min(last_read + self.interval + self.timeout)
    }

    /// Returns what must be done now.
    pub(super) fn act(&mut self, last_read: Instant, now: Instant) -> Due {
        if now >= last_read + self.interval + self.timeout {
            return Due::Close;
        }
        if now < self.next_ping {
            return Due::Nothing;
        }
        self.next_ping = now + self.interval;
        Due::Ping
    }
}

#[cfg(test)]
mod tests;

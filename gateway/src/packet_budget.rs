//! How many packets a client may send, and that it joins a namespace once. Pure.

use std::time::Instant;

use crate::client::close_reason::CloseReason;

/// Separates the packets of a body.
const SEPARATOR: u8 = 0x1e;
/// Number of namespaces beside `/` that a client may ask for. There are none: each request is answered with an error.
const OTHER_NAMESPACES: u32 = 16;
/// Parts of a packet in which a budget is counted, so that it also grows within short times.
const PARTS: u64 = 1_000;

/// How many packets a client may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacketRate {
    /// Packets per second, on average.
    pub(crate) per_second: u32,
    /// Packets at once.
    pub(crate) burst: u32,
}

impl PacketRate {
    /// A burst may have ten seconds' worth, and every subscription twice: a page may leave all its devices for others.
    pub(crate) fn new(per_second: usize, subscriptions: usize) -> Self {
        let per_second = u32::try_from(per_second).unwrap_or(u32::MAX);
        let subscriptions = u32::try_from(subscriptions).unwrap_or(u32::MAX);
        Self {
            per_second,
            burst: per_second
                .saturating_mul(10)
                .saturating_add(subscriptions.saturating_mul(2)),
        }
    }

    /// Returns a full budget, in [`PARTS`] of a packet.
    fn full(self) -> u64 {
        u64::from(self.burst) * PARTS
    }
}

/// What one client may still send.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// In [`PARTS`] of a packet.
    left: u64,
    counted: Instant,
    has_joined: bool,
    other_namespaces: u32,
}

impl Budget {
    pub(crate) fn new(rate: PacketRate, now: Instant) -> Self {
        Self {
            left: rate.full(),
            counted: now,
            has_joined: false,
            other_namespaces: 0,
        }
    }

    /// Takes the packets of a body out of the budget. `refuses` is asked when they are too many. If it says no, the client has a full
    /// budget again, as one that was disconnected and came back.
    ///
    /// # Errors
    /// They are too many, or one of them joins a namespace again. The session must be closed.
    pub(crate) fn admit(
        &mut self,
        rate: PacketRate,
        body: &[u8],
        now: Instant,
        refuses: impl Fn() -> bool,
    ) -> Result<(), CloseReason> {
        self.refill(rate, now);
        for packet in body.split(|byte| *byte == SEPARATOR) {
            if self.left < PARTS {
                if refuses() {
                    return Err(CloseReason::TooManyPackets);
                }
                self.left = rate.full();
            }
            self.left -= PARTS;
            if let Some(namespace) = joined_namespace(packet) {
                self.join(namespace)?;
            }
        }
        Ok(())
    }

    fn refill(&mut self, rate: PacketRate, now: Instant) {
        let millis = now.saturating_duration_since(self.counted).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        // One packet per second is one part per millisecond.
        let gained = millis.saturating_mul(u64::from(rate.per_second));
        self.left = self.left.saturating_add(gained).min(rate.full());
        self.counted = self.counted.max(now);
    }

    fn join(&mut self, namespace: &[u8]) -> Result<(), CloseReason> {
        let is_again = if namespace == b"/" {
            std::mem::replace(&mut self.has_joined, true)
        } else {
            self.other_namespaces += 1;
            self.other_namespaces > OTHER_NAMESPACES
        };
        if is_again {
            return Err(CloseReason::RepeatedConnect);
        }
        Ok(())
    }
}

/// Returns the namespace that a packet joins: `40` joins `/`, and `40/name,…` joins `/name`. The same packets as socketioxide reads.
fn joined_namespace(packet: &[u8]) -> Option<&[u8]> {
    let rest = packet.strip_prefix(b"40")?;
    if !rest.starts_with(b"/") {
        return Some(b"/");
    }
    rest.split(|byte| *byte == b',').next()
}

#[cfg(test)]
mod tests;

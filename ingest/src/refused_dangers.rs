//! Which refused messages that show a danger get a log line: one per device in ten minutes, and 600 a minute for all devices. Pure.
//!
//! A line per message would let one detector fill the log. A limit for all detectors together would leave some of them unnamed.

use std::collections::HashMap;

use shared::clock::Time;
use shared::device::DeviceId;

/// A device is named again after this time.
const NAME_AGAIN_MS: i64 = 600_000;
/// The devices that were named lately are remembered up to this number, as many as there are lines in ten minutes. It bounds the
/// memory to about 1 MB.
const MAX_REMEMBERED: usize = 6_000;
const MAX_LINES_PER_MINUTE: u32 = 600;
const MINUTE_MS: i64 = 60_000;

/// Decides which refused messages are logged, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct RefusedDangers {
    named: HashMap<DeviceId, Time>,
    minute_began: Option<Time>,
    lines: u32,
    held_back: u64,
}

impl RefusedDangers {
    /// Decides whether a line about this device is written now. Returns the number of lines held back since the last one, or `None`
    /// if this one is held back, too.
    pub(crate) fn allow(&mut self, device: &DeviceId, now: Time) -> Option<u64> {
        // A clock that was set back starts over. Otherwise nothing would be logged until it caught up.
        let is_within = |at: Time, span: i64| (0..span).contains(&now.millis_since(at));
        let is_named = |at: &Time| is_within(*at, NAME_AGAIN_MS);
        if !self.minute_began.is_some_and(|at| is_within(at, MINUTE_MS)) {
            self.minute_began = Some(now);
            self.lines = 0;
            self.named.retain(|_, at| is_named(at));
        }
        let has_line = self.lines < MAX_LINES_PER_MINUTE && self.named.len() < MAX_REMEMBERED;
        if self.named.get(device).is_some_and(is_named) || !has_line {
            self.held_back += 1;
            return None;
        }
        self.lines += 1;
        self.named.insert(device.clone(), now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests;

//! Limits for log lines that detectors, browsers or an unreachable Redis can cause in any number.
//!
//! Suppressed lines are counted; the next line that is written carries the count.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::clock::Time;
use crate::device::DeviceId;

const MINUTE_MS: i64 = 60_000;

/// At most a fixed number of log lines of one kind per time window.
#[derive(Debug)]
pub struct RateLimit {
    max_lines: u32,
    window_ms: i64,
    window: Mutex<Window>,
}

impl RateLimit {
    const fn new(max_lines: u32, window_ms: i64) -> Self {
        Self {
            max_lines,
            window_ms,
            window: Mutex::new(Window::NEW),
        }
    }

    /// Allows one line per 10 s, for lines that repeat the same statement.
    #[must_use]
    pub const fn one_per_ten_seconds() -> Self {
        Self::new(1, 10_000)
    }

    /// Allows 600 lines per minute, for lines that each say something new.
    #[must_use]
    pub const fn six_hundred_per_minute() -> Self {
        Self::new(600, MINUTE_MS)
    }

    /// Decides whether a line may be written now. Returns the number of lines suppressed since the last one, or `None` if this
    /// line must be suppressed, too.
    pub fn allow(&self, now: Time) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.try_take(now, self.window_ms, self.max_lines) {
            Some(std::mem::take(&mut window.suppressed))
        } else {
            window.suppressed += 1;
            None
        }
    }
}

/// Limits log lines per device and in total: 10 a minute for one device, 600 a minute for all.
///
/// Memory is fixed: devices are hashed into 1024 slots, and devices in the same slot share its 10 lines.
#[derive(Debug)]
pub struct DeviceRateLimit {
    hasher: RandomState,
    windows: Mutex<Windows>,
}

#[derive(Debug)]
struct Windows {
    slots: Box<[Window]>,
    total: Window,
}

impl DeviceRateLimit {
    const SLOTS: usize = 1_024;
    const MAX_PER_SLOT: u32 = 10;
    const MAX_TOTAL: u32 = 600;

    /// As [`RateLimit::allow`], for a line about this device.
    pub fn allow(&self, device: &DeviceId, now: Time) -> Option<u64> {
        let hash = self.hasher.hash_one(device);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let Windows { slots, total } = &mut *windows;
        let slot = usize::try_from(hash % slots.len() as u64).unwrap_or(0);
        // The slot is asked first: a device over its own limit must not use up the total.
        if slots[slot].try_take(now, MINUTE_MS, Self::MAX_PER_SLOT)
            && total.try_take(now, MINUTE_MS, Self::MAX_TOTAL)
        {
            Some(std::mem::take(&mut total.suppressed))
        } else {
            total.suppressed += 1;
            None
        }
    }
}

impl Default for DeviceRateLimit {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            windows: Mutex::new(Windows {
                slots: vec![Window::NEW; Self::SLOTS].into(),
                total: Window::NEW,
            }),
        }
    }
}

/// A time window that begins with its first line.
#[derive(Clone, Debug)]
struct Window {
    began: Option<Time>,
    taken: u32,
    suppressed: u64,
}

impl Window {
    const NEW: Self = Self {
        began: None,
        taken: 0,
        suppressed: 0,
    };

    fn try_take(&mut self, now: Time, window_ms: i64, max: u32) -> bool {
        // A clock that was set back starts a new window. Otherwise nothing would be logged until it caught up.
        let is_over = |began: Time| !(0..window_ms).contains(&now.millis_since(began));
        if self.began.is_none_or(is_over) {
            self.began = Some(now);
            self.taken = 0;
        }
        let is_taken = self.taken < max;
        self.taken += u32::from(is_taken);
        is_taken
    }
}

#[cfg(test)]
mod tests;

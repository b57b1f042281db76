//! When each message is due. It says which message an event belongs to, and when that message should have been sent.
//!
//! Messages have numbers from zero. The devices take turns, so the number of a message tells its device and how often that device
//! was published before. The number rides in the reading. A latency counts from the time at which the message was *due*: if
//! the publisher or the server is held up, the messages that had to wait are late, and none is left out ("coordinated omission").

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The reading of message `n` is 10, and `n` in this many decimals.
const DIGITS: usize = 9;
/// Whole part of every reading. It is below every alarm level.
const WHOLE: u64 = 10;

/// An even pace.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Schedule {
    /// Number of devices, which take turns.
    pub(crate) devices: u64,
    /// Messages per second, of all devices together.
    pub(crate) per_second: u64,
    /// The first message of this schedule. The numbers before it were published earlier.
    pub(crate) first: u64,
    /// When it is due, in microseconds on the clock of the benchmark.
    pub(crate) start_us: u64,
}

impl Schedule {
    /// Returns when a message is due, in microseconds.
    pub(crate) fn due_us(&self, number: u64) -> u64 {
        self.start_us + number.saturating_sub(self.first) * 1_000_000 / self.per_second.max(1)
    }

    /// Returns the number that follows those that are due at this time.
    pub(crate) fn due_before(&self, now_us: u64) -> u64 {
        match now_us.checked_sub(self.start_us) {
            // Rounded up: the inverse of `due_us`, which rounds down.
            Some(passed) => self.first + ((passed + 1) * self.per_second).div_ceil(1_000_000),
            None => self.first,
        }
    }

    /// Returns the device of a message.
    pub(crate) fn device(&self, number: u64) -> u64 {
        number % self.devices
    }

    /// Returns how often the device of a message was published before it.
    pub(crate) fn turn(&self, number: u64) -> u64 {
        number / self.devices
    }

    /// Returns the turns of a device among the messages below this number.
    pub(crate) fn turns(&self, device: u64, end: u64) -> Range<u64> {
        let before = |number: u64| number.saturating_sub(device).div_ceil(self.devices);
        before(self.first)..before(end)
    }
}

/// Returns the reading of a message.
pub(crate) fn reading(number: u64) -> String {
    format!("{WHOLE}.{number:0DIGITS$}")
}

/// Finds the number of the message from which an event was made.
pub(crate) fn number_in(event: &str) -> Option<u64> {
    const FIELD: &str = "\"sensor_reading\":10";
    let (_, rest) = event.split_once(FIELD)?;
    // Servers leave out zeros at the end.
    let Some(decimals) = rest.strip_prefix('.') else {
        return rest.starts_with([',', '}']).then_some(0);
    };
    let digits = decimals.bytes().take_while(u8::is_ascii_digit).count();
    let missing = DIGITS.checked_sub(digits)?;
    let number: u64 = decimals[..digits].parse().ok()?;
    Some(number * 10_u64.pow(u32::try_from(missing).ok()?))
}

#[cfg(test)]
mod tests;

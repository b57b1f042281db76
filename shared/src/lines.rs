//! The log lines that others cause, detectors, browsers, a Redis that is away, and how many of them are told. What is held
//! back is counted, and the next line that is told tells how many they were.

use std::borrow::Cow;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::alarm::Change;
use crate::clock::Time;
use crate::device::DeviceId;
use crate::trace::Trace;

/// An error with its causes in one line; a cause that the one before it has told already is left out. As a field of its own
/// an error would be written without its causes in JSON: `redis is away`, and never why.
#[must_use]
pub fn chain(err: &(dyn Error + 'static)) -> String {
    let mut told = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !told.ends_with(&text) {
            told = format!("{told}: {text}");
        }
        next = cause.source();
    }
    // A server that is none may have said anything.
    told.replace(|c: char| c.is_control(), " ")
}

/// A device as a line names it: as it is if nothing in it can be taken for something else.
pub fn shown(device: &DeviceId) -> Cow<'_, str> {
    let text = device.as_str();
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
    if text.chars().all(is_plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{text:?}"))
    }
}

const MINUTE_MS: i64 = 60_000;

/// Lines of one kind: so many in a time.
#[derive(Debug)]
pub struct Limit {
    count: u32,
    length_ms: i64,
    inner: Mutex<Window>,
}

impl Limit {
    const fn new(count: u32, length_ms: i64) -> Self {
        Self {
            count,
            length_ms,
            inner: Mutex::new(Window::NEW),
        }
    }

    /// One in ten seconds: they all say the same.
    #[must_use]
    pub const fn rare() -> Self {
        Self::new(1, 10_000)
    }

    /// 600 a minute: each says something, until there are too many.
    #[must_use]
    pub const fn frequent() -> Self {
        Self::new(600, MINUTE_MS)
    }

    /// The lines held back before this one; `None`: hold it back, too.
    pub fn take(&self, now: Time) -> Option<u64> {
        let mut window = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if window.take(now, self.length_ms, self.count) {
            Some(std::mem::take(&mut window.held_back))
        } else {
            window.held_back += 1;
            None
        }
    }
}

/// A line for each change of an alarm, as long as somebody can read them.
#[derive(Debug, Default)]
pub struct AlarmLines {
    quota: Quota,
}

impl AlarmLines {
    /// Whether another line about the device may be told: the lines held back before it.
    pub fn take(&self, device: &DeviceId, now: Time) -> Option<u64> {
        self.quota.take(device, now)
    }

    /// Alarms of a device changed. `trace`: where that is no span of the present one.
    pub fn changed(&self, device: &DeviceId, changes: &[Change], trace: Option<Trace>, now: Time) {
        for Change { kind, alarm } in changes {
            if let Some(held_back) = self.take(device, now) {
                tracing::info!(
                    device.id = %shown(device),
                    alarm.id = %alarm.id,
                    alarm.change = kind.code(),
                    alarm.condition = %wire(&alarm.condition),
                    alarm.severity = %wire(&alarm.condition.severity()),
                    trace_id = trace.map(|trace| tracing::field::display(trace.id())),
                    held_back,
                    "alarm changed"
                );
            }
        }
    }
}

/// A word as clients and the alarm log spell it.
fn wire(word: &impl Serialize) -> String {
    let word = serde_json::to_value(word).ok();
    let word = word.as_ref().and_then(serde_json::Value::as_str);
    word.unwrap_or_default().to_owned()
}

/// Lines about devices: some of each, and not too many of all together. Its memory is fixed: devices share places, and
/// those that share one share what it may tell.
#[derive(Debug)]
struct Quota {
    hasher: RandomState,
    inner: Mutex<Windows>,
}

#[derive(Debug)]
struct Windows {
    of_places: Box<[Window]>,
    of_all: Window,
}

impl Quota {
    const PLACES: usize = 1_024;
    /// Lines a minute of the devices of one place.
    const OF_ONE: u32 = 10;
    /// Lines a minute of all devices.
    const OF_ALL: u32 = 600;

    /// The lines held back before this one; `None`: hold it back, too.
    fn take(&self, device: &DeviceId, now: Time) -> Option<u64> {
        let hash = self.hasher.hash_one(device);
        let mut windows = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Windows { of_places, of_all } = &mut *windows;
        let count = of_places.len() as u64;
        let place = usize::try_from(hash % count).unwrap_or(0);
        // A device that may tell nothing more takes nothing of what the others may.
        if of_places[place].take(now, MINUTE_MS, Self::OF_ONE)
            && of_all.take(now, MINUTE_MS, Self::OF_ALL)
        {
            Some(std::mem::take(&mut of_all.held_back))
        } else {
            of_all.held_back += 1;
            None
        }
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            inner: Mutex::new(Windows {
                of_places: vec![Window::NEW; Self::PLACES].into(),
                of_all: Window::NEW,
            }),
        }
    }
}

/// So many in a time that begins with the first.
#[derive(Clone, Debug)]
struct Window {
    began: Option<Time>,
    taken: u32,
    held_back: u64,
}

impl Window {
    const NEW: Self = Self {
        began: None,
        taken: 0,
        held_back: 0,
    };

    fn take(&mut self, now: Time, length_ms: i64, count: u32) -> bool {
        // A clock that was set back begins anew, else it would be silent for as long.
        let is_over = |began: Time| !(0..length_ms).contains(&now.millis_since(began));
        if self.began.is_none_or(is_over) {
            self.began = Some(now);
            self.taken = 0;
        }
        let is_taken = self.taken < count;
        self.taken += u32::from(is_taken);
        is_taken
    }
}

#[cfg(test)]
mod tests;

//! How many sessions may be opened per second, by one caller and by all together. Pure.
//!
//! The rate of all is shared fairly: the more of its own rate a caller uses, the earlier it is refused. The last half of what all may
//! use at once is given out so. Callers that use much then keep room for those that use little: only somebody who has
//! opened fewer sessions lately can take it.

use std::hash::Hash;
use std::time::{Duration, Instant};

use super::usage::{Rate, Usage, Usages, must_wait};

/// The part of what all may use that a caller cannot take when it has used its own rate up.
const KEPT_FOR_OTHERS: f64 = 0.5;

/// The sessions opened lately.
#[derive(Debug)]
pub(super) struct Handshakes<K> {
    of_caller: Option<Rate>,
    of_all: Option<Rate>,
    callers: Usages<K>,
    all: Usage,
}

/// Which of the limits a new session would exceed, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) of_caller: Option<Duration>,
    pub(super) of_all: Option<Duration>,
}

impl<K: Copy + Eq + Hash> Handshakes<K> {
    /// A rate of `None` is no limit. At most `max_callers` are known.
    pub(super) fn new(
        of_caller: Option<Rate>,
        of_all: Option<Rate>,
        max_callers: usize,
        now: Instant,
    ) -> Self {
        Self {
            of_caller,
            of_all,
            callers: Usages::new(max_callers),
            all: Usage::none(now),
        }
    }

    /// Returns what a session of this caller would exceed now.
    pub(super) fn excess(&self, caller: K, now: Instant) -> Excess {
        let used = self.callers.of(caller, now);
        let of_caller = self
            .of_caller
            .and_then(|rate| must_wait(used, 1.0, rate.burst));
        let of_all = self.of_all.and_then(|all| {
            let own = self
                .of_caller
                .map_or(all.burst, |own| own.burst.min(all.burst));
            let share = (used / own).min(1.0);
            let bound = all.burst * (1.0 - KEPT_FOR_OTHERS * share);
            must_wait(self.all.at(now), 1.0, bound)
        });
        Excess { of_caller, of_all }
    }

    /// Counts a session that is opened, towards every limit that it does not exceed. A refused one would not count, so one that is
    /// admitted nevertheless must not either.
    pub(super) fn add(&mut self, caller: K, excess: Excess, now: Instant) {
        let is_within_own = self.of_caller.is_some() && excess.of_caller.is_none();
        // Without a rate of its own, what a caller used is only for its share of that of all.
        let is_shared =
            self.of_caller.is_none() && self.of_all.is_some() && excess.of_all.is_none();
        if is_within_own || is_shared {
            self.callers.add(caller, 1.0, now);
        }
        if excess.of_all.is_none() {
            self.all.add(1.0, now);
        }
    }
}

#[cfg(test)]
mod tests;

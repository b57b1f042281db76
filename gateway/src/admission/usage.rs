//! How much callers have used lately, and how long one must wait that has used too much. Pure.
//!
//! What was used fades: [`FADE`] later a third of it is left. A caller that uses a constant amount per second has therefore used
//! `FADE` times that, so a rate is a bound of what was used, and a caller that has used nothing may use all of it at once. Unlike a
//! bucket that is filled at a fixed rate, this also says who of several callers below the bound used more.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The most callers of which is known what they have used lately, for handshakes and for requests each.
pub(crate) const MAX_CALLERS: usize = 65_536;

/// The time in which what was used fades to `1/e`.
const FADE: Duration = Duration::from_secs(10);
/// A caller that has used less than this may be forgotten: nobody is admitted twice for it.
const NOTHING: f64 = 0.5;

/// How much may be used per second, on average; [`FADE`] times as much at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// The most that may be used at once.
    pub(super) burst: f64,
}

impl Rate {
    /// Returns `None` for 0, which means no limit.
    pub(super) fn new(per_second: usize) -> Option<Self> {
        let per_second = u32::try_from(per_second).unwrap_or(u32::MAX);
        (per_second > 0).then(|| Self {
            burst: f64::from(per_second) * FADE.as_secs_f64(),
        })
    }
}

/// Decides whether `cost` more may be used by one who has used `used`. Returns how long to wait if not. `cost` must be below `bound`.
pub(super) fn must_wait(used: f64, cost: f64, bound: f64) -> Option<Duration> {
    (used + cost > bound).then(|| FADE.mul_f64((used / (bound - cost)).ln()))
}

/// What one has used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    amount: f64,
    at: Instant,
}

impl Usage {
    pub(super) const fn none(now: Instant) -> Self {
        Self {
            amount: 0.0,
            at: now,
        }
    }

    /// Returns what is left of it now.
    pub(super) fn at(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at);
        self.amount * (-age.div_duration_f64(FADE)).exp()
    }

    pub(super) fn add(&mut self, cost: f64, now: Instant) {
        let amount = self.at(now) + cost;
        *self = Self {
            amount,
            at: self.at.max(now),
        };
    }
}

/// What each caller has used. Knows a bounded number of callers: when there are too many, those that have used least are forgotten.
#[derive(Debug)]
pub(super) struct Usages<K> {
    callers: HashMap<K, Usage>,
    max: usize,
}

impl<K: Copy + Eq + Hash> Usages<K> {
    /// Knows `max` callers, at least 4.
    pub(super) fn new(max: usize) -> Self {
        Self {
            callers: HashMap::new(),
            max,
        }
    }

    /// Returns what this caller has used.
    pub(super) fn of(&self, caller: K, now: Instant) -> f64 {
        self.callers.get(&caller).map_or(0.0, |usage| usage.at(now))
    }

    pub(super) fn add(&mut self, caller: K, cost: f64, now: Instant) {
        if self.callers.len() >= self.max && !self.callers.contains_key(&caller) {
            self.forget(now);
        }
        let usage = self.callers.entry(caller);
        usage.or_insert(Usage::none(now)).add(cost, now);
    }

    /// Forgets callers that have used nothing, and a quarter of the places at least, so that it is seldom called.
    fn forget(&mut self, now: Instant) {
        self.callers.retain(|_, usage| usage.at(now) >= NOTHING);
        let most = self.max - self.max / 4;
        let Some(surplus) = self.callers.len().checked_sub(most + 1) else {
            return;
        };
        let mut amounts: Vec<f64> = self.callers.values().map(|usage| usage.at(now)).collect();
        let (_, least, _) = amounts.select_nth_unstable_by(surplus, f64::total_cmp);
        let mut left = surplus + 1;
        self.callers.retain(|_, usage| {
            let goes = left > 0 && usage.at(now) <= *least;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests;

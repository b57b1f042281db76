//! What one client got of one device: whether something is missing, came twice or came late.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Turns of one device as one client received them.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// The turn that comes next.
    next: u64,
    /// Turns that were passed over. Bounded by what is published in one run.
    missing: Vec<u64>,
    duplicates: u64,
    reordered: u64,
    /// Messages that the server said it left out.
    announced: u64,
}

/// Sums over clients and devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) reordered: u64,
    pub(crate) announced: u64,
}

impl Tally {
    /// Begins with the turn that is published next.
    pub(crate) fn new(next: u64) -> Self {
        Self {
            next,
            missing: Vec::new(),
            duplicates: 0,
            reordered: 0,
            announced: 0,
        }
    }

    /// Counts one event. `left_out` is how many messages before it the server says it left out.
    pub(crate) fn add(&mut self, turn: u64, left_out: u64) {
        self.announced += left_out;
        if turn >= self.next {
            self.missing.extend(self.next..turn);
            self.next = turn + 1;
        } else if let Some(index) = self.missing.iter().position(|missing| *missing == turn) {
            self.missing.swap_remove(index);
            self.reordered += 1;
        } else {
            self.duplicates += 1;
        }
    }

    /// Returns the sums, given the turns that were published.
    pub(crate) fn sums(&self, published: &Range<u64>) -> Sums {
        let missing = self.missing.iter().filter(|turn| published.contains(turn));
        let at_the_end = published.end.saturating_sub(self.next.max(published.start));
        let missing = u64::try_from(missing.count()).unwrap_or(u64::MAX) + at_the_end;
        Sums {
            lost: missing.saturating_sub(self.announced),
            duplicates: self.duplicates,
            reordered: self.reordered,
            announced: self.announced,
        }
    }
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.announced += other.announced;
    }
}

#[cfg(test)]
mod tests;

//! The payloads this process committed last. Pure.
//!
//! A broker whose connection was lost sends everything again that it got no acknowledgement for: up to a whole window,
//! whose first copy was in hand and is committed by then. The fingerprints stored with a device recognise its last 64
//! payloads; these recognise all that one process can have had in hand.

use std::collections::{HashSet, VecDeque};

/// Fingerprints of the payloads committed last, oldest first.
#[derive(Debug)]
pub(super) struct Recent {
    known: HashSet<u64>,
    order: VecDeque<u64>,
    bound: usize,
}

impl Recent {
    /// Remembers so many payloads.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            known: HashSet::new(),
            order: VecDeque::new(),
            bound,
        }
    }

    pub(super) fn contains(&self, print: u64) -> bool {
        self.known.contains(&print)
    }

    /// The payload is committed.
    pub(super) fn remember(&mut self, print: u64) {
        if !self.known.insert(print) {
            return;
        }
        self.order.push_back(print);
        if self.order.len() > self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;

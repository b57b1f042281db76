//! Fingerprints of the payloads that this process committed most recently. Pure.
//!
//! After a lost connection the broker sends every unacknowledged message again. This process may have committed those
//! messages already, and there can be a full receive window of them. The fingerprints stored with a device cover only its
//! last 64 payloads. The fingerprints here cover every message that can be unacknowledged: one for each message, however many
//! objects it has.

use std::collections::{HashSet, VecDeque};

/// Fingerprints of the payloads committed most recently.
#[derive(Debug)]
pub(crate) struct CommittedFingerprints {
    known: HashSet<u64>,
    /// The same fingerprints, oldest first.
    order: VecDeque<u64>,
    max: usize,
}

impl CommittedFingerprints {
    /// Creates an empty set that keeps the last `max` different fingerprints.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            known: HashSet::new(),
            order: VecDeque::new(),
            max,
        }
    }

    pub(crate) fn contains(&self, fingerprint: u64) -> bool {
        self.known.contains(&fingerprint)
    }

    /// Adds the fingerprint of a committed payload. Removes the oldest one if there are too many.
    pub(crate) fn insert(&mut self, fingerprint: u64) {
        if !self.known.insert(fingerprint) {
            return;
        }
        self.order.push_back(fingerprint);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;

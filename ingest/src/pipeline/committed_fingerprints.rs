//! Fingerprints of the payloads that this process committed last. Pure.
//!
//! After a lost connection the broker sends every unacknowledged message again. That can be a full receive window, which
//! this process may have committed by then. The fingerprints stored with a device recognise only its last 64 payloads;
//! these recognise everything that this process can have received without acknowledging it.

use std::collections::{HashSet, VecDeque};

/// Fingerprints of the payloads committed last, oldest first.
#[derive(Debug)]
pub(super) struct CommittedFingerprints {
    known: HashSet<u64>,
    order: VecDeque<u64>,
    max: usize,
}

impl CommittedFingerprints {
    /// Remembers the last `max` different payloads.
    pub(super) fn new(max: usize) -> Self {
        Self {
            known: HashSet::new(),
            order: VecDeque::new(),
            max,
        }
    }

    pub(super) fn contains(&self, fingerprint: u64) -> bool {
        self.known.contains(&fingerprint)
    }

    /// Remembers a payload that was committed.
    pub(super) fn insert(&mut self, fingerprint: u64) {
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

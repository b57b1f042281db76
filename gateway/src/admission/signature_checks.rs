//! Bounds how many signatures of tokens are checked in vain for one caller: a check costs more than everything else about a request
//! that is refused, and anybody can send tokens.
//!
//! A caller that has used its rate up is refused without a check. Its other clients should not notice, so a token that was good lately
//! is checked all the same. A token that this replica has not seen lately must wait.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::enforcement::Enforcement;
use super::limit::Limit;
use super::limited::Limited;
use super::usage::{MAX_CALLERS, Rate, Usages, must_wait};

/// Half of the tokens of which is known that they were good lately. Each takes some 9 bytes.
const HALF_OF_GOOD: usize = 32_768;
/// What one check may cost.
const ONE: f64 = 1.0;

/// What was checked lately.
#[derive(Debug)]
pub(super) struct SignatureChecks {
    /// `None` if there is no limit.
    rate: Option<Rate>,
    enforcement: Enforcement,
    /// Nobody else knows it, so nobody can choose a token with the hash of another one.
    hasher: RandomState,
    // Std mutexes: held for one decision, never across an await.
    in_vain: Mutex<Usages<Caller>>,
    good: Mutex<GoodTokens>,
}

/// Who pays for the checks of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payer<'a> {
    checks: &'a SignatureChecks,
    caller: Caller,
}

/// The permission to check one token. Its outcome must be recorded.
#[derive(Debug)]
pub(crate) struct SignatureCheck<'a> {
    payer: Payer<'a>,
    /// Of the token.
    hash: u64,
    /// In a dry run, what would have been refused does not count.
    counts: bool,
}

impl SignatureChecks {
    pub(super) fn new(per_second: usize, enforcement: Enforcement) -> Self {
        Self {
            rate: Rate::new(per_second),
            enforcement,
            hasher: RandomState::new(),
            in_vain: Mutex::new(Usages::new(MAX_CALLERS)),
            good: Mutex::new(GoodTokens::new(HALF_OF_GOOD)),
        }
    }

    pub(super) const fn payer(&self, caller: Caller) -> Payer<'_> {
        Payer {
            checks: self,
            caller,
        }
    }

    fn in_vain(&self) -> MutexGuard<'_, Usages<Caller>> {
        self.in_vain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn good(&self) -> MutexGuard<'_, GoodTokens> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Payer<'a> {
    /// Begins to check a token.
    ///
    /// # Errors
    /// It must be refused without a check.
    pub(crate) fn begin(self, token: &str, now: Instant) -> Result<SignatureCheck<'a>, Limited> {
        let excess = self.excess(token, now);
        let limit = Limit::WrongSignatureRate;
        if let Some(wait) = excess
            && self.checks.enforcement.refuses(limit, Some(self.caller))
        {
            return Err(Limited::new(limit, wait));
        }
        Ok(self.check(token, excess))
    }

    /// As [`Self::begin`], for a token that is checked again before it is decided. `None` if it must be refused then: only that counts
    /// as a refusal.
    pub(crate) fn begin_first(self, token: &str, now: Instant) -> Option<SignatureCheck<'a>> {
        let is_tried_out = self.checks.enforcement.tries_out(Limit::WrongSignatureRate);
        let excess = self.excess(token, now);
        (excess.is_none() || is_tried_out).then(|| self.check(token, excess))
    }

    fn check(self, token: &str, excess: Option<Duration>) -> SignatureCheck<'a> {
        SignatureCheck {
            payer: self,
            hash: self.checks.hasher.hash_one(token),
            counts: excess.is_none(),
        }
    }

    /// Returns how long this token must wait; `None` if it may be checked now.
    fn excess(self, token: &str, now: Instant) -> Option<Duration> {
        let rate = self.checks.rate?;
        let used = self.checks.in_vain().of(self.caller, now);
        let wait = must_wait(used, ONE, rate.burst)?;
        let hash = self.checks.hasher.hash_one(token);
        (!self.checks.good().contains(hash)).then_some(wait)
    }
}

impl SignatureCheck<'_> {
    /// So many signatures were computed, and none was that of the token.
    pub(crate) fn was_in_vain(&self, signatures: u32, now: Instant) {
        let Payer { checks, caller } = self.payer;
        if signatures > 0 && self.counts && checks.rate.is_some() {
            checks.in_vain().add(caller, signatures.into(), now);
        }
    }

    /// One of our keys has signed the token.
    pub(crate) fn was_good(&self) {
        self.payer.checks.good().add(self.hash);
    }
}

/// The hashes of tokens that were good lately. It only says which ones are worth a check, so two of one hash do no harm.
#[derive(Debug)]
struct GoodTokens {
    half: usize,
    newer: HashSet<u64>,
    older: HashSet<u64>,
}

impl GoodTokens {
    fn new(half: usize) -> Self {
        Self {
            half,
            newer: HashSet::new(),
            older: HashSet::new(),
        }
    }

    fn contains(&self, hash: u64) -> bool {
        self.newer.contains(&hash) || self.older.contains(&hash)
    }

    /// Forgets the older half when the newer one is full.
    fn add(&mut self, hash: u64) {
        if self.newer.len() >= self.half && !self.newer.contains(&hash) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(hash);
    }
}

#[cfg(test)]
mod tests;

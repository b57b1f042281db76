//! What is revoked, as this replica read it last. It is kept while Redis is away.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use shared::clock::Time;
use shared::error_chain::error_chain;
use shared::store::{Revoked, RevokedChange, RevokedUntil, Store, StoreError};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::identity::TokenFacts;
use crate::client::log_limit::limited;

/// How often it is looked for changes. They must take effect within a second.
const INTERVAL: Duration = Duration::from_millis(250);

/// How long somebody with a token waits until it is known what is revoked.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// What is revoked. Clones share it. Bounded by `MAX_REVOKED`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revocations {
    entries: Arc<RwLock<HashMap<Revoked, Time>>>,
    /// Whether it was read once.
    is_known: watch::Sender<bool>,
}

/// What was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// The change; `None` if there was none yet.
    Read(Option<RevokedChange>),
}

impl Revocations {
    /// Returns whether this token is revoked, by its id or by its subject.
    pub(super) fn contain(&self, token: &TokenFacts, now: Time) -> bool {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if entries.is_empty() {
            return false;
        }
        let holds = |what: Revoked| entries.get(&what).is_some_and(|until| now < *until);
        let id = token.id.as_deref();
        holds(Revoked::Subject(token.subject.to_string()))
            || id.is_some_and(|id| holds(Revoked::Token(id.to_owned())))
    }

    /// Returns whether it is known what is revoked. Until then no token can be admitted.
    pub(super) fn are_known(&self) -> bool {
        *self.is_known.borrow()
    }

    /// Waits until it is known what is revoked, or for a few seconds.
    pub(super) async fn wait_until_known(&self) {
        let mut is_known = self.is_known.subscribe();
        let waiting = is_known.wait_for(|is_known| *is_known);
        tokio::time::timeout(MAX_WAIT, waiting).await.ok();
    }

    /// Replaces all entries.
    pub(crate) fn set(&self, entries: Vec<RevokedUntil>) {
        let entries = entries.into_iter().collect();
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
        self.is_known.send_replace(true);
    }

    /// Follows the changes in Redis for as long as it runs. Calls `changed` after each.
    pub(crate) async fn follow(self, store: Store, mut changed: impl FnMut()) {
        let mut known = Known::Nothing;
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.read_changes(&store, &mut known).await {
                Ok(true) => changed(),
                Ok(false) => {}
                // An outage is logged once, by the task that watches Redis. This may be the fault of the key alone.
                Err(error) => limited(|held_back| {
                    tracing::warn!(
                        held_back,
                        error = error_chain(&error),
                        "cannot read what is revoked: what is known still counts, trying again"
                    );
                }),
            }
        }
    }

    /// Reads everything again if it has changed. `known`: the last change that was read.
    async fn read_changes(&self, store: &Store, known: &mut Known) -> Result<bool, StoreError> {
        // Before the entries: a change between both is read again.
        let change = store.revoked_changes().await?;
        if *known == Known::Read(change) {
            return Ok(false);
        }
        if let Known::Read(Some(before)) = *known
            && change.is_none_or(|change| change.generation != before.generation)
        {
            let lost = self.current();
            tracing::warn!(
                entries = lost.len(),
                "Redis has lost what is revoked: writing again what this replica knows"
            );
            for (what, until) in lost {
                store.revoke(&what, until).await?;
            }
            *known = Known::Nothing;
            return Ok(false);
        }
        self.set(store.revoked().await?);
        *known = Known::Read(change);
        Ok(true)
    }

    fn current(&self) -> Vec<RevokedUntil> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entries = entries.iter();
        entries
            .map(|(what, until)| (what.clone(), *until))
            .collect()
    }
}

#[cfg(test)]
mod tests;

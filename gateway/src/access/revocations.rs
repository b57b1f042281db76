//! What is revoked, as this replica read it last. It is kept while Redis is away.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use shared::clock::Time;
use shared::error_chain::error_chain;
use shared::store::{Revoked, RevokedUntil, Store, StoreError};
use tokio::time::{MissedTickBehavior, interval};

use super::identity::TokenFacts;

/// How often it is looked for changes. They must take effect within a second.
const INTERVAL: Duration = Duration::from_millis(250);

/// What is revoked. Clones share it. Bounded by `MAX_REVOKED`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revocations {
    entries: Arc<RwLock<HashMap<Revoked, Time>>>,
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

    /// Replaces all entries.
    pub(super) fn set(&self, entries: Vec<RevokedUntil>) {
        let entries = entries.into_iter().collect();
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
    }

    /// Follows the changes in Redis for as long as it runs. Calls `changed` after each.
    pub(crate) async fn follow(self, store: Store, mut changed: impl FnMut()) {
        let mut known = None;
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.read_changes(&store, &mut known).await {
                Ok(true) => changed(),
                Ok(false) => {}
                // The outage itself is logged once, by the task that watches Redis.
                Err(error) => tracing::debug!(
                    error = error_chain(&error),
                    "cannot read what is revoked, trying again"
                ),
            }
        }
    }

    /// Reads everything again if it has changed. `known`: the count of changes before.
    async fn read_changes(
        &self,
        store: &Store,
        known: &mut Option<u64>,
    ) -> Result<bool, StoreError> {
        // Before the entries: a change between both is read again.
        let count = store.revoked_changes().await?;
        if *known == Some(count) {
            return Ok(false);
        }
        self.set(store.revoked().await?);
        *known = Some(count);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;

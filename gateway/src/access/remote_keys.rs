//! Keys that another server publishes. They are fetched by one task, regularly and when a token names a key that is not known, so a new
//! key counts at once. While the server is away, the keys before go on to count.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::error_chain::error_chain;
use shared::metrics::Count;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::keys::Key;

/// Time between two fetches if everything is as usual.
const INTERVAL: Duration = Duration::from_mins(15);
/// Time between two fetches while the server does not answer as it should.
const RETRY: Duration = Duration::from_secs(10);
/// The shortest time between two fetches because of unknown keys: anybody can send a token that names one.
const MIN_ASKED: Duration = Duration::from_secs(10);
/// How long somebody with such a token waits for the answer.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// The keys cannot be fetched, so it is not known whether a key exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeysAway;

/// Where keys come from.
pub(super) trait KeySource: Send + Sync {
    type Error: Error + Send + 'static;

    /// # Errors
    /// There is no answer, or it has no keys.
    fn fetch(&self) -> impl Future<Output = Result<Vec<Key>, Self::Error>> + Send;
}

/// Keys that another server publishes. Clones share them.
#[derive(Clone)]
pub(crate) struct RemoteKeys {
    inner: Arc<Inner>,
}

struct Inner {
    /// What the keys are for, for logs.
    purpose: &'static str,
    state: watch::Sender<State>,
    /// Number of fetches that have begun.
    begun: AtomicU64,
    /// The number of the fetch that somebody waits for.
    wanted: watch::Sender<u64>,
    fetched: Count,
    failed: Count,
}

#[derive(Clone, Default)]
struct State {
    keys: Arc<[Key]>,
    /// The number of the fetch that has ended last.
    ended: u64,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outcome {
    #[default]
    Unknown,
    Fetched,
    Failed,
}

impl RemoteKeys {
    /// There are no keys until [`Self::follow`] has fetched some.
    pub(super) fn new(purpose: &'static str) -> Self {
        Self {
            inner: Arc::new(Inner {
                purpose,
                state: watch::Sender::default(),
                begun: AtomicU64::new(0),
                wanted: watch::Sender::default(),
                fetched: Count::default(),
                failed: Count::default(),
            }),
        }
    }

    /// Returns the keys that were fetched last.
    pub(super) fn current(&self) -> Arc<[Key]> {
        Arc::clone(&self.inner.state.borrow().keys)
    }

    /// Returns the numbers of fetches that brought keys, and of those that did not.
    pub(crate) fn fetches(&self) -> (u64, u64) {
        (self.inner.fetched.get(), self.inner.failed.get())
    }

    /// Returns the number of keys.
    pub(crate) fn count(&self) -> usize {
        self.inner.state.borrow().keys.len()
    }

    /// Calls `check` with the keys. If it misses its key, asks for a fetch, and calls it again. Returns `None` if there is no such key.
    ///
    /// # Errors
    /// The fetch has failed, or has not ended in time. It may be too early for another one.
    pub(super) async fn find<T>(
        &self,
        check: impl Fn(&[Key]) -> Option<T>,
    ) -> Result<Option<T>, KeysAway> {
        // First: a fetch that ends from now on is noticed.
        let state = self.inner.state.subscribe();
        let keys = self.current();
        if let Some(found) = check(&keys) {
            return Ok(Some(found));
        }
        // On the heap, as most callers never wait here.
        let waiting = Box::pin(timeout(MAX_WAIT, self.find_in_next(state, check)));
        waiting.await.unwrap_or(Err(KeysAway))
    }

    async fn find_in_next<T>(
        &self,
        mut state: watch::Receiver<State>,
        check: impl Fn(&[Key]) -> Option<T>,
    ) -> Result<Option<T>, KeysAway> {
        // A fetch that has begun already may be answered with what was true before.
        let conclusive = self.inner.begun.load(Ordering::Acquire) + 1;
        self.inner.wanted.send_if_modified(|wanted| {
            let is_new = *wanted < conclusive;
            *wanted = conclusive.max(*wanted);
            is_new
        });
        while state.changed().await.is_ok() {
            let State {
                keys,
                ended,
                outcome,
            } = state.borrow_and_update().clone();
            if let Some(found) = check(&keys) {
                return Ok(Some(found));
            }
            if ended >= conclusive {
                return match outcome {
                    Outcome::Fetched => Ok(None),
                    Outcome::Unknown | Outcome::Failed => Err(KeysAway),
                };
            }
        }
        Err(KeysAway)
    }

    /// Fetches the keys for as long as it runs.
    pub(super) async fn follow(self, source: impl KeySource) {
        let mut next_asked = Instant::now();
        let mut wanted = self.inner.wanted.subscribe();
        loop {
            let outcome = self.fetch_once(&source).await;
            let pause = if outcome == Outcome::Fetched {
                INTERVAL
            } else {
                RETRY
            };
            let ended = self.inner.begun.load(Ordering::Acquire);
            let asked = async {
                // Fails only without a sender, which this has.
                wanted.wait_for(|number| *number > ended).await.ok();
                sleep_until(next_asked).await;
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = asked => next_asked = Instant::now() + MIN_ASKED,
            }
        }
    }

    /// Fetches the keys now.
    async fn fetch_once(&self, source: &impl KeySource) -> Outcome {
        let number = self.inner.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let fetched = source.fetch().await;
        let before = self.inner.state.borrow().outcome;
        let purpose = self.inner.purpose;
        let outcome = match &fetched {
            Ok(keys) => {
                self.inner.fetched.increment();
                if before != Outcome::Fetched {
                    tracing::info!(keys = keys.len(), "fetched the keys of {purpose}");
                }
                Outcome::Fetched
            }
            Err(error) => {
                self.inner.failed.increment();
                if before != Outcome::Failed {
                    let error = error_chain(error);
                    tracing::warn!(
                        error,
                        "cannot fetch the keys of {purpose}, those before still count"
                    );
                }
                Outcome::Failed
            }
        };
        self.inner.state.send_modify(|state| {
            if let Ok(keys) = fetched {
                state.keys = keys.into();
            }
            state.ended = number;
            state.outcome = outcome;
        });
        outcome
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.inner.purpose)
    }
}

#[cfg(test)]
mod tests;

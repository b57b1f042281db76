//! What each caller has open: sessions of Socket.IO, or connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::caller::Caller;

/// Counts what each caller has open. Clones share the counts.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    /// 0 is no limit.
    max: usize,
    // A std mutex: held for one change. Only callers that have something open are in it.
    held: Arc<Mutex<HashMap<Caller, usize>>>,
}

/// An open session or connection. It counts until this is dropped.
#[derive(Debug)]
pub(crate) struct CallerPlace {
    /// `None` if it does not count.
    counted: Option<(Connections, Caller)>,
}

impl CallerPlace {
    /// What counts for nobody.
    pub(crate) const fn uncounted() -> Self {
        Self { counted: None }
    }
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            held: Arc::default(),
        }
    }

    /// Counts one more; `None` if the caller has as many as it may have.
    pub(super) fn take(&self, caller: Caller) -> Option<CallerPlace> {
        if self.max == 0 {
            return Some(CallerPlace::uncounted());
        }
        let mut held = self.held();
        let count = held.entry(caller).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        drop(held);
        Some(CallerPlace {
            counted: Some((self.clone(), caller)),
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Caller, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallerPlace {
    fn drop(&mut self) {
        let Some((connections, caller)) = &self.counted else {
            return;
        };
        let mut held = connections.held();
        if let Some(count) = held.get_mut(caller) {
            *count -= 1;
            if *count == 0 {
                held.remove(caller);
            }
        }
    }
}

#[cfg(test)]
mod tests;

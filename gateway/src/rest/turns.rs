//! Turns for requests that read much: few run at the same time, and one address cannot have all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::client_address::ClientAddress;
use crate::error::ApiError;

/// Maximum time that a request waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The turns of one kind of request. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    of_one_address: usize,
    /// One entry per address with a request that waits or runs, so at most one per connection.
    addresses: Arc<Mutex<Addresses>>,
}

type Addresses = HashMap<ClientAddress, Arc<Semaphore>>;

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    // Released in this order, before the entry is removed.
    _of_all: OwnedSemaphorePermit,
    _of_address: OwnedSemaphorePermit,
    _entry: Entry,
}

/// Keeps the entry of an address in the table.
#[derive(Debug)]
struct Entry {
    addresses: Arc<Mutex<Addresses>>,
    address: ClientAddress,
    own: Option<Arc<Semaphore>>,
}

impl Turns {
    /// Allows `all` requests at the same time, and `of_one_address` of one address.
    pub(super) fn new(all: usize, of_one_address: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            of_one_address,
            addresses: Arc::default(),
        }
    }

    /// Waits for a turn, behind earlier requests of the same address first. The caller must hold it until its read is done.
    pub(super) async fn wait(&self, address: ClientAddress) -> Result<Turn, ApiError> {
        let entry = self.entry(address);
        let waiting = async {
            let own = entry.own.clone()?;
            let of_address = own.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some((of_all, of_address))
        };
        match timeout(MAX_WAIT, waiting).await {
            Ok(Some((of_all, of_address))) => Ok(Turn {
                _of_all: of_all,
                _of_address: of_address,
                _entry: entry,
            }),
            Ok(None) | Err(_) => Err(ApiError::TooSlow),
        }
    }

    fn entry(&self, address: ClientAddress) -> Entry {
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = addresses
            .entry(address)
            .or_insert_with(|| Arc::new(Semaphore::new(self.of_one_address)));
        Entry {
            own: Some(Arc::clone(own)),
            addresses: Arc::clone(&self.addresses),
            address,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.own = None;
        // Entries are cloned only under this lock.
        let is_last = |own: &Arc<Semaphore>| Arc::strong_count(own) == 1;
        if addresses.get(&self.address).is_some_and(is_last) {
            addresses.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests;

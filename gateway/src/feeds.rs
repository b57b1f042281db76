//! What clients are sent of all devices at once: their rows (`subscribe:fleet`) and their open alarms (`subscribe:alarms`).
//!
//! ```text
//!          looks four times a second, and reads the devices that have changed
//! Redis ◀──────────────────────────────────────────────────────────────────── reader (one task)
//!                                                                               ▼
//!   client ◀── chunks ── subscriber (one task per subscription) ◀── tables: rows, open alarms
//! ```
//!
//! While no client wants any of it, nothing is read and nothing is kept. What is read is rendered once, for all clients. A client costs one task,
//! one bit per device, and the one chunk that it is being sent.

pub(crate) mod alarm_key;
mod alarm_table;
mod event_size;
pub(crate) mod filter;
mod fleet_table;
mod located;
pub(crate) mod location_subscriber;
mod partition;
mod reader;
mod row;
pub(crate) mod subscriber;
mod tables;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::clock::Clock;
use shared::lifecycle::Lifecycle;
use shared::store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use reader::Reader;
use tables::{Tables, Wanted};

/// What this replica knows of all devices. Clones share it.
#[derive(Clone)]
pub(crate) struct Feeds {
    inner: Arc<FeedsInner>,
}

struct FeedsInner {
    // A std mutex: held while what was read is taken over, or a chunk is put together, never across an await.
    tables: Mutex<Tables>,
    wanted: watch::Sender<Wanted>,
    /// Sent when the tables have changed.
    changed: watch::Sender<()>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Feeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feeds")
    }
}

impl Feeds {
    /// Starts the task that reads. It ends when `finish` is cancelled. `sends_locations`: clients are sent where devices are, too.
    pub(crate) fn start(
        store: &Store,
        sends_locations: bool,
        lifecycle: &Lifecycle,
        finish: &CancellationToken,
    ) -> Self {
        let feeds = Self {
            inner: Arc::new(FeedsInner {
                tables: Mutex::new(Tables::new(sends_locations)),
                wanted: watch::Sender::default(),
                changed: watch::Sender::default(),
                clock: store.clock(),
            }),
        };
        let reader = Reader::new(feeds.clone(), store.clone());
        lifecycle.spawn("feeds", reader.run(finish.clone()));
        feeds
    }

    /// Whether clients are sent where devices are.
    pub(crate) fn sends_locations(&self) -> bool {
        self.tables().sends_locations
    }

    /// Returns the numbers of clients that are sent rows, and alarms.
    pub(crate) fn clients(&self) -> (usize, usize) {
        self.tables().clients()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        let tables = self.inner.tables.lock();
        tables.unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more client that wants rows at this interval until the result is dropped.
    fn want_rows(&self, interval: Duration) -> WantsRows {
        self.tables().add_row_client(interval);
        self.announce_wanted();
        WantsRows {
            feeds: self.clone(),
            interval,
        }
    }

    /// Counts one more client that wants alarms until the result is dropped.
    fn want_alarms(&self) -> WantsAlarms {
        self.tables().add_alarm_client();
        self.announce_wanted();
        WantsAlarms {
            feeds: self.clone(),
        }
    }

    fn announce_wanted(&self) {
        // Under the lock, so that the last announcement is that of the last change.
        let tables = self.tables();
        let wanted = tables.wanted();
        self.inner.wanted.send_if_modified(|announced| {
            let is_other = *announced != wanted;
            *announced = wanted;
            is_other
        });
    }
}

/// A client that wants rows.
struct WantsRows {
    feeds: Feeds,
    interval: Duration,
}

impl Drop for WantsRows {
    fn drop(&mut self) {
        self.feeds.tables().remove_row_client(self.interval);
        self.feeds.announce_wanted();
    }
}

/// A client that wants alarms.
struct WantsAlarms {
    feeds: Feeds,
}

impl Drop for WantsAlarms {
    fn drop(&mut self) {
        self.feeds.tables().remove_alarm_client();
        self.feeds.announce_wanted();
    }
}

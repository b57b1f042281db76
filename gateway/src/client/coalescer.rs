//! Sends the telemetry that was held for clients, so that readings which are due to one client at nearly the same time leave in one
//! write.
//!
//! The first reading after a pause leaves at once. Further ones wait for the end of the window, and leave earlier only with an alarm,
//! a reply or a ping, which wait for nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::Client;

/// Number of clients to which a task sends before it lets others run.
const CLIENTS_IN_A_ROW: usize = 32;

/// The clients for which telemetry is held.
#[derive(Debug)]
pub(crate) struct Coalescer {
    window: Duration,
    /// Several, so that more than one thread can send.
    lanes: Box<[Lane]>,
}

#[derive(Debug, Default)]
struct Lane {
    // A std mutex: held for one addition, or to take everything. Each client is in it once per window, twice if an alarm came.
    held: Mutex<Vec<Arc<Client>>>,
    begun: Notify,
}

impl Coalescer {
    /// Creates a coalescer whose tasks run on this many threads. With a window of zero nothing is held.
    pub(crate) fn new(window: Duration, threads: usize) -> Self {
        Self {
            window,
            lanes: (0..threads.max(1)).map(|_| Lane::default()).collect(),
        }
    }

    /// Returns how long telemetry may be held.
    pub(crate) fn window(&self) -> Duration {
        self.window
    }

    /// Remembers that telemetry is held for a client.
    pub(super) fn add(&self, client: &Arc<Client>) {
        let lane = usize::try_from(client.id().0).unwrap_or_default() % self.lanes.len();
        let lane = &self.lanes[lane];
        let mut held = lane.held();
        held.push(Arc::clone(client));
        if held.len() == 1 {
            lane.begun.notify_one();
        }
    }

    /// Returns the tasks that send what is held, at the end of each window. They never end.
    pub(crate) fn tasks(
        self: &Arc<Self>,
    ) -> impl Iterator<Item = impl Future<Output = ()> + use<>> {
        (0..self.lanes.len()).map(|lane| {
            let coalescer = Arc::clone(self);
            async move { coalescer.lanes[lane].run(coalescer.window).await }
        })
    }
}

impl Lane {
    async fn run(&self, window: Duration) {
        loop {
            self.begun.notified().await;
            sleep(window).await;
            let held = std::mem::take(&mut *self.held());
            for clients in held.chunks(CLIENTS_IN_A_ROW) {
                let now = Instant::now();
                for client in clients {
                    client.release_held(now);
                }
                yield_now().await;
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Arc<Client>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

//! The task that renders the list of all devices: one list at a time, for everybody who had asked when it was begun.
//!
//! ```text
//! requests ─▶ queue ─▶ all that wait now ─▶ one list ─▶ each of them
//!               ▲
//!               └── who asks meanwhile waits for the next list
//! ```
//!
//! A list does not belong to a request: a client that disconnects takes nothing from the others, and they share an error, too.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{DeviceList, ListSource, render};
use crate::client_address::ClientAddress;
use crate::error::ApiError;
use crate::rest::answers::HeldBytes;

/// Maximum time to render a list. A request waits for the list before its own, and for its own: less than the longest time of an
/// answer.
const MAX_TIME: Duration = Duration::from_secs(12);
/// Maximum number of requests that one list answers. Further ones wait for a place in the queue.
const MAX_WAITING: usize = 1024;

/// Where requests get the list of all devices. Clones share it.
#[derive(Clone)]
pub(in crate::rest) struct DeviceLists {
    requests: mpsc::Sender<Waiting>,
    shared: Shared,
}

/// The task. See the module.
pub(crate) struct ListRenderer {
    requests: mpsc::Receiver<Waiting>,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    source: ListSource,
    /// Length of the last list.
    last_bytes: Arc<AtomicU64>,
}

/// A request that waits for a list.
#[derive(Debug)]
struct Waiting {
    client: ClientAddress,
    answer: oneshot::Sender<Result<SharedList, ApiError>>,
}

/// A list that others may read, too.
#[derive(Debug)]
pub(in crate::rest) struct SharedList {
    pub(in crate::rest) list: Arc<DeviceList>,
    /// Counts it for the address of the client, once for all its clients.
    pub(in crate::rest) of_client: Arc<HeldBytes>,
}

/// Creates the task, and the handle for requests.
pub(in crate::rest) fn new(source: ListSource) -> (DeviceLists, ListRenderer) {
    let (sender, requests) = mpsc::channel(MAX_WAITING);
    let shared = Shared {
        source,
        last_bytes: Arc::default(),
    };
    let lists = DeviceLists {
        requests: sender,
        shared: shared.clone(),
    };
    (lists, ListRenderer { requests, shared })
}

impl DeviceLists {
    /// Returns a list of all devices that was begun after this call: a client never gets states older than its request.
    pub(in crate::rest) async fn current(
        &self,
        client: ClientAddress,
    ) -> Result<SharedList, ApiError> {
        let expected = self.shared.last_bytes();
        let limits = &self.shared.source.limits;
        limits.wait_for_room(client, expected).await?;
        let (answer, list) = oneshot::channel();
        let waiting = Waiting { client, answer };
        // The task ends only when the process does.
        let sent = self.requests.send(waiting).await;
        sent.map_err(|_| ApiError::TooSlow)?;
        list.await.map_err(|_| ApiError::TooSlow)?
    }
}

impl Shared {
    fn last_bytes(&self) -> u64 {
        self.last_bytes.load(Ordering::Relaxed)
    }
}

impl ListRenderer {
    /// Renders lists until `finish`, or until nobody can ask any more.
    pub(crate) async fn run(mut self, finish: CancellationToken) -> anyhow::Result<()> {
        let rendering = async {
            let mut waiting = Vec::new();
            while self.requests.recv_many(&mut waiting, MAX_WAITING).await > 0 {
                self.answer(std::mem::take(&mut waiting)).await;
            }
        };
        finish.run_until_cancelled(rendering).await;
        Ok(())
    }

    async fn answer(&self, mut waiting: Vec<Waiting>) {
        let (limits, expected) = (&self.shared.source.limits, self.shared.last_bytes());
        waiting.retain(|request| !request.answer.is_closed());
        // A list that none of them may read is not rendered.
        let (mut waiting, over): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|request| limits.has_room(request.client, expected));
        for request in over {
            request.answer.send(Err(ApiError::Busy)).ok();
        }
        if waiting.is_empty() {
            return;
        }
        let list = tokio::select! {
            list = self.render() => list,
            () = all_gone(&mut waiting) => return,
        };
        let mut shares: HashMap<ClientAddress, Result<Arc<HeldBytes>, ApiError>> = HashMap::new();
        for Waiting { client, answer } in waiting {
            let reply = list.clone().and_then(|list| {
                let share = shares.entry(client).or_insert_with(|| {
                    let share = limits.share(client, list.bytes());
                    share.map(Arc::new)
                });
                let of_client = share.clone()?;
                Ok(SharedList { list, of_client })
            });
            // A client that is gone by now drops its share.
            answer.send(reply).ok();
        }
    }

    async fn render(&self) -> Result<Arc<DeviceList>, ApiError> {
        // A panic must not end the task: it is answered, as that of a request's own handler is.
        let list = AssertUnwindSafe(render(&self.shared.source, None)).catch_unwind();
        let list = timeout(MAX_TIME, list).await;
        let list = list.map_err(|_| ApiError::TooSlow)?;
        let list = list.map_err(|_| ApiError::Bug)??;
        let bytes = list.bytes();
        self.shared.last_bytes.store(bytes, Ordering::Relaxed);
        Ok(Arc::new(list))
    }
}

/// Waits until none of them waits any more.
async fn all_gone(waiting: &mut [Waiting]) {
    for request in waiting {
        request.answer.closed().await;
    }
}

//! Large answers on their way to clients: how much memory they may take together, and how fast a client must read them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::client_address::ClientAddress;
use crate::error::{ApiError, ErrorBody};
use crate::listener::answer::{AnswerPace, HeldAnswer};
use crate::listener::connection::ConnectionHandle;
use crate::metrics::RestMetrics;

/// Answers up to this size are neither counted nor watched, in bytes: the kernel takes them at once, and so an acknowledgement
/// is answered whatever else happens. At most one per connection.
const SMALL: u64 = 16 * 1024;
/// The part of all bytes that the answers to one address may take together: one in so many. The rest is left for others.
const SHARE: u64 = 2;
/// How long a request waits until earlier answers to its own address are read. A client that asks again right after its last
/// answer does not wait: only the end of that answer may not have been noticed yet.
const OWN_WAIT: Duration = Duration::from_millis(250);
/// The rate at which a client must read an answer that is so large that [`AnswerLimits::time`] is not enough, in bytes per
/// second.
const MIN_RATE: u64 = 256 * 1024;

/// The limits of large answers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AnswerLimits {
    counts: Arc<Counts>,
    /// The most bytes of all answers together.
    bytes: u64,
    /// How long a client may take to read an answer.
    time: Duration,
    /// The fewest bytes per second that it must read all the time.
    rate: u64,
    metrics: Arc<RestMetrics>,
}

/// The bytes that count now.
#[derive(Debug, Default)]
struct Counts {
    // A std mutex: held for one addition, never across an await.
    table: Mutex<Table>,
    /// Notified when bytes of an address count no more.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    all: u64,
    /// Only addresses with bytes, so at most one per connection.
    addresses: HashMap<ClientAddress, u64>,
}

/// Bytes that count towards the limits until this is dropped.
#[derive(Debug)]
pub(super) struct HeldBytes {
    limits: AnswerLimits,
    bytes: u64,
    /// They count among those of all answers.
    in_all: bool,
    /// The address of which they use up the share.
    client: Option<ClientAddress>,
}

/// In the extensions of an answer whose bytes were counted while it was built: they go on counting until it is sent.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) bytes: Arc<HeldBytes>,
    /// What counts for the address of the client, if several clients share the answer.
    pub(super) _of_client: Option<Arc<HeldBytes>>,
}

impl AnswerLimits {
    pub(super) fn new(
        bytes: usize,
        time: Duration,
        rate: usize,
        metrics: Arc<RestMetrics>,
    ) -> Self {
        Self {
            counts: Arc::default(),
            bytes: bytes as u64,
            time,
            rate: rate as u64,
            metrics,
        }
    }

    /// Begins to count the bytes of an answer for this client.
    pub(super) fn begin(&self, client: ClientAddress) -> HeldBytes {
        self.hold(true, Some(client))
    }

    /// Begins to count the bytes of an answer that several clients share. Each needs [`AnswerLimits::share`], too.
    pub(super) fn begin_shared(&self) -> HeldBytes {
        self.hold(true, None)
    }

    /// Counts a shared answer of so many bytes for one address that reads it.
    pub(super) fn share(&self, client: ClientAddress, bytes: u64) -> Result<HeldBytes, ApiError> {
        let mut held = self.hold(false, Some(client));
        held.add(bytes)?;
        Ok(held)
    }

    fn hold(&self, in_all: bool, client: Option<ClientAddress>) -> HeldBytes {
        HeldBytes {
            limits: self.clone(),
            bytes: 0,
            in_all,
            client,
        }
    }

    /// Returns whether an answer of so many bytes is within the share of its address.
    pub(super) fn has_room(&self, client: ClientAddress, bytes: u64) -> bool {
        self.is_within_share(&self.table(), client, 0, bytes)
    }

    /// Waits until an answer of so many bytes is within the share of its address.
    ///
    /// # Errors
    /// [`ApiError::Busy`]: the address did not read its other answers meanwhile.
    pub(super) async fn wait_for_room(
        &self,
        client: ClientAddress,
        bytes: u64,
    ) -> Result<(), ApiError> {
        let has_room = async {
            loop {
                let mut freed = std::pin::pin!(self.counts.freed.notified());
                freed.as_mut().enable();
                if self.has_room(client, bytes) {
                    return;
                }
                freed.await;
            }
        };
        let waited = timeout(OWN_WAIT, has_room).await;
        waited.map_err(|_| ApiError::Busy)
    }

    /// `own`: those bytes of the address that belong to the same answer. One answer alone is always within the share.
    fn is_within_share(&self, table: &Table, client: ClientAddress, own: u64, more: u64) -> bool {
        let present = table.addresses.get(&client).copied().unwrap_or_default();
        present == own || present.saturating_add(more) <= self.bytes / SHARE
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.counts.table.lock();
        table.unwrap_or_else(PoisonError::into_inner)
    }

    fn time_for(&self, bytes: u64) -> Duration {
        self.time.max(Duration::from_secs(bytes / MIN_RATE))
    }
}

impl HeldBytes {
    /// Counts further bytes.
    ///
    /// # Errors
    /// [`ApiError::Busy`]: these would be too many together with all other answers, or with those to the same address.
    pub(super) fn add(&mut self, bytes: u64) -> Result<(), ApiError> {
        let limits = &self.limits;
        let mut table = limits.table();
        if self.in_all && table.all.saturating_add(bytes) > limits.bytes {
            return Err(ApiError::Busy);
        }
        if let Some(client) = self.client {
            if !limits.is_within_share(&table, client, self.bytes, bytes) {
                return Err(ApiError::Busy);
            }
            *table.addresses.entry(client).or_default() += bytes;
        }
        if self.in_all {
            table.all += bytes;
        }
        drop(table);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut table = self.limits.table();
        if self.in_all {
            table.all -= self.bytes;
        }
        let Some(client) = self.client else { return };
        if let Some(present) = table.addresses.get_mut(&client) {
            *present -= self.bytes;
            if *present == 0 {
                table.addresses.remove(&client);
            }
        }
        drop(table);
        self.limits.counts.freed.notify_waiters();
    }
}

/// Middleware. Counts a large answer, and closes the connection of a client that does not read it fast enough.
pub(super) async fn limit(
    State(limits): State<AnswerLimits>,
    request: Request,
    next: Next,
) -> Response {
    let extensions = request.extensions();
    let connection = extensions.get::<Arc<ConnectionHandle>>().cloned();
    let client = extensions.get::<ClientAddress>().copied();
    let mut response = next.run(request).await;
    let counted = response.extensions_mut().remove::<Counted>();
    let bytes = response.body().size_hint().lower();
    if bytes <= SMALL {
        let error = response.extensions().get::<ErrorBody>();
        if error.is_some_and(|error| error.error_code == ApiError::Busy.code()) {
            limits.metrics.answers_refused.increment();
        }
        return response;
    }
    let counted = if let Some(counted) = counted {
        counted
    } else {
        let mut held = limits.begin(client.unwrap_or_else(ClientAddress::unknown));
        if let Err(busy) = held.add(bytes) {
            limits.metrics.answers_refused.increment();
            return busy.into_response();
        }
        Counted {
            bytes: Arc::new(held),
            _of_client: None,
        }
    };
    if let Some(connection) = &connection {
        connection.begin_answer(AnswerPace {
            time: limits.time_for(bytes),
            rate: limits.rate,
        });
    }
    response.map(|body| {
        Body::new(LimitedBody {
            body,
            counted: Some(counted),
            connection,
        })
    })
}

/// A body whose bytes count until the connection has sent them.
struct LimitedBody {
    body: Body,
    counted: Option<Counted>,
    connection: Option<Arc<ConnectionHandle>>,
}

impl Drop for LimitedBody {
    fn drop(&mut self) {
        // The last bytes are in hyper's buffer now. Without a connection they go nowhere.
        if let (Some(counted), Some(connection)) = (self.counted.take(), &self.connection) {
            connection.finish_answer(Box::new(counted));
        }
    }
}

impl HeldAnswer for Counted {
    fn end(self: Box<Self>, was_too_slow: bool) {
        if was_too_slow {
            self.bytes.limits.metrics.answers_unread.increment();
        }
    }
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;

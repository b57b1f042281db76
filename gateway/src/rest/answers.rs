//! Large answers on their way to clients: how much memory they may take together, and how fast a client must read them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;
use crate::listener::answer::{AnswerPace, HeldAnswer};
use crate::listener::connection::ConnectionHandle;
use crate::metrics::RestMetrics;

/// Answers up to this size are neither counted nor watched, in bytes: the kernel takes them at once, and so an acknowledgement
/// is answered whatever else happens. At most one per connection.
const SMALL: u64 = 16 * 1024;
/// The unit in which bytes are counted: a semaphore has at most `u32::MAX` permits per request.
const UNIT: u64 = 1024;
/// The rate at which a client must read an answer that is so large that [`AnswerLimits::time`] is not enough, in bytes per
/// second.
const MIN_RATE: u64 = 256 * 1024;

/// The limits of large answers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AnswerLimits {
    units: Arc<Semaphore>,
    /// How long a client may take to read an answer.
    time: Duration,
    /// The fewest bytes per second that it must read all the time.
    rate: u64,
    metrics: Arc<RestMetrics>,
}

/// Bytes that count towards the limit until this is dropped.
#[derive(Debug)]
pub(super) struct HeldBytes {
    limits: AnswerLimits,
    permit: Option<OwnedSemaphorePermit>,
}

/// In the extensions of an answer whose bytes its body has counted already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted;

impl AnswerLimits {
    pub(super) fn new(
        bytes: usize,
        time: Duration,
        rate: usize,
        metrics: Arc<RestMetrics>,
    ) -> Self {
        let units = bytes as u64 / UNIT;
        let units = usize::try_from(units).unwrap_or(usize::MAX);
        Self {
            units: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            time,
            rate: rate as u64,
            metrics,
        }
    }

    /// Begins to count bytes.
    pub(super) fn begin(&self) -> HeldBytes {
        HeldBytes {
            limits: self.clone(),
            permit: None,
        }
    }

    fn time_for(&self, bytes: u64) -> Duration {
        self.time.max(Duration::from_secs(bytes / MIN_RATE))
    }
}

impl HeldBytes {
    /// Counts further bytes.
    ///
    /// # Errors
    /// [`ApiError::Busy`]: together with all other answers these would be too many.
    pub(super) fn add(&mut self, bytes: u64) -> Result<(), ApiError> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let units = Arc::clone(&self.limits.units).try_acquire_many_owned(units);
        let units = units.map_err(|_| {
            self.limits.metrics.answers_refused.increment();
            ApiError::Busy
        })?;
        match &mut self.permit {
            Some(permit) => permit.merge(units),
            None => self.permit = Some(units),
        }
        Ok(())
    }
}

/// Middleware. Counts a large answer, and closes the connection of a client that does not read it fast enough.
pub(super) async fn limit(
    State(limits): State<AnswerLimits>,
    request: Request,
    next: Next,
) -> Response {
    let connection = request.extensions().get::<Arc<ConnectionHandle>>().cloned();
    let mut response = next.run(request).await;
    let bytes = response.body().size_hint().lower();
    if bytes <= SMALL {
        return response;
    }
    let is_counted = response.extensions_mut().remove::<Counted>().is_some();
    let mut held = limits.begin();
    if !is_counted && let Err(busy) = held.add(bytes) {
        return busy.into_response();
    }
    if let Some(connection) = &connection {
        connection.begin_answer(AnswerPace {
            time: limits.time_for(bytes),
            rate: limits.rate,
        });
    }
    response.map(|body| {
        Body::new(LimitedBody {
            body,
            held: Some(held),
            connection,
        })
    })
}

/// A body whose bytes count until the connection has sent them.
struct LimitedBody {
    body: Body,
    held: Option<HeldBytes>,
    connection: Option<Arc<ConnectionHandle>>,
}

impl Drop for LimitedBody {
    fn drop(&mut self) {
        // The last bytes are in hyper's buffer now. Without a connection they go nowhere.
        if let (Some(held), Some(connection)) = (self.held.take(), &self.connection) {
            connection.finish_answer(Box::new(held));
        }
    }
}

impl HeldAnswer for HeldBytes {
    fn end(self: Box<Self>, was_too_slow: bool) {
        if was_too_slow {
            self.limits.metrics.answers_unread.increment();
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

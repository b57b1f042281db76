//! The connections that have not sent a request, oldest first. When all places are taken, the oldest one makes room, so that
//! connections that send nothing cannot keep a probe waiting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How long a connection may take to send its request when others wait for its place. A probe sends it at once.
const GRACE: Duration = Duration::from_millis(250);

/// The request that a connection is about to send. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct PendingRequest {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    accepted: Instant,
    was_received: AtomicBool,
    closed: CancellationToken,
}

impl PendingRequest {
    /// Records that the request was received. From then on the connection is not closed to make room.
    pub(super) fn record(&self) {
        self.shared.was_received.store(true, Ordering::Relaxed);
    }

    /// Waits until the connection must make room.
    pub(super) async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }
}

/// The open connections without a request. Has at most one entry per connection, besides those of ended connections, which the
/// next call removes.
#[derive(Debug, Default)]
pub(super) struct IdleQueue {
    requests: VecDeque<PendingRequest>,
}

impl IdleQueue {
    /// Adds a connection that was just accepted.
    pub(super) fn add(&mut self) -> PendingRequest {
        self.remove_busy();
        let request = PendingRequest {
            shared: Arc::new(Shared {
                accepted: Instant::now(),
                was_received: AtomicBool::new(false),
                closed: CancellationToken::new(),
            }),
        };
        self.requests.push_back(request.clone());
        request
    }

    /// Waits until the oldest connection has had its [`GRACE`], and closes it unless its request has come. Waits for ever if
    /// there is no such connection. Cancel-safe.
    pub(super) async fn close_oldest(&mut self) {
        self.remove_busy();
        let Some(oldest) = self.requests.front() else {
            return std::future::pending().await;
        };
        let age = oldest.shared.accepted.elapsed();
        tokio::time::sleep(GRACE.saturating_sub(age)).await;
        if let Some(oldest) = self.requests.pop_front()
            && !oldest.shared.was_received.load(Ordering::Relaxed)
        {
            oldest.shared.closed.cancel();
        }
    }

    /// Removes the connections that have sent a request or have ended.
    fn remove_busy(&mut self) {
        self.requests.retain(|request| {
            let has_ended = Arc::strong_count(&request.shared) == 1;
            !request.shared.was_received.load(Ordering::Relaxed) && !has_ended
        });
    }
}

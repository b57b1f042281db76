//! The state and the counters of the broker connection. Readiness, the heartbeat and the metrics read them from here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::WeakSender;
use tokio::sync::watch;

use super::ack::Acks;
use super::message::MqttMessage;
use super::state::{ConnectionEvent, ConnectionState};

#[derive(Clone, Debug)]
struct Observed {
    state: ConnectionState,
    last_subscribed: Option<Instant>,
    /// Since when the subscription is active.
    subscribed_since: Option<Instant>,
    last_error: Option<String>,
}

#[derive(Debug, Default)]
struct BrokerCounts {
    received: AtomicU64,
    lost: AtomicU64,
    connections: AtomicU64,
    /// When the last message arrived.
    last_received: Mutex<Option<Instant>>,
}

impl BrokerCounts {
    fn last_received(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last_received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading side: state and counters of the connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BrokerStatus {
    observed: watch::Receiver<Observed>,
    counts: Arc<BrokerCounts>,
    pending: Option<PendingMessages>,
}

/// Sources for the numbers of unacknowledged and of queued messages.
#[derive(Clone, Debug)]
pub(super) struct PendingMessages {
    pub(super) acks: Arc<Acks>,
    /// Weak, so that the queue closes when the connection's task ends.
    pub(super) queue: WeakSender<MqttMessage>,
}

/// The writing side: updates the state and the counters. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StatusReporter {
    observed: watch::Sender<Observed>,
    counts: Arc<BrokerCounts>,
}

impl BrokerStatus {
    /// Creates both sides, for a connection that does not exist yet.
    pub(crate) fn new() -> (StatusReporter, Self) {
        let (sender, receiver) = watch::channel(Observed {
            state: ConnectionState::Connecting,
            last_subscribed: None,
            subscribed_since: None,
            last_error: None,
        });
        let counts = Arc::<BrokerCounts>::default();
        let reporter = StatusReporter {
            observed: sender,
            counts: Arc::clone(&counts),
        };
        let status = Self {
            observed: receiver,
            counts,
            pending: None,
        };
        (reporter, status)
    }

    pub(super) fn with_pending(mut self, pending: PendingMessages) -> Self {
        self.pending = Some(pending);
        self
    }

    pub(crate) fn state(&self) -> ConnectionState {
        self.observed.borrow().state
    }

    /// Whether the subscription is active, so that messages are received.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.state().is_subscribed()
    }

    /// Returns the time at which the subscription last ended; `None` if it never began or never ended.
    pub(crate) fn last_subscribed(&self) -> Option<Instant> {
        self.observed.borrow().last_subscribed
    }

    /// Returns how long the subscription has brought no message; `None` while it is not active.
    pub(crate) fn quiet_for(&self) -> Option<Duration> {
        let since = self.observed.borrow().subscribed_since?;
        let last = *self.counts.last_received();
        let since = last.map_or(since, |last| last.max(since));
        Some(since.elapsed())
    }

    /// Why the last connection ended, if one did.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.observed.borrow().last_error.clone()
    }

    /// Waits until the first try to connect has succeeded or failed. Never returns if its task ends before. Cancel-safe.
    pub(crate) async fn first_try(&mut self) {
        let is_over = |observed: &Observed| {
            observed.last_error.is_some() || observed.state != ConnectionState::Connecting
        };
        if self.observed.wait_for(is_over).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the next change; never returns once the connection's task has ended. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        if self.observed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns the number of messages received so far, without the lost ones.
    pub(crate) fn received(&self) -> u64 {
        self.counts.received.load(Ordering::Relaxed)
    }

    /// Returns the number of QoS 0 messages dropped so far because the queue was full.
    pub(crate) fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// Returns the number of connections opened so far.
    pub(crate) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Returns the number of messages received but not acknowledged yet.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.pending
            .as_ref()
            .map_or(0, |pending| pending.acks.len())
    }

    /// Returns the number of messages that wait in the queue.
    pub(crate) fn queued(&self) -> usize {
        let pending = self.pending.as_ref();
        let queue = pending.and_then(|pending| pending.queue.upgrade());
        queue.map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }
}

impl StatusReporter {
    pub(super) fn state(&self) -> ConnectionState {
        self.observed.borrow().state
    }

    /// Applies an event. Returns whether the state changed.
    pub(crate) fn apply(&self, event: ConnectionEvent) -> bool {
        if event == ConnectionEvent::ConnAck {
            self.counts.connections.fetch_add(1, Ordering::Relaxed);
        }
        self.observed.send_if_modified(|observed| {
            let before = observed.state;
            observed.state = before.after(event);
            if before.is_subscribed() && !observed.state.is_subscribed() {
                observed.last_subscribed = Some(Instant::now());
                observed.subscribed_since = None;
            }
            if !before.is_subscribed() && observed.state.is_subscribed() {
                observed.subscribed_since = Some(Instant::now());
            }
            observed.state != before
        })
    }

    /// Records why the last connection ended. Returns whether that is new.
    pub(super) fn set_error(&self, error: &str) -> bool {
        self.observed.send_if_modified(|observed| {
            let is_new = observed.last_error.as_deref() != Some(error);
            observed.last_error = Some(error.to_owned());
            is_new
        })
    }

    pub(super) fn count_received(&self) {
        self.counts.received.fetch_add(1, Ordering::Relaxed);
        *self.counts.last_received() = Some(Instant::now());
    }

    /// Counts a lost message. Returns the number of lost messages so far.
    pub(super) fn count_lost(&self) -> u64 {
        self.counts.lost.fetch_add(1, Ordering::Relaxed) + 1
    }
}

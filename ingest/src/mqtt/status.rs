//! How the link to the broker stands: for readiness, the heartbeat and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::mpsc::WeakSender;
use tokio::sync::watch;

use super::ack::Acks;
use super::message::MqttMessage;

/// What a connection to the broker can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    /// Before the first connection.
    Connecting,
    /// Connected, the subscription is not confirmed yet.
    Connected,
    /// Messages flow.
    Subscribed,
    /// Lost; it is tried again.
    Down,
    /// Another client has our session; it is not tried again.
    TakenOver,
    /// Ended by a stop.
    Stopped,
}

#[derive(Clone, Debug)]
struct Standing {
    state: ConnectionState,
    last_subscribed: Option<Instant>,
    error: Option<String>,
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    lost: AtomicU64,
    connections: AtomicU64,
}

/// Reads how the link stands. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BrokerStatus {
    standing: watch::Receiver<Standing>,
    counts: Arc<Counts>,
    pending: Option<Pending>,
}

/// Where the messages in hand stand.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) acks: Arc<Acks>,
    /// Weak: the queue is closed by the end of the link.
    pub(super) queue: WeakSender<MqttMessage>,
}

/// Writes it.
#[derive(Debug)]
pub(crate) struct StatusReporter {
    standing: watch::Sender<Standing>,
    counts: Arc<Counts>,
}

impl BrokerStatus {
    /// A link that was not connected yet.
    pub(crate) fn new() -> (StatusReporter, Self) {
        let standing = Standing {
            state: ConnectionState::Connecting,
            last_subscribed: None,
            error: None,
        };
        let (sender, receiver) = watch::channel(standing);
        let counts = Arc::<Counts>::default();
        let reporter = StatusReporter {
            standing: sender,
            counts: Arc::clone(&counts),
        };
        (
            reporter,
            Self {
                standing: receiver,
                counts,
                pending: None,
            },
        )
    }

    /// Whether messages flow.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.state() == ConnectionState::Subscribed
    }

    pub(crate) fn state(&self) -> ConnectionState {
        self.standing.borrow().state
    }

    /// When messages last stopped flowing; `None` if they never flowed or never stopped.
    pub(crate) fn last_subscribed(&self) -> Option<Instant> {
        self.standing.borrow().last_subscribed
    }

    /// Why the last connection ended, if one did.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the log has it; only tests read it here")
    )]
    pub(crate) fn last_error(&self) -> Option<String> {
        self.standing.borrow().error.clone()
    }

    /// Waits for the next change; pending for ever once the link is gone. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        if self.standing.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Messages handed on so far.
    pub(crate) fn received(&self) -> u64 {
        self.counts.received.load(Ordering::Relaxed)
    }

    /// Messages of QoS 0 dropped because the queue was full.
    pub(crate) fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    pub(super) fn watch(mut self, pending: Pending) -> Self {
        self.pending = Some(pending);
        self
    }

    /// Messages in the ack window: received, and not acknowledged yet.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.pending
            .as_ref()
            .map_or(0, |pending| pending.acks.len())
    }

    /// Messages that wait in the queue.
    pub(crate) fn queued(&self) -> usize {
        let queue = self.pending.as_ref();
        let queue = queue.and_then(|pending| pending.queue.upgrade());
        queue.map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    /// Connections made so far.
    pub(crate) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }
}

impl StatusReporter {
    /// Enters a state; tells whether it is another one than before.
    pub(crate) fn report(&self, state: ConnectionState) -> bool {
        if state == ConnectionState::Connected {
            self.counts.connections.fetch_add(1, Ordering::Relaxed);
        }
        self.standing.send_if_modified(|standing| {
            let changes = standing.state != state;
            if changes {
                if standing.state == ConnectionState::Subscribed {
                    standing.last_subscribed = Some(Instant::now());
                }
                standing.state = state;
            }
            changes
        })
    }

    pub(super) fn report_error(&self, error: &str) {
        self.standing
            .send_modify(|standing| standing.error = Some(error.to_owned()));
    }

    pub(super) fn count_received(&self) {
        self.counts.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a lost message and returns the number so far.
    pub(super) fn count_lost(&self) -> u64 {
        self.counts.lost.fetch_add(1, Ordering::Relaxed) + 1
    }
}

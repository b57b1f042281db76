//! How the link to the broker stands: for readiness, the heartbeat and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::mpsc::WeakSender;
use tokio::sync::watch;

use super::Incoming;
use super::ack::Acks;

/// What a connection to the broker can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
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
    state: LinkState,
    since: Instant,
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
pub struct LinkStatus {
    standing: watch::Receiver<Standing>,
    counts: Arc<Counts>,
    in_hand: Option<InHand>,
}

/// Where the messages in hand stand.
#[derive(Clone, Debug)]
pub(super) struct InHand {
    pub(super) acks: Arc<Acks>,
    /// Weak: the queue is closed by the end of the link.
    pub(super) queue: WeakSender<Incoming>,
}

/// Writes it.
#[derive(Debug)]
pub struct LinkReporter {
    standing: watch::Sender<Standing>,
    counts: Arc<Counts>,
}

impl LinkStatus {
    /// A link that was not connected yet.
    pub fn new() -> (LinkReporter, Self) {
        let standing = Standing {
            state: LinkState::Connecting,
            since: Instant::now(),
            last_subscribed: None,
            error: None,
        };
        let (sender, receiver) = watch::channel(standing);
        let counts = Arc::<Counts>::default();
        let reporter = LinkReporter {
            standing: sender,
            counts: Arc::clone(&counts),
        };
        (
            reporter,
            Self {
                standing: receiver,
                counts,
                in_hand: None,
            },
        )
    }

    /// Whether messages flow.
    pub fn is_subscribed(&self) -> bool {
        self.state() == LinkState::Subscribed
    }

    pub fn state(&self) -> LinkState {
        self.standing.borrow().state
    }

    /// Since when it is in this state.
    pub fn since(&self) -> Instant {
        self.standing.borrow().since
    }

    /// When messages last stopped flowing; `None` if they never flowed or never stopped.
    pub fn last_subscribed(&self) -> Option<Instant> {
        self.standing.borrow().last_subscribed
    }

    /// Why the last connection ended, if one did.
    pub fn last_error(&self) -> Option<String> {
        self.standing.borrow().error.clone()
    }

    /// Waits for the next change; pending for ever once the link is gone. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.standing.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Messages handed on so far.
    pub fn received(&self) -> u64 {
        self.counts.received.load(Ordering::Relaxed)
    }

    /// Messages of QoS 0 dropped because the queue was full.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    pub(super) fn watch(mut self, in_hand: InHand) -> Self {
        self.in_hand = Some(in_hand);
        self
    }

    /// Messages in the ack window: received, and not acknowledged yet.
    pub fn unacknowledged(&self) -> usize {
        self.in_hand
            .as_ref()
            .map_or(0, |in_hand| in_hand.acks.len())
    }

    /// Messages that wait in the queue.
    pub fn queued(&self) -> usize {
        let queue = self.in_hand.as_ref();
        let queue = queue.and_then(|in_hand| in_hand.queue.upgrade());
        queue.map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    /// Connections made so far.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }
}

impl LinkReporter {
    /// Enters a state; tells whether it is another one than before.
    pub fn report(&self, state: LinkState) -> bool {
        if state == LinkState::Connected {
            self.counts.connections.fetch_add(1, Ordering::Relaxed);
        }
        self.standing.send_if_modified(|standing| {
            let changes = standing.state != state;
            if changes {
                if standing.state == LinkState::Subscribed {
                    standing.last_subscribed = Some(Instant::now());
                }
                standing.state = state;
                standing.since = Instant::now();
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

//! Subscriptions of one client that are not answered yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts the subscriptions of one client that are not answered yet, so that repeated subscribing stays bounded.
#[derive(Debug, Default)]
pub(crate) struct PendingReplies {
    count: AtomicUsize,
    /// Notified when a subscription was answered.
    pub(super) progress: Notify,
}

impl PendingReplies {
    /// Counts one more subscription until the result is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> PendingReply {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        PendingReply {
            replies: Arc::clone(self),
            number: before + 1,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }
}

/// One subscription that is not answered yet. Dropped once it is answered or given up.
#[derive(Debug)]
pub(crate) struct PendingReply {
    replies: Arc<PendingReplies>,
    number: usize,
}

impl PendingReply {
    /// Returns whether more than `limit` subscriptions were pending when this one began, this one included.
    pub(crate) fn is_above(&self, limit: usize) -> bool {
        self.number > limit
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.replies.count.fetch_sub(1, Ordering::AcqRel);
        self.replies.progress.notify_one();
    }
}

//! Subscriptions of one client that are not answered yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts the subscriptions of one client that are not answered yet, so that repeated subscribing stays bounded.
#[derive(Debug, Default)]
pub(crate) struct PendingReplies {
    count: AtomicUsize,
    /// So many of them are no longer waited for: they took too long.
    given_up: AtomicUsize,
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

    /// Returns whether every subscription that is waited for is answered.
    pub(super) fn are_answered(&self) -> bool {
        self.count.load(Ordering::Acquire) <= self.given_up.load(Ordering::Acquire)
    }

    /// Stops waiting for those that are not answered yet. One device that cannot be read would otherwise delay each later one.
    pub(super) fn give_up(&self) {
        let count = self.count.load(Ordering::Acquire);
        self.given_up.store(count, Ordering::Release);
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
        let before = self.replies.count.fetch_sub(1, Ordering::AcqRel);
        let left = before - 1;
        self.replies.given_up.fetch_min(left, Ordering::AcqRel);
        self.replies.progress.notify_one();
    }
}

#[cfg(test)]
mod tests;

//! Acknowledges a message of several parts once all of them are finished.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::ack::AckHandle;

/// One part of the acknowledgement of a message. If a part is dropped without [`SharedAck::done`], the message is not
/// acknowledged, as with [`AckHandle`].
#[derive(Debug)]
#[must_use = "a part that is not finished delays the acknowledgements of all later messages"]
pub(crate) struct SharedAck(Part);

#[derive(Debug)]
enum Part {
    /// The message has no other part, as nearly always.
    Whole(AckHandle),
    OneOfSeveral(Arc<Unfinished>),
}

#[derive(Debug)]
struct Unfinished {
    /// The number of unfinished parts, and the handle until the last of them is finished.
    // A std mutex: held for a moment, never across an await.
    state: Mutex<(usize, Option<AckHandle>)>,
}

impl SharedAck {
    /// Splits the acknowledgement of a message into this many parts, at least one.
    pub(crate) fn split(ack: AckHandle, parts: usize) -> Vec<Self> {
        if parts <= 1 {
            return vec![Self(Part::Whole(ack))];
        }
        let unfinished = Arc::new(Unfinished {
            state: Mutex::new((parts, Some(ack))),
        });
        let part = || Self(Part::OneOfSeveral(Arc::clone(&unfinished)));
        (0..parts).map(|_| part()).collect()
    }

    /// Whether all other parts are finished.
    #[must_use]
    pub(crate) fn is_last(&self) -> bool {
        match &self.0 {
            Part::Whole(_) => true,
            Part::OneOfSeveral(unfinished) => {
                let state = unfinished.state.lock();
                state.unwrap_or_else(PoisonError::into_inner).0 == 1
            }
        }
    }

    /// Marks this part as committed or stored as a dead letter. Does not wait.
    pub(crate) fn done(self) {
        match self.0 {
            Part::Whole(ack) => ack.done(),
            Part::OneOfSeveral(unfinished) => {
                let mut state = unfinished
                    .state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let (left, ack) = &mut *state;
                *left = left.saturating_sub(1);
                if *left == 0
                    && let Some(ack) = ack.take()
                {
                    ack.done();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

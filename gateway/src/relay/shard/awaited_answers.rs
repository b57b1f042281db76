//! The answers of Redis that a connection for subscriptions waits for. Redis answers in the order of the requests. Pure.
//!
//! Channels are changed in chunks. Each channel has a request of its own, since one request must not mix channels of different
//! cluster slots, so Redis answers each channel, too. A chunk is done once all of its channels are answered, or it is late.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::interest::Channel;

/// How long Redis may take to answer one chunk. Longer than other answers may take: a connection that does not answer at all is
/// noticed by the `PING`, and on one that is only slow the rest of a chunk is on its way.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of requests without an answer. A connection on which more wait is given up. With the present ones, there is
/// room for the requests of a minute that are late again and again.
const MAX_REQUESTS: usize = 16 * crate::interest::CHUNK;

/// A request to change subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscriptionChange {
    Subscribe,
    Unsubscribe,
}

/// Why a channel was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChangeError {
    /// Redis did not answer in time.
    Late,
    /// Redis refused, with this text.
    Refused(String),
}

impl ChangeError {
    /// Returns whether another server has the channels.
    pub(super) fn is_elsewhere(&self) -> bool {
        let Self::Refused(text) = self else {
            return false;
        };
        let code = text.split(' ').next();
        matches!(code, Some("MOVED" | "ASK" | "CLUSTERDOWN" | "MASTERDOWN"))
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("no answer in time"),
            Self::Refused(text) => f.write_str(text),
        }
    }
}

/// The answer of Redis to a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChangeAnswer {
    pub(super) change: SubscriptionChange,
    /// The channels whose change is confirmed.
    pub(super) confirmed: Vec<Channel>,
    /// The others.
    pub(super) failed: Vec<Channel>,
    /// Why they failed; the first reason if there are several.
    pub(super) error: Option<ChangeError>,
}

/// Redis sent something that answers no request. Nothing that follows can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unexpected;

/// The requests that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct AwaitedAnswers {
    requests: VecDeque<Request>,
    /// The chunks that are not done, in the order of their requests.
    chunks: VecDeque<Chunk>,
    last_chunk: u64,
    /// How many of the requests are a `PING`.
    pings: usize,
}

#[derive(Debug)]
enum Request {
    Ping,
    Change {
        change: SubscriptionChange,
        channel: Channel,
        /// Number of its chunk. The chunk may be done, because it was late.
        chunk: u64,
    },
}

#[derive(Debug)]
struct Chunk {
    number: u64,
    requested: Instant,
    unanswered: usize,
    answer: ChangeAnswer,
}

impl AwaitedAnswers {
    /// Records a `PING`.
    pub(super) fn begin_ping(&mut self) {
        self.requests.push_back(Request::Ping);
        self.pings += 1;
    }

    /// Records the requests of a chunk, one for each channel.
    pub(super) fn begin_change(
        &mut self,
        change: SubscriptionChange,
        channels: Vec<Channel>,
        now: Instant,
    ) {
        self.last_chunk += 1;
        let number = self.last_chunk;
        self.chunks.push_back(Chunk {
            number,
            requested: now,
            unanswered: channels.len(),
            answer: ChangeAnswer {
                change,
                confirmed: Vec::with_capacity(channels.len()),
                failed: Vec::new(),
                error: None,
            },
        });
        let requests = channels.into_iter().map(|channel| Request::Change {
            change,
            channel,
            chunk: number,
        });
        self.requests.extend(requests);
    }

    /// Returns whether a `PING` is not answered yet.
    pub(super) fn is_ping_pending(&self) -> bool {
        self.pings > 0
    }

    /// Returns whether more requests wait than an owner that works makes.
    pub(super) fn are_too_many(&self) -> bool {
        self.requests.len() > MAX_REQUESTS
    }

    /// Records that the change of a channel is confirmed. Returns the answer to its chunk if that is done now.
    pub(super) fn confirm(
        &mut self,
        change: SubscriptionChange,
        channel: &[u8],
    ) -> Result<Option<ChangeAnswer>, Unexpected> {
        match self.requests.pop_front() {
            Some(Request::Change {
                change: requested,
                channel: of,
                chunk,
            }) if requested == change && of.as_bytes() == channel => {
                Ok(self.finish(of, chunk, None))
            }
            _ => Err(Unexpected),
        }
    }

    /// Records an answer that is not the change of a channel.
    pub(super) fn answer(&mut self) -> Result<(), Unexpected> {
        match self.requests.pop_front() {
            Some(Request::Ping) => {
                self.pings -= 1;
                Ok(())
            }
            _ => Err(Unexpected),
        }
    }

    /// Records that Redis refused the next request. Returns the answer to its chunk if that is done now.
    pub(super) fn refuse(&mut self, text: &[u8]) -> Result<Option<ChangeAnswer>, Unexpected> {
        match self.requests.pop_front() {
            Some(Request::Change { channel, chunk, .. }) => {
                let text = String::from_utf8_lossy(text).into_owned();
                Ok(self.finish(channel, chunk, Some(ChangeError::Refused(text))))
            }
            // A refused `PING` is an answer: the connection works.
            Some(Request::Ping) => {
                self.pings -= 1;
                Ok(None)
            }
            None => Err(Unexpected),
        }
    }

    /// Takes a chunk that was requested too long ago. What is confirmed of it stays confirmed, the rest failed. Answers to the rest
    /// that come later change nothing.
    pub(super) fn take_late(&mut self, now: Instant) -> Option<ChangeAnswer> {
        let oldest = self.chunks.front()?;
        if now.saturating_duration_since(oldest.requested) < CHUNK_TIMEOUT {
            return None;
        }
        let late = self.chunks.pop_front()?;
        let mut answer = late.answer;
        let unanswered = self.requests.iter().filter_map(|request| match request {
            Request::Change { channel, chunk, .. } if *chunk == late.number => Some(channel),
            _ => None,
        });
        answer.failed.extend(unanswered.cloned());
        answer.error = Some(ChangeError::Late);
        Some(answer)
    }

    fn finish(
        &mut self,
        channel: Channel,
        number: u64,
        error: Option<ChangeError>,
    ) -> Option<ChangeAnswer> {
        let index = self
            .chunks
            .iter()
            .position(|chunk| chunk.number == number)?;
        let chunk = &mut self.chunks[index];
        match error {
            None => chunk.answer.confirmed.push(channel),
            Some(error) => {
                chunk.answer.failed.push(channel);
                chunk.answer.error.get_or_insert(error);
            }
        }
        chunk.unanswered -= 1;
        if chunk.unanswered > 0 {
            return None;
        }
        self.chunks.remove(index).map(|chunk| chunk.answer)
    }
}

#[cfg(test)]
mod tests;

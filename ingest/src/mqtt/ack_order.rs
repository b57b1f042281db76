//! Keeps the messages of one connection in their order of arrival. They may be finished in any order, but must be acknowledged
//! in the order of arrival (MQTT 5, 4.6).

use std::collections::VecDeque;

/// Identifies one message of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    connection: u64,
    number: u64,
}

/// The messages of the current connection that are not acknowledged yet.
///
/// Bound: as long as the queue, the batch of the pipeline, and the acknowledgements that wait to be sent, together. If the broker
/// keeps to the receive maximum, not longer than that.
#[derive(Debug, Default)]
pub(super) struct AckOrder {
    /// Counts connections. Tickets of earlier ones are void: the same packet id now identifies another message.
    connection: u64,
    /// Number of the oldest message.
    first: u64,
    messages: VecDeque<Unacknowledged>,
}

#[derive(Debug)]
struct Unacknowledged {
    packet_id: u16,
    finished: bool,
}

impl AckOrder {
    /// Adds a message that arrived.
    pub(super) fn push(&mut self, packet_id: u16) -> Ticket {
        let number = self.first + self.messages.len() as u64;
        self.messages.push_back(Unacknowledged {
            packet_id,
            finished: false,
        });
        Ticket {
            connection: self.connection,
            number,
        }
    }

    /// Marks a message as finished.
    pub(super) fn finish(&mut self, ticket: Ticket) {
        if ticket.connection != self.connection {
            return;
        }
        let index = ticket
            .number
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(message) = index.and_then(|index| self.messages.get_mut(index)) {
            message.finished = true;
        }
    }

    /// Returns the packet id of the oldest message, if it is finished. Acknowledge it, then call [`AckOrder::pop`].
    pub(super) fn ready(&self) -> Option<u16> {
        let oldest = self.messages.front();
        oldest
            .filter(|message| message.finished)
            .map(|message| message.packet_id)
    }

    /// Removes the oldest message.
    pub(super) fn pop(&mut self) {
        if self.messages.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Begins another connection, and forgets the messages of the one before.
    pub(super) fn reset(&mut self) {
        self.connection += 1;
        self.messages.clear();
        self.first = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests;

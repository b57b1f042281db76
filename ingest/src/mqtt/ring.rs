//! Messages of one connection by arrival. They may be finished in any order and are released in the order in which they
//! came, as MQTT demands of acknowledgements.

use std::collections::VecDeque;

/// Names one message of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    connection: u64,
    number: u64,
}

/// At most as long as the queue and the pipeline's batch together; of a broker that keeps to it, the receive maximum.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The connection epoch. Tickets of older ones mean nothing any more: the same packet id is another message now.
    connection: u64,
    /// Number of the message at the front.
    first: u64,
    slots: VecDeque<Slot>,
}

#[derive(Debug)]
struct Slot {
    packet: u16,
    finished: bool,
}

impl Ring {
    /// A message arrived.
    pub(super) fn push(&mut self, packet: u16) -> Ticket {
        let number = self.first + self.slots.len() as u64;
        self.slots.push_back(Slot {
            packet,
            finished: false,
        });
        Ticket {
            connection: self.connection,
            number,
        }
    }

    /// A message is finished.
    pub(super) fn finish(&mut self, ticket: Ticket) {
        if ticket.connection != self.connection {
            return;
        }
        let place = ticket
            .number
            .checked_sub(self.first)
            .and_then(|place| usize::try_from(place).ok());
        if let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) {
            slot.finished = true;
        }
    }

    /// The packet id of the front, if that is finished: it may be acknowledged now, then [`Ring::pop`]ped.
    pub(super) fn ready(&self) -> Option<u16> {
        self.slots
            .front()
            .filter(|slot| slot.finished)
            .map(|slot| slot.packet)
    }

    /// Forgets the front.
    pub(super) fn pop(&mut self) {
        if self.slots.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Another connection: everything before is forgotten.
    pub(super) fn renew(&mut self) {
        self.connection += 1;
        self.slots.clear();
        self.first = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests;

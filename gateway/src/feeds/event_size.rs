//! How much one event about all devices has.

use crate::client::outbox;

/// Maximum number of rows, of alarms or of transitions in one event.
pub(super) const MAX_ITEMS: usize = 100;
/// Maximum number of their bytes, unless a single one has more. An event with rows and one with alarms may wait for a client at the same
/// time: both fit into the smallest outbox, and leave a quarter of it to the rest.
pub(super) const MAX_BYTES: usize = outbox::MIN_BYTES * 3 / 8;

/// What an event has so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EventSize {
    items: usize,
    bytes: usize,
}

impl EventSize {
    /// Adds something of this many bytes. Returns `false` if it belongs into the next event.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        let has_room = self.items < MAX_ITEMS && self.bytes.saturating_add(bytes) <= MAX_BYTES;
        let fits = has_room || self.items == 0;
        if fits {
            self.items += 1;
            self.bytes = self.bytes.saturating_add(bytes);
        }
        fits
    }
}

/// The most bytes that a text of visible characters has as JSON, with its comma.
pub(super) fn text_bytes(text: &str) -> usize {
    2 * text.len() + 3
}

#[cfg(test)]
mod tests;

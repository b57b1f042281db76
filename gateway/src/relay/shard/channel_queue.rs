//! Channels that wait for something, in order, each at most once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::interest::Channel;
use crate::spare_capacity::shrink_map;

/// Bounded by the watched devices: a channel is removed with its device.
#[derive(Debug, Default)]
pub(super) struct ChannelQueue {
    waiting: BTreeMap<u64, Channel>,
    numbers: HashMap<Channel, u64>,
    last_number: u64,
}

impl ChannelQueue {
    /// Adds the channel at the end, unless it waits already.
    pub(super) fn push(&mut self, channel: &Channel) {
        if !self.numbers.contains_key(channel) {
            self.last_number += 1;
            self.waiting.insert(self.last_number, Arc::clone(channel));
            self.numbers.insert(Arc::clone(channel), self.last_number);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Channel> {
        let (_, channel) = self.waiting.pop_first()?;
        self.numbers.remove(&channel);
        Some(channel)
    }

    pub(super) fn remove(&mut self, channel: &Channel) {
        if let Some(number) = self.numbers.remove(channel) {
            self.waiting.remove(&number);
        }
    }

    /// Returns memory that it needed for a flood of channels. To be called regularly.
    pub(super) fn shrink(&mut self) {
        shrink_map(&mut self.numbers);
    }
}

#[cfg(test)]
mod tests;

//! The order in which devices are loaded, and the pauses while Redis is unavailable.

use std::time::Duration;

use shared::backoff::Backoff;
use tokio::time::Instant;

use super::channel_queue::ChannelQueue;
use super::retry;
use crate::interest::Channel;

/// Maximum number of loads at a time, so that a replica that reconnected catches up without flooding Redis.
const MAX_LOADS: usize = 64;

/// The devices that wait for a load, each at most once. Bounded by the watched devices.
#[derive(Debug)]
pub(super) struct LoadQueue {
    waiting: ChannelQueue,
    under_way: usize,
    last_id: u64,
    backoff: Backoff,
    /// No load begins before this, because Redis was unavailable.
    paused_until: Option<Instant>,
}

impl LoadQueue {
    pub(super) fn new() -> Self {
        Self {
            waiting: ChannelQueue::default(),
            under_way: 0,
            last_id: 0,
            backoff: retry::backoff(),
            paused_until: None,
        }
    }

    pub(super) fn push(&mut self, channel: &Channel) {
        self.waiting.push(channel);
    }

    pub(super) fn remove(&mut self, channel: &Channel) {
        self.waiting.remove(channel);
    }

    /// Returns memory that it needed for a flood of devices. To be called regularly.
    pub(super) fn shrink(&mut self) {
        self.waiting.shrink();
    }

    /// Takes the device whose load may begin now.
    pub(super) fn pop(&mut self) -> Option<Channel> {
        if self.under_way >= MAX_LOADS || self.paused_until.is_some() {
            return None;
        }
        self.waiting.pop()
    }

    /// Counts a load that begins, and returns its id.
    pub(super) fn begin(&mut self) -> u64 {
        self.under_way += 1;
        self.last_id += 1;
        self.last_id
    }

    /// Counts a load that ended, whether it succeeded or not.
    pub(super) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Resets the backoff after a load that succeeded.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff.reset();
    }

    /// Returns how long to wait before the next load of a device, after one failed for a reason that only concerns the
    /// device.
    pub(super) fn device_pause(&mut self) -> Duration {
        self.backoff.pause()
    }

    /// Pauses all loads after one failed because Redis is unavailable.
    pub(super) fn pause(&mut self) {
        if self.paused_until.is_none() {
            self.paused_until = Some(Instant::now() + self.backoff.pause());
        }
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    pub(super) fn resume(&mut self) {
        self.paused_until = None;
    }
}

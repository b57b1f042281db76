//! Subscribes a shard's channels in Redis, and ends subscriptions that are no longer needed.

use shared::backoff::Backoff;
use tokio::time::Instant;

use super::Shard;
use super::awaited_answers::{ChangeAnswer, ChangeError, SubscriptionChange};
use super::link::LostReason;
use super::retry;
use crate::relay::device::WatchedDevice;

/// The pause after Redis did not confirm a change of subscriptions.
#[derive(Debug)]
pub(super) struct ChangesPause {
    backoff: Backoff,
    until: Option<Instant>,
}

impl ChangesPause {
    pub(super) fn new() -> Self {
        Self {
            backoff: retry::backoff(),
            until: None,
        }
    }

    fn begin(&mut self) {
        if self.until.is_none() {
            self.until = Some(Instant::now() + self.backoff.pause());
        }
    }

    /// Ends the pause; the next one is not shorter.
    pub(super) fn end(&mut self) {
        self.until = None;
    }

    pub(super) fn reset(&mut self) {
        self.until = None;
        self.backoff.reset();
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

impl Shard {
    /// Requests the changes of subscriptions that may be requested now.
    pub(super) fn begin_changes(&mut self) {
        if self.changes_pause.until().is_some() {
            return;
        }
        let Some(open) = self.link.open_mut() else {
            return;
        };
        while let Some(channels) = self.interest.begin_subscribing() {
            open.request(SubscriptionChange::Subscribe, channels);
        }
        while let Some(channels) = self.interest.begin_leaving(std::time::Instant::now()) {
            open.request(SubscriptionChange::Unsubscribe, channels);
        }
    }

    /// Handles the answer to a chunk.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(super) fn finish_change(&mut self, answer: ChangeAnswer) -> Result<(), LostReason> {
        let ChangeAnswer {
            change,
            confirmed,
            failed,
            error,
        } = answer;
        let was_late = error == Some(ChangeError::Late);
        match change {
            SubscriptionChange::Subscribe => {
                // Events published from now on arrive. Those published before must be loaded.
                for channel in self
                    .interest
                    .finish_subscribing(confirmed, failed, was_late)
                {
                    if let Some(device) = self.devices.get_mut(&channel) {
                        device.assume_gap();
                    }
                    self.load_if_needed(&channel);
                }
            }
            SubscriptionChange::Unsubscribe => self.interest.finish_leaving(&confirmed, failed),
        }
        match error {
            None => {
                self.changes_pause.reset();
                Ok(())
            }
            Some(error) => self.handle_failed_change(&error),
        }
    }

    /// Tries again later on the same connection, so that what is confirmed stays confirmed. Gives the connection up only if it is
    /// of no more use.
    fn handle_failed_change(&mut self, error: &ChangeError) -> Result<(), LostReason> {
        self.fan_out.metrics.subscriptions_failed.increment();
        if let Some(suppressed) = self.unconfirmed.allow(self.fan_out.clock.now()) {
            tracing::warn!(
                %error,
                held_back = suppressed,
                "Redis did not confirm subscriptions, trying again"
            );
        }
        if error.is_elsewhere() {
            return Err(LostReason::Moved);
        }
        self.changes_pause.begin();
        Ok(())
    }

    pub(super) fn lose_subscriptions(&mut self) {
        for device in self.devices.values_mut() {
            device.lose_subscription();
        }
        self.store_counts();
        let devices = &self.devices;
        self.interest.lose_all(|channel| {
            let device = devices.get(channel);
            device.is_some_and(WatchedDevice::may_have_alarms)
        });
    }
}

//! Subscribes a shard's channels in Redis, and ends subscriptions that are no longer needed.

use std::time::Duration;

use redis::RedisError;
use shared::backoff::Backoff;
use shared::error_chain::error_chain;
use tokio::time::Instant;

use super::{Completed, Shard};
use crate::interest::Channel;
use crate::relay::device::WatchedDevice;
use crate::relay::subscriber::{ChangeAnswer, SubscriptionChange, change_subscriptions};

/// The pause after Redis did not confirm a change of subscriptions.
#[derive(Debug)]
pub(super) struct ChangesPause {
    backoff: Backoff,
    until: Option<Instant>,
}

impl ChangesPause {
    pub(super) fn new() -> Self {
        Self {
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
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

    fn reset(&mut self) {
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
        if self.connection.is_none() || self.changes_pause.until().is_some() {
            return;
        }
        while let Some(channels) = self.interest.begin_subscribing() {
            self.change(SubscriptionChange::Subscribe, channels);
        }
        while let Some(channels) = self.interest.begin_leaving(std::time::Instant::now()) {
            self.change(SubscriptionChange::Unsubscribe, channels);
        }
    }

    fn change(&mut self, change: SubscriptionChange, channels: Vec<Channel>) {
        let Some(connection) = self.connection.clone() else {
            return;
        };
        self.work.push(Box::pin(async move {
            let answer = change_subscriptions(change, channels, connection.connection).await;
            Completed::SubscriptionChange {
                generation: connection.generation,
                change,
                answer,
            }
        }));
    }

    pub(super) fn finish_change(
        &mut self,
        generation: u64,
        change: SubscriptionChange,
        answer: ChangeAnswer,
    ) {
        let current = self.connection.as_ref();
        if current.map(|connection| connection.generation) != Some(generation) {
            // Requested on a connection that was lost: everything was requested again since.
            return;
        }
        let ChangeAnswer {
            confirmed,
            failed,
            error,
        } = answer;
        let was_late = error.as_ref().is_some_and(RedisError::is_timeout);
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
            None => self.changes_pause.reset(),
            Some(error) => self.handle_failed_change(&error),
        }
    }

    /// Tries again later on the same connection, so that what is confirmed stays confirmed. Gives the connection up only if it is
    /// of no more use; then the subscriber task opens another one.
    fn handle_failed_change(&mut self, error: &RedisError) {
        self.fan_out.metrics.subscriptions_failed.increment();
        if let Some(suppressed) = self.unconfirmed.allow(self.fan_out.clock.now()) {
            let error = error_chain(error);
            tracing::warn!(
                error,
                held_back = suppressed,
                "Redis did not confirm subscriptions, trying again"
            );
        }
        let is_elsewhere = matches!(
            error.code(),
            Some("MOVED" | "ASK" | "CLUSTERDOWN" | "MASTERDOWN")
        );
        if error.is_timeout() || (error.code().is_some() && !is_elsewhere) {
            self.changes_pause.begin();
        } else if let Some(connection) = self.connection.take() {
            connection.lost.cancel();
            self.lose_subscriptions();
        }
    }

    pub(super) fn use_new_connection(&mut self) {
        self.connection
            .clone_from(&self.inputs.connections.borrow_and_update());
        self.changes_pause.reset();
        self.lose_subscriptions();
        self.loads.resume();
    }

    fn lose_subscriptions(&mut self) {
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

//! Handles what arrives on the shard's connection to Redis, and gives the connection up when it is of no more use.

use std::sync::Arc;
use std::time::Instant;

use shared::error_chain::error_chain;
use shared::keys::CANARY_CHANNEL;
use shared::resp::Value;

use super::awaited_answers::{SubscriptionChange, Unexpected};
use super::link::{LinkEvent, LostReason, OpenLink};
use super::{LARGE_FAN_OUT, Shard};
use crate::replay::PublishedEvent;

/// So many values are handled in a row.
const VALUES_IN_A_ROW: usize = 128;

impl Shard {
    /// Handles what the connection is ready for. Returns the number of clients that got something.
    pub(super) fn handle_link(&mut self, event: LinkEvent) -> usize {
        match event {
            LinkEvent::Opened(opened) => {
                self.link.begin(opened);
                self.counts[self.number].record_connected(true);
                self.changes_pause.reset();
                self.loads.resume();
                self.observe();
            }
            LinkEvent::Arrived => {
                let Some(mut open) = self.link.take() else {
                    return 0;
                };
                let handled = self.handle_values(&mut open);
                match handled {
                    Ok(reached) => {
                        self.link.put_back(open);
                        return reached;
                    }
                    Err(reason) => self.lose_link(&reason, &open),
                }
            }
            LinkEvent::Check => {
                if let Some(mut open) = self.link.take() {
                    match self.check(&mut open) {
                        Ok(()) => self.link.put_back(open),
                        Err(reason) => self.lose_link(&reason, &open),
                    }
                }
            }
            LinkEvent::Lost(reason) => {
                if let Some(open) = self.link.take() {
                    self.lose_link(&reason, &open);
                }
            }
        }
        0
    }

    /// Handles values that have arrived. Returns the number of clients that got something.
    fn handle_values(&mut self, open: &mut OpenLink) -> Result<usize, LostReason> {
        let mut reached = 0;
        for _ in 0..VALUES_IN_A_ROW {
            let value = open.connection.next_value();
            let value = value.map_err(|error| LostReason::Unreadable(error.to_string()))?;
            let Some(value) = value else {
                open.has_values = false;
                self.skip_if_necessary(open);
                break;
            };
            let answered = match value {
                Value::Message { channel, .. } if channel == CANARY_CHANNEL.as_bytes() => {
                    open.record_canary();
                    continue;
                }
                Value::Message { channel, payload } => {
                    if !self.is_skipping {
                        reached += self.receive(channel, payload);
                        if reached > LARGE_FAN_OUT {
                            break;
                        }
                    }
                    continue;
                }
                Value::Subscribed(channel) => {
                    let change = SubscriptionChange::Subscribe;
                    open.awaited.confirm(change, channel)
                }
                Value::Unsubscribed(channel) => {
                    let change = SubscriptionChange::Unsubscribe;
                    open.awaited.confirm(change, channel)
                }
                Value::Refused(text) => open.awaited.refuse(text),
                Value::Answer => open.awaited.answer().map(|()| None),
                Value::OtherPush => continue,
            };
            match answered {
                Ok(Some(answer)) => self.finish_change(answer)?,
                Ok(None) => {}
                Err(Unexpected) => {
                    let what = "an answer to no request, or it ended a subscription";
                    return Err(LostReason::Unreadable(what.to_owned()));
                }
            }
        }
        Ok(reached)
    }

    fn check(&mut self, open: &mut OpenLink) -> Result<(), LostReason> {
        let now = Instant::now();
        open.check(now)?;
        while let Some(late) = open.awaited.take_late(now) {
            self.finish_change(late)?;
        }
        Ok(())
    }

    /// Called when everything that was received is handled. Drops events from now on if the shard cannot keep up, until it has.
    /// Then it reads what it missed.
    fn skip_if_necessary(&mut self, open: &mut OpenLink) {
        let must_skip = open.must_skip(Instant::now());
        if must_skip && !self.is_skipping {
            self.fan_out.metrics.overruns.increment();
            tracing::warn!(
                shard = self.number,
                "events were published faster than they could be processed, catching up"
            );
        }
        let was_skipping = std::mem::replace(&mut self.is_skipping, must_skip);
        if was_skipping && !must_skip {
            self.assume_gaps();
        }
    }

    /// Gives up the connection. Every subscription ends with it.
    fn lose_link(&mut self, reason: &LostReason, open: &OpenLink) {
        let counts = &self.fan_out.metrics.subscriber_lost;
        self.link.lose(reason, open.since, counts);
        self.is_skipping = false;
        self.changes_pause.reset();
        self.lose_subscriptions();
        self.loads.resume();
        self.counts[self.number].record_connected(false);
    }

    /// Passes a published event to its device. Returns the number of clients that get it.
    fn receive(&mut self, channel: &[u8], payload: &[u8]) -> usize {
        // We subscribe only to channels with UTF-8 names.
        let device = std::str::from_utf8(channel).ok();
        let Some(device) = device.and_then(|channel| self.devices.get_mut(channel)) else {
            return 0;
        };
        let reached = if self.fan_out.broadcast_all {
            self.fan_out.clients.count()
        } else {
            device.member_count()
        };
        self.fan_out.metrics.events.increment();
        match PublishedEvent::parse(payload) {
            Ok(event) => device.receive(&Arc::new(event), &self.fan_out),
            Err(error) => {
                self.fan_out.metrics.unreadable.increment();
                let now = self.fan_out.clock.now();
                if let Some(suppressed) = self.unreadable_events.allow(now) {
                    self.fan_out.spans.record_unreadable(device.device());
                    let channel = String::from_utf8_lossy(channel);
                    let error = error_chain(&error);
                    tracing::warn!(error, %channel, held_back = suppressed, "cannot read a published event");
                }
                device.assume_gap();
            }
        }
        if device.needs_load() {
            let channel = std::str::from_utf8(channel).ok();
            let known = channel.and_then(|channel| self.devices.get_key_value(channel));
            if let Some(channel) = known.map(|(channel, _)| Arc::clone(channel)) {
                self.load_if_needed(&channel);
            }
        }
        reached
    }

    /// Uses what was observed with other connections. A new epoch means that Redis may have lost data, perhaps without any other
    /// sign.
    pub(super) fn observe(&mut self) {
        let observed = self.inputs.observations.borrow_and_update().clone();
        let epochs = Arc::clone(&observed.epochs);
        let before = std::mem::replace(&mut self.epochs, epochs);
        if !before.is_empty() && before != self.epochs {
            self.assume_gaps();
        }
        if let Some(mut open) = self.link.take() {
            match open.observe(&observed, Instant::now()) {
                Ok(()) => self.link.put_back(open),
                Err(reason) => self.lose_link(&reason, &open),
            }
        }
    }
}

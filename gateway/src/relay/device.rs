//! One watched device: its members, the clients that are about to join, and the members' view of it.
//!
//! Every member gets every event exactly once and in order, because the member's own position says which event is next. At
//! most one load of the device is under way. It answers the subscriptions that arrived before it began, and does what
//! [`Repair`] says.
//!
//! | `Repair` from | to | when |
//! |---|---|---|
//! | `None` | `Freshness` | the device may have gone stale |
//! | any | `MissedEvents` | an event was missed, or may have been |
//! | any | `None` | a load begins, which does the repair |
//! | any | `Freshness` or `MissedEvents` | that load failed: its repair is necessary again |
//!
//! While `Repair` is `MissedEvents`, and during a load that sends missed events, members get no live events.

mod answer_cache;
mod load;
mod member_view;
mod members;

use std::sync::Arc;

use shared::clock::Time;
use shared::device::DeviceId;
use shared::position::Position;
use shared::store::Snapshot;

use super::acks;
use super::command::Join;
use super::fan_out::FanOutContext;
use super::spans;
use crate::client::{Client, ClientId};
use crate::replay::{self, CatchUp, PublishedEvent};
use answer_cache::AnswerCache;
use load::{Joiner, Load};
use member_view::{Correction, MemberView};
use members::{Members, is_at_or_before};

/// Whether the device is in the device list. Only a listed device has a channel in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// Not looked up yet.
    Unknown,
    /// It has sent nothing yet, or does not exist. Nothing is published about it.
    Unlisted,
    /// It is listed, or was when it was looked up.
    Listed,
}

#[derive(Debug)]
pub(super) struct WatchedDevice {
    device: DeviceId,
    pub(super) listing: Listing,
    /// The clients that get its events. None of them is behind `head`.
    members: Members,
    /// Subscriptions that wait for the next load. Bounded by the connected clients, each of which waits for at most
    /// `--subscriptions-per-client` answers: those of clients that are gone are removed within a second.
    joiners: Vec<Joiner>,
    load: Option<Load>,
    /// The last position received live; `None` until the first load.
    head: Option<Position>,
    repair: Repair,
    view: MemberView,
    /// Its subscription in Redis was lost, and the events missed since are not sent yet.
    is_behind: bool,
    /// An alarm may be open: the state was never loaded, one was when it was loaded last, or alarms changed since.
    may_have_alarms: bool,
    /// The stored state could not be read last time, so it is unknown whether it is newer than the members' view.
    is_unreadable: bool,
    pin: Option<Pin>,
}

/// The task of the next load for the members. Later states include the earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Repair {
    /// Nothing.
    #[default]
    None,
    /// Check whether the device has gone stale.
    Freshness,
    /// Send the events that members missed.
    MissedEvents,
}

/// Marks a device that is watched for every client, even without a subscription.
#[derive(Debug)]
struct Pin {
    /// Set until the first load: the readings since then must be broadcast too.
    readings_since: Option<Time>,
}

impl WatchedDevice {
    pub(super) fn new(device: DeviceId, listing: Listing) -> Self {
        Self {
            listing,
            members: Members::new(device.clone()),
            device,
            joiners: Vec::new(),
            load: None,
            head: None,
            repair: Repair::None,
            view: MemberView::default(),
            is_behind: false,
            may_have_alarms: true,
            is_unreadable: false,
            pin: None,
        }
    }

    pub(super) fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Returns the number of clients that get the device's events.
    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Returns whether an alarm of the device may be open. In doubt it is `true`.
    pub(super) fn may_have_alarms(&self) -> bool {
        self.may_have_alarms
    }

    /// Adds a subscription. A member that subscribes again gets no events until it is answered.
    pub(super) fn join(&mut self, join: Join) {
        self.members.remove(join.client.id());
        self.joiners.push(Joiner::new(join));
    }

    /// Removes and returns the subscriptions that wait for the next load and whose watch was refused.
    pub(super) fn take_refused(&mut self) -> Vec<Join> {
        let is_refused = |joiner: &mut Joiner| joiner.join.watch.refused().is_some();
        let refused = self.joiners.extract_if(.., is_refused);
        refused.map(|joiner| joiner.join).collect()
    }

    /// Watches the device for every client from now on. Unless it was watched before, the readings published since `since`
    /// are broadcast too.
    pub(super) fn pin(&mut self, since: Option<Time>) {
        let is_new = self.head.is_none();
        if is_new {
            self.abandon_load();
            self.require(Repair::Freshness);
        }
        self.pin = Some(Pin {
            readings_since: since.filter(|_| is_new),
        });
    }

    /// Removes a client that unsubscribed. If it expects a reply to its subscription, the reply is sent nevertheless.
    pub(super) fn leave(&mut self, client: &Client) {
        self.members.remove(client.id());
        client.leave_room(room(&self.device));
        let is_kept = |joiner: &mut Joiner| {
            let is_its = joiner.belongs_to(client.id());
            joiner.has_left |= is_its;
            !is_its || joiner.join.ack.is_some()
        };
        self.joiners.retain_mut(is_kept);
        if let Some(load) = &mut self.load {
            load.joiners.retain_mut(is_kept);
        }
    }

    /// Removes a client that disconnected.
    pub(super) fn remove(&mut self, client: ClientId) {
        self.members.remove(client);
        self.joiners.retain(|joiner| !joiner.belongs_to(client));
        if let Some(load) = &mut self.load {
            load.joiners.retain(|joiner| !joiner.belongs_to(client));
        }
    }

    /// Removes subscriptions of clients that are gone. A client that unsubscribed before it disconnected is not reported to this
    /// device, but its subscription was to be answered still.
    pub(super) fn remove_closed_joiners(&mut self) {
        let is_open = |joiner: &Joiner| !joiner.join.client.closed().is_cancelled();
        self.joiners.retain(is_open);
        if let Some(load) = &mut self.load {
            load.joiners.retain(is_open);
        }
    }

    /// Returns whether no client watches the device or waits for it.
    pub(super) fn is_unused(&self) -> bool {
        let has_joiners = |load: &Load| !load.joiners.is_empty();
        let is_awaited = !self.joiners.is_empty() || self.load.as_ref().is_some_and(has_joiners);
        !self.is_served() && !is_awaited
    }

    /// Returns whether any client gets the device's events.
    fn is_served(&self) -> bool {
        self.pin.is_some() || !self.members.is_empty()
    }

    /// Records that the subscription in Redis was lost: from now on events are missed.
    pub(super) fn lose_subscription(&mut self) {
        if self.listing == Listing::Listed {
            // Before the first load no client was sent anything that could become old.
            self.is_behind = self.head.is_some() || self.load.is_some();
            self.assume_gap();
        }
    }

    /// Returns whether clients may lack events because the subscription in Redis was lost.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind && self.is_served()
    }

    /// Returns whether a load must begin.
    pub(super) fn needs_load(&self) -> bool {
        let for_served = self.is_served() && self.repair != Repair::None;
        self.load.is_none() && (!self.joiners.is_empty() || for_served)
    }

    /// Assumes that events were missed.
    pub(super) fn assume_gap(&mut self) {
        self.require(Repair::MissedEvents);
    }

    fn require(&mut self, repair: Repair) {
        self.repair = self.repair.max(repair);
    }

    /// Checks the time limits; called regularly. `can_read`: Redis answers and the subscription is confirmed, so a load can
    /// check whether an overdue device is stale. Otherwise the clock alone decides.
    pub(super) fn check_time(&mut self, now: Time, can_read: bool) {
        self.members.shrink();
        if self.view.is_overdue(now) {
            self.require(Repair::Freshness);
        }
        if (!can_read || self.is_unreadable)
            && let Some(data) = self.view.go_stale_by_clock(now)
        {
            self.members.send_data(&data);
        }
    }

    /// Begins a load. Returns the `seq` after which events are needed; `None` if the state is enough.
    pub(super) fn begin_load(&mut self, id: u64) -> Option<u64> {
        let joiners = std::mem::take(&mut self.joiners);
        let repair = std::mem::take(&mut self.repair);
        // Even if there is no member now: `head` must not stay behind, and missed readings may have to be broadcast.
        let is_repair = repair == Repair::MissedEvents;
        let load = self.load.insert(Load::new(id, joiners, is_repair));
        let for_joiners = load.joiners.iter().filter_map(|joiner| joiner.join.since);
        let for_members = self.members.positions().chain(self.head);
        let for_members = for_members.filter(|_| is_repair);
        let seqs = for_joiners.chain(for_members).map(|position| position.seq);
        let for_pin = self.pin.as_ref().and_then(|pin| pin.readings_since);
        seqs.chain(for_pin.map(|_| 0)).min()
    }

    /// Handles a load that failed: its joiners wait for the next load. `is_unreadable`: Redis answered, but the stored data
    /// of the device cannot be read.
    pub(super) fn fail_load(&mut self, id: u64, is_unreadable: bool) {
        if self.load.as_ref().is_none_or(|load| load.id != id) {
            return;
        }
        self.is_unreadable |= is_unreadable;
        if is_unreadable {
            // That this one device cannot be read is not a fault of the data path.
            self.clear_behind_if_confirmed();
        }
        self.abandon_load();
    }

    /// Gives up the load under way. Its joiners wait for the next load, which also does its repair.
    fn abandon_load(&mut self) {
        if let Some(load) = self.load.take() {
            let later = std::mem::replace(&mut self.joiners, load.joiners);
            self.joiners.extend(later);
            self.require(if load.is_repair {
                Repair::MissedEvents
            } else {
                Repair::Freshness
            });
        }
    }

    /// Called when a load ends that began after the subscription was confirmed. If another gap is to be repaired, the
    /// subscription may have been lost again during the load.
    fn clear_behind_if_confirmed(&mut self) {
        if self.repair != Repair::MissedEvents {
            self.is_behind = false;
        }
    }

    /// Sends members the missed events, answers the subscriptions, and continues with the events published during the load.
    pub(super) fn finish_load(
        &mut self,
        id: u64,
        snapshot: &Snapshot,
        now: Time,
        fan_out: &FanOutContext,
    ) {
        let Some(load) = self.load.take_if(|load| load.id == id) else {
            return;
        };
        self.is_unreadable = false;
        if load.is_repair {
            self.clear_behind_if_confirmed();
            self.catch_up_members(snapshot, now, fan_out);
        }
        if load.is_repair || self.head.is_none() {
            if fan_out.broadcast_all {
                self.broadcast_missed(snapshot, fan_out);
            }
            self.head = Some(replay::position(snapshot));
        }
        let state = snapshot.state.as_ref();
        let has_alarms = state.is_some_and(|state| !state.alarms.is_empty());
        let may_have_changed =
            load.has_overflowed || load.kept.iter().any(|event| event.has_alarm_changes());
        self.may_have_alarms = has_alarms || may_have_changed;
        self.correct_view(snapshot, now);
        self.answer(load.joiners, snapshot, now, fan_out);
        for event in &load.kept {
            let is_behind = |head| is_at_or_before(event.position, head);
            if self.head.is_some_and(is_behind) {
                // Members have it already. Clients that just joined may not.
                self.send_event(event, fan_out, false);
            } else {
                self.receive(event, fan_out);
            }
        }
        if load.has_overflowed {
            self.require(Repair::MissedEvents);
        }
    }

    /// Receives a published event.
    pub(super) fn receive(&mut self, event: &Arc<PublishedEvent>, fan_out: &FanOutContext) {
        self.may_have_alarms |= event.has_alarm_changes();
        if let Some(load) = &mut self.load {
            load.keep(event);
            if load.is_repair {
                return;
            }
        }
        let Some(head) = self.head else {
            return;
        };
        if self.repair == Repair::MissedEvents || is_at_or_before(event.position, head) {
            return;
        }
        if !event.follows(head) {
            self.require(Repair::MissedEvents);
            return;
        }
        self.head = Some(event.position);
        let span = spans::begin(event, &self.device).entered();
        self.send_event(event, fan_out, fan_out.broadcast_all);
        drop(span);
        let now = fan_out.clock.now();
        fan_out.metrics.record_latency(event.at, now);
        fan_out.spans.record_if_late(event, &self.device, now);
        if event.retired {
            self.show_removal();
        }
        if self.view.record_event(event) {
            self.require(Repair::Freshness);
        }
    }

    /// Sends an event to the members and, `with_broadcast`, its reading to every client.
    fn send_event(
        &mut self,
        event: &PublishedEvent,
        fan_out: &FanOutContext,
        with_broadcast: bool,
    ) {
        let broadcast = event.data.as_ref().filter(|_| with_broadcast);
        let delivery = self.members.send_event(event, broadcast.is_some());
        let shared = fan_out.clients.shared();
        shared.count_at_once(event, delivery.at_once);
        if delivery.has_gap {
            self.require(Repair::MissedEvents);
        }
        if let Some(data) = broadcast {
            let clients = fan_out.clients.all().into_iter();
            for client in clients.filter(|client| !delivery.reached.contains(&client.id())) {
                client.broadcast(&self.device, data);
            }
        }
    }

    /// Sends every client the readings between the last position received live and the loaded one.
    fn broadcast_missed(&mut self, snapshot: &Snapshot, fan_out: &FanOutContext) {
        let readings_since = self.pin.as_mut().and_then(|pin| pin.readings_since.take());
        let readings = match (self.head, readings_since) {
            (Some(head), _) => replay::readings(head, snapshot, None),
            (None, Some(_)) => {
                let start = Position {
                    epoch: snapshot.epoch,
                    seq: snapshot.born_after,
                };
                replay::readings(start, snapshot, readings_since)
            }
            (None, None) => return,
        };
        for data in readings {
            for client in fan_out.clients.all() {
                client.broadcast(&self.device, &data);
            }
        }
    }

    /// Sends every member the events that it missed.
    fn catch_up_members(&mut self, snapshot: &Snapshot, now: Time, fan_out: &FanOutContext) {
        let answers = self.members.catch_up(snapshot, now);
        if answers.iter().all(|answer| answer.packets.is_empty()) {
            return;
        }
        for answer in answers.iter() {
            let counts = &fan_out.metrics.replica_recoveries;
            counts.increment(answer.outcome.code());
        }
        self.record_missed(snapshot, now, fan_out);
        let recovered = answers.iter().all(CatchUp::is_recovered);
        // At `debug`, because an outage affects every device.
        tracing::debug!(device.id = %self.device.for_log(), recovered, "caught up with missed events");
        self.view.record_catch_up();
    }

    /// Records spans and latencies of the events that this replica missed.
    fn record_missed(&self, snapshot: &Snapshot, now: Time, fan_out: &FanOutContext) {
        let Some(head) = self.head else {
            return;
        };
        match (replay::missed(head, snapshot), &snapshot.state) {
            (Some(missed), _) => {
                for event in &missed {
                    drop(spans::begin(event, &self.device));
                    fan_out.spans.record_if_late(event, &self.device, now);
                    fan_out.metrics.record_latency(event.at, now);
                }
            }
            // The stream has a gap: only the newest event is known.
            (None, Some(state)) => {
                fan_out.metrics.record_latency(state.memory.decided_at, now);
            }
            (None, None) => {}
        }
    }

    /// Compares the members' view with the stored state, and sends a correction if necessary.
    fn correct_view(&mut self, snapshot: &Snapshot, now: Time) {
        let is_in_step = self.head == Some(replay::position(snapshot));
        if snapshot.state.is_none() {
            if is_in_step {
                self.show_removal();
            } else if self.view.has_data() {
                // Members see a device that is no longer stored: the event of its removal was missed, or is on its way.
                self.require(Repair::MissedEvents);
            }
            return;
        }
        match self.view.compare(snapshot, now, is_in_step) {
            Correction::None => {}
            Correction::Send(data) => self.members.send_data(&data),
            Correction::CompareAgain => self.require(Repair::Freshness),
        }
    }

    /// Sends members the last reading of a device that was removed, marked as stale.
    fn show_removal(&mut self) {
        if let Some(data) = self.view.record_removal() {
            self.members.send_data(&data);
        }
    }

    /// Answers subscriptions and makes the clients members.
    fn answer(
        &mut self,
        joiners: Vec<Joiner>,
        snapshot: &Snapshot,
        now: Time,
        fan_out: &FanOutContext,
    ) {
        let mut answers: AnswerCache<Option<Position>> = AnswerCache::new();
        for Joiner { join, has_left } in joiners {
            let client = &join.client;
            if client.closed().is_cancelled() {
                continue;
            }
            let answer = answers.get(join.since, || {
                replay::for_subscription(&self.device, join.since, snapshot, now)
            });
            if join.since.is_some() {
                let counts = &fan_out.metrics.client_recoveries;
                counts.increment(answer.outcome.code());
            }
            client.send_complete(&self.device, answer.packets());
            if let Some(ack) = join.ack {
                let reply = acks::subscribed(&self.device, answer);
                client.reply(Some(&self.device), ack, reply);
            }
            // A client that subscribed again during the load gets no events until that subscription is answered.
            let waits_again = self
                .joiners
                .iter()
                .any(|joiner| joiner.belongs_to(client.id()));
            if !has_left && !waits_again {
                client.join_room(room(&self.device));
                self.members.insert(client, answer.position, join.changes);
            }
        }
    }
}

/// Returns the name of a device's Socket.IO room.
fn room(device: &DeviceId) -> String {
    format!("device:{device}")
}

#[cfg(test)]
mod tests;

//! One watched device: its members, those who join, and what was seen of it last.
//!
//! A member gets every event exactly once and in order, because its own position says which one is next. At most one
//! load is under way; it answers those who joined before it began and repairs what the members missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use shared::alarm::Kind;
use shared::clock::{Clock, Time};
use shared::device::DeviceId;
use shared::event::PayloadKind;

use shared::position::{Epoch, Position};
use shared::store::Snapshot;

use super::Join;
use super::spans::Spans;
use crate::lanes::DATA;
use crate::replay::{self, Answer, Published};
use crate::socket::{Client, ClientId, Clients};

/// Events kept while a load is under way. Full: they are dropped, and the members catch up afterwards.
const MAX_KEPT: usize = 256;

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each asks for another piece of work, in any combination"
)]
pub(super) struct Watched {
    device: DeviceId,
    members: HashMap<ClientId, Member>,
    /// Those waiting for the next load.
    joiners: Vec<Joiner>,
    load: Option<Load>,
    /// The last position seen live; `None` until the first load.
    head: Option<Position>,
    shown: Shown,
    /// Something was missed: the members wait for a load.
    needs_repair: bool,
    /// What is stored of it cannot be read: nothing newer than what was told can be known.
    is_unreadable: bool,
    /// The device may have gone stale.
    needs_look: bool,
    pin: Option<Pin>,
    /// Stands in the shard's queue of loads.
    pub(super) is_queued: bool,
}

#[derive(Debug)]
struct Member {
    client: Arc<Client>,
    /// The last position sent to it; never behind the head.
    position: Position,
}

#[derive(Debug)]
struct Joiner {
    join: Join,
    /// It left before it was answered: it gets the answer it waits for, nothing after it.
    has_left: bool,
}

#[derive(Debug)]
struct Load {
    id: u64,
    joiners: Vec<Joiner>,
    is_repair: bool,
    /// What was published meanwhile.
    kept: Vec<Arc<Published>>,
    has_overflowed: bool,
}

/// Watched for everybody, whoever subscribes.
#[derive(Debug)]
struct Pin {
    /// Until the first load: everybody wants the readings since then, too.
    unheard_since: Option<Time>,
}

/// How fresh the members believe the device to be.
#[derive(Debug, Default)]
struct Shown {
    limit_ms: Option<i64>,
    fresh_until: Option<Time>,
    is_told_stale: bool,
    /// It was told so without Redis: members may have to be told that it was not.
    is_told_blindly: bool,
    /// Payload of the last `device:data`.
    last_data: Option<Arc<RawValue>>,
}

/// Who gets a live event besides the members.
pub(super) struct Outlet {
    pub(super) clients: Clients,
    pub(super) broadcast_all: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) spans: Spans,
}

impl Watched {
    pub(super) fn new(device: DeviceId) -> Self {
        Self {
            device,
            members: HashMap::new(),
            joiners: Vec::new(),
            load: None,
            head: None,
            shown: Shown::default(),
            needs_repair: false,
            is_unreadable: false,
            needs_look: false,
            pin: None,
            is_queued: false,
        }
    }

    pub(super) fn device(&self) -> &DeviceId {
        &self.device
    }

    /// How many get what is published.
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Takes in one that subscribes; a member that subscribes again gets nothing until it is answered.
    pub(super) fn join(&mut self, join: Join) {
        self.members.remove(&join.client.id());
        self.joiners.push(Joiner {
            join,
            has_left: false,
        });
    }

    /// From now on it is watched for everybody; also for what was published since then, if nobody watched it before.
    pub(super) fn pin(&mut self, since: Option<Time>) {
        self.needs_look |= self.head.is_none();
        self.pin = Some(Pin {
            unheard_since: since.filter(|_| self.head.is_none()),
        });
    }

    /// The client unsubscribed. What it still waits for an answer to is answered.
    pub(super) fn leave(&mut self, client: &Client) {
        self.members.remove(&client.id());
        client.leave_room(room(&self.device));
        let stays = |joiner: &mut Joiner| {
            let is_its = joiner.join.client.id() == client.id();
            joiner.has_left |= is_its;
            !is_its || joiner.join.ack.is_some()
        };
        self.joiners.retain_mut(stays);
        if let Some(load) = &mut self.load {
            load.joiners.retain_mut(stays);
        }
    }

    /// The client is gone.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.members.remove(&client);
        let is_other = |joiner: &Joiner| joiner.join.client.id() != client;
        self.joiners.retain(is_other);
        if let Some(load) = &mut self.load {
            load.joiners.retain(is_other);
        }
    }

    /// Nobody watches or waits.
    pub(super) fn is_unused(&self) -> bool {
        let loading = self
            .load
            .as_ref()
            .is_some_and(|load| !load.joiners.is_empty());
        !self.is_served() && self.joiners.is_empty() && !loading
    }

    /// Somebody gets what is published.
    fn is_served(&self) -> bool {
        self.pin.is_some() || !self.members.is_empty()
    }

    /// Whether a load must be begun.
    pub(super) fn needs_load(&self) -> bool {
        let for_served = self.is_served() && (self.needs_repair || self.needs_look);
        self.load.is_none() && (!self.joiners.is_empty() || for_served)
    }

    /// Something may have been missed.
    pub(super) fn suspect_gap(&mut self) {
        self.needs_repair = true;
    }

    /// Looks again if the members believe the device to be fresh for longer than they may.
    pub(super) fn judge(&mut self, now: Time) {
        let is_over = self.shown.fresh_until.is_some_and(|until| now > until);
        self.needs_look |= is_over && !self.shown.is_told_stale;
    }

    /// It was tried to read what is stored.
    pub(super) fn note_readable(&mut self, is_readable: bool) {
        self.is_unreadable = !is_readable;
    }

    pub(super) fn is_unreadable(&self) -> bool {
        self.is_unreadable
    }

    /// Tells the members what only the clock knows: nothing newer can be read now.
    pub(super) fn go_stale_blindly(&mut self, now: Time) {
        let is_over = self.shown.fresh_until.is_some_and(|until| now > until);
        if !is_over || self.shown.is_told_stale {
            return;
        }
        let Some(old_data) = self.shown.last_data.as_deref().and_then(replay::stale_copy) else {
            return;
        };
        for member in self.members.values() {
            member
                .client
                .send_complete(&self.device, [(DATA, &old_data)]);
        }
        self.shown.is_told_stale = true;
        self.shown.is_told_blindly = true;
    }

    /// Begins a load; answers with the number from which on events are wanted.
    pub(super) fn begin_load(&mut self, id: u64) -> Option<u64> {
        let load = Load {
            id,
            joiners: std::mem::take(&mut self.joiners),
            is_repair: std::mem::take(&mut self.needs_repair) && self.is_served(),
            kept: Vec::new(),
            has_overflowed: false,
        };
        self.needs_look = false;
        let joining = load.joiners.iter().filter_map(|joiner| joiner.join.since);
        let repaired = self.members.values().map(|member| member.position);
        let repaired = repaired.chain(self.head.filter(|_| self.pin.is_some()));
        let repaired = repaired.filter(|_| load.is_repair);
        let wanted = joining.chain(repaired).map(|position| position.seq);
        let unheard = self.pin.as_ref().and_then(|pin| pin.unheard_since);
        let since = wanted.chain(unheard.map(|_| 0)).min();
        self.load = Some(load);
        since
    }

    /// The load failed: everybody waits for the next one.
    pub(super) fn fail_load(&mut self, id: u64) {
        if let Some(load) = self.load.take_if(|load| load.id == id) {
            let later = std::mem::replace(&mut self.joiners, load.joiners);
            self.joiners.extend(later);
            self.needs_repair |= load.is_repair;
            self.needs_look = true;
        }
    }

    /// Answers those who joined, repairs what the members missed, and goes on with what was published meanwhile.
    pub(super) fn finish_load(&mut self, id: u64, snapshot: &Snapshot, now: Time, outlet: &Outlet) {
        let Some(load) = self.load.take_if(|load| load.id == id) else {
            return;
        };
        let at = replay::position(snapshot);
        if load.is_repair {
            self.repair(snapshot, now, outlet);
        }
        if load.is_repair || self.head.is_none() {
            if outlet.broadcast_all {
                self.broadcast_missed(snapshot, outlet);
            }
            self.head = Some(at);
        }
        self.look(snapshot, now);
        self.admit(load.joiners, snapshot, now, outlet);
        for event in &load.kept {
            if self
                .head
                .is_some_and(|head| is_at_or_before(event.position, head))
            {
                // The members have it; those who just joined may not.
                self.deliver(event, None);
            } else {
                self.take(event, outlet);
            }
        }
        self.needs_repair |= load.has_overflowed;
    }

    /// Takes what was published for the device.
    pub(super) fn take(&mut self, event: &Arc<Published>, outlet: &Outlet) {
        if let Some(load) = &mut self.load {
            load.keep(event);
            if load.is_repair {
                return;
            }
        }
        let Some(head) = self.head else {
            return;
        };
        let at = event.position;
        if self.needs_repair || is_at_or_before(at, head) {
            return;
        }
        if at.epoch != head.epoch || head.seq.checked_add(1) != Some(at.seq) {
            self.needs_repair = true;
            return;
        }
        self.head = Some(at);
        let _way = outlet.spans.begin(event, &self.device).entered();
        self.deliver(event, Some(outlet));
        let metrics = outlet.clients.metrics();
        metrics.event_reached(event.at, outlet.clock.now());
        if event.retired {
            self.show_gone();
        }
        self.needs_look |= self.shown.saw(event);
    }

    /// Sends an event to the members whose next one it is.
    fn deliver(&mut self, event: &Published, outlet: Option<&Outlet>) {
        let at = event.position;
        let broadcast = outlet.filter(|outlet| outlet.broadcast_all);
        let mut told = HashSet::new();
        for (id, member) in &mut self.members {
            if is_at_or_before(at, member.position) {
                continue;
            }
            if member.position.epoch != at.epoch
                || member.position.seq.checked_add(1) != Some(at.seq)
            {
                self.needs_repair = true;
                continue;
            }
            member.position = at;
            let is_broadcast = broadcast.is_some() && event.data.is_some();
            member
                .client
                .send_position(&self.device, event, is_broadcast);
            if is_broadcast {
                told.insert(*id);
            }
        }
        if let (Some(outlet), Some(data)) = (broadcast, &event.data) {
            let others = outlet.clients.all().into_iter();
            for client in others.filter(|client| !told.contains(&client.id())) {
                client.broadcast(&self.device, data);
            }
        }
    }

    /// Sends everybody the readings between the last position seen live and the one that was loaded.
    fn broadcast_missed(&mut self, snapshot: &Snapshot, outlet: &Outlet) {
        let unheard_since = self.pin.as_mut().and_then(|pin| pin.unheard_since.take());
        let readings = match (self.head, unheard_since) {
            (Some(head), _) => replay::readings(head, snapshot, None),
            (None, Some(_)) => {
                let start = Position {
                    epoch: snapshot.epoch,
                    seq: snapshot.born_after,
                };
                replay::readings(start, snapshot, unheard_since)
            }
            (None, None) => return,
        };
        for data in readings {
            for client in outlet.clients.all() {
                client.broadcast(&self.device, &data);
            }
        }
    }

    fn repair(&mut self, snapshot: &Snapshot, now: Time, outlet: &Outlet) {
        let mut answers: Vec<(Position, Answer)> = Vec::new();
        for member in self.members.values_mut() {
            let since = member.position;
            let answer = once(&mut answers, since, || {
                replay::catch_up(&self.device, since, snapshot, now)
            });
            member.client.send_complete(&self.device, answer.packets());
            // Of a device that is gone, whatever comes next is a fresh picture: the members stay where they were.
            if snapshot.state.is_some() || answer.recovered {
                member.position = answer.position;
            }
        }
        let packets: usize = answers.iter().map(|(_, answer)| answer.packets.len()).sum();
        if packets > 0 {
            let metrics = outlet.clients.metrics();
            for (_, answer) in &answers {
                metrics.replica_recoveries.increment(answer.outcome());
            }
            if let Some(head) = self.head {
                let missed = replay::missed(head, snapshot);
                for event in missed.iter().flatten() {
                    drop(outlet.spans.begin(event, &self.device));
                    metrics.event_reached(event.at, now);
                }
                // Where there is a hole, the newest is all that is known.
                if let (None, Some(state)) = (missed, &snapshot.state) {
                    metrics.event_reached(state.memory.decided_at, now);
                }
            }
            let recovered = answers.iter().all(|(_, answer)| answer.recovered);
            // No line each at `info`: after an outage it is every device there is.
            tracing::debug!(device.id = %self.device.for_log(), recovered, "caught up with missed events");
            self.shown.is_told_stale = false;
            self.shown.is_told_blindly = false;
        }
    }

    /// Tells the members once that the device went stale, unless an event has said so.
    fn look(&mut self, snapshot: &Snapshot, now: Time) {
        if snapshot.state.is_none() {
            if self.head == Some(replay::position(snapshot)) {
                self.show_gone();
            } else if self.shown.last_data.is_some() {
                // The members are told of one of which nothing is stored: what told its end was missed, or is on its way.
                self.needs_repair = true;
            }
            return;
        }
        self.shown.learn(snapshot);
        let Some(old_data) = replay::stale_data(snapshot, now) else {
            // Marked, since its position was told before; an event on its way tells more.
            if std::mem::take(&mut self.shown.is_told_blindly)
                && self.head == Some(replay::position(snapshot))
                && let Some(data) = replay::present_data(snapshot, PayloadKind::Snapshot)
            {
                for member in self.members.values() {
                    member.client.send_complete(&self.device, [(DATA, &data)]);
                }
            }
            self.shown.is_told_stale = false;
            return;
        };
        self.shown.is_told_blindly = false;
        if self.shown.is_told_stale {
            return;
        }
        // What was read may be ahead of what the members have: then the event on its way tells more.
        if self.head != Some(replay::position(snapshot)) {
            self.needs_look = true;
            return;
        }
        let state = snapshot.state.as_ref();
        let was_published = state.is_some_and(|state| state.alarm(Kind::DeviceOffline).is_some());
        if !was_published {
            for member in self.members.values() {
                member
                    .client
                    .send_complete(&self.device, [(DATA, &old_data)]);
            }
        }
        self.shown.is_told_stale = true;
    }

    /// There is no such device any more: what the members show of it is told once more as stale, and nothing is known
    /// of how fresh the next one will be.
    fn show_gone(&mut self) {
        let shown = std::mem::take(&mut self.shown);
        if shown.is_told_stale {
            return;
        }
        let Some(old_data) = shown.last_data.as_deref().and_then(replay::stale_copy) else {
            return;
        };
        for member in self.members.values() {
            member
                .client
                .send_complete(&self.device, [(DATA, &old_data)]);
        }
    }

    fn admit(&mut self, joiners: Vec<Joiner>, snapshot: &Snapshot, now: Time, outlet: &Outlet) {
        let mut answers: Vec<(Option<Position>, Answer)> = Vec::new();
        for Joiner { join, has_left } in joiners {
            let client = &join.client;
            if client.gone().is_cancelled() {
                continue;
            }
            let answer = once(&mut answers, join.since, || {
                replay::answer(&self.device, join.since, snapshot, now)
            });
            if join.since.is_some() {
                let counts = &outlet.clients.metrics().client_recoveries;
                counts.increment(answer.outcome());
            }
            client.send_complete(&self.device, answer.packets());
            if let Some(ack) = join.ack {
                client.answer(&self.device, ack, joined(&self.device, answer));
            }
            // One that asked again meanwhile gets nothing until that is answered.
            let asks_again = |joiner: &Joiner| joiner.join.client.id() == client.id();
            if !has_left && !self.joiners.iter().any(asks_again) {
                client.join_room(room(&self.device));
                let member = Member {
                    client: Arc::clone(client),
                    position: answer.position,
                };
                self.members.insert(client.id(), member);
            }
        }
    }
}

impl Load {
    fn keep(&mut self, event: &Arc<Published>) {
        if self.kept.len() < MAX_KEPT {
            self.kept.push(Arc::clone(event));
        } else {
            self.has_overflowed = true;
        }
    }
}

impl Shown {
    fn learn(&mut self, snapshot: &Snapshot) {
        let Some(state) = &snapshot.state else {
            return;
        };
        let limit = state.memory.silence_limit_ms;
        self.limit_ms = Some(limit);
        self.last_data = replay::present_data(snapshot, PayloadKind::Live);
        self.fresh_until = snapshot.last_message.map(|last| after(last, limit));
    }

    /// A published message proves the device alive. Answers whether its limit must be looked up first. An event of an
    /// acknowledgement or a deadline proves nothing, whatever it carries.
    fn saw(&mut self, event: &Published) -> bool {
        if let Some(data) = &event.data {
            self.last_data = Some(Arc::clone(data));
        }
        if !event.alive {
            return false;
        }
        self.is_told_stale = false;
        self.is_told_blindly = false;
        self.fresh_until = self.limit_ms.map(|limit| after(event.at, limit));
        self.fresh_until.is_none()
    }
}

fn after(time: Time, millis: i64) -> Time {
    Time::from_millis(time.as_millis().saturating_add(millis))
}

fn is_at_or_before(at: Position, other: Position) -> bool {
    at.epoch == other.epoch && at.seq <= other.seq
}

/// The answer for this position, made once for all who are there.
fn once<P: Copy + PartialEq>(
    answers: &mut Vec<(P, Answer)>,
    position: P,
    make: impl FnOnce() -> Answer,
) -> &Answer {
    let index = answers
        .iter()
        .position(|(made, _)| *made == position)
        .unwrap_or_else(|| {
            answers.push((position, make()));
            answers.len() - 1
        });
    &answers[index].1
}

/// Name of a device's Socket.IO room.
fn room(device: &DeviceId) -> String {
    format!("device:{device}")
}

/// Acknowledgement of a subscription.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JoinedAck<'a> {
    ok: bool,
    device_id: &'a DeviceId,
    epoch: Epoch,
    seq: u64,
    recovered: bool,
    /// Said only where alarm changes may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    alarms_recovered: Option<bool>,
}

fn joined(device: &DeviceId, answer: &Answer) -> Box<RawValue> {
    to_raw(&JoinedAck {
        ok: true,
        device_id: device,
        epoch: answer.position.epoch,
        seq: answer.position.seq,
        recovered: answer.recovered,
        alarms_recovered: (!answer.alarms_recovered).then_some(false),
    })
}

/// Acknowledgement of an end of a subscription.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeftAck<'a> {
    ok: bool,
    device_id: &'a DeviceId,
}

pub(super) fn left(device: &DeviceId) -> Box<RawValue> {
    to_raw(&LeftAck {
        ok: true,
        device_id: device,
    })
}

fn to_raw<T: Serialize>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("structs of texts and numbers always serialise")
}

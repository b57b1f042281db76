//! The packets that wait to be sent to one client, in two lanes: every alarm, and the latest reading per device. Pure.
//!
//! The Socket.IO library's queue refuses a packet when it is full, and drops it. Refused packets wait here instead.
//!
//! * The **alarm lane** holds everything that must arrive, in order. It is emptied first. It never drops a packet: if it
//!   overflows, the client is disconnected and recovers by its position.
//! * The **telemetry lane** holds one packet per event and device. A newer reading replaces the one that waits, and its
//!   field `skipped` says how many readings were replaced. Rows of many devices take their turn in it, one packet at a time: whoever sends
//!   them waits until [`Outbox::has_rows`] says no. So do location events.
//!
//! Packets of one device never overtake each other. Before a packet enters the alarm lane, the telemetry of its device that
//! still waits is dealt with: newer data replaces it, otherwise it enters the alarm lane first.
//!
//! So a position is never torn apart: its events enter the alarm lane together unless it is a reading alone. If its last event
//! (the one without `more`) is sent, all the others were sent before it.
//!
//! **Bounds.** Both lanes together hold at most [`OutboxLimits::packets`] and [`OutboxLimits::bytes`]. Every payload counts
//! in full, although all clients of a device share it. No alarm waits longer than [`OutboxLimits::deadline`]. A client that
//! exceeds a bound is disconnected and nothing more is kept for it. One client therefore costs at most these bytes and what is in
//! front of them: over long polling the library's queue (`--client-buffer` packets; at most 256 KiB or one packet) and 128 KiB in the
//! answer to a poll, over a WebSocket the rest of one event and 16 KiB of readings. A replica costs at most `--max-connections` times that.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use shared::device::DeviceId;
use shared::event;

use crate::event_names::{
    ACTIVE_LOCATIONS, BROADCAST_DATA, DEVICE_DATA, FLEET_CHANGED, FLEET_SNAPSHOT, LOCATION_UPDATE,
};

/// One event, or one reply to an event of the client. The payload is shared by all clients that get it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    kind: PacketKind,
    payload: Arc<RawValue>,
    /// Readings of the device that were replaced since its last packet.
    skipped: u64,
}

/// The type of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketKind {
    /// An event of this name.
    Event(&'static str),
    /// The Socket.IO acknowledgement of the client's event with this id.
    Reply(i64),
}

/// The outcome of giving a packet to socketioxide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    Sent,
    /// The queue is full: try again later.
    Full,
    /// The connection is closed: nothing more will be sent.
    Closed,
}

/// The smallest value of [`OutboxLimits::bytes`].
pub(crate) const MIN_BYTES: usize = 64 * 1024;

/// Bounds of both lanes of one client together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxLimits {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
    /// The longest time that a packet may wait in the alarm lane.
    pub(crate) deadline: Duration,
}

/// Which bound a client exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    Packets,
    Bytes,
    Deadline,
}

/// The result of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// No packet waits.
    All,
    /// Something was sent, something still waits.
    Some,
    /// Nothing was sent.
    Nothing,
}

/// What happened to packets since this was last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutboxCounts {
    /// Readings that were replaced by newer ones.
    pub(crate) conflated: u64,
    /// Packets that waited and were dropped with the client.
    pub(crate) dropped: u64,
    /// The longest wait of the alarms that were sent or dropped; `None` without one.
    pub(crate) longest_alarm_wait: Option<Duration>,
}

impl Packet {
    pub(crate) fn event(name: &'static str, payload: &Arc<RawValue>) -> Self {
        Self {
            kind: PacketKind::Event(name),
            payload: Arc::clone(payload),
            skipped: 0,
        }
    }

    pub(crate) fn reply(id: i64, payload: Box<RawValue>) -> Self {
        Self {
            kind: PacketKind::Reply(id),
            payload: payload.into(),
            skipped: 0,
        }
    }

    pub(crate) fn kind(&self) -> PacketKind {
        self.kind
    }

    /// Returns the payload as it is sent: the shared bytes, with `skipped` as their last field if readings were replaced.
    pub(crate) fn payload(&self) -> Cow<'_, RawValue> {
        let marked = event::with_skipped(&self.payload, self.skipped);
        marked.map_or(Cow::Borrowed(&*self.payload), Cow::Owned)
    }

    /// Returns whether it belongs into the telemetry lane.
    pub(crate) fn is_telemetry(&self) -> bool {
        use PacketKind::Event;
        matches!(
            self.kind,
            Event(
                DEVICE_DATA
                    | BROADCAST_DATA
                    | FLEET_SNAPSHOT
                    | FLEET_CHANGED
                    | ACTIVE_LOCATIONS
                    | LOCATION_UPDATE
            )
        )
    }

    /// Returns the size in memory: the payload and the overhead.
    fn size(&self) -> usize {
        self.payload.get().len() + OVERHEAD
    }
}

/// Memory of a waiting packet beside its payload: the packet itself, and its entries in the maps of the telemetry lane.
const OVERHEAD: usize = 2 * size_of::<(Packet, ConflationKey)>();

/// Key of the telemetry lane: only the latest packet per event and device waits. Rows are about no single device.
type ConflationKey = (&'static str, Option<DeviceId>);

/// The two lanes of one client, bounded by [`OutboxLimits`].
#[derive(Debug)]
pub(crate) struct Outbox {
    limits: OutboxLimits,
    /// The alarm lane, with the time since which each packet waits.
    alarms: VecDeque<(Packet, Instant)>,
    /// The telemetry lane, by turn: a packet that replaces another one takes over its turn.
    telemetry: BTreeMap<u64, (ConflationKey, Packet)>,
    turns: HashMap<ConflationKey, u64>,
    last_turn: u64,
    bytes: usize,
    counts: OutboxCounts,
    /// Set once a bound was exceeded or the connection is closed. A packet sent after that would follow a gap.
    is_closed: bool,
}

impl Outbox {
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            alarms: VecDeque::new(),
            telemetry: BTreeMap::new(),
            turns: HashMap::new(),
            last_turn: 0,
            bytes: 0,
            counts: OutboxCounts::default(),
            is_closed: false,
        }
    }

    /// Sends a reading at once if no packet waits. Otherwise the reading waits, in place of an older one of its device.
    /// Returns whether something waits.
    ///
    /// # Errors
    /// A bound is exceeded: the client must be disconnected.
    pub(crate) fn push_telemetry(
        &mut self,
        device: Option<&DeviceId>,
        event: &'static str,
        payload: &Arc<RawValue>,
        now: Instant,
        mut send: impl FnMut(&Packet) -> SendOutcome,
    ) -> Result<bool, Overflow> {
        let mut packet = Packet::event(event, payload);
        if self.is_closed {
            return Ok(false);
        }
        if self.is_empty() {
            match send(&packet) {
                SendOutcome::Sent => return Ok(false),
                SendOutcome::Full => {}
                SendOutcome::Closed => {
                    self.close(now);
                    return Ok(false);
                }
            }
        }
        let key = (event, device.cloned());
        let turn = if let Some(turn) = self.turns.get(&key) {
            *turn
        } else {
            self.last_turn += 1;
            self.last_turn
        };
        if let Some(older) = self.remove_turn(turn) {
            self.replace(&older, &mut packet);
        }
        self.reserve(&packet, now)?;
        self.turns.insert(key.clone(), turn);
        self.telemetry.insert(turn, (key, packet));
        Ok(true)
    }

    /// Sends packets that must all arrive, in this order, or adds them to the alarm lane. `device` is the device that the
    /// packets are about, if any. Returns whether something waits.
    ///
    /// # Errors
    /// A bound is exceeded: the client must be disconnected.
    pub(crate) fn push_alarms(
        &mut self,
        device: Option<&DeviceId>,
        packets: impl IntoIterator<Item = Packet>,
        now: Instant,
        mut send: impl FnMut(&Packet) -> SendOutcome,
    ) -> Result<bool, Overflow> {
        // The device's telemetry that still waits. Newer data replaces it, any other packet must come after it.
        let mut older: Vec<Packet> = device
            .filter(|_| !self.telemetry.is_empty())
            .into_iter()
            .flat_map(|device| self.remove_device(device))
            .collect();
        for mut packet in packets {
            if packet.is_telemetry() {
                if let Some(index) = older.iter().position(|old| old.kind == packet.kind) {
                    let replaced = older.remove(index);
                    self.replace(&replaced, &mut packet);
                }
            } else {
                for old in older.drain(..) {
                    self.push_alarm(old, now, &mut send)?;
                }
            }
            self.push_alarm(packet, now, &mut send)?;
        }
        for old in older {
            self.push_alarm(old, now, &mut send)?;
        }
        self.check_deadline(now)?;
        Ok(!self.is_empty())
    }

    /// Sends waiting packets until the queue of socketioxide is full, alarms first.
    ///
    /// # Errors
    /// An alarm has waited too long: the client must be disconnected.
    pub(crate) fn flush(
        &mut self,
        now: Instant,
        mut send: impl FnMut(&Packet) -> SendOutcome,
    ) -> Result<Flushed, Overflow> {
        let mut flushed = Flushed::Nothing;
        while let Some(packet) = self.first() {
            match send(packet) {
                SendOutcome::Sent => {
                    self.remove_first(now);
                    flushed = Flushed::Some;
                }
                SendOutcome::Full => {
                    self.check_deadline(now)?;
                    return Ok(flushed);
                }
                SendOutcome::Closed => self.close(now),
            }
        }
        self.free();
        Ok(Flushed::All)
    }

    /// Ends the outbox if the rest of an alarm has waited for so long at the WebSocket.
    ///
    /// # Errors
    /// It has waited too long: the client must be disconnected.
    pub(crate) fn check_unsent_alarm(
        &mut self,
        wait: Option<Duration>,
        now: Instant,
    ) -> Result<(), Overflow> {
        if wait.is_some_and(|wait| wait > self.limits.deadline) {
            return Err(self.overflow(Overflow::Deadline, now));
        }
        Ok(())
    }

    /// Returns what happened since the last call.
    pub(crate) fn take_counts(&mut self) -> OutboxCounts {
        std::mem::take(&mut self.counts)
    }

    /// Returns whether a packet waits in the alarm lane.
    pub(crate) fn has_alarms(&self) -> bool {
        !self.alarms.is_empty()
    }

    /// Returns whether rows of many devices wait.
    pub(crate) fn has_rows(&self) -> bool {
        self.waits(FLEET_SNAPSHOT) || self.waits(FLEET_CHANGED)
    }

    /// Returns whether a location event waits.
    pub(crate) fn has_locations(&self) -> bool {
        self.waits(ACTIVE_LOCATIONS) || self.waits(LOCATION_UPDATE)
    }

    /// Returns whether an event waits that is about no single device.
    fn waits(&self, event: &'static str) -> bool {
        self.turns.contains_key(&(event, None))
    }

    /// Drops the rows of many devices that wait.
    pub(crate) fn drop_rows(&mut self) {
        for event in [FLEET_SNAPSHOT, FLEET_CHANGED] {
            if let Some(turn) = self.turns.get(&(event, None)).copied() {
                self.remove_turn(turn);
            }
        }
    }

    /// Returns whether nothing waits and the client is connected, so that an event may be sent past the outbox.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_empty() && !self.is_closed
    }

    fn is_empty(&self) -> bool {
        self.alarms.is_empty() && self.telemetry.is_empty()
    }

    fn first(&self) -> Option<&Packet> {
        let alarm = self.alarms.front().map(|(packet, _)| packet);
        alarm.or_else(|| {
            let (_, (_, packet)) = self.telemetry.first_key_value()?;
            Some(packet)
        })
    }

    fn remove_first(&mut self, now: Instant) {
        if let Some((packet, since)) = self.alarms.pop_front() {
            self.record_wait(now.saturating_duration_since(since));
            self.bytes = self.bytes.saturating_sub(packet.size());
        } else if let Some((turn, _)) = self.telemetry.first_key_value() {
            let turn = *turn;
            self.remove_turn(turn);
        }
    }

    /// Sends a packet of the alarm lane at once if no other alarm waits: waiting telemetry does not delay it.
    fn push_alarm(
        &mut self,
        packet: Packet,
        now: Instant,
        mut send: impl FnMut(&Packet) -> SendOutcome,
    ) -> Result<(), Overflow> {
        if self.is_closed {
            return Ok(());
        }
        if self.alarms.is_empty() {
            match send(&packet) {
                SendOutcome::Sent => {
                    self.record_wait(Duration::ZERO);
                    return Ok(());
                }
                SendOutcome::Full => {}
                SendOutcome::Closed => {
                    self.close(now);
                    return Ok(());
                }
            }
        }
        self.reserve(&packet, now)?;
        self.alarms.push_back((packet, now));
        Ok(())
    }

    fn record_wait(&mut self, wait: Duration) {
        self.counts.longest_alarm_wait = self.counts.longest_alarm_wait.max(Some(wait));
    }

    /// Removes the packets of this device from the telemetry lane and returns them in order.
    fn remove_device(&mut self, device: &DeviceId) -> Vec<Packet> {
        let turn_of = |event| self.turns.get(&(event, Some(device.clone()))).copied();
        let turns = [DEVICE_DATA, BROADCAST_DATA];
        let mut turns: Vec<u64> = turns.into_iter().filter_map(turn_of).collect();
        turns.sort_unstable();
        turns
            .into_iter()
            .filter_map(|turn| self.remove_turn(turn))
            .collect()
    }

    /// Removes the packet with this turn from the telemetry lane.
    fn remove_turn(&mut self, turn: u64) -> Option<Packet> {
        let (key, packet) = self.telemetry.remove(&turn)?;
        self.turns.remove(&key);
        self.bytes = self.bytes.saturating_sub(packet.size());
        Some(packet)
    }

    fn replace(&mut self, older: &Packet, newer: &mut Packet) {
        let before = event::skipped_before(&older.payload).saturating_add(older.skipped);
        newer.skipped = before.saturating_add(1);
        self.counts.conflated = self.counts.conflated.saturating_add(1);
    }

    /// Counts a packet that is about to wait, if the bounds allow it.
    fn reserve(&mut self, packet: &Packet, now: Instant) -> Result<(), Overflow> {
        let bytes = self.bytes.saturating_add(packet.size());
        if self.alarms.len() + self.telemetry.len() >= self.limits.packets {
            return Err(self.overflow(Overflow::Packets, now));
        }
        if bytes > self.limits.bytes {
            return Err(self.overflow(Overflow::Bytes, now));
        }
        self.bytes = bytes;
        Ok(())
    }

    fn check_deadline(&mut self, now: Instant) -> Result<(), Overflow> {
        let is_late = self
            .alarms
            .front()
            .is_some_and(|(_, since)| now.saturating_duration_since(*since) > self.limits.deadline);
        if is_late {
            return Err(self.overflow(Overflow::Deadline, now));
        }
        Ok(())
    }

    fn overflow(&mut self, overflow: Overflow, now: Instant) -> Overflow {
        self.close(now);
        overflow
    }

    /// Drops all waiting packets and accepts no more, because the client is disconnected.
    pub(crate) fn close(&mut self, now: Instant) {
        self.is_closed = true;
        // The wait of a dropped alarm counts too. The first in the lane has waited longest.
        if let Some((_, since)) = self.alarms.front() {
            self.record_wait(now.saturating_duration_since(*since));
        }
        self.counts.dropped += (self.alarms.len() + self.telemetry.len()) as u64;
        self.free();
    }

    /// Releases the memory of both lanes: a client that was slow once may stay connected for long.
    fn free(&mut self) {
        self.alarms = VecDeque::new();
        self.telemetry = BTreeMap::new();
        self.turns = HashMap::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests;

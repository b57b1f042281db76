//! What waits to be sent to one client, in two lanes: alarms complete and in order, telemetry the latest per device.
//! Pure.
//!
//! The library's queue refuses a packet when it is full and forgets it. Refused packets wait here instead. What tells of
//! alarms waits in the alarm lane, which is emptied first and never loses anything: a client that does not take it is
//! let go, and recovers by its position. Telemetry waits in the other lane, one packet per event and device: a newer one
//! takes the place of the older and says in `skipped` how many readings were left out.
//!
//! Per device nothing is ever overtaken. A packet goes into the alarm lane only after the device's waiting telemetry: it
//! takes its place if it brings newer data first, else the telemetry goes into the alarm lane ahead of it.
//!
//! **Bounds.** Both lanes together hold at most [`Limits::packets`] and [`Limits::bytes`], every payload counted in full
//! although all clients of a device share it, and no alarm waits for longer than [`Limits::deadline`]. A client that is
//! sent something beyond them is let go, and nothing more is kept for it. One client costs at most these bytes, the
//! library's queue (`--client-buffer` packets) and its write buffer (up to 256 KiB); a
//! replica at most `--max-connections` times that.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use shared::device::DeviceId;

/// Event with the reading of a device.
pub(crate) const DATA: &str = "device:data";
/// The same for everybody, where that is switched on.
pub(crate) const BROADCAST: &str = "subtronics:data";

/// One event or acknowledgement. The payload is shared by all clients that get it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    address: Address,
    payload: Arc<RawValue>,
    /// Readings of the device that were left out since its last packet.
    skipped: u64,
}

/// What a packet is for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// An event of this name.
    Event(&'static str),
    /// The answer to the client's event with this acknowledgement id.
    Ack(i64),
}

/// What became of a packet that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    Taken,
    /// No room now: try again.
    Full,
    /// The connection is closed: nothing will ever be taken.
    Closed,
}

/// Bounds of both lanes of one client together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
    /// How old the oldest packet in the alarm lane may become.
    pub(crate) deadline: Duration,
}

/// Which bound a client broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    Packets,
    Bytes,
    Deadline,
}

/// How a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing waits any more.
    All,
    /// Something was taken, something still waits.
    Some,
    /// Nothing was taken.
    Nothing,
}

impl Packet {
    pub(crate) fn event(name: &'static str, payload: &Arc<RawValue>) -> Self {
        Self {
            address: Address::Event(name),
            payload: Arc::clone(payload),
            skipped: 0,
        }
    }

    pub(crate) fn ack(id: i64, payload: Box<RawValue>) -> Self {
        Self {
            address: Address::Ack(id),
            payload: payload.into(),
            skipped: 0,
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }

    /// The payload as it is sent: the shared bytes, with `skipped` as their last field if readings were left out.
    pub(crate) fn payload(&self) -> Cow<'_, RawValue> {
        let marked = match self.skipped {
            0 => None,
            skipped => with_skipped(&self.payload, skipped),
        };
        marked.map_or(Cow::Borrowed(&*self.payload), Cow::Owned)
    }

    /// Whether newer data of its device may take its place.
    fn is_telemetry(&self) -> bool {
        matches!(self.address, Address::Event(DATA | BROADCAST))
    }

    /// Bytes it counts: its payload and what it takes to keep it.
    fn size(&self) -> usize {
        self.payload.get().len() + OVERHEAD
    }
}

/// What keeping a packet takes beside its payload: itself, and its places in the maps of the telemetry lane.
const OVERHEAD: usize = 2 * size_of::<(Packet, Key)>();

fn with_skipped(payload: &RawValue, skipped: u64) -> Option<Box<RawValue>> {
    let fields = payload.get().strip_suffix('}')?;
    let comma = if fields.ends_with('{') { "" } else { "," };
    RawValue::from_string(format!(r#"{fields}{comma}"skipped":{skipped}}}"#)).ok()
}

/// What conflates: an event of a device.
type Key = (&'static str, DeviceId);

/// The two lanes of one client, bounded by [`Limits`].
#[derive(Debug)]
pub(crate) struct Lanes {
    limits: Limits,
    /// The alarm lane, with the time since which each packet waits.
    alarms: VecDeque<(Packet, Instant)>,
    /// The telemetry lane: first come, first served, whatever takes whose place.
    telemetry: BTreeMap<u64, (Key, Packet)>,
    turns: HashMap<Key, u64>,
    next_turn: u64,
    bytes: usize,
    /// Readings left out since this was last taken.
    conflated: u64,
    /// The longest that an alarm had waited that was handed over or thrown away, since this was last taken.
    waited: Option<Duration>,
    /// Packets thrown away with a client since this was last taken.
    dropped: u64,
    /// A bound was broken, or the connection is closed: whatever came now would come after a hole.
    is_closed: bool,
}

impl Lanes {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            alarms: VecDeque::new(),
            telemetry: BTreeMap::new(),
            turns: HashMap::new(),
            next_turn: 0,
            bytes: 0,
            conflated: 0,
            waited: None,
            dropped: 0,
            is_closed: false,
        }
    }

    /// Hands a reading over at once if nothing waits, else lets it wait in place of an older one of its device.
    /// Answers whether something waits.
    pub(crate) fn push_telemetry(
        &mut self,
        device: &DeviceId,
        event: &'static str,
        payload: &Arc<RawValue>,
        now: Instant,
        mut hand_over: impl FnMut(&Packet) -> Handed,
    ) -> Result<bool, Overflow> {
        let mut packet = Packet::event(event, payload);
        if self.is_closed {
            return Ok(false);
        }
        if self.is_empty() {
            match hand_over(&packet) {
                Handed::Taken => return Ok(false),
                Handed::Full => {}
                Handed::Closed => {
                    self.close(now);
                    return Ok(false);
                }
            }
        }
        let key = (event, device.clone());
        let turn = if let Some(turn) = self.turns.get(&key) {
            *turn
        } else {
            self.next_turn += 1;
            self.next_turn
        };
        if let Some(older) = self.take_waiting(turn) {
            self.supersede(&mut packet, &older);
        }
        self.make_room(&packet, now)?;
        self.turns.insert(key.clone(), turn);
        self.telemetry.insert(turn, (key, packet));
        Ok(true)
    }

    /// Hands packets over that must all arrive, in this order, or lets them wait in the alarm lane. `device`: the one
    /// they speak of. Answers whether something waits.
    pub(crate) fn push_alarms(
        &mut self,
        device: Option<&DeviceId>,
        packets: impl IntoIterator<Item = Packet>,
        now: Instant,
        mut hand_over: impl FnMut(&Packet) -> Handed,
    ) -> Result<bool, Overflow> {
        // The device's telemetry that still waits: newer data takes its place, anything else comes after it.
        let mut older: Vec<Packet> = device
            .filter(|_| !self.telemetry.is_empty())
            .into_iter()
            .flat_map(|device| self.take_of(device))
            .collect();
        for mut packet in packets {
            if packet.is_telemetry() {
                if let Some(index) = older.iter().position(|old| old.address == packet.address) {
                    let replaced = older.remove(index);
                    self.supersede(&mut packet, &replaced);
                }
            } else {
                for old in older.drain(..) {
                    self.push_alarm(old, now, &mut hand_over)?;
                }
            }
            self.push_alarm(packet, now, &mut hand_over)?;
        }
        for old in older {
            self.push_alarm(old, now, &mut hand_over)?;
        }
        self.check_deadline(now)?;
        Ok(!self.is_empty())
    }

    /// Hands over what waits, alarms first, as far as it is taken.
    pub(crate) fn flush(
        &mut self,
        now: Instant,
        mut hand_over: impl FnMut(&Packet) -> Handed,
    ) -> Result<Flushed, Overflow> {
        let mut flushed = Flushed::Nothing;
        while let Some(packet) = self.first() {
            match hand_over(packet) {
                Handed::Taken => {
                    self.take_first(now);
                    flushed = Flushed::Some;
                }
                Handed::Full => {
                    self.check_deadline(now)?;
                    return Ok(flushed);
                }
                Handed::Closed => self.close(now),
            }
        }
        self.free();
        Ok(Flushed::All)
    }

    /// How many readings were left out since this was last asked.
    pub(crate) fn take_conflated(&mut self) -> u64 {
        std::mem::take(&mut self.conflated)
    }

    /// How long the alarms handed over or thrown away since this was last asked had waited at most; `None` without one.
    pub(crate) fn take_waited(&mut self) -> Option<Duration> {
        self.waited.take()
    }

    /// How many packets that waited were thrown away since this was last asked.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// An alarm waits.
    pub(crate) fn has_alarms(&self) -> bool {
        !self.alarms.is_empty()
    }

    /// Nothing waits.
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

    fn take_first(&mut self, now: Instant) {
        if let Some((packet, since)) = self.alarms.pop_front() {
            self.waited = self.waited.max(Some(now.saturating_duration_since(since)));
            self.bytes = self.bytes.saturating_sub(packet.size());
        } else if let Some((turn, _)) = self.telemetry.first_key_value() {
            let turn = *turn;
            self.take_waiting(turn);
        }
    }

    /// Waiting alarms come before waiting telemetry: it does not keep them from going at once.
    fn push_alarm(
        &mut self,
        packet: Packet,
        now: Instant,
        mut hand_over: impl FnMut(&Packet) -> Handed,
    ) -> Result<(), Overflow> {
        if self.is_closed {
            return Ok(());
        }
        if self.alarms.is_empty() {
            match hand_over(&packet) {
                Handed::Taken => {
                    self.waited = self.waited.max(Some(Duration::ZERO));
                    return Ok(());
                }
                Handed::Full => {}
                Handed::Closed => {
                    self.close(now);
                    return Ok(());
                }
            }
        }
        self.make_room(&packet, now)?;
        self.alarms.push_back((packet, now));
        Ok(())
    }

    /// Everything of this device that waits in the telemetry lane, in its order.
    fn take_of(&mut self, device: &DeviceId) -> Vec<Packet> {
        let turn_of = |event| self.turns.get(&(event, device.clone())).copied();
        let mut turns: Vec<u64> = [DATA, BROADCAST].into_iter().filter_map(turn_of).collect();
        turns.sort_unstable();
        turns
            .into_iter()
            .filter_map(|turn| self.take_waiting(turn))
            .collect()
    }

    /// Takes what waits at this turn of the telemetry lane.
    fn take_waiting(&mut self, turn: u64) -> Option<Packet> {
        let (key, packet) = self.telemetry.remove(&turn)?;
        self.turns.remove(&key);
        self.bytes = self.bytes.saturating_sub(packet.size());
        Some(packet)
    }

    fn supersede(&mut self, packet: &mut Packet, older: &Packet) {
        packet.skipped = older.skipped.saturating_add(1);
        self.conflated = self.conflated.saturating_add(1);
    }

    /// Counts a packet that is about to wait, or breaks off.
    fn make_room(&mut self, packet: &Packet, now: Instant) -> Result<(), Overflow> {
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

    /// Nothing is kept any more: the client is gone.
    pub(crate) fn close(&mut self, now: Instant) {
        self.is_closed = true;
        // The wait of an alarm that was not taken counts as well: it is the longest there is.
        if let Some((_, since)) = self.alarms.front() {
            self.waited = self.waited.max(Some(now.saturating_duration_since(*since)));
        }
        self.dropped += (self.alarms.len() + self.telemetry.len()) as u64;
        self.free();
    }

    /// Gives the memory back: a client that was slow once may live for long.
    fn free(&mut self) {
        self.alarms = VecDeque::new();
        self.telemetry = BTreeMap::new();
        self.turns = HashMap::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests;

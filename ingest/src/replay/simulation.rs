//! The services on a virtual clock: messages, deadlines and acknowledgements of many devices, decided by the production code,
//! without broker and Redis. Pure.
//!
//! What the pipeline, the timers and the store do around a decision is done here in memory: a message marked as redelivered is
//! skipped if it was committed before, a decision without effect is not written, and a deadline is evaluated when it is due,
//! unless no ingest listens. Memory grows with the number of devices and of alarm changes, not with the number of messages.

mod device;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use shared::alarm::{Change, ChangeKind};
use shared::clock::Time;
use shared::decide::{AcknowledgeRequest, Deadline, Decision, Input, Message, Outcome, decide};
use shared::device::DeviceId;
use shared::listening::Listening;
use shared::position::{Epoch, Position};
use shared::reading::Repair;
use shared::settings::{AlarmSettings, SerialPatterns};
use shared::store::StoreError;
use xxhash_rust::xxh3::xxh3_64;

use self::device::SimulatedDevice;
use super::messages::{self, Received};
use crate::payload::{Format, Parsed};
use crate::pipeline::committed_fingerprints::CommittedFingerprints;

/// How often the timers look for due deadlines. A deadline that is still due after it was evaluated is evaluated again only at
/// the next look.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The settings of ingest that matter to the rules.
#[derive(Clone, Debug)]
pub struct SimulationSettings {
    /// Settings of the alarm rules.
    pub alarms: AlarmSettings,
    /// Settings of the payload parser.
    pub format: Format,
    /// Messages of further unknown devices become dead letters.
    pub max_devices: usize,
    /// Places beyond it for devices whose message shows a danger.
    pub alarm_reserve: usize,
    /// The serials of unknown devices that are accepted.
    pub admit: SerialPatterns,
    /// Maximum number of unacknowledged messages (MQTT Receive Maximum).
    pub receive_maximum: usize,
}

/// A message as the broker delivers it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The payload.
    pub payload: &'a [u8],
    /// MQTT's RETAIN flag.
    pub retain: bool,
    /// MQTT's DUP flag.
    pub dup: bool,
}

/// An alarm change that was committed.
#[derive(Clone, Debug)]
pub struct CommittedChange {
    /// Virtual time of the commit.
    pub at: Time,
    /// The device.
    pub device: DeviceId,
    /// Position of the commit.
    pub position: Position,
    /// Number of the alarm: 1 is the first alarm that was raised in this simulation.
    pub number: usize,
    /// The change.
    pub change: Change,
}

/// A message that became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedMessage {
    /// Virtual time at which it was received.
    pub at: Time,
    /// The reason, as the dead letter names it.
    pub reason: &'static str,
    /// The reason in words.
    pub detail: String,
}

/// The services on a virtual clock.
#[derive(Debug)]
pub struct Simulation {
    settings: SimulationSettings,
    start: Time,
    now: Time,
    epoch: Epoch,
    devices: BTreeMap<DeviceId, SimulatedDevice>,
    /// When the timers look at a device.
    deadlines: BTreeSet<(Time, DeviceId)>,
    /// Since when an ingest has been listening; `None` while none does.
    listening_since: Option<Time>,
    /// How long one was listening before then.
    listened_before: Duration,
    /// Messages that wait at the broker while no ingest listens.
    waiting: VecDeque<WaitingMessage>,
    committed: CommittedFingerprints,
    changes: Vec<CommittedChange>,
    /// Ids of the alarms, in the order of their raises.
    raised: Vec<(DeviceId, String)>,
    refused: Vec<RefusedMessage>,
}

#[derive(Debug)]
struct WaitingMessage {
    payload: Vec<u8>,
    retain: bool,
    dup: bool,
}

impl Simulation {
    /// Starts at this time, with an ingest that begins to listen, and without any device.
    #[must_use]
    pub fn new(settings: SimulationSettings, start: Time) -> Self {
        let committed = CommittedFingerprints::new(settings.receive_maximum);
        Self {
            settings,
            start,
            now: start,
            epoch: Epoch::from_bits(1),
            devices: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            listening_since: Some(start),
            listened_before: Duration::ZERO,
            waiting: VecDeque::new(),
            committed,
            changes: Vec::new(),
            raised: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Returns the virtual time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Returns the time at which the simulation started.
    #[must_use]
    pub fn start(&self) -> Time {
        self.start
    }

    /// Moves the clock to `at` and evaluates every deadline on the way at its time, in order. The clock never goes back.
    pub fn advance_to(&mut self, at: Time) {
        while self.evaluate_next_deadline(at) {}
        self.now = self.now.max(at);
    }

    /// Moves the clock to the next deadline that is due at `until` at the latest, and evaluates it. Returns `false` if there is
    /// none; then the clock does not move.
    pub fn evaluate_next_deadline(&mut self, until: Time) -> bool {
        let Some(since) = self.listening_since else {
            return false;
        };
        let before = self.listened_before;
        let Some((due, device)) = self.deadlines.first().filter(|(due, _)| *due <= until) else {
            return false;
        };
        let (due, device) = (*due, device.clone());
        self.now = self.now.max(due);
        let settings = self.settings.alarms.clone();
        self.apply(
            &device,
            Input::Deadline {
                listening: Listening { since, before },
                settings: &settings,
            },
        );
        let still_due = |time: &Time| *time <= self.now;
        let next = self.devices.get(&device).and_then(|device| device.look_at);
        if next.as_ref().is_some_and(still_due) {
            self.look_at(&device, Some(self.now + LOOK_INTERVAL));
        }
        true
    }

    /// Lets ingest begin or end to listen at `at`, as if it was started or stopped. While none listens, messages wait at the
    /// broker and no deadline is evaluated.
    pub fn set_listening(&mut self, at: Time, listening: bool) {
        self.advance_to(at);
        if !listening {
            if let Some(since) = self.listening_since.take() {
                self.listened_before += self.now.duration_since(since);
            }
            self.committed = CommittedFingerprints::new(self.settings.receive_maximum);
            return;
        }
        self.listening_since.get_or_insert(self.now);
        for message in std::mem::take(&mut self.waiting) {
            self.deliver(Delivery {
                payload: &message.payload,
                retain: message.retain,
                dup: message.dup,
            });
        }
    }

    /// Publishes a message at `at`. It is processed at once, or waits at the broker while no ingest listens.
    pub fn publish(&mut self, at: Time, message: Delivery<'_>) {
        self.advance_to(at);
        if self.listening_since.is_some() {
            self.deliver(message);
        } else {
            self.waiting.push_back(WaitingMessage {
                payload: message.payload.to_vec(),
                retain: message.retain,
                dup: message.dup,
            });
        }
    }

    fn deliver(&mut self, message: Delivery<'_>) {
        let message_fingerprint = xxh3_64(message.payload);
        let is_repeated = message.dup && self.committed.contains(message_fingerprint);
        let mut device = None;
        for part in messages::read(message.payload, &self.settings.format) {
            match part {
                Received::Reading { .. } if is_repeated => {}
                Received::Reading {
                    parsed,
                    fingerprint,
                } => {
                    device = Some(parsed.reading.device.clone());
                    self.process(*parsed, fingerprint, message);
                }
                Received::DeadLetter { reason, detail } => self.refuse(reason, detail),
            }
        }
        self.committed.insert(device.as_ref(), message_fingerprint);
    }

    fn process(&mut self, parsed: Parsed, fingerprint: u64, message: Delivery<'_>) {
        let device = parsed.reading.device.clone();
        let is_known = self.devices.contains_key(&device);
        let is_dead_letter = parsed.facts.repair == Repair::Unreadable;
        let message = Message {
            reading: parsed.reading.into(),
            facts: parsed.facts,
            fingerprint,
            dup: message.dup,
            retain: message.retain,
            live_raw_message: None,
        };
        let settings = self.settings.alarms.clone();
        let input = Input::Message {
            message: &message,
            settings: &settings,
        };
        let refusal = (!is_known)
            .then(|| self.why_not_accepted(&device, input))
            .flatten();
        match refusal {
            // The dead letter is stored already.
            Some(_) if is_dead_letter => {}
            Some(err) => self.refuse(err.code(), err.detail(&device)),
            None => {
                self.apply(&device, input);
            }
        }
    }

    /// Returns why a message of an unknown device is not accepted, if it is not.
    fn why_not_accepted(&self, device: &DeviceId, input: Input<'_>) -> Option<StoreError> {
        let new = SimulatedDevice::new(device.clone(), self.epoch);
        let decision = decide(&new.stored, input, self.now, None);
        let in_danger = decision.shows_danger();
        if !self.settings.admit.matches(device) {
            return Some(StoreError::NotAdmitted { in_danger });
        }
        let reserve = if in_danger {
            self.settings.alarm_reserve
        } else {
            0
        };
        let places = self.settings.max_devices.saturating_add(reserve);
        let has_no_places = self.devices.len() >= places && !decision.outcome.is_unchanged();
        has_no_places.then_some(StoreError::TooManyDevices { in_danger })
    }

    fn refuse(&mut self, reason: &'static str, detail: String) {
        self.refused.push(RefusedMessage {
            at: self.now,
            reason,
            detail,
        });
    }

    /// Acknowledges an alarm at `at`. Without `seen`, the person has seen the present position.
    pub fn acknowledge(
        &mut self,
        at: Time,
        device: &DeviceId,
        alarm_id: &str,
        by: &str,
        seen: Option<Position>,
    ) -> Outcome {
        self.advance_to(at);
        let Some(known) = self.devices.get(device) else {
            return Outcome::NotFound;
        };
        let present = known.stored.state.position;
        let seen = match seen {
            None => present,
            Some(seen) if seen.epoch == present.epoch => Position {
                seq: seen.seq.min(present.seq),
                ..seen
            },
            Some(of_other_epoch) => of_other_epoch,
        };
        let closed = known.closed_alarm(alarm_id).cloned();
        self.apply(
            device,
            Input::Acknowledge(AcknowledgeRequest {
                alarm_id,
                by,
                note: None,
                seen,
                closed: closed.as_ref(),
            }),
        )
    }

    /// Decides about one input, and keeps the decision as the store would.
    fn apply(&mut self, device: &DeviceId, input: Input<'_>) -> Outcome {
        let known = self.devices.get(device);
        let unknown = known
            .is_none()
            .then(|| SimulatedDevice::new(device.clone(), self.epoch));
        let Some(before) = known.or(unknown.as_ref()) else {
            return Outcome::NotFound;
        };
        let decision = decide(&before.stored, input, self.now, None);
        let outcome = decision.outcome;
        let is_without_state = before.stored.state.latest.is_none();
        if outcome.is_unchanged() || (outcome == Outcome::Deadline && is_without_state) {
            return outcome;
        }
        self.record_changes(device, &decision);
        if outcome == Outcome::Retired {
            self.look_at(device, None);
            self.devices.remove(device);
            return outcome;
        }
        let look_at = match decision.deadline {
            Deadline::Keep => None,
            Deadline::At(time) => Some(Some(time)),
            Deadline::Never => Some(None),
        };
        let after = self
            .devices
            .entry(device.clone())
            .or_insert_with(|| SimulatedDevice::new(device.clone(), self.epoch));
        after.commit(decision, self.now);
        if let Some(look_at) = look_at {
            self.look_at(device, look_at);
        }
        outcome
    }

    fn record_changes(&mut self, device: &DeviceId, decision: &Decision) {
        for change in &decision.changes {
            // A chattering alarm is raised again under its id.
            let is_new = self.number_of(device, &change.alarm.id).is_none();
            if is_new && change.kind == ChangeKind::Raised {
                self.raised.push((device.clone(), change.alarm.id.clone()));
            }
            let number = self.number_of(device, &change.alarm.id);
            self.changes.push(CommittedChange {
                at: self.now,
                device: device.clone(),
                position: decision.state.position,
                number: number.unwrap_or_default(),
                change: change.clone(),
            });
        }
    }

    fn look_at(&mut self, device: &DeviceId, time: Option<Time>) {
        let Some(known) = self.devices.get_mut(device) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut known.look_at, time) {
            self.deadlines.remove(&(before, device.clone()));
        }
        if let Some(time) = time {
            self.deadlines.insert((time, device.clone()));
        }
    }
}

#[cfg(test)]
mod tests;

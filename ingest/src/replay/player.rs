//! Plays a file on a simulation, and compares what it expects. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use shared::alarm::Alarm;
use shared::clock::Time;
use shared::decide::Outcome;
use shared::device::DeviceId;
use shared::position::Position;

use super::expectation::Expectation;
use super::file::{Acknowledge, Action, AlarmName, Answer, Payload, Publish, Script, Seen};
use super::simulation::{CommittedChange, Delivery, RefusedMessage, Simulation};
use super::template::{Placeholders, edit, fill};

/// Something to print.
#[derive(Clone, Copy, Debug)]
pub enum Output<'a> {
    /// An alarm changed.
    Change(&'a CommittedChange),
    /// A message became a dead letter.
    DeadLetter(&'a RefusedMessage),
    /// Something is not as a line expects it.
    Difference(&'a Difference),
}

/// Something that is not as a line expects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Number of the line, from 1.
    pub line: usize,
    /// Virtual time.
    pub at: Time,
    /// What differs.
    pub text: String,
}

/// One thing that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Number of the line, from 1.
    pub line: usize,
    /// Virtual time.
    pub at: Time,
    /// What reached the services.
    pub input: Input,
}

/// What reaches the services from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The broker delivered a message.
    Message {
        /// The payload.
        payload: Vec<u8>,
        /// MQTT's RETAIN flag.
        retain: bool,
        /// MQTT's DUP flag.
        dup: bool,
    },
    /// A person acknowledged an alarm.
    Acknowledgement {
        /// The device.
        device: DeviceId,
        /// Id of the alarm in the simulation.
        alarm_id: String,
        /// Name of the person.
        by: String,
    },
    /// Nothing: time passed, or something was compared.
    Nothing,
}

/// A line that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PlayError {
    /// Number of the line, from 1.
    pub line: usize,
    /// The reason.
    pub reason: String,
}

/// What is due next: the time, the index of its entry, and which repetition of it. In this order.
type Due = Reverse<(Time, usize, u32)>;

/// A file that is being played.
pub struct Player<'a> {
    script: &'a Script,
    compares: bool,
    simulation: Simulation,
    due: BinaryHeap<Due>,
    /// Expectations that must be true until a time, with the number of their line. Removed when they fail.
    standing: Vec<(Time, usize, &'a Expectation)>,
    differences: Vec<Difference>,
    /// How many changes, dead letters and differences were printed.
    printed: (usize, usize, usize),
    /// Number of changes that were compared.
    compared: usize,
}

impl<'a> Player<'a> {
    /// Starts to play a file. With `compares`, what it expects is compared.
    #[must_use]
    pub fn new(script: &'a Script, compares: bool) -> Self {
        let mut player = Self {
            script,
            compares,
            simulation: Simulation::new(script.settings.clone(), script.start),
            due: BinaryHeap::new(),
            standing: Vec::new(),
            differences: Vec::new(),
            printed: (0, 0, 0),
            compared: 0,
        };
        for index in 0..script.entries.len() {
            player.schedule(index, 0);
        }
        player
    }

    /// Plays everything. `print` gets every output, in order. Returns the differences.
    ///
    /// # Errors
    /// A line cannot be carried out: its payload has a placeholder that it does not fill, or lacks a text to be replaced.
    pub fn play(mut self, mut print: impl FnMut(Output<'_>)) -> Result<Vec<Difference>, PlayError> {
        while self.step()?.is_some() {
            self.print(&mut print);
        }
        self.print(&mut print);
        Ok(self.differences)
    }

    /// Carries out what is due next. Returns `None` at the end.
    ///
    /// # Errors
    /// As [`Player::play`].
    pub fn step(&mut self) -> Result<Option<Step>, PlayError> {
        let Some(Reverse((at, index, repetition))) = self.due.pop() else {
            return Ok(None);
        };
        let entry = &self.script.entries[index];
        while self.simulation.evaluate_next_deadline(at) {
            self.check_standing();
        }
        self.simulation.advance_to(at);
        let carried_out = self.carry_out(&entry.action, entry.line, repetition);
        let input = carried_out.map_err(|reason| PlayError {
            line: entry.line,
            reason,
        })?;
        self.check_standing();
        if repetition + 1 < entry.times {
            self.schedule(index, repetition + 1);
        }
        Ok(Some(Step {
            line: entry.line,
            at,
            input,
        }))
    }

    /// Returns the simulation.
    #[must_use]
    pub fn simulation(&self) -> &Simulation {
        &self.simulation
    }

    fn schedule(&mut self, index: usize, repetition: u32) {
        let entry = &self.script.entries[index];
        let passed = entry.every_ms.saturating_mul(i64::from(repetition));
        let at = self.time(entry.at_ms.saturating_add(passed));
        self.due.push(Reverse((at, index, repetition)));
    }

    fn time(&self, millis: i64) -> Time {
        self.script.start + Duration::from_millis(millis.unsigned_abs())
    }

    fn carry_out(
        &mut self,
        action: &'a Action,
        line: usize,
        repetition: u32,
    ) -> Result<Input, String> {
        let now = self.simulation.now();
        match action {
            Action::Publish(publish) => {
                let payload = self.payload(publish, repetition)?;
                let message = Delivery {
                    payload: &payload,
                    retain: publish.retain,
                    dup: publish.dup,
                };
                self.simulation.publish(now, message);
                return Ok(Input::Message {
                    payload,
                    retain: publish.retain,
                    dup: publish.dup,
                });
            }
            Action::Acknowledge(acknowledge) => return Ok(self.acknowledge(acknowledge, line)),
            Action::Listen(listening) => self.simulation.set_listening(now, *listening),
            Action::Expect(expectation) if self.compares => {
                let changes = &self.simulation.changes()[self.compared..];
                let found = expectation.differences(&self.simulation, changes);
                if expectation.consumes_changes() {
                    self.compared = self.simulation.changes().len();
                }
                self.record(line, found);
            }
            Action::Always(expectation, until) if self.compares => {
                let until = self.time(*until);
                self.standing.push((until, line, expectation));
            }
            Action::Expect(_) | Action::Always(..) | Action::Nothing => {}
        }
        Ok(Input::Nothing)
    }

    fn payload(&self, publish: &Publish, repetition: u32) -> Result<Vec<u8>, String> {
        let text = match &publish.payload {
            Payload::Bytes(bytes) => return Ok(bytes.clone()),
            Payload::Text(text) => text,
        };
        let steps = text.clock_step_ms.saturating_mul(i64::from(repetition));
        let shift = text.clock_ms.saturating_add(steps);
        let now = self.simulation.now().as_millis();
        let turn = usize::try_from(repetition).unwrap_or_default();
        let value = text.values.get(turn % text.values.len().max(1));
        let placeholders = Placeholders {
            device_time: Time::from_millis(now.saturating_add(shift)),
            time_text: text.time_text.as_deref(),
            utc_offset_seconds: self.script.settings.format.utc_offset_seconds,
            value: value.map(String::as_str),
        };
        let filled = fill(&text.text, placeholders)?;
        match &text.edits {
            Some(edits) => edit(&filled, edits),
            None => Ok(filled.into_bytes()),
        }
    }

    fn acknowledge(&mut self, acknowledge: &Acknowledge, line: usize) -> Input {
        let now = self.simulation.now();
        let (device, id) = match self.named(&acknowledge.alarm) {
            Ok(found) => found,
            Err(reason) => {
                self.record(line, vec![reason]);
                return Input::Nothing;
            }
        };
        let present = self.simulation.state(&device).map(|state| state.position);
        let seen = match acknowledge.seen {
            None => None,
            Some(Seen::Seq(seq)) => Some(Position {
                epoch: present.unwrap_or_default().epoch,
                seq,
            }),
            Some(Seen::At(millis)) => {
                let time = self.time(millis);
                Some(self.simulation.position_seen_at(&device, time))
            }
        };
        let by = &acknowledge.by;
        let outcome = self.simulation.acknowledge(now, &device, &id, by, seen);
        let answer = match outcome {
            Outcome::Acknowledged | Outcome::AlreadyAcknowledged => Answer::Acknowledged,
            Outcome::Escalated | Outcome::EscalatedBefore => Answer::Escalated,
            _ => Answer::NotFound,
        };
        let expected = acknowledge.answer.filter(|_| self.compares);
        if let Some(expected) = expected.filter(|expected| *expected != answer) {
            let text = format!("answer: expected {expected:?}, is {answer:?}");
            self.record(line, vec![text]);
        }
        Input::Acknowledgement {
            device,
            alarm_id: id,
            by: by.clone(),
        }
    }

    /// Returns device and id of the alarm that a line names.
    fn named(&self, name: &AlarmName) -> Result<(DeviceId, String), String> {
        let simulation = &self.simulation;
        let owned = |alarm: &Alarm, device: &DeviceId| (device.clone(), alarm.id.clone());
        match name {
            AlarmName::Number(number) => {
                let found = simulation.alarm_of_number(*number).cloned();
                found.ok_or_else(|| format!("alarm {number} has not been raised"))
            }
            AlarmName::Id(id) => {
                let mut changes = simulation.changes().iter().rev();
                let found = changes.find(|change| change.change.alarm.id == *id);
                let device = match found {
                    Some(change) => change.device.clone(),
                    // A gateway would look for it at the device that the request names.
                    None => simulation
                        .devices()
                        .next()
                        .cloned()
                        .ok_or("no device is known")?,
                };
                Ok((device, id.clone()))
            }
            AlarmName::Type(code) => {
                let is_wanted = |alarm: &&Alarm| alarm.condition.code() == code;
                for device in simulation.devices() {
                    let mut open = simulation.open_alarms(device).iter();
                    if let Some(alarm) = open.find(is_wanted) {
                        return Ok(owned(alarm, device));
                    }
                }
                let mut changes = simulation.changes().iter().rev();
                let found = changes.find(|change| is_wanted(&&change.change.alarm));
                let found = found.map(|change| owned(&change.change.alarm, &change.device));
                found.ok_or_else(|| format!("there is no alarm of type `{code}`"))
            }
        }
    }

    fn check_standing(&mut self) {
        let now = self.simulation.now();
        let mut standing = std::mem::take(&mut self.standing);
        standing.retain(|(until, line, expectation)| {
            if *until < now {
                return false;
            }
            let found = expectation.differences(&self.simulation, &[]);
            let holds = found.is_empty();
            self.record(*line, found);
            holds
        });
        self.standing = standing;
    }

    fn record(&mut self, line: usize, texts: Vec<String>) {
        let at = self.simulation.now();
        let found = texts.into_iter().map(|text| Difference { line, at, text });
        self.differences.extend(found);
    }

    fn print(&mut self, print: &mut impl FnMut(Output<'_>)) {
        let (changes, refused, differences) = self.printed;
        let all_changes = self.simulation.changes();
        let all_refused = self.simulation.dead_letters();
        for refused in &all_refused[refused..] {
            print(Output::DeadLetter(refused));
        }
        for change in &all_changes[changes..] {
            print(Output::Change(change));
        }
        for difference in &self.differences[differences..] {
            print(Output::Difference(difference));
        }
        self.printed = (all_changes.len(), all_refused.len(), self.differences.len());
    }
}

#[cfg(test)]
mod tests;

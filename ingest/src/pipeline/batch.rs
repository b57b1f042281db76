//! What was taken from the queue: parsed messages and what is to become a dead letter, and their order by device.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use shared::apply::MAX_RUN;
use shared::device::DeviceId;
use shared::reading::{PayloadFacts, Reading};
use shared::store::{RawPayload, StoreError};
use shared::trace::{SLOW, TraceContext};
use xxhash_rust::xxh3::xxh3_64;

use crate::dead_letter_reason::DeadLetterReason;
use crate::mqtt::message::MqttMessage;
use crate::mqtt::shared_ack::SharedAck;
use crate::payload::{Item, ItemContent};

/// Received messages that are parsed.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) devices: HashSet<DeviceId>,
    pub(super) parsed: VecDeque<ParsedMessage>,
    pub(super) rejected: Vec<RejectedMessage>,
    /// The messages as they arrived; none unless an operator wants them.
    pub(super) recording: Vec<RawPayload>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.parsed.len() + self.rejected.len()
    }

    /// Adds the items of a message. `acks`: one for each part of it.
    pub(super) fn add(
        &mut self,
        message: &Arc<MqttMessage>,
        items: Vec<OwnItem>,
        mut acks: Vec<SharedAck>,
        trace: Option<TraceContext>,
    ) {
        let is_part = items.len() > 1;
        let message_fingerprint = xxh3_64(&message.payload);
        for item in items {
            let is_dead_letter = !matches!(item.content, ItemContent::Reading(_));
            let (parsed, err) = match item.content {
                ItemContent::Reading(parsed) | ItemContent::Named(parsed) => (Some(parsed), None),
                ItemContent::Unreadable(parsed, err) => (Some(parsed), Some(err)),
                ItemContent::Refused(err) => (None, Some(err)),
            };
            if let Some(err) = err
                && let Some(ack) = acks.pop()
            {
                self.rejected.push(RejectedMessage {
                    message: Arc::clone(message),
                    ack,
                    message_fingerprint,
                    part: item.part,
                    trace,
                    reason: err.reason(),
                    detail: err.detail(parsed.as_ref().map(|parsed| &parsed.reading.device)),
                });
            }
            if let Some(parsed) = parsed
                && let Some(ack) = acks.pop()
            {
                self.devices.insert(parsed.reading.device.clone());
                self.parsed.push_back(ParsedMessage {
                    message: Arc::clone(message),
                    ack,
                    reading: Arc::new(parsed.reading),
                    facts: parsed.facts,
                    json: item.json,
                    is_part,
                    fingerprint: item.fingerprint,
                    message_fingerprint,
                    in_doubt: false,
                    is_dead_letter,
                    trace,
                });
            }
        }
    }
}

/// An item that does not borrow from the message.
pub(super) struct OwnItem {
    pub(super) content: ItemContent,
    pub(super) fingerprint: u64,
    /// The JSON of the item, if it is not the payload.
    pub(super) json: Option<Vec<u8>>,
    /// The bytes of the item, if they are not the payload and become a dead letter.
    pub(super) part: Option<Vec<u8>>,
}

impl OwnItem {
    pub(super) fn of(item: Item<'_>, is_part: bool) -> Self {
        let fingerprint = xxh3_64(&item.bytes);
        let is_dead_letter = matches!(
            item.content,
            ItemContent::Unreadable(..) | ItemContent::Refused(_)
        );
        let part = (is_part && is_dead_letter).then(|| item.bytes.to_vec());
        let json = match item.repaired {
            Some(json) => Some(json.into_bytes()),
            None => is_part.then(|| item.bytes.into_owned()),
        };
        Self {
            content: item.content,
            fingerprint,
            json,
            part,
        }
    }

    /// The number of dead letters and commits that it takes.
    pub(super) fn parts(&self) -> usize {
        match self.content {
            ItemContent::Reading(_) | ItemContent::Named(_) | ItemContent::Refused(_) => 1,
            ItemContent::Unreadable(..) => 2,
        }
    }
}

/// A reading of a message.
pub(super) struct ParsedMessage {
    pub(super) message: Arc<MqttMessage>,
    pub(super) ack: SharedAck,
    pub(super) reading: Arc<Reading>,
    pub(super) facts: PayloadFacts,
    /// The JSON of this reading, if it is not the payload.
    pub(super) json: Option<Vec<u8>>,
    /// Whether the message has other items.
    pub(super) is_part: bool,
    /// XXH3 of its bytes.
    pub(super) fingerprint: u64,
    /// XXH3 of the whole payload.
    pub(super) message_fingerprint: u64,
    /// Whether an earlier commit of this message got no answer from Redis, and may have been carried out.
    pub(super) in_doubt: bool,
    /// Whether it could not be read as a whole, and is stored as a dead letter already.
    pub(super) is_dead_letter: bool,
    pub(super) trace: Option<TraceContext>,
}

impl ParsedMessage {
    pub(super) fn device(&self) -> &DeviceId {
        &self.reading.device
    }

    /// Returns the message as a dead letter, because its device refused it.
    pub(super) fn rejected(self, err: &StoreError) -> RejectedMessage {
        RejectedMessage {
            detail: err.detail(self.device()),
            reason: match err {
                StoreError::TooManyDevices { .. } => DeadLetterReason::TooManyDevices,
                StoreError::NotAdmitted { .. } => DeadLetterReason::NotAdmitted,
                StoreError::RedisFull => DeadLetterReason::RedisFull,
                _ => DeadLetterReason::CommitFailed,
            },
            message: self.message,
            ack: self.ack,
            message_fingerprint: self.message_fingerprint,
            part: self.json.filter(|_| self.is_part),
            trace: self.trace,
        }
    }

    /// Samples the trace if the message is already slow. This happens before the decision, so that the event carries the
    /// sampled trace to the gateways.
    pub(super) fn sample_if_slow(&mut self) {
        if self.message.received_at.elapsed() > SLOW {
            self.trace = self.trace.map(TraceContext::sampled);
        }
    }
}

/// A message, or a part of one, that can never be processed.
pub(super) struct RejectedMessage {
    pub(super) message: Arc<MqttMessage>,
    pub(super) ack: SharedAck,
    /// XXH3 of the whole payload.
    pub(super) message_fingerprint: u64,
    /// The bytes, if they are only a part of the payload.
    pub(super) part: Option<Vec<u8>>,
    pub(super) trace: Option<TraceContext>,
    pub(super) reason: DeadLetterReason,
    pub(super) detail: String,
}

/// Sorts messages by device, those of one in their order. Returns those of the first round, and those of devices that have more than
/// [`MAX_RUN`] for later ones.
pub(super) fn by_device(
    messages: VecDeque<ParsedMessage>,
) -> (Vec<ParsedMessage>, VecDeque<ParsedMessage>) {
    let mut places = HashMap::with_capacity(messages.len());
    let mut counts: Vec<usize> = Vec::with_capacity(messages.len());
    let mut place_of_each = Vec::with_capacity(messages.len());
    for item in &messages {
        let place = *places.entry(item.device()).or_insert(counts.len());
        if place == counts.len() {
            counts.push(0);
        }
        counts[place] += 1;
        place_of_each.push(place);
    }
    // Nearly always.
    if counts.len() == messages.len() {
        return (messages.into(), VecDeque::new());
    }
    let mut runs: Vec<Vec<ParsedMessage>> = Vec::new();
    runs.resize_with(counts.len(), Vec::new);
    let mut later = VecDeque::new();
    for (item, place) in messages.into_iter().zip(place_of_each) {
        if runs[place].len() < MAX_RUN {
            runs[place].push(item);
        } else {
            later.push_back(item);
        }
    }
    (runs.into_iter().flatten().collect(), later)
}

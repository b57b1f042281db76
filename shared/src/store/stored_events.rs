//! How events are stored: whole, or as the difference from a whole one before. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::event_diff;
use super::reply::Entry;
use crate::decide::Decision;
use crate::position::Position;

/// An entry of a device's events stream.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Its position.
    pub position: Position,
    /// The published bytes: an [`crate::event::Event`] as JSON.
    pub bytes: Vec<u8>,
}

/// An event that is stored whole.
#[derive(Debug)]
pub(super) struct WholeEvent {
    position: Position,
    text: Box<str>,
}

/// Longest whole event that is remembered, in bytes. One that is longer, as with a copy of a large payload, is stored whole every time.
const MAX_REMEMBERED: usize = 4096;

impl WholeEvent {
    fn remembered(position: Position, envelope: &str) -> Option<Arc<Self>> {
        let text = envelope.into();
        (envelope.len() <= MAX_REMEMBERED).then(|| Arc::new(Self { position, text }))
    }
}

/// How the events of one commit are stored.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredForms {
    /// For each event its difference; empty for one that is stored whole.
    diffs: Vec<Vec<u8>>,
    /// The newest whole event after the commit.
    pub(super) whole: Option<Arc<WholeEvent>>,
}

impl StoredForms {
    /// Decides how the events of these decisions are stored. `whole` is the newest one that this process knows to be stored whole.
    pub(super) fn new(decisions: &[Decision], whole: Option<Arc<WholeEvent>>) -> Self {
        let mut forms = Self {
            diffs: Vec::with_capacity(1),
            whole,
        };
        for decision in decisions {
            let Some(event) = &decision.event else {
                continue;
            };
            let position = decision.state.position;
            let born_after = decision.state.memory.born_after;
            let known = forms.whole.as_ref().filter(|whole| {
                // Another epoch, or an earlier device with this serial, may have lost it.
                whole.position.epoch == position.epoch && whole.position.seq > born_after
            });
            let diff = known.and_then(|whole| {
                let distance = position.seq.checked_sub(whole.position.seq)?;
                event_diff::encode(event.envelope.as_bytes(), whole.text.as_bytes(), distance)
            });
            if diff.is_none() {
                forms.whole = WholeEvent::remembered(position, &event.envelope);
            }
            forms.diffs.push(diff.unwrap_or_default());
        }
        forms
    }

    /// Stores all events whole.
    pub(super) fn all_whole(decisions: &[Decision]) -> Self {
        let mut forms = Self::default();
        for decision in decisions {
            if let Some(event) = &decision.event {
                forms.whole = WholeEvent::remembered(decision.state.position, &event.envelope);
            }
        }
        forms
    }

    /// The difference of the event with this index; empty if it is stored whole.
    pub(super) fn diff(&self, index: usize) -> &[u8] {
        self.diffs.get(index).map_or(&[], Vec::as_slice)
    }
}

/// The lowest seq that is read, so that every event from `since` on has its whole one.
pub(super) fn first_to_read(since: u64) -> u64 {
    since.saturating_sub(event_diff::MAX_DISTANCE)
}

/// Returns the events of these entries from `since` on. If one cannot be read, only those behind it, so that they have no hole.
pub(super) fn read(entries: Vec<Entry>, since: u64) -> Vec<StoredEvent> {
    let mut whole: HashMap<u64, StoredEvent> = HashMap::new();
    let mut events = Vec::with_capacity(entries.len());
    for mut entry in entries {
        let Some(position) = entry.position() else {
            continue;
        };
        let bytes = match entry.fields.remove("event") {
            Some(bytes) => {
                let event = StoredEvent { position, bytes };
                whole.insert(position.seq, event.clone());
                Some(event.bytes)
            }
            None => entry.fields.get("diff").and_then(|diff| {
                let seq = position.seq.checked_sub(event_diff::distance(diff)?)?;
                let whole = whole.get(&seq)?;
                let is_same_epoch = whole.position.epoch == position.epoch;
                is_same_epoch
                    .then(|| event_diff::decode(diff, &whole.bytes))
                    .flatten()
            }),
        };
        match bytes {
            Some(bytes) if position.seq >= since => events.push(StoredEvent { position, bytes }),
            Some(_) => {}
            None => events.clear(),
        }
    }
    events
}

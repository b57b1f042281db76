//! The open alarms of all devices, most urgent first, and the transitions since clients were sent them. Pure.
//!
//! Each transition is kept for the clients that have not got it yet. One that has fallen behind those that are kept is sent all open alarms
//! again: nothing is left out without its knowledge.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use shared::alarm::{Alarm, ChangeKind};
use shared::clock::Time;
use shared::device::DeviceId;
use shared::event::{self, iso};
use shared::position::{Epoch, Position};
use shared::profile::Profile;
use shared::store::ChangedAlarm;

use super::alarm_key::AlarmKey;
use super::event_size::{EventSize, text_bytes};
use super::filter::{AlarmFilter, Place};

/// Number of transitions that are kept. An entry has the bytes of an alarm, some 600.
const MAX_KEPT: usize = 4_096;

/// More bytes than those of the names, the transition and the time in an alarm that has ended.
const ENDED_OVERHEAD: usize = 128;

/// The open alarms: at most 15 per device.
#[derive(Debug, Default)]
pub(crate) struct AlarmTable {
    devices: HashMap<DeviceId, Vec<AlarmKey>>,
    order: BTreeMap<AlarmKey, OpenAlarm>,
    kept: VecDeque<Transition>,
    /// Number of all transitions so far.
    version: u64,
}

#[derive(Debug)]
struct OpenAlarm {
    device: DeviceId,
    place: Arc<Place>,
    text: Arc<RawValue>,
    /// That of the position in the text.
    epoch: Epoch,
    /// That in the text. It grows without a transition while the alarm chatters.
    count: u32,
}

#[derive(Clone, Debug)]
struct Transition {
    device: DeviceId,
    place: Arc<Place>,
    key: AlarmKey,
    change: Option<ChangeKind>,
    at: Time,
    /// The alarm after it; `None` if it has ended.
    text: Option<Arc<RawValue>>,
}

/// How far a client has got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AlarmCursor {
    version: u64,
}

/// The next transitions for a client, to be applied in this order: what changed, then what ended.
#[derive(Debug, Default)]
pub(crate) struct AlarmChunk {
    pub(crate) changed: Vec<Arc<RawValue>>,
    pub(crate) ended: Vec<EndedAlarm>,
    size: EventSize,
}

/// An alarm that is no longer open, or that the client no longer wants.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndedAlarm {
    id: Box<str>,
    device_id: DeviceId,
    change: ChangeKind,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
}

impl AlarmChunk {
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.ended.is_empty()
    }

    fn has_ended(&self, id: &str) -> bool {
        self.ended.iter().any(|ended| *ended.id == *id)
    }
}

/// A page of open alarms.
#[derive(Debug, Default)]
pub(crate) struct AlarmPage {
    pub(crate) alarms: Vec<Arc<RawValue>>,
    /// Where the next page begins; `None` if there is none.
    pub(crate) next: Option<AlarmKey>,
}

impl AlarmTable {
    /// Returns the number of transitions so far.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether the device has open alarms.
    pub(super) fn has(&self, device: &DeviceId) -> bool {
        self.devices.contains_key(device)
    }

    /// Whether the open alarms of a device are not those that are kept, or are kept with a position of another epoch. Such a position covers
    /// nothing in an acknowledgement.
    pub(super) fn differs(&self, device: &DeviceId, epoch: Epoch, alarms: &[Alarm]) -> bool {
        let kept = self.devices.get(device).map_or(0, Vec::len);
        let is_kept = |alarm: &Alarm| {
            let open = self.order.get(&AlarmKey::of(alarm));
            open.is_some_and(|open| open.epoch == epoch && open.count == alarm.count)
        };
        kept != alarms.len() || !alarms.iter().all(is_kept)
    }

    /// Returns the cursor of a client that is sent all open alarms now.
    pub(crate) fn cursor(&self) -> AlarmCursor {
        AlarmCursor {
            version: self.version,
        }
    }

    /// Transitions may have been missed: every client is sent all open alarms again.
    pub(crate) fn doubt(&mut self) {
        // Behind every cursor.
        self.version += 1;
        self.kept.clear();
    }

    /// Applies one transition of a device's alarm.
    pub(crate) fn apply(
        &mut self,
        device: &DeviceId,
        position: Position,
        changed: &ChangedAlarm,
        profile: &Profile,
        now: Time,
    ) {
        let ChangedAlarm { alarm, change } = changed;
        if alarm.cleared_at.is_some() {
            self.end(device, &alarm.id, *change, alarm.cleared_at.unwrap_or(now));
        } else {
            self.open(device, alarm, *change, profile, position, now);
        }
    }

    /// Replaces the open alarms of a device by these. What differs becomes a transition.
    pub(crate) fn set(
        &mut self,
        device: &DeviceId,
        position: Position,
        alarms: &[Alarm],
        profile: &Profile,
        now: Time,
    ) {
        let known = self.devices.get(device).cloned().unwrap_or_default();
        for key in known {
            if !alarms.iter().any(|alarm| *alarm.id == *key.id()) {
                self.end(device, key.id(), Some(ChangeKind::Cleared), now);
            }
        }
        for alarm in alarms {
            let text = event::listed_alarm(device, alarm, None, profile, position);
            let before = self.order.get(&AlarmKey::of(alarm));
            let is_same = before.is_some_and(|before| is_same_alarm(&before.text, &text));
            if !is_same {
                self.open(device, alarm, None, profile, position, now);
            }
        }
    }

    /// Ends the open alarms of a device that is gone.
    pub(crate) fn remove(&mut self, device: &DeviceId, now: Time) {
        for key in self.devices.get(device).cloned().unwrap_or_default() {
            self.end(device, key.id(), Some(ChangeKind::Retired), now);
        }
    }

    fn open(
        &mut self,
        device: &DeviceId,
        alarm: &Alarm,
        change: Option<ChangeKind>,
        profile: &Profile,
        position: Position,
        at: Time,
    ) {
        let render = |change| -> Arc<RawValue> {
            event::listed_alarm(device, alarm, change, profile, position).into()
        };
        let text = render(None);
        let place = Arc::new(Place::of(profile));
        let key = AlarmKey::of(alarm);
        let keys = self.devices.entry(device.clone()).or_default();
        match keys.iter_mut().find(|known| known.id() == key.id()) {
            Some(known) => {
                self.order.remove(known);
                *known = key.clone();
            }
            None => keys.push(key.clone()),
        }
        let transition = match change {
            Some(_) => render(change),
            None => Arc::clone(&text),
        };
        let open = OpenAlarm {
            device: device.clone(),
            place: Arc::clone(&place),
            text,
            epoch: position.epoch,
            count: alarm.count,
        };
        self.order.insert(key.clone(), open);
        self.keep(Transition {
            device: device.clone(),
            place,
            key,
            change,
            at,
            text: Some(transition),
        });
    }

    fn end(&mut self, device: &DeviceId, id: &str, change: Option<ChangeKind>, at: Time) {
        let Some(keys) = self.devices.get_mut(device) else {
            return;
        };
        let Some(index) = keys.iter().position(|key| key.id() == id) else {
            return;
        };
        let key = keys.swap_remove(index);
        if keys.is_empty() {
            self.devices.remove(device);
        }
        let open = self.order.remove(&key);
        self.keep(Transition {
            device: device.clone(),
            place: open.map(|open| open.place).unwrap_or_default(),
            key,
            change,
            at,
            text: None,
        });
    }

    fn keep(&mut self, transition: Transition) {
        self.version += 1;
        self.kept.push_back(transition);
        if self.kept.len() > MAX_KEPT {
            self.kept.pop_front();
        }
    }

    /// Returns the open alarms behind this place that a client wants, most urgent first.
    pub(crate) fn page(
        &self,
        after: Option<&AlarmKey>,
        filter: &AlarmFilter,
        may_read: impl Fn(&DeviceId) -> bool,
    ) -> AlarmPage {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = AlarmPage::default();
        let (mut last, mut size) = (None, EventSize::default());
        for (key, open) in self.order.range((from, Bound::Unbounded)) {
            let is_wanted = filter.matches_severity(key.severity())
                && filter.matches_device(&open.device)
                && filter.matches_place(&open.place)
                && may_read(&open.device);
            if !is_wanted {
                continue;
            }
            if !size.add(open.text.get().len() + 1) {
                page.next = last;
                return page;
            }
            page.alarms.push(Arc::clone(&open.text));
            last = Some(key.clone());
        }
        page
    }

    /// Returns the next transitions for a client, and moves its cursor behind them. `None` if it must be sent all open alarms again.
    pub(crate) fn next(
        &self,
        cursor: &mut AlarmCursor,
        filter: &AlarmFilter,
        may_read: impl Fn(&DeviceId) -> bool,
    ) -> Option<AlarmChunk> {
        let first = self.version - self.kept.len() as u64;
        if cursor.version < first {
            return None;
        }
        let skipped = usize::try_from(cursor.version - first).unwrap_or(usize::MAX);
        let mut chunk = AlarmChunk::default();
        for transition in self.kept.iter().skip(skipped) {
            let Transition { device, key, .. } = transition;
            if !filter.matches_device(device) || !may_read(device) {
                cursor.version += 1;
                continue;
            }
            let is_listed =
                filter.matches_severity(key.severity()) && filter.matches_place(&transition.place);
            let text = transition.text.as_ref().filter(|_| is_listed);
            let bytes = text.map_or_else(|| transition.ended_bytes(), |text| text.get().len() + 1);
            // An alarm that ended and is open again must not be removed behind that.
            if chunk.has_ended(key.id()) || !chunk.size.add(bytes) {
                break;
            }
            cursor.version += 1;
            match text {
                Some(text) => chunk.changed.push(Arc::clone(text)),
                None => chunk.ended.push(transition.ended()),
            }
        }
        Some(chunk)
    }
}

impl Transition {
    /// The most bytes of what [`Self::ended`] returns.
    fn ended_bytes(&self) -> usize {
        text_bytes(self.key.id()) + text_bytes(self.device.as_str()) + ENDED_OVERHEAD
    }

    fn ended(&self) -> EndedAlarm {
        let change = match self.text {
            // It is open, and no longer matches the filter.
            Some(_) => self.change.unwrap_or(ChangeKind::DeEscalated),
            None => self.change.unwrap_or(ChangeKind::Cleared),
        };
        EndedAlarm {
            id: self.key.id().into(),
            device_id: self.device.clone(),
            change,
            timestamp: self.at,
        }
    }
}

/// Whether two renderings differ at most in the seq of the position, which is at the end. With another epoch it is another one: a position of the
/// earlier epoch covers nothing in an acknowledgement.
fn is_same_alarm(one: &RawValue, other: &RawValue) -> bool {
    let alarm = |text: &RawValue| {
        let text = text.get();
        text.rfind(r#","seq":"#).map_or(0, |end| end)
    };
    let (end, other_end) = (alarm(one), alarm(other));
    one.get()[..end] == other.get()[..other_end]
}

#[cfg(test)]
mod tests;

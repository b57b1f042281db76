//! Converts between a [`DeviceState`] and the fields of its Redis hash.
//!
//! Only fields that changed are written. Fields that this release does not know are left as they are, so a replica of an
//! older release does not erase fields of a newer one.

pub(super) mod alarm_fields;
mod earlier_writes;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use redis::{FromRedisValue, RedisResult, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(super) use self::alarm_fields::MoreAlarms;
use super::Loaded;
use super::reply::{bytes, items, text, time_of_score, wrong_answer};
use crate::alarm::Alarm;
use crate::decide::StoredDevice;
use crate::device::DeviceId;
use crate::position::{Epoch, Position};
use crate::profile::Profile;
use crate::state::{DeviceMemory, DeviceState, Latest};

/// Decodes the answer of `load` in `state.lua`.
pub(super) fn decode_answer(device: &DeviceId, answer: Value) -> RedisResult<Loaded> {
    let mut items = items(answer)?.into_iter();
    let mut next = || items.next().unwrap_or(Value::Nil);
    if String::from_redis_value(next())? != "state" {
        let reason = String::from_redis_value(next())?;
        return Ok(Loaded::Refused(reason));
    }
    let epoch = text(next())?.and_then(|epoch| epoch.parse::<Epoch>().ok());
    let Some(epoch) = epoch else {
        return Err(wrong_answer("a partition without an epoch"));
    };
    // The score of the device in the sorted set `seen`.
    let score = text(next())?;
    let is_listed = score.is_some();
    let last_message = score
        .and_then(|score| score.parse::<f64>().ok())
        .filter(|score| *score > 0.0)
        .map(time_of_score);
    let seq_floor = u64::from_redis_value(next())?;
    let rev = bytes(next())?;
    let event_epoch = text(next())?;
    let seq = bytes(next())?;
    let stored_rev = [
        rev.as_deref().unwrap_or_default(),
        seq.as_deref().unwrap_or_default(),
    ]
    .join(&b' ');
    let fields = Fields {
        rev,
        epoch: event_epoch,
        seq: seq.and_then(|seq| String::from_utf8(seq).ok()),
        alarms: text(next())?,
        order: text(next())?,
        fingerprints: bytes(next())?,
        latest: text(next())?,
        memory: text(next())?,
        more: text(next())?,
    };
    // A device that is listed in `seen` has been stored. If its hash is missing, its state is lost.
    let is_new = fields.rev.is_none() && fields.latest.is_none() && !is_listed;
    let state = if is_new {
        Some(DeviceState::default())
    } else {
        fields.decode()
    };
    let lost = state.is_none();
    let seq = fields.seq.as_deref().and_then(|seq| seq.parse().ok());
    let state = state.unwrap_or_else(|| fields.decode_lost());
    Ok(Loaded::Device(Box::new(StoredDevice {
        device: device.clone(),
        epoch,
        stored_rev,
        state: Arc::new(state),
        seq_floor: seq_floor.max(seq.unwrap_or(0)),
        lost,
        last_message,
        deadline_by: None,
    })))
}

/// A field of the hash that a commit writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Rev,
    Epoch,
    Seq,
    Alarms,
    More,
    Order,
    Fingerprints,
    Latest,
    Memory,
}

impl Field {
    /// Its name in Redis.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rev => "rev",
            Self::Epoch => "epoch",
            Self::Seq => "seq",
            Self::Alarms => "alarms",
            Self::More => "more",
            Self::Order => "order",
            Self::Fingerprints => "prints",
            Self::Latest => "latest",
            Self::Memory => "memory",
        }
    }

    /// Writes its value in this state. Into memory, which cannot fail.
    pub(super) fn write(self, state: &DeviceState, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Rev => write!(out, "{}", state.rev),
            Self::Epoch => write!(out, "{}", state.position.epoch),
            Self::Seq => write!(out, "{}", state.position.seq),
            Self::Alarms => Ok(serde_json::to_writer(out, &alarm_fields::split(state).0)?),
            Self::More => Ok(serde_json::to_writer(out, &alarm_fields::split(state).1)?),
            Self::Order => Ok(serde_json::to_writer(out, &state.order)?),
            Self::Fingerprints => {
                let mut numbers = state.fingerprints.iter();
                numbers.try_for_each(|number| out.write_all(&number.to_be_bytes()))
            }
            Self::Latest => Ok(serde_json::to_writer(out, &state.latest)?),
            Self::Memory => Ok(serde_json::to_writer(out, &state.memory)?),
        }
    }

    /// Returns its value in this state.
    pub(super) fn value(self, state: &DeviceState) -> Vec<u8> {
        /// Most values fit without growing.
        const CAPACITY: usize = 1024;
        let mut bytes = Vec::with_capacity(CAPACITY);
        self.write(state, &mut bytes)
            .expect("structs of strings and numbers always serialise");
        bytes
    }
}

/// Returns the fields of the hash that differ between the two states. `rev` is always among them.
pub(super) fn changed_fields(before: &DeviceState, after: &DeviceState) -> Vec<Field> {
    // Also true if the state was lost.
    let is_new = before.latest.is_none();
    let mut fields = Vec::with_capacity(9);
    fields.push(Field::Rev);
    if is_new || before.position.epoch != after.position.epoch {
        fields.push(Field::Epoch);
    }
    if is_new || before.position != after.position {
        fields.push(Field::Seq);
    }
    if is_new || before.alarms != after.alarms || before.closed != after.closed {
        let (alarms_before, more_before) = alarm_fields::split(before);
        let (alarms, more) = alarm_fields::split(after);
        if is_new || alarms_before != alarms {
            fields.push(Field::Alarms);
        }
        // A lost state is deleted before it is written again.
        if more_before != more || (is_new && more != MoreAlarms::default()) {
            fields.push(Field::More);
        }
    }
    if is_new || before.order != after.order {
        fields.push(Field::Order);
    }
    if is_new || before.fingerprints != after.fingerprints {
        fields.push(Field::Fingerprints);
    }
    if is_new || before.latest != after.latest {
        fields.push(Field::Latest);
    }
    if is_new || before.memory != after.memory {
        fields.push(Field::Memory);
    }
    fields
}

/// The alarms of [`MoreAlarms`], not decoded yet.
#[derive(Default, Deserialize)]
struct Unread {
    #[serde(default)]
    alarms: Vec<Box<RawValue>>,
}

/// The fields of the hash, not decoded yet.
struct Fields {
    rev: Option<Vec<u8>>,
    epoch: Option<String>,
    seq: Option<String>,
    alarms: Option<String>,
    order: Option<String>,
    /// Stored as `prints`: 8 bytes each, big-endian.
    fingerprints: Option<Vec<u8>>,
    latest: Option<String>,
    memory: Option<String>,
    /// Alarms that earlier releases do not know.
    more: Option<String>,
}

impl Fields {
    fn rev(&self) -> Option<u64> {
        std::str::from_utf8(self.rev.as_ref()?).ok()?.parse().ok()
    }

    /// Decodes the parts of a lost state that the next decision needs: its rev for the comparison, each open alarm that can be
    /// read, and its memory. A standing alarm must not end because something else is unreadable.
    fn decode_lost(&self) -> DeviceState {
        let alarms: Vec<Box<RawValue>> = parse(self.alarms.as_ref()).unwrap_or_default();
        let more: Vec<Box<RawValue>> = parse::<Unread>(self.more.as_ref())
            .map(|more| more.alarms)
            .unwrap_or_default();
        let readable = |alarms: Vec<Box<RawValue>>| {
            let alarms = alarms.into_iter();
            let read = alarms.filter_map(|alarm| serde_json::from_str(alarm.get()).ok());
            read.collect()
        };
        let rev = self.rev().unwrap_or(0);
        let memory: DeviceMemory = parse(self.memory.as_ref()).unwrap_or_default();
        let more = MoreAlarms {
            alarms: readable(more),
            closed: Vec::new(),
        };
        let latest: Option<Latest> = parse(self.latest.as_ref());
        let mut alarms: Vec<Alarm> = readable(alarms);
        earlier_writes::complete_all(&mut alarms, latest.as_ref(), &memory, rev);
        DeviceState {
            rev,
            alarms: alarm_fields::join(alarms, more, latest.as_ref()),
            memory,
            ..DeviceState::default()
        }
    }

    /// Decodes the state. Returns `None` if a field is missing or cannot be read.
    fn decode(&self) -> Option<DeviceState> {
        let fingerprints = self.fingerprints.as_ref()?;
        if fingerprints.len() % 8 != 0 {
            return None;
        }
        let number = |chunk: &[u8]| chunk.try_into().map(u64::from_be_bytes).unwrap_or_default();
        let fingerprints: VecDeque<u64> = fingerprints.chunks_exact(8).map(number).collect();
        let mut state = DeviceState {
            order: parse(self.order.as_ref())?,
            fingerprints,
            ..self.decode_shown()?
        };
        earlier_writes::forget_rows(&mut state);
        Some(state)
    }

    /// Decodes what is shown of the device: everything but what orders its next message.
    fn decode_shown(&self) -> Option<DeviceState> {
        let more: MoreAlarms = match &self.more {
            Some(_) => parse(self.more.as_ref())?,
            None => MoreAlarms::default(),
        };
        let closed = more.closed.clone();
        let latest: Option<Latest> = parse(self.latest.as_ref())?;
        let rev = self.rev()?;
        let memory: DeviceMemory = parse(self.memory.as_ref())?;
        let mut alarms: Vec<Alarm> = parse(self.alarms.as_ref())?;
        earlier_writes::complete_all(&mut alarms, latest.as_ref(), &memory, rev);
        let alarms = alarm_fields::join(alarms, more, latest.as_ref());
        Some(DeviceState {
            rev,
            position: self.position()?,
            alarms,
            closed,
            latest,
            memory,
            ..DeviceState::default()
        })
    }

    fn position(&self) -> Option<Position> {
        Some(Position {
            epoch: self.epoch.as_ref()?.parse().ok()?,
            seq: self.seq.as_ref()?.parse().ok()?,
        })
    }
}

/// The field with what operators say about a device. No decision reads or writes it.
pub(super) const PROFILE: &str = "profile";

/// Decodes that field. What cannot be read is as if there were nothing.
pub(super) fn decode_profile(text: &str) -> Profile {
    serde_json::from_str(text).unwrap_or_default()
}

/// What is shown of a device.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The state, without what orders the next message. Of a lost state only its position, its memory and the alarms that can be read.
    pub state: DeviceState,
    /// What operators say about it.
    pub profile: Profile,
    /// The stored state cannot be read.
    pub is_lost: bool,
}

/// The fields of the hash that are needed to show a device, in the order of [`decode_shown`].
pub(super) const SHOWN_FIELDS: [&str; 8] = [
    "rev", "epoch", "seq", "alarms", "more", "latest", "memory", PROFILE,
];

/// Decodes what is shown of a device from the values of [`SHOWN_FIELDS`]. `None` if nothing of it is stored.
pub(super) fn decode_shown(values: Value) -> RedisResult<Option<Shown>> {
    let mut values = items(values)?.into_iter();
    let mut next = || values.next().unwrap_or(Value::Nil);
    let fields = Fields {
        rev: bytes(next())?,
        epoch: text(next())?,
        seq: text(next())?,
        alarms: text(next())?,
        more: text(next())?,
        latest: text(next())?,
        memory: text(next())?,
        order: None,
        fingerprints: None,
    };
    let profile = text(next())?.map(|text| decode_profile(&text));
    let profile = profile.unwrap_or_default();
    if fields.rev.is_none() && fields.alarms.is_none() && fields.latest.is_none() {
        return Ok(None);
    }
    if let Some(state) = fields.decode_shown() {
        return Ok(Some(Shown {
            state,
            profile,
            is_lost: false,
        }));
    }
    let position = fields.position().unwrap_or_default();
    Ok(Some(Shown {
        state: DeviceState {
            position,
            ..fields.decode_lost()
        },
        profile,
        is_lost: true,
    }))
}

fn parse<T: DeserializeOwned>(text: Option<&String>) -> Option<T> {
    serde_json::from_str(text?).ok()
}

pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    /// Most values fit without growing.
    const CAPACITY: usize = 1024;
    let mut bytes = Vec::with_capacity(CAPACITY);
    serde_json::to_writer(&mut bytes, value)
        .expect("structs of strings and numbers always serialise");
    bytes
}

/// Encodes a state and decodes it again.
#[cfg(any(test, fuzzing))]
pub(crate) fn round_trip(state: &DeviceState) -> DeviceState {
    let fields = changed_fields(&DeviceState::default(), state);
    let fields = fields.into_iter();
    let stored: std::collections::HashMap<_, _> = fields
        .map(|field| (field.name(), field.value(state)))
        .collect();
    let text = |field| {
        stored
            .get(field)
            .and_then(|bytes| String::from_utf8(bytes.clone()).ok())
    };
    let fields = Fields {
        rev: stored.get("rev").cloned(),
        epoch: text("epoch"),
        seq: text("seq"),
        alarms: text("alarms"),
        order: text("order"),
        fingerprints: stored.get("prints").cloned(),
        latest: text("latest"),
        memory: text("memory"),
        more: text("more"),
    };
    fields.decode().expect("what was stored can be read")
}

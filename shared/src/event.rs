//! Renders everything that clients read. The writer renders an event once, and the published bytes are never changed afterwards.
//!
//! The events and payloads are described in `shared/README.md` and `gateway/README.md`.

mod more;
mod skipped;
mod telemetry;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::alarm::{Alarm, AlarmState, Change, ChangeKind, Condition, Severity};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::device::DeviceId;
use crate::position::{Epoch, Position};
use crate::profile::Profile;
use crate::reading::{Coordinate, Quality, Reading, Side};
use crate::state::{DeviceState, Freshness, Latest};

pub use more::{fields_without_more, mark_all_but_last, with_more};
pub use skipped::{skipped_before, with_skipped};
pub use telemetry::telemetry;

/// The event of one commit: an envelope around finished payloads.
///
/// The gateway reads the envelope and forwards the payloads unparsed, in this order: `data`, `alerts`, `changes`. All but the last
/// of them have `more: true`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event<'a> {
    /// Epoch of the position.
    pub epoch: Epoch,
    /// Number of the position.
    pub seq: u64,
    /// Number of positions before it that have no event: it has a newer reading than they would.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// The previous state was lost: clients replace the data and alarms they show by `data` and `alerts`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshot: bool,
    /// The device was retired: data that clients still show is no longer current, and nothing of the device is stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
    /// Server time of the commit.
    pub at: Time,
    /// The commit was caused by a message that proves the device alive.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alive: bool,
    /// Server time at which the reading that is shown was taken; absent if it is `at`, or unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Time>,
    /// W3C `traceparent` of the commit.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<std::borrow::Cow<'a, str>>,
    /// Payload of `device:data`, if `data` changed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
    /// Payload of `device:alerts`, if an alarm was raised or escalated.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<&'a RawValue>,
    /// Payload of `device:alerts:changed`, if an alarm changed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<&'a RawValue>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `data` of `device:data`: the normalised reading, in the order of the wire (see `gateway/README.md`).
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names on the wire")]
struct Data<'a> {
    device_name: &'a str,
    serial_number: &'a str,
    gas_type: &'a str,
    timestamp: std::borrow::Cow<'a, str>,
    unit: &'a str,
    message_type: &'a str,
    sender: &'a str,
    sensor_reading: Option<Decimal>,
    offset: Option<Decimal>,
    alarm_status: &'static str,
    span_high: Decimal,
    span_low: Decimal,
    a1_level: Decimal,
    a2_level: Decimal,
    a3_level: Decimal,
    decimal_point: Decimal,
    a1_type: &'a str,
    a1_hysteresis: Decimal,
    a1_latching: Decimal,
    a1_siren: Decimal,
    a1_buzzer: Decimal,
    alarm1_led: Decimal,
    alarm2_led: Decimal,
    alarm3_led: Decimal,
    sensor_fault: Decimal,
    latitude: &'a Coordinate,
    longitude: &'a Coordinate,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_message: Option<&'a RawValue>,
    #[serde(serialize_with = "iso")]
    processed_at: Time,
    data_quality: Quality,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    clock_suspect: bool,
    #[serde(flatten)]
    judged: Judged,
}

/// How a reading is judged, where that is not what its other fields say. Each is absent in the usual case, as it is sent with every reading.
#[derive(Debug, Serialize)]
pub struct Judged {
    /// The dangerous side of each level, A1 first; `None` for a level that is not used. Absent if all are used, and high.
    #[serde(skip_serializing_if = "Option::is_none")]
    level_sides: Option<[Option<Side>; 3]>,
    /// The measuring range is not known: what is shown are defaults.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    span_unknown: bool,
    /// The device counts as silent after so long. Absent if that is [`USUAL_SILENCE_MS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    silence_limit_ms: Option<i64>,
}

/// Without `silence_limit_ms` a device counts as silent after so long.
const USUAL_SILENCE_MS: i64 = 180_000;

/// Returns how the latest reading is judged, for clients.
#[must_use]
pub fn judged(state: &DeviceState, latest: &Latest) -> Judged {
    let sides = std::array::from_fn(|index| latest.used[index].then_some(latest.sides[index]));
    // Without `level_sides` clients go by `a1_type`, as data of earlier releases has nothing else.
    let is_sent_as_high = !latest.reading.a1_type.starts_with(['l', 'L']);
    let is_usual = is_sent_as_high && sides.iter().all(|side| *side == Some(Side::High));
    let limit = state.memory.silence_limit_ms;
    Judged {
        level_sides: (!is_usual).then_some(sides),
        span_unknown: latest.reading.span_high.or(state.memory.span[1]).is_none(),
        // Without one, ingest has not decided yet: nothing is known.
        silence_limit_ms: (limit != USUAL_SILENCE_MS && limit > 0).then_some(limit),
    }
}

/// Returns the measuring range for clients: as sent, else as sent last, else that of the system this one replaces.
#[must_use]
pub fn shown_span(state: &DeviceState, reading: &Reading) -> [Decimal; 2] {
    let [low, high] = state.memory.span;
    [
        reading.span_low.or(low).unwrap_or(Decimal::ZERO),
        reading
            .span_high
            .or(high)
            .unwrap_or(Decimal::from_int(2000)),
    ]
}

/// An alert, in the order of the wire (see `gateway/README.md`). `change` comes last, and only in `device:alerts:changed`.
#[derive(Debug, Serialize)]
struct Alert<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    condition: Condition,
    severity: Severity,
    message: &'a str,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
    device_name: &'a str,
    serial_number: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<Decimal>,
    current_value: Option<Decimal>,
    unit: &'a str,
    gas_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "iso_option")]
    acknowledged_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_by: Option<&'a str>,
    state: AlarmState,
    peak_value: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_type: Option<Condition>,
    count: u32,
    #[serde(serialize_with = "iso")]
    raised_at: Time,
    #[serde(serialize_with = "iso_option")]
    cleared_at: Option<Time>,
    reading_timestamp: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_note: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<ChangeKind>,
}

/// Why a payload of `device:data` or `device:alerts` is sent. All kinds but `Live` add a flag to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// It is part of a published event.
    Live,
    /// It answers a subscription, repairs a gap, or replaces a lost state: `snapshot: true`.
    Snapshot,
    /// It repeats values that became stale: `stale: true`.
    Stale,
}

impl PayloadKind {
    fn is_snapshot(self) -> bool {
        self == Self::Snapshot
    }

    fn is_stale(self) -> bool {
        self == Self::Stale
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceData<'a> {
    device_id: &'a DeviceId,
    data: Data<'a>,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
    epoch: Epoch,
    seq: u64,
    #[serde(rename = "age_ms")]
    age_ms: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    snapshot: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceAlerts<'a> {
    device_id: &'a DeviceId,
    alerts: Vec<Alert<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "iso_option")]
    timestamp: Option<Time>,
    epoch: Epoch,
    seq: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    snapshot: bool,
}

/// Returns `ALARM` or `NORMAL`. The front end prints "Normal Operation" for `NORMAL`, even without a good reading.
#[must_use]
pub fn alarm_status(state: &DeviceState, freshness: Freshness) -> &'static str {
    word_of(is_in_alarm(state, freshness))
}

/// Whether a device is in alarm, or its state is unknown.
#[must_use]
pub fn is_in_alarm(state: &DeviceState, freshness: Freshness) -> bool {
    state.in_alarm() || freshness != Freshness::Fresh
}

/// Returns the word for a device or a reading that is in alarm, or is not.
#[must_use]
pub fn word_of(in_alarm: bool) -> &'static str {
    if in_alarm { "ALARM" } else { "NORMAL" }
}

/// Serialises whether a device is in alarm as `ALARM` or `NORMAL`.
///
/// # Errors
/// The serializer fails.
pub fn status_word<S: Serializer>(in_alarm: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word_of(*in_alarm))
}

/// Returns the quality of the reading at this freshness.
#[must_use]
pub fn data_quality(state: &DeviceState, freshness: Freshness) -> Quality {
    match freshness {
        Freshness::Fresh => state.quality(),
        Freshness::Unheard => state.quality().min(Quality::Uncertain),
        Freshness::Stale => Quality::Offline,
    }
}

/// Returns the normalised reading for REST; `None` for a device without any reading.
#[must_use]
pub fn data(
    state: &DeviceState,
    freshness: Freshness,
    raw_message: Option<&RawValue>,
) -> Option<Box<RawValue>> {
    let latest = state.latest.as_ref()?;
    Some(to_raw(&render_data(state, latest, freshness, raw_message)))
}

/// Renders the payload of `device:data`; `None` for a device without any reading.
#[must_use]
pub fn device_data(
    state: &DeviceState,
    freshness: Freshness,
    kind: PayloadKind,
    raw_message: Option<&RawValue>,
) -> Option<Box<RawValue>> {
    let latest = state.latest.as_ref()?;
    let data = device_data_of(state, latest, freshness, kind, raw_message);
    Some(to_raw(&data))
}

fn device_data_of<'a>(
    state: &DeviceState,
    latest: &'a Latest,
    freshness: Freshness,
    kind: PayloadKind,
    raw_message: Option<&'a RawValue>,
) -> DeviceData<'a> {
    let since_taken_ms = latest.published_at.millis_since(latest.taken_at);
    DeviceData {
        device_id: &latest.reading.device,
        data: render_data(state, latest, freshness, raw_message),
        timestamp: latest.published_at,
        epoch: state.position.epoch,
        seq: state.position.seq,
        age_ms: latest.age_ms.map(|age| age.saturating_add(since_taken_ms)),
        snapshot: kind.is_snapshot(),
        stale: kind.is_stale(),
    }
}

/// Renders the payload of `device:alerts`: the alarms that were raised or escalated or, in a snapshot, all open ones.
#[must_use]
pub fn device_alerts<'a>(
    device: &DeviceId,
    alarms: impl IntoIterator<Item = &'a Alarm>,
    position: Position,
    kind: PayloadKind,
) -> Box<RawValue> {
    to_raw(&DeviceAlerts {
        device_id: device,
        alerts: alarms
            .into_iter()
            .map(|alarm| render_alert(device, alarm, None))
            .collect(),
        timestamp: None,
        epoch: position.epoch,
        seq: position.seq,
        snapshot: kind.is_snapshot(),
    })
}

/// Renders the payload of `device:alerts:changed`: one alert per change, in order, each in its state after the change.
#[must_use]
pub fn device_alerts_changed(
    device: &DeviceId,
    changes: &[Change],
    position: Position,
    at: Time,
) -> Box<RawValue> {
    to_raw(&DeviceAlerts {
        device_id: device,
        alerts: changes
            .iter()
            .map(|change| render_alert(device, &change.alarm, Some(change.kind)))
            .collect(),
        timestamp: Some(at),
        epoch: position.epoch,
        seq: position.seq,
        snapshot: false,
    })
}

/// Renders one alert for REST.
#[must_use]
pub fn alert(device: &DeviceId, alarm: &Alarm) -> Box<RawValue> {
    to_raw(&render_alert(device, alarm, None))
}

/// An alarm in a list of the alarms of all devices.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedAlarm<'a> {
    #[serde(flatten)]
    alert: Alert<'a>,
    device_id: &'a DeviceId,
    /// The name that operators have given it.
    name: Option<&'a str>,
    zone: Option<&'a str>,
    site: Option<&'a str>,
    epoch: Epoch,
    seq: u64,
}

/// Renders one alarm for lists of the alarms of all devices, as it was at this position. `change`: the transition that is sent.
#[must_use]
pub fn listed_alarm(
    device: &DeviceId,
    alarm: &Alarm,
    change: Option<ChangeKind>,
    profile: &Profile,
    position: Position,
) -> Box<RawValue> {
    to_raw(&ListedAlarm {
        alert: render_alert(device, alarm, change),
        device_id: device,
        name: profile.name.as_deref(),
        zone: profile.zone.as_deref(),
        site: profile.site.as_deref(),
        epoch: position.epoch,
        seq: position.seq,
    })
}

fn render_data<'a>(
    state: &DeviceState,
    latest: &'a Latest,
    freshness: Freshness,
    raw_message: Option<&'a RawValue>,
) -> Data<'a> {
    let reading: &'a Reading = &latest.reading;
    let timestamp = match &reading.timestamp {
        Some(text) => std::borrow::Cow::Borrowed(text.as_str()),
        None => std::borrow::Cow::Owned(latest.taken_at.to_iso()),
    };
    let [a1, a2, a3] = latest.levels;
    let [span_low, span_high] = shown_span(state, reading);
    let [led1, led2, led3] = reading.leds;
    Data {
        device_name: &reading.device_name,
        serial_number: reading.device.as_str(),
        gas_type: &reading.gas_type,
        timestamp,
        unit: &reading.unit,
        message_type: &reading.message_type,
        sender: &reading.sender,
        sensor_reading: reading.value,
        offset: reading.value,
        alarm_status: alarm_status(state, freshness),
        span_high,
        span_low,
        a1_level: a1,
        a2_level: a2,
        a3_level: a3,
        decimal_point: reading.decimal_point,
        a1_type: &reading.a1_type,
        a1_hysteresis: reading.levels[0].hysteresis.unwrap_or_default(),
        a1_latching: reading.levels[0].latching.unwrap_or_default(),
        a1_siren: reading.a1_siren,
        a1_buzzer: reading.a1_buzzer,
        alarm1_led: led1,
        alarm2_led: led2,
        alarm3_led: led3,
        sensor_fault: reading.sensor_fault,
        latitude: &reading.latitude,
        longitude: &reading.longitude,
        raw_message,
        processed_at: latest.taken_at,
        data_quality: data_quality(state, freshness),
        clock_suspect: latest.clock_suspect,
        judged: judged(state, latest),
    }
}

fn render_alert<'a>(
    device: &'a DeviceId,
    alarm: &'a Alarm,
    change: Option<ChangeKind>,
) -> Alert<'a> {
    let acknowledged = alarm.acknowledged.as_ref();
    Alert {
        id: &alarm.id,
        condition: alarm.condition,
        severity: alarm.severity(),
        message: &alarm.message,
        timestamp: alarm.changed_at,
        device_name: &alarm.device_name,
        serial_number: device.as_str(),
        threshold: alarm.threshold,
        current_value: alarm.value,
        unit: &alarm.unit,
        gas_type: &alarm.gas_type,
        acknowledged_at: acknowledged.map(|a| a.at),
        acknowledged_by: acknowledged.map(|a| a.by.as_str()),
        state: alarm.state(),
        peak_value: alarm.peak_value,
        peak_type: alarm.peak,
        count: alarm.count,
        raised_at: alarm.raised_at,
        cleared_at: alarm.cleared_at,
        reading_timestamp: alarm.reading_timestamp.as_deref(),
        acknowledged_note: acknowledged.and_then(|a| a.note.as_deref()),
        change,
    }
}

/// Renders a value whose serialisation cannot fail, such as a struct of texts and numbers.
pub(crate) fn to_raw<T: Serialize>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("structs of strings and numbers always serialise")
}

/// Serialises a time as RFC 3339 in UTC with milliseconds.
pub fn iso<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_iso())
}

/// Serialises an optional time as RFC 3339 in UTC with milliseconds, or `null`.
pub fn iso_option<S: Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => iso(time, serializer),
        None => serializer.serialize_none(),
    }
}

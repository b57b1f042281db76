//! One device as the fleet shows it: rendered once, for all clients. Pure.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use shared::alarm::Alarm;
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::device_status::{DeviceStatus, device_status};
use shared::event::{self, iso_option};
use shared::position::Epoch;
use shared::profile::Profile;
use shared::reading::{Coordinate, Quality};
use shared::state::{DeviceState, Freshness, freshness};

use super::filter::Place;
use super::located;
use crate::location::Location;

/// What changes when the device is silent for too long. It begins the row, so that the rest stays as it is.
#[derive(Serialize)]
struct Head<'a> {
    #[serde(rename = "deviceId")]
    device_id: &'a DeviceId,
    id: &'a DeviceId,
    status: DeviceStatus,
    alarm_status: &'static str,
    data_quality: Quality,
    offline: bool,
}

#[derive(Serialize)]
struct Rest<'a> {
    name: &'a str,
    gas_type: &'a str,
    unit: &'a str,
    sensor_reading: Option<Decimal>,
    #[serde(rename = "lastSeen", serialize_with = "iso_option")]
    last_seen: Option<Time>,
    timestamp: &'a str,
    location: String,
    latitude: &'a Coordinate,
    longitude: &'a Coordinate,
    span_high: Decimal,
    span_low: Decimal,
    a1_level: Decimal,
    a2_level: Decimal,
    a3_level: Decimal,
    zone: Option<&'a str>,
    site: Option<&'a str>,
    alarms: usize,
    level: Option<&'static str>,
    epoch: Epoch,
    seq: u64,
    /// Who says where it is, unless it is the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
    /// When the reading was taken, if messages without a newer one came since.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "iso_option")]
    reading_at: Option<Time>,
    #[serde(flatten)]
    judged: event::Judged,
}

/// A rendered row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The JSON object, which all clients share.
    pub(super) text: Arc<RawValue>,
    pub(super) status: DeviceStatus,
    /// Length of the part of the text that changes when the device is silent for too long.
    head: usize,
    status_when_stale: DeviceStatus,
    pub(super) place: Place,
    /// Where it is, for clients that follow only that: see [`located`]. `None` if that is not known, or nobody is sent it.
    pub(super) location: Option<Arc<RawValue>>,
    /// When that is; `None` if it is so already, or the device was never heard of.
    pub(super) goes_stale_at: Option<Time>,
}

impl Row {
    /// Renders a device; `None` without a reading.
    pub(crate) fn of(
        state: &DeviceState,
        profile: &Profile,
        last_message: Option<Time>,
        now: Time,
    ) -> Option<Self> {
        let latest = state.latest.as_ref()?;
        let freshness = freshness(state, last_message, now);
        let quality = event::data_quality(state, freshness);
        let goes_stale_at = (freshness == Freshness::Fresh).then(|| {
            let last = last_message.unwrap_or(latest.measured_at());
            let oldest = last.min(latest.measured_at());
            let limit = u64::try_from(state.memory.silence_limit_ms).unwrap_or(0);
            oldest + Duration::from_millis(limit.saturating_add(1))
        });
        let reading = &latest.reading;
        let device = &reading.device;
        let status = device_status(state, quality);
        let head = head_of(
            device,
            status,
            event::alarm_status(state, freshness),
            quality,
        );
        let [span_low, span_high] = event::shown_span(state, reading);
        let [a1_level, a2_level, a3_level] = latest.levels;
        let taken_at = latest.taken_at.to_iso();
        let location = Location::of(profile, reading);
        let rest = Rest {
            name: profile.shown_name(&reading.device_name),
            gas_type: &reading.gas_type,
            unit: &reading.unit,
            sensor_reading: reading.value,
            last_seen: last_message,
            timestamp: reading.timestamp.as_deref().unwrap_or(&taken_at),
            location: location.text(),
            latitude: &location.latitude,
            longitude: &location.longitude,
            span_high,
            span_low,
            a1_level,
            a2_level,
            a3_level,
            zone: profile.zone.as_deref(),
            site: profile.site.as_deref(),
            alarms: state.alarms.len(),
            level: level_of(&state.alarms),
            epoch: state.position.epoch,
            seq: state.position.seq,
            place: location.source,
            reading_at: older(latest.measured_at(), last_message),
            judged: event::judged(state, latest),
        };
        Some(Self {
            text: joined(&head, text_of(&rest).get(1..).unwrap_or_default()),
            status,
            head: head.len(),
            status_when_stale: device_status(state, Quality::Offline),
            place: Place::of(profile),
            location: None,
            goes_stale_at,
        })
    }

    /// Adds where the device is, as [`located::render`] does.
    pub(super) fn with_location(
        self,
        state: &DeviceState,
        profile: &Profile,
        last_message: Option<Time>,
    ) -> Self {
        // One that is silent has no time left at which it falls silent.
        let is_active = self.goes_stale_at.is_some();
        Self {
            location: located::render(state, profile, last_message, is_active),
            ..self
        }
    }

    /// Returns the row as it is once the device has been silent for too long.
    pub(super) fn when_stale(&self, device: &DeviceId) -> Self {
        let status = self.status_when_stale;
        let head = head_of(device, status, "ALARM", Quality::Offline);
        // Behind the comma.
        let rest = self.text.get().get(self.head + 1..).unwrap_or_default();
        Self {
            text: joined(&head, rest),
            status,
            head: head.len(),
            status_when_stale: status,
            place: self.place.clone(),
            location: self.location.as_deref().map(located::when_stale),
            goes_stale_at: None,
        }
    }
}

/// Returns when a reading was taken if that is so long before the last message that it matters to people.
fn older(measured_at: Time, last_message: Option<Time>) -> Option<Time> {
    let is_older = |last: Time| last.millis_since(measured_at) >= 1000;
    last_message.is_none_or(is_older).then_some(measured_at)
}

/// Renders the beginning of the object, without its end.
fn head_of(
    device: &DeviceId,
    status: DeviceStatus,
    alarm_status: &'static str,
    quality: Quality,
) -> String {
    let mut head = text_of(&Head {
        device_id: device,
        id: device,
        status,
        alarm_status,
        data_quality: quality,
        offline: quality == Quality::Offline,
    });
    head.pop();
    head
}

fn joined(head: &str, rest: &str) -> Arc<RawValue> {
    let text = RawValue::from_string(format!("{head},{rest}"));
    text.expect("an object whose beginning and end were rendered")
        .into()
}

fn text_of(part: &impl Serialize) -> String {
    serde_json::to_string(part).expect("structs of strings and numbers always serialise")
}

/// Returns the highest gas level that stands, else whether a fault does.
fn level_of(alarms: &[Alarm]) -> Option<&'static str> {
    let active = || alarms.iter().filter(|alarm| alarm.is_active());
    let gas = active().filter_map(|alarm| alarm.condition.level_index());
    match gas.max() {
        Some(0) => Some("A1"),
        Some(1) => Some("A2"),
        Some(_) => Some("A3"),
        None => active()
            .any(|alarm| alarm.kind().is_danger())
            .then_some("fault"),
    }
}

#[cfg(test)]
mod tests;

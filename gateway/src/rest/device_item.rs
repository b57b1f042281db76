//! One device as `/api/devices` shows it. Freshness and status are evaluated when it is rendered.

use serde::Serialize;
use serde_json::value::RawValue;
use shared::clock::Time;
use shared::device::DeviceId;
use shared::device_status::{DeviceStatus, device_status};
use shared::event::{self, iso, iso_option};
use shared::position::Epoch;
use shared::profile::Profile;
use shared::reading::Quality;
use shared::state::{DeviceState, freshness};

use crate::location::Location;

/// One device: the keys of the replaced system, keys that its front end expected but never got, and the position.
#[derive(Debug, Serialize)]
pub(crate) struct DeviceItem<'a> {
    id: &'a DeviceId,
    device_id: &'a DeviceId,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    status: DeviceStatus,
    #[serde(serialize_with = "iso")]
    last_update: Time,
    data: Box<RawValue>,
    alarm_status: &'static str,
    /// The device is silent, or its reading is too old. Beside the status, which may show an alarm.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    offline: bool,
    #[serde(rename = "deviceId")]
    camel_case_device_id: &'a DeviceId,
    #[serde(rename = "sensorId")]
    sensor_id: &'a DeviceId,
    #[serde(rename = "lastSeen", serialize_with = "iso_option")]
    last_seen: Option<Time>,
    location: String,
    icon: &'static str,
    /// Always empty: the front end would print `%` after every value.
    metrics: [u8; 0],
    epoch: Epoch,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'a str>,
    /// Who says where it is, unless it is the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
}

impl<'a> DeviceItem<'a> {
    /// Returns `None` for a device without a reading.
    pub(crate) fn of(
        state: &'a DeviceState,
        profile: &'a Profile,
        last_message: Option<Time>,
        now: Time,
    ) -> Option<Self> {
        let latest = state.latest.as_ref()?;
        let reading = &latest.reading;
        let freshness = freshness(state, last_message, now);
        let quality = event::data_quality(state, freshness);
        let location = Location::of(profile, reading);
        Some(Self {
            id: &reading.device,
            device_id: &reading.device,
            name: profile.shown_name(&reading.device_name),
            kind: "subtronics_gas_monitor",
            status: device_status(state, quality),
            last_update: latest.taken_at,
            data: event::data(state, freshness, None)?,
            alarm_status: event::alarm_status(state, freshness),
            offline: quality == Quality::Offline,
            camel_case_device_id: &reading.device,
            sensor_id: &reading.device,
            last_seen: last_message,
            location: location.text(),
            icon: "bi bi-cloud-fog",
            metrics: [],
            epoch: state.position.epoch,
            seq: state.position.seq,
            zone: profile.zone.as_deref(),
            site: profile.site.as_deref(),
            place: location.source,
        })
    }
}

#[cfg(test)]
mod tests;

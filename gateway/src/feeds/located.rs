//! Where one device is, as the map of the existing front end expects it. Pure.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::profile::Profile;
use shared::state::DeviceState;

use crate::json;
use crate::location::Location;

/// The end of an object of a device that is heard, and of one that is silent.
const ACTIVE: &str = "true}";
const SILENT: &str = "false}";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Located<'a> {
    device_id: &'a DeviceId,
    name: &'a str,
    latitude: Decimal,
    longitude: Decimal,
    /// Milliseconds since 1970.
    last_seen: i64,
    /// The last field: it alone changes when the device falls silent.
    is_active: bool,
}

/// Renders where a device is; `None` if that is not known.
pub(super) fn render(
    state: &DeviceState,
    profile: &Profile,
    last_message: Option<Time>,
    is_active: bool,
) -> Option<Arc<RawValue>> {
    let latest = state.latest.as_ref()?;
    let reading = &latest.reading;
    let (latitude, longitude) = Location::of(profile, reading).degrees()?;
    let located = Located {
        device_id: &reading.device,
        name: profile.shown_name(&reading.device_name),
        latitude,
        longitude,
        last_seen: last_message.unwrap_or(latest.taken_at).as_millis(),
        is_active,
    };
    Some(json::to_raw(&located).into())
}

/// Returns what was rendered of a device, as it is once the device is silent.
pub(super) fn when_stale(located: &RawValue) -> Arc<RawValue> {
    let text = located.get();
    let text = text.strip_suffix(ACTIVE).map_or_else(
        || text.to_owned(),
        |unchanged| format!("{unchanged}{SILENT}"),
    );
    raw(text)
}

/// Returns the same object with the time at which it is sent.
pub(super) fn with_timestamp(located: &RawValue, now: Time) -> Box<RawValue> {
    let text = located.get();
    let fields = text.strip_suffix('}').unwrap_or(text);
    let text = format!(r#"{fields},"timestamp":"{}"}}"#, now.to_iso());
    RawValue::from_string(text).expect("an object with one more field")
}

fn raw(text: String) -> Arc<RawValue> {
    let text = RawValue::from_string(text);
    text.expect("an object with another last word").into()
}

#[cfg(test)]
mod tests;

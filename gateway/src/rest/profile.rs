//! What operators say about a device: its shown name, its zone and its site, and where it is.

use axum::extract::{Request, State};
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use serde::{Deserialize, Deserializer, Serialize};
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::profile::Profile;
use shared::store::{ProfileSet, StoredProfile};
use shared::visible_text::clean;
use xxhash_rust::xxh3::xxh3_64;

use super::access_check::Requester;
use super::context::RestContext;
use super::path::DevicePath;
use super::{body, reply};
use crate::audit::Done;
use crate::client_address::ClientAddress;
use crate::error::ApiError;
use crate::location::is_within;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProfileReply<'a> {
    success: bool,
    device_id: &'a DeviceId,
    name: Option<&'a str>,
    zone: Option<&'a str>,
    site: Option<&'a str>,
    latitude: Option<Decimal>,
    longitude: Option<Decimal>,
}

/// The body of a change. A field that is absent stays as it is; `null` or an empty text removes it.
#[derive(Debug, Default, Deserialize)]
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three cases"
)]
struct ProfileBody {
    #[serde(default, deserialize_with = "present")]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    zone: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    site: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    latitude: Option<Option<f64>>,
    #[serde(default, deserialize_with = "present")]
    longitude: Option<Option<f64>>,
    /// Who changes it, without a token.
    changed_by: Option<String>,
}

/// Distinguishes a field that is `null` from one that is absent.
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three cases"
)]
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// `GET /api/devices/{deviceId}/profile`
pub(crate) async fn show(
    State(context): State<RestContext>,
    DevicePath(device): DevicePath,
) -> Result<Response, ApiError> {
    let stored = read(&context, &device).await?;
    Ok(answer(&device, &stored))
}

/// `PUT /api/devices/{deviceId}/profile` where nobody can have a token, on the main port.
pub(crate) async fn refuse_to_change() -> ApiError {
    ApiError::OperatorsOnly
}

/// `PUT /api/devices/{deviceId}/profile`: changes it, if it still is the one that `If-Match` names.
pub(crate) async fn change(
    State(context): State<RestContext>,
    requester: Requester,
    client: ClientAddress,
    DevicePath(device): DevicePath,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    let body: ProfileBody = body::parse(&body::read(request).await?)?;
    let by = body::name(
        "changed_by",
        requester.name().or(body.changed_by.as_deref()),
    )?;
    let before = read(&context, &device).await?;
    match headers.get(IF_MATCH).map(HeaderValue::to_str) {
        None => return Err(ApiError::WithoutMatch),
        Some(Ok(tags)) if is_named(tags, &tag(&before)) => {}
        Some(_) => return Err(ApiError::Changed),
    }
    let profile = changed(before.profile.clone(), &body)?;
    let reader = &context.reader;
    let set = reader.store.set_profile(&device, &before, profile);
    let set = reader
        .with_timeout(set)
        .await
        .map_err(ApiError::unavailable)?;
    match set {
        ProfileSet::UnknownDevice => Err(ApiError::UnknownDevice),
        ProfileSet::Changed => Err(ApiError::Changed),
        ProfileSet::Done(stored) => {
            let done = Done {
                action: "configured",
                name: &by,
                device: &device,
                detail: Some(stored.text()),
                note: None,
            };
            context.audit.done(requester.at(client), done);
            tracing::info!(device.id = %device.for_log(), "profile of a device changed");
            Ok(answer(&device, &stored))
        }
    }
}

/// Returns a profile with what a request changes of it.
fn changed(mut profile: Profile, body: &ProfileBody) -> Result<Profile, ApiError> {
    for (field, given, kept, max) in [
        ("name", &body.name, &mut profile.name, Profile::MAX_NAME),
        ("zone", &body.zone, &mut profile.zone, Profile::MAX_PLACE),
        ("site", &body.site, &mut profile.site, Profile::MAX_PLACE),
    ] {
        if let Some(given) = given {
            *kept = text(field, given.as_deref().unwrap_or_default(), max)?;
        }
    }
    for (field, given, kept, bound) in [
        (
            "latitude",
            body.latitude,
            &mut profile.latitude,
            Profile::MAX_LATITUDE,
        ),
        (
            "longitude",
            body.longitude,
            &mut profile.longitude,
            Profile::MAX_LONGITUDE,
        ),
    ] {
        if let Some(given) = given {
            *kept = given
                .map(|given| degrees(field, given, bound))
                .transpose()?;
        }
    }
    if profile.latitude.is_some() != profile.longitude.is_some() {
        return Err(ApiError::Unreadable {
            problem: "`latitude` and `longitude` can only be set and removed together".to_owned(),
        });
    }
    Ok(profile)
}

async fn read(context: &RestContext, device: &DeviceId) -> Result<StoredProfile, ApiError> {
    let reader = &context.reader;
    let stored = reader.with_timeout(reader.store.profile(device)).await;
    let stored = stored.map_err(ApiError::unavailable)?;
    stored.ok_or(ApiError::UnknownDevice)
}

fn answer(device: &DeviceId, stored: &StoredProfile) -> Response {
    let profile = &stored.profile;
    let mut response = reply::ok(&ProfileReply {
        success: true,
        device_id: device,
        name: profile.name.as_deref(),
        zone: profile.zone.as_deref(),
        site: profile.site.as_deref(),
        latitude: profile.latitude,
        longitude: profile.longitude,
    });
    let tag = HeaderValue::from_str(&tag(stored)).expect("hexadecimal digits in quotes");
    response.headers_mut().insert(ETAG, tag);
    response
}

/// Returns the `ETag` of a profile. It depends on all that is stored.
fn tag(stored: &StoredProfile) -> String {
    format!("\"{:016x}\"", xxh3_64(stored.text().as_bytes()))
}

/// Whether one of these tags is this one. A proxy that compresses makes it weak.
fn is_named(tags: &str, own: &str) -> bool {
    tags.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
}

/// Returns a text as it is shown; `None` if nothing of it is left.
fn text(field: &str, given: &str, max: usize) -> Result<Option<String>, ApiError> {
    let given = given.trim();
    if given.chars().count() > max || given.chars().any(char::is_control) {
        return Err(ApiError::Unreadable {
            problem: format!("`{field}` is longer than {max} characters or has control characters"),
        });
    }
    let cleaned = clean(given);
    let cleaned = cleaned.trim();
    Ok((!cleaned.is_empty()).then(|| cleaned.to_owned()))
}

/// Returns degrees as they were sent, with at most twelve decimal places: pages compute more, which mean nothing.
fn degrees(field: &str, given: f64, bound: i32) -> Result<Decimal, ApiError> {
    let degrees = format!("{given:.12}").parse().ok();
    let degrees = degrees.filter(|degrees| is_within(*degrees, bound));
    degrees.ok_or_else(|| ApiError::Unreadable {
        problem: format!("`{field}` is not a number from -{bound} to {bound}"),
    })
}

#[cfg(test)]
mod tests;

//! Bodies of requests that change something: JSON objects that may be left out, and the name of who asks.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The longest name of who asks, in characters.
const MAX_NAME: usize = 128;
/// Who asks without giving a name (contract D7).
const NO_NAME: &str = "unknown";

/// The whole body, within the limit of the router.
pub(crate) async fn read(request: Request) -> Result<Bytes, ApiError> {
    let bytes = Bytes::from_request(request, &()).await;
    bytes.map_err(|rejection| unread(&rejection))
}

/// An object; nothing at all is one without any field.
pub(crate) fn parse<T: Default + DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    if !bytes.trim_ascii_start().starts_with(b"{") && bytes.trim_ascii() != b"null" {
        return Err(ApiError::Unreadable {
            problem: "the body cannot be read: it is not a JSON object".to_owned(),
        });
    }
    let body: Result<Option<T>, _> = serde_json::from_slice(bytes);
    match body {
        Ok(body) => Ok(body.unwrap_or_default()),
        Err(error) => Err(ApiError::Unreadable {
            problem: format!("the body cannot be read: {error}"),
        }),
    }
}

/// The name that this field of the body gives.
pub(crate) fn name<'a>(field: &str, given: Option<&'a str>) -> Result<&'a str, ApiError> {
    let name = given.unwrap_or_default().trim();
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ApiError::Unreadable {
            problem: format!(
                "`{field}` is longer than {MAX_NAME} characters or has control characters"
            ),
        });
    }
    Ok(if name.is_empty() { NO_NAME } else { name })
}

fn unread(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::TooLarge;
    }
    ApiError::Unreadable {
        problem: "the body did not arrive whole".to_owned(),
    }
}

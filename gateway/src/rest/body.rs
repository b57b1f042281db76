//! Bodies of requests that change something: optional JSON objects, with the name of the person who changes it.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::Request;
use serde::de::DeserializeOwned;
use shared::visible_text::clean;

use super::edge::MAX_BODY_BYTES;
use crate::error::ApiError;
use crate::request_body;

/// The longest name of a person, in characters.
const MAX_NAME: usize = 128;
/// The name of a person who gives none.
const NO_NAME: &str = "unknown";

/// Reads the complete body.
pub(crate) async fn read(request: Request) -> Result<Bytes, ApiError> {
    request_body::read(request.into_body(), MAX_BODY_BYTES).await
}

/// Parses a JSON object. An empty body is treated as an object without fields.
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

/// Returns a text for people that is given in this field of the body, as it is shown; `None` if nothing of it is left. A line break in it
/// becomes a blank.
pub(crate) fn remark(
    field: &str,
    given: Option<&str>,
    max: usize,
) -> Result<Option<String>, ApiError> {
    let cleaned = clean(given.unwrap_or_default());
    let cleaned = cleaned.trim();
    if cleaned.chars().count() > max {
        return Err(ApiError::Unreadable {
            problem: format!("`{field}` is longer than {max} characters"),
        });
    }
    Ok((!cleaned.is_empty()).then(|| cleaned.to_owned()))
}

/// Returns the name given in this field of the body, trimmed.
/// Characters that cannot be seen are left out: names in some scripts have them.
pub(crate) fn name<'a>(field: &str, given: Option<&'a str>) -> Result<Cow<'a, str>, ApiError> {
    let name = given.unwrap_or_default().trim();
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ApiError::Unreadable {
            problem: format!(
                "`{field}` is longer than {MAX_NAME} characters or has control characters"
            ),
        });
    }
    let name = clean(name);
    if name.trim().is_empty() {
        return Ok(Cow::Borrowed(NO_NAME));
    }
    Ok(name)
}

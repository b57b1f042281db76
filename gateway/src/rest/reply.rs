//! JSON answers.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

/// With the character set, as the replaced system sent it.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Builds an answer with status 200 and a body.
pub(crate) fn ok<T: Serialize>(body: &T) -> Response {
    json(StatusCode::OK, body)
}

/// Builds an answer with this status and a body.
pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let bytes = serde_json::to_vec(body).expect("structs of strings and numbers always serialise");
    bytes_of_json(status, bytes)
}

/// Builds an answer with this status and a body that is JSON already.
pub(crate) fn bytes_of_json(status: StatusCode, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

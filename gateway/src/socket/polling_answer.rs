//! Answers to polls that socketioxide does not write.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};

/// Answers a poll with these packets.
pub(super) fn polling_answer(packets: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(packets.into());
    let text = HeaderValue::from_static("text/plain; charset=UTF-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

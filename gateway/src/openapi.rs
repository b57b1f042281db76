//! The `OpenAPI` document of REST: written by hand in `openapi.json`, compared with the routes and with what they answer
//! by the tests of `rest`.

use axum::http::StatusCode;
use axum::response::Response;

use crate::rest::reply;

pub(crate) const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(crate) async fn document() -> Response {
    reply::bytes_of_json(StatusCode::OK, DOCUMENT)
}

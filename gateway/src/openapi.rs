//! The `OpenAPI` document of REST, which also has the schemas of what goes over Socket.IO. `openapi.json` is written by hand; the tests of
//! `rest` compare it with the routes and with their answers, the system tests with every event that a browser gets.

use axum::http::StatusCode;
use axum::response::Response;

use crate::rest::reply;

pub(crate) const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(crate) async fn document() -> Response {
    reply::bytes_of_json(StatusCode::OK, DOCUMENT)
}

#[cfg(test)]
mod tests;

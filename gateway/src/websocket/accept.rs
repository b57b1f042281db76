//! Answers a request for a WebSocket (RFC 6455, section 4.2).

use axum::body::Body;
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
};
use tungstenite::handshake::derive_accept_key;

use super::deflate;

/// Length of the key of a request: 16 bytes in base64.
const KEY_LENGTH: usize = 24;

/// A request for a WebSocket that is accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) response: Response<Body>,
    /// Messages may be compressed.
    pub(crate) compresses: bool,
}

/// Accepts a request for a WebSocket; `None` if this is no such request. `may_compress`: an offer of compression is accepted.
pub(crate) fn accept(request: &Request<Body>, may_compress: bool) -> Option<Accepted> {
    let headers = request.headers();
    let key = headers.get(SEC_WEBSOCKET_KEY)?.as_bytes();
    let is_valid = request.method() == Method::GET
        && request.version() >= Version::HTTP_11
        && has_word(headers, &UPGRADE, "websocket")
        && has_word(headers, &CONNECTION, "upgrade")
        && has_word(headers, &SEC_WEBSOCKET_VERSION, "13")
        && key.len() == KEY_LENGTH
        && key.ends_with(b"==");
    if !is_valid {
        return None;
    }
    let accept = HeaderValue::try_from(derive_accept_key(key)).ok()?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    let compresses = may_compress && offers_compression(request.headers());
    if compresses {
        let accepted = HeaderValue::from_static(deflate::ACCEPTED);
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, accepted);
    }
    Some(Accepted {
        response,
        compresses,
    })
}

fn offers_compression(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).into_iter();
    let mut offers = offers.filter_map(|value| value.to_str().ok());
    offers.any(deflate::is_offered)
}

/// Returns whether one of the comma-separated words of a header is this one.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter();
    let mut words = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.any(|value| value.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests;

//! Requests of the Socket.IO protocol.

use axum::http::{Method, Uri};

use super::engine_error::EngineError;

/// Path of every Socket.IO request.
pub(crate) const PATH: &str = "/socket.io";

/// The version of Engine.IO that is spoken.
const VERSION: &str = "4";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// A new session, over long polling.
    Session,
    /// What waits for the client of this session.
    Poll(&'a str),
    /// To take packets of the client.
    Packets(&'a str),
    /// A WebSocket for a session that began with polling.
    Upgrade(&'a str),
    /// A WebSocket with a session of its own.
    WebSocket,
    /// Nothing that can be answered.
    Nothing(EngineError),
}

impl<'a> Asked<'a> {
    /// Reads the request. It must be the same that [`canonical`] describes.
    pub(super) fn read(method: &Method, uri: &'a Uri) -> Self {
        let is_websocket = is_websocket(uri);
        if !is_websocket && query_value(uri, "transport") != Some("polling") {
            return Self::Nothing(EngineError::UnknownTransport);
        }
        if query_value(uri, "EIO") != Some(VERSION) {
            return Self::Nothing(EngineError::UnsupportedVersion);
        }
        match (session_of(uri), is_websocket) {
            (None, _) if method != Method::GET => Self::Nothing(EngineError::BadHandshakeMethod),
            (None, false) => Self::Session,
            (None, true) => Self::WebSocket,
            (Some(session), false) if method == Method::GET => Self::Poll(session),
            (Some(session), false) if method == Method::POST => Self::Packets(session),
            (Some(session), true) if method == Method::GET => Self::Upgrade(session),
            (Some(_), _) => Self::Nothing(EngineError::BadRequest),
        }
    }
}

/// Returns the address of a request with what [`Asked`] has read from it and nothing else, so that socketioxide cannot read
/// anything different. `None` if it has text that no client sends.
pub(super) fn canonical(uri: &Uri) -> Option<Uri> {
    let mut text = format!("{PATH}/");
    let mut separator = '?';
    for name in ["EIO", "transport", "sid"] {
        let Some(value) = query_value(uri, name) else {
            continue;
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if !value.chars().all(is_plain) {
            return None;
        }
        text.push(separator);
        text.extend([name, "=", value]);
        separator = '&';
    }
    text.parse().ok()
}

/// Returns whether this is a Socket.IO request.
pub(crate) fn is_socket_io(uri: &Uri) -> bool {
    let below = uri.path().strip_prefix(PATH);
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the session a request belongs to; `None` if it is a handshake that opens a session.
pub(crate) fn session_of(uri: &Uri) -> Option<&str> {
    query_value(uri, "sid")
}

/// Returns whether the request uses WebSocket as its transport.
pub(crate) fn is_websocket(uri: &Uri) -> bool {
    query_value(uri, "transport") == Some("websocket")
}

/// Returns whether this is a Socket.IO request for a WebSocket.
pub(crate) fn asks_for_websocket(uri: &Uri) -> bool {
    is_socket_io(uri) && is_websocket(uri)
}

fn query_value<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests;

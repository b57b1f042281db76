//! Requests of the Socket.IO protocol.

use axum::http::Uri;

/// Path of every Socket.IO request.
pub(crate) const PATH: &str = "/socket.io";

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

fn query_value<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests;

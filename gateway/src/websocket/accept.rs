//! Accepts the request for a WebSocket (RFC 6455, section 4.2) and takes its connection over from the HTTP server.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use shared::error_chain::error_chain;
use tungstenite::handshake::derive_accept_key;

use super::reader::MessageReader;
use super::writer::FrameWriter;
use crate::listener::connection::AbortableStream;

/// Length of the key of a request: 16 bytes in base64.
const KEY_LENGTH: usize = 24;

/// A WebSocket that begins when the answer to its request is sent.
#[derive(Debug)]
pub(crate) struct AcceptedWebSocket {
    upgrade: OnUpgrade,
}

impl AcceptedWebSocket {
    /// Returns the answer to a request for a WebSocket, and the WebSocket; `None` if this is no such request.
    pub(crate) fn accept(request: &mut Request<Body>) -> Option<(Response<Body>, Self)> {
        let headers = request.headers();
        let key = headers.get(SEC_WEBSOCKET_KEY)?.as_bytes();
        let is_valid = request.method() == Method::GET
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
        let upgrade = hyper::upgrade::on(request);
        Some((response, Self { upgrade }))
    }

    /// Waits until the answer is sent, and takes the connection over. `max_bytes`: longest message of the client. Returns `None`
    /// if the connection has ended.
    pub(crate) async fn open(self, max_bytes: usize) -> Option<MessageReader> {
        let upgraded = self
            .upgrade
            .await
            .inspect_err(|error| {
                tracing::debug!(error = error_chain(error), "a WebSocket did not begin");
            })
            .ok()?;
        // Every connection is one of the listener.
        let parts = upgraded.downcast::<TokioIo<AbortableStream>>().ok()?;
        let (stream, permit) = parts.io.into_inner().into_parts();
        let writer = Arc::new(FrameWriter::new(stream, permit));
        Some(MessageReader::new(
            writer,
            parts.read_buf.to_vec(),
            max_bytes,
        ))
    }
}

/// Returns whether one of the comma-separated words of a header is this one.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter();
    let mut words = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.any(|value| value.trim().eq_ignore_ascii_case(word))
}

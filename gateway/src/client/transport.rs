//! The network connection of one client, which the gateway can end even if the client does not respond.
//!
//! A WebSocket has a TCP connection of its own, which is aborted. Long polling has none: a proxy may send the requests of
//! many clients over one connection. There the session is closed by the request that a leaving client would send.

use std::sync::Arc;
use std::time::Duration;

use crate::listener::connection::ConnectionHandle;
use crate::session::Session;

/// How one client is connected.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    /// The client started with a WebSocket, on this connection. Unit tests have none.
    WebSocket(Option<Arc<ConnectionHandle>>),
    /// The client started with long polling.
    Polling(Arc<Session>),
}

impl Transport {
    /// Aborts the WebSocket, if there is one.
    pub(crate) fn abort(&self) {
        if let Some(websocket) = self.websocket() {
            websocket.abort();
        }
    }

    /// Returns the session of a client that started with polling. It must be closed by a request.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::WebSocket(_) => None,
            Self::Polling(session) => Some(session),
        }
    }

    /// Returns whether the client uses WebSocket now.
    pub(crate) fn is_websocket(&self) -> bool {
        self.websocket().is_some()
    }

    /// Returns how long nothing has arrived on the WebSocket; `None` without a WebSocket.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.websocket().map(|websocket| websocket.silence())
    }

    fn websocket(&self) -> Option<Arc<ConnectionHandle>> {
        match self {
            Self::WebSocket(connection) => connection.clone(),
            Self::Polling(session) => session.websocket(),
        }
    }
}

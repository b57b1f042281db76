//! Moves a session from long polling to a WebSocket.
//!
//! ```text
//! client                                   gateway
//!   ├── WebSocket, then "2probe" ────────────▶│
//!   │◀──────────────────────────── "3probe" ──┤
//!   │◀── the poll in flight: nothing ("6") ───┤  so that the client can stop polling
//!   ├── "5" ─────────────────────────────────▶│  from now on the client uses the WebSocket
//!   │◀── what socketioxide still holds ───────┤  over the WebSocket, in order
//!   │◀── everything else ─────────────────────┤
//! ```

use std::sync::Arc;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::http::{Request, Response};
use futures_util::FutureExt as _;
use socketioxide::socket::Sid;
use tokio::task::coop::unconstrained;
use tokio::time::timeout;

use super::engine_error::EngineError;
use super::packet::ClientPacket;
use super::polling_answer::polling_answer;
use super::request::PATH;
use super::websocket_connection::WebSocketConnection;
use super::{Sockets, client_address};
use crate::client::Client;
use crate::client_address::ClientAddress;
use crate::listener::take_over::TakeOver;
use crate::session::{SEPARATOR, Session};
use crate::websocket::accept::{Accepted, accept};
use crate::websocket::frame;
use crate::websocket::reader::{MessageReader, Received};
use crate::websocket::writer::FrameWriter;

/// Packets of Engine.IO that are not for the WebSocket: a ping of the session that ends, and nothing.
const PING: &str = "2";
/// The most frames that a client may send before it has finished an upgrade. It needs two.
const MAX_UPGRADE_PACKETS: usize = 16;
const NOOP: &str = "6";

/// Returns the answer to a poll that must end without packets.
pub(super) fn nothing_to_poll() -> Response<Body> {
    polling_answer(NOOP)
}

impl Sockets {
    /// Gives a session a WebSocket.
    pub(super) fn upgrade(&self, sid: &str, request: &Request<Body>) -> Response<Body> {
        let Some((session, sid)) = self.session(sid) else {
            return self.refuse_unknown();
        };
        let address = client_address(request.extensions());
        let accepted = accept(request, self.inner.context.compress);
        let Some(Accepted {
            mut response,
            compresses,
        }) = accepted
        else {
            return EngineError::BadRequest.into_response();
        };
        let Some(attempt) = UpgradeAttempt::begin(session) else {
            self.inner.context.metrics.polling.upgrades.increment();
            return EngineError::BadRequest.into_response();
        };
        let sockets = self.clone();
        let take_over = TakeOver::new(move |taken| {
            let context = Arc::clone(&sockets.inner.context);
            let reader = MessageReader::open(taken, context.limits.max_event_bytes, compresses);
            context.spawn(
                "upgrade",
                sockets.finish_upgrade(attempt, sid, reader, address),
            );
        });
        response.extensions_mut().insert(take_over);
        response
    }

    /// Waits until the client uses its WebSocket. If it has joined the namespace, its task goes on with the WebSocket. Otherwise this
    /// one does.
    async fn finish_upgrade(
        self,
        attempt: UpgradeAttempt,
        sid: Sid,
        reader: MessageReader,
        address: ClientAddress,
    ) {
        let context = Arc::clone(&self.inner.context);
        let upgrading = wait_for_upgrade(&attempt.session, reader);
        let upgraded = Box::pin(timeout(context.limits.connect_timeout, upgrading)).await;
        let Ok(Some(reader)) = upgraded else {
            return;
        };
        // A packet that was answered before may still be handled: without it the client would wait in vain.
        let joining = attempt.session.wait_for_join();
        timeout(context.limits.connect_timeout, joining).await.ok();
        let session = attempt.finish();
        let Some(reader) = session.offer_websocket(reader) else {
            return;
        };
        let writer = Arc::clone(reader.writer());
        Box::pin(self.move_session(&session, None, &writer)).await;
        let connection = WebSocketConnection::moved(context, reader, &session);
        let credential = session.take_credential();
        drop((session, self));
        connection.serve_unjoined(sid, address, credential).await;
    }

    /// Sends everything that socketioxide still holds for a client over its WebSocket, and ends the session of socketioxide.
    /// Afterwards the client is sent everything over the WebSocket.
    pub(super) async fn move_session(
        &self,
        session: &Session,
        client: Option<&Client>,
        writer: &Arc<FrameWriter>,
    ) {
        if let Some(client) = client {
            client.begin_move();
        }
        let Some(sid) = session.sid() else { return };
        let without_poll = session.without_poll().await;
        while let Some(packets) = self.poll_now(sid) {
            let packets = packets.split(|byte| *byte == SEPARATOR);
            let packets = packets.filter_map(|packet| std::str::from_utf8(packet).ok());
            for packet in packets.filter(|packet| ![PING, NOOP, ""].contains(packet)) {
                writer.send_moved(frame::text(packet));
            }
        }
        drop(without_poll);
        if let Some(client) = client {
            client.finish_move(Arc::clone(writer));
        }
        session.release_place();
        self.close_polling(sid).await;
    }

    /// Takes what waits in the queue of socketioxide; `None` if nothing waits.
    fn poll_now(&self, sid: Sid) -> Option<Vec<u8>> {
        let request = Request::builder()
            .uri(format!("{PATH}/?EIO=4&transport=polling&sid={sid}"))
            .body(Body::empty())
            .ok()?;
        // Without a limit on what one task may do in one turn, which would look like an empty queue.
        let response = unconstrained(self.call(request)).now_or_never()?;
        if !response.status().is_success() {
            return None;
        }
        let limit = usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX);
        let body = unconstrained(to_bytes(response.into_body(), limit)).now_or_never()?;
        body.ok()
            .map(|bytes| bytes.to_vec())
            .filter(|bytes| !bytes.is_empty())
    }
}

/// The upgrade of a session that is under way. If it is dropped before it is done, the client goes on polling.
struct UpgradeAttempt {
    session: Arc<Session>,
    is_done: bool,
}

impl UpgradeAttempt {
    /// Returns `None` if another one is under way or done.
    fn begin(session: Arc<Session>) -> Option<Self> {
        session.begin_upgrade().then_some(Self {
            session,
            is_done: false,
        })
    }

    fn finish(mut self) -> Arc<Session> {
        self.is_done = true;
        Arc::clone(&self.session)
    }
}

impl Drop for UpgradeAttempt {
    fn drop(&mut self) {
        if !self.is_done {
            self.session.cancel_upgrade();
        }
    }
}

/// Waits until the client has stopped polling; `None` if the WebSocket has ended before, or the client broke the protocol.
async fn wait_for_upgrade(session: &Session, mut reader: MessageReader) -> Option<MessageReader> {
    for _ in 0..MAX_UPGRADE_PACKETS {
        let Received::Text(text) = reader.next().await.ok()? else {
            continue;
        };
        match ClientPacket::parse(&text) {
            Ok(ClientPacket::Probe) => {
                // First, so that a poll that follows the answer is answered with nothing.
                session.begin_probe();
                reader.writer().send_behind(frame::PROBE_ANSWER);
            }
            Ok(ClientPacket::Upgrade) => {
                // Also without a probe, no poll may wait.
                session.begin_probe();
                return Some(reader);
            }
            _ => return None,
        }
    }
    None
}

//! Socket.IO: the namespace, its events, and one task per connection.
//!
//! socketioxide starts a task per event and runs the newest first. It calls the connect handler only after it has answered
//! the client. Commands would therefore be reordered, or lost right after the connect answer. So every event handler is
//! registered before that answer, in the connect middleware, and its extractor puts a command into the connection's queue in
//! the order of arrival. The task that carries them out starts in the connect handler.

mod command;
mod connection;
pub(crate) mod refusal;
pub(crate) mod request;

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, SEC_WEBSOCKET_KEY};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use axum::response::IntoResponse;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::SocketRef;
use socketioxide::handler::{ConnectHandler, FromConnectParts, Value};
use socketioxide::service::SocketIoService;
use socketioxide::socket::{DisconnectReason, Sid, Socket};
use socketioxide::{ParserConfig, SocketIo, TransportType};
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::client::close_reason::CloseReason;
use crate::client::log_limit::limited;
use crate::client::transport::{Transport, Upgrades};
use crate::client_address::ClientAddress;
use crate::clients::Clients;
use crate::config::Config;
use crate::event_names::{SUBSCRIBE_DEVICE, UNSUBSCRIBE_DEVICE};
use crate::listener::connection::ConnectionHandle;
use crate::metrics::SocketMetrics;
use crate::monitor::Monitor;
use crate::relay::Relay;
use crate::watches::Watches;
use command::{CommandQueue, Subscribe, Unsubscribe};
use connection::{Connection, ConnectionContext};
use request::{PATH, is_websocket, session_of};

/// How late a heartbeat may be before the connection is considered dead.
const SILENCE_GRACE: Duration = Duration::from_secs(5);
/// How long a half-received event with attachments is kept. We accept no attachments.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(5);
/// Read buffer per connection, in bytes. Small, as incoming events are small and connections many.
const READ_BUFFER: usize = 512;
/// Maximum number of commands that wait per connection, in addition to one for each allowed subscription.
const SPARE_COMMANDS: usize = 64;
/// How long closing one polling session may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The Socket.IO service of this replica. Clones share it.
#[derive(Clone)]
pub(crate) struct Sockets {
    inner: Arc<SocketsInner>,
}

struct SocketsInner {
    service: SocketIoService<NotFound>,
    upgrades: Upgrades,
    monitor: Monitor,
    metrics: Arc<SocketMetrics>,
}

impl Sockets {
    pub(crate) fn new(
        config: &Config,
        clients: Clients,
        relay: Relay,
        monitor: Monitor,
        watches: Watches,
        metrics: Arc<SocketMetrics>,
    ) -> Self {
        let (service, io) = library_service(config);
        let upgrades = Upgrades::default();
        let context = Arc::new(ConnectionContext {
            clients,
            relay,
            monitor: monitor.clone(),
            upgrades: upgrades.clone(),
            watches,
            metrics: Arc::clone(&metrics),
            max_subscriptions: config.subscriptions_per_client,
            max_silence: config.ping_interval + config.ping_timeout + SILENCE_GRACE,
        });
        let sockets = Self {
            inner: Arc::new(SocketsInner {
                service,
                upgrades,
                monitor,
                metrics,
            }),
        };
        let connecting = Arc::clone(&context);
        // Weak, because the service holds this handler: a strong reference would keep the service alive forever.
        let closing = Arc::downgrade(&sockets.inner);
        let handler = async move |SharedSocket(socket): SharedSocket| {
            let Some(connection) = socket.extensions.remove::<Arc<Connection>>() else {
                return;
            };
            // The task must not keep the socket alive. The table of socketioxide does so while the socket is connected.
            drop(socket);
            let close_session = close_session(&connection, &closing);
            connection.run(&context, close_session).await;
        };
        let middleware = async move |SharedSocket(socket): SharedSocket| {
            prepare(&socket, &connecting);
            Ok::<(), Infallible>(())
        };
        io.ns("/", handler.with(middleware));
        sockets
    }

    /// Answers a request below [`PATH`] whose origin was checked.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let session = session_of(request.uri()).map(str::parse::<Sid>);
        let is_websocket = is_websocket(request.uri());
        let is_handshake = session.is_none();
        let refused = &self.inner.metrics.handshakes_refused;
        if is_handshake && self.inner.monitor.is_draining() {
            refused.draining.increment();
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if let (Some(Ok(sid)), true) = (session, is_websocket)
            && let Some(connection) = request.extensions().get::<Arc<ConnectionHandle>>()
        {
            self.inner.upgrades.insert(sid, connection);
        }
        let response = self.call(slim(request)).await;
        if is_handshake && response.status().is_client_error() {
            refused.invalid.increment();
        }
        response
    }

    /// Closes a polling session the way a leaving client would.
    async fn close_polling(&self, sid: Sid) {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{PATH}/?EIO=4&transport=polling&sid={sid}"))
            .body(Body::from("1"));
        if let Ok(request) = request {
            let closed = tokio::time::timeout(CLOSE_TIMEOUT, self.call(request)).await;
            if closed.is_err() {
                tracing::warn!(client = %sid, "polling session was not closed in time");
            }
        }
    }

    async fn call(&self, request: Request<Body>) -> Response<Body> {
        let Ok(response) = self.inner.service.clone().oneshot(request).await;
        response.map(Body::new)
    }
}

fn library_service(config: &Config) -> (SocketIoService<NotFound>, SocketIo) {
    let parser = ParserConfig::common()
        .max_incoming_binaries(0)
        .max_incoming_binary_buf_size(config.max_event_bytes)
        .packet_completion_timeout(COMPLETION_TIMEOUT);
    SocketIo::builder()
        .req_path(PATH)
        .transports([TransportType::Polling, TransportType::Websocket])
        .connect_timeout(config.connect_timeout)
        .ping_interval(config.ping_interval)
        .ping_timeout(config.ping_timeout)
        .max_payload(u64::try_from(config.max_event_bytes).unwrap_or(u64::MAX))
        .ws_max_message_size(config.max_event_bytes)
        .ws_max_frame_size(config.max_event_bytes)
        .ws_read_buffer_size(READ_BUFFER)
        .max_buffer_size(config.client_buffer)
        .with_parser(parser)
        .build_with_inner_svc(NotFound)
}

/// Closes the session of a client that started with polling. A WebSocket needs no such request.
async fn close_session(connection: &Connection, sockets: &Weak<SocketsInner>) {
    let client = connection.client();
    if client.transport().began_with_polling()
        && let Some(inner) = sockets.upgrade()
    {
        Sockets { inner }.close_polling(client.sid()).await;
    }
}

/// Copies the parts of a request that socketioxide reads. socketioxide keeps the head of the first request until the
/// connection ends, and the head would keep the buffer it was read into.
fn slim(request: Request<Body>) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    let mut headers = HeaderMap::new();
    for name in [SEC_WEBSOCKET_KEY, CONTENT_TYPE] {
        let value = parts
            .headers
            .get(&name)
            .map(|value| value.as_bytes().to_vec());
        // Cannot fail: the bytes were a header value before.
        if let Some(value) = value.and_then(|value| value.try_into().ok()) {
            headers.insert(name, value);
        }
    }
    parts.headers = headers;
    if let Ok(uri) = parts.uri.to_string().parse() {
        parts.uri = uri;
    }
    Request::from_parts(parts, body)
}

/// Registers everything on a socket before it gets the connect answer. Everything acquired here is released when the
/// socket is dropped: if the client disconnects now, no handler is called.
fn prepare(socket: &Arc<Socket>, context: &ConnectionContext) {
    let handshake = socket.req_parts();
    let connection = handshake.extensions.get::<Arc<ConnectionHandle>>();
    let own = connection.filter(|_| is_websocket(&handshake.uri)).cloned();
    let transport = Transport::new(socket.id, own, context.upgrades.clone());
    let client = context.clients.create(socket, transport);
    // If this is full, the client is disconnected (see `command`).
    let (tx, rx) = mpsc::channel(context.max_subscriptions + SPARE_COMMANDS);
    socket.extensions.insert(CommandQueue {
        client: Arc::clone(&client),
        commands: tx,
    });
    socket.on(SUBSCRIBE_DEVICE, async |_: Subscribe| {});
    socket.on(UNSUBSCRIBE_DEVICE, async |_: Unsubscribe| {});
    let leaving = Arc::clone(&client);
    socket.on_disconnect(async move |_: SocketRef, reason: DisconnectReason| {
        limited(|suppressed| {
            tracing::info!(client = %leaving.sid(), reason = %reason, held_back = suppressed, "client disconnected");
        });
        leaving.record_disconnect(close_reason(reason));
    });
    let address = handshake.extensions.get::<ClientAddress>().copied();
    let address = address.unwrap_or_else(ClientAddress::unknown);
    let connection = Connection::new(client, address, rx);
    socket.extensions.insert(Arc::new(connection));
}

fn close_reason(reason: DisconnectReason) -> CloseReason {
    match reason {
        DisconnectReason::ClientNSDisconnect => CloseReason::Client,
        DisconnectReason::TransportClose => CloseReason::TransportClose,
        DisconnectReason::TransportError => CloseReason::TransportError,
        DisconnectReason::HeartbeatTimeout => CloseReason::Heartbeat,
        DisconnectReason::MultipleHttpPollingError | DisconnectReason::PacketParsingError => {
            CloseReason::Invalid
        }
        DisconnectReason::ServerNSDisconnect | DisconnectReason::ClosingServer => {
            CloseReason::Server
        }
    }
}

/// Extractor of the shared socket itself.
struct SharedSocket(Arc<Socket>);

impl FromConnectParts<LocalAdapter> for SharedSocket {
    type Error = Infallible;

    fn from_connect_parts(socket: &Arc<Socket>, _: &Option<Value>) -> Result<Self, Infallible> {
        Ok(Self(Arc::clone(socket)))
    }
}

/// Answers requests that socketioxide does not handle.
#[derive(Clone, Debug)]
struct NotFound;

impl tower::Service<Request<Body>> for NotFound {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(Ok(StatusCode::NOT_FOUND.into_response()))
    }
}

#[cfg(test)]
mod tests;

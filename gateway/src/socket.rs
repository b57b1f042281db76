//! Socket.IO: the namespace, its events, and one task per connection.
//!
//! Clients that poll are served by socketioxide. A WebSocket is served by our own code (`websocket_connection`), also that of a
//! client that began with polling: when it has finished its upgrade, what socketioxide still holds is sent over the WebSocket and
//! the session of socketioxide ends.
//!
//! socketioxide starts a task per event and runs the newest first. It calls the connect handler only after it has answered
//! the client. Commands would therefore be reordered, or lost right after the connect answer. So every event handler is
//! registered before that answer, in the connect middleware, and its extractor puts a command into the connection's queue in
//! the order of arrival. The task that carries them out starts in the connect handler.

mod command;
mod command_queue;
mod connection;
pub(crate) mod context;
mod engine_error;
mod feed_command;
mod open_packet;
mod packet;
mod polling_answer;
mod polling_commands;
mod polling_connection;
pub(crate) mod refusal;
pub(crate) mod request;
mod token_refresh;
mod upgrade;
mod websocket_connection;

#[cfg(any(test, fuzzing))]
pub(crate) use command::fuzz::check as fuzz_packet;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Extensions, Method, Request, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::{ConnectHandler, FromConnectParts, Value};
use socketioxide::service::SocketIoService;
use socketioxide::socket::{DisconnectReason, Sid, Socket};
use socketioxide::{ParserConfig, SocketIo, TransportType};
use tower::ServiceExt;

use crate::access::NotAdmitted;
use crate::access::credential::{Credential, JoinPayload};
use crate::admission::caller::Caller;
use crate::admission::connections::CallerPlace;
use crate::client::close_reason::CloseReason;
use crate::client::link::Link;
use crate::client::log_limit::limited;
use crate::client_address::ClientAddress;
use crate::config::Config;
use crate::error::ApiError;
use crate::event_names::{
    AUTH_REFRESH, SUBSCRIBE_ALARMS, SUBSCRIBE_DEVICE, SUBSCRIBE_FLEET, UNSUBSCRIBE_ALARMS,
    UNSUBSCRIBE_DEVICE, UNSUBSCRIBE_FLEET,
};
use crate::listener::connection::ConnectionHandle;
use crate::listener::take_over::TakeOver;
use crate::request_body;
use crate::session::{SEPARATOR, Session, Sessions};
use crate::websocket::accept::{Accepted, accept};
use crate::websocket::reader::MessageReader;
use command_queue::CommandQueue;
use context::ConnectionContext;
use engine_error::EngineError;
use open_packet::OpenPacket;
use packet::{ClientPacket, MAIN};
use polling_answer::polling_answer;
use polling_commands::{
    Enqueue, Refresh, SocketCommands, Subscribe, SubscribeAlarms, SubscribeFleet, Unsubscribe,
    UnsubscribeAlarms, UnsubscribeFleet,
};
use polling_connection::PollingConnection;
use request::{Asked, PATH, canonical, is_socket_io, is_websocket, session_of};
use websocket_connection::WebSocketConnection;

/// How long a half-received event with attachments is kept. We accept no attachments.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest first packet of a session, in bytes. socketioxide writes some 120.
const MAX_OPEN_PACKET: usize = 4096;
/// Longest refusal of socketioxide, in bytes. It writes some 50.
const MAX_REFUSAL: usize = 1024;
/// Maximum number of bytes in the answer to a poll; one packet may be larger. A client far away gets no more per round trip.
const POLL_BYTES: usize = 128 * 1024;
/// So many packets of its own may wait in the queue of socketioxide, besides `--client-buffer` of ours: the ping, and the answers to a
/// client that joins. It gives up a client whose ping finds no room.
const LIBRARY_PACKETS: usize = 4;
/// How long closing one polling session may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The Socket.IO service of this replica. Clones share it.
#[derive(Clone)]
pub(crate) struct Sockets {
    inner: Arc<SocketsInner>,
}

struct SocketsInner {
    service: SocketIoService<NotFound>,
    sessions: Sessions,
    context: Arc<ConnectionContext>,
}

impl Sockets {
    pub(crate) fn new(config: &Config, context: ConnectionContext, sessions: Sessions) -> Self {
        let (service, io) = library_service(config);
        let context = Arc::new(context);
        let sockets = Self {
            inner: Arc::new(SocketsInner {
                service,
                sessions,
                context: Arc::clone(&context),
            }),
        };
        let connecting = Arc::clone(&context);
        // Weak, because the service holds this handler: a strong reference would keep the service alive forever.
        let serving = Arc::downgrade(&sockets.inner);
        let handler = async move |SharedSocket(socket): SharedSocket| {
            let connection = socket.extensions.remove::<Arc<PollingConnection>>();
            // The task must not keep the socket alive. The table of socketioxide does so while the socket is connected.
            drop(socket);
            if let (Some(connection), Some(inner)) = (connection, serving.upgrade()) {
                connection.run(&context, &Self { inner }).await;
            }
        };
        let middleware = async move |Joining { socket, credential }: Joining| {
            prepare(&socket, credential, &connecting)
        };
        io.ns("/", handler.with(middleware));
        sockets
    }

    /// Answers a request below [`PATH`] whose origin was checked.
    pub(crate) async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        let access = &self.inner.context.access;
        let credential = access.credential(request.headers(), request.uri());
        let Some(uri) = canonical(request.uri()) else {
            return EngineError::BadRequest.into_response();
        };
        *request.uri_mut() = uri.clone();
        let refused = &self.inner.context.metrics.handshakes_refused;
        let is_handshake = session_of(&uri).is_none();
        if is_handshake && self.inner.context.monitor.is_draining() {
            refused.draining.increment();
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let response = match Asked::read(request.method(), &uri) {
            Asked::Session => match self.admit(&request) {
                Ok(counted) => self.open_session(request, credential, counted).await,
                Err(limited) => return limited.into_response(),
            },
            Asked::Poll(sid) => self.poll(sid, request).await,
            Asked::Packets(sid) => self.take_packets(sid, request).await,
            Asked::Upgrade(sid) => self.upgrade(sid, &request),
            Asked::WebSocket => match self.admit(&request) {
                Ok(counted) => self.open_websocket(&request, credential, counted),
                Err(limited) => return limited.into_response(),
            },
            Asked::Nothing(error) => refuse(error),
        };
        if is_handshake && response.status().is_client_error() {
            refused.invalid.increment();
        }
        response
    }

    /// Returns whether this is a polling request of a session that holds a place.
    pub(crate) fn has_session(&self, uri: &Uri) -> bool {
        let known = |sid| self.session(sid).is_some();
        is_socket_io(uri) && !is_websocket(uri) && session_of(uri).is_some_and(known)
    }

    /// Counts a new session for its caller.
    fn admit(&self, request: &Request<Body>) -> Result<CallerPlace, EngineError> {
        let context = &self.inner.context;
        let caller = Caller::Address(client_address(request.extensions()));
        let admitted = context.admission.open_session(caller, Instant::now());
        admitted.map_err(|limited| {
            context.metrics.handshakes_refused.limited.increment();
            EngineError::Limited(limited)
        })
    }

    /// Opens a session, which takes a place as a connection does.
    async fn open_session(
        &self,
        request: Request<Body>,
        credential: Credential,
        counted: CallerPlace,
    ) -> Response<Body> {
        let address = client_address(request.extensions());
        let connection = request.extensions().get::<Arc<ConnectionHandle>>();
        let exceeds_places = connection.is_some_and(|connection| connection.exceeds_places());
        let session = if exceeds_places {
            Some(self.inner.sessions.begin_beyond())
        } else {
            self.inner.sessions.begin(address)
        };
        let Some(session) = session else {
            self.inner
                .context
                .metrics
                .handshakes_refused
                .full
                .increment();
            limited(|suppressed| {
                tracing::warn!(
                    held_back = suppressed,
                    "all connections are taken, refusing a long polling session"
                );
            });
            return EngineError::Full.into_response();
        };
        session.keep_counted(counted);
        self.wait_for_key(&credential, address).await;
        session.keep_credential(credential);
        let mut request = slim(request);
        request.extensions_mut().insert(Arc::clone(&session));
        let response = self.call(request).await;
        if !response.status().is_success() {
            return response;
        }
        let opened = to_bytes(response.into_body(), MAX_OPEN_PACKET).await;
        let opened = OpenPacket::parse(&opened.unwrap_or_default());
        let Some((sid, open)) = opened.and_then(|open| Some((open.sid.parse::<Sid>().ok()?, open)))
        else {
            return ApiError::Bug.into_response();
        };
        self.inner.sessions.insert(sid, &session);
        // The limit of socketioxide is that of the answers to polls.
        let open = OpenPacket {
            max_payload: self.inner.context.limits.max_event_bytes,
            ..open
        };
        let opened = open.to_text().map(polling_answer);
        opened.unwrap_or_else(|| ApiError::Bug.into_response())
    }

    /// Sends a client what waits for it.
    async fn poll(&self, sid: &str, request: Request<Body>) -> Response<Body> {
        let Some((session, _)) = self.session(sid) else {
            return self.refuse_unknown();
        };
        let Some(response) = session.poll(self.call(slim(request))).await else {
            return upgrade::nothing_to_poll();
        };
        let (head, body) = response.into_parts();
        // It is in memory as a whole.
        let answer = to_bytes(body, usize::MAX).await.unwrap_or_default();
        session.record_polled(&answer);
        Response::from_parts(head, Body::from(answer))
    }

    /// Passes on the packets of a client.
    async fn take_packets(&self, sid: &str, request: Request<Body>) -> Response<Body> {
        let Some((session, sid)) = self.session(sid) else {
            return self.refuse_unknown();
        };
        let address = client_address(request.extensions());
        let (head, body) = slim(request).into_parts();
        // socketioxide would wait for the body for ever.
        let bytes = match request_body::read(body, self.inner.context.limits.max_event_bytes).await
        {
            Ok(bytes) => bytes,
            Err(error) => return error.into_response(),
        };
        if let Err(reason) = session.admit(&bytes) {
            let refused = &self.inner.context.metrics.polling;
            let count = match reason {
                CloseReason::RepeatedConnect => &refused.connects,
                _ => &refused.packets,
            };
            count.increment();
            limited(|suppressed| {
                tracing::warn!(client = %sid, reason = reason.code(), held_back = suppressed, "closing a long polling session");
            });
            self.close_polling(sid).await;
            return EngineError::BadRequest.into_response();
        }
        // Not in the connect middleware: there an upgrade to a WebSocket would overtake the answer. A client waits for the answer to
        // its packets before it moves.
        if let Some(credential) = joining_credential(&bytes) {
            session.begin_join();
            self.wait_for_key(&credential, address).await;
        }
        self.call(Request::from_parts(head, Body::from(bytes)))
            .await
    }

    /// Waits until it can be decided whether a token is valid. The connect middleware must not wait for that.
    async fn wait_for_key(&self, credential: &Credential, address: ClientAddress) {
        let context = &self.inner.context;
        let payer = context.payer(address);
        // On the heap, as most clients never wait here.
        Box::pin(context.access.wait_for_key(credential, payer)).await;
    }

    /// Opens a WebSocket with a session of its own.
    fn open_websocket(
        &self,
        request: &Request<Body>,
        credential: Credential,
        counted: CallerPlace,
    ) -> Response<Body> {
        let context = Arc::clone(&self.inner.context);
        let Some(Accepted {
            mut response,
            compresses,
        }) = accept(request, context.compress)
        else {
            return EngineError::BadRequest.into_response();
        };
        let address = client_address(request.extensions());
        let take_over = TakeOver::new(move |taken| {
            let reader = MessageReader::open(taken, context.limits.max_event_bytes, compresses);
            let connection = WebSocketConnection::new(Arc::clone(&context), reader, Some(counted));
            context.spawn("websocket", connection.serve_new(address, credential));
        });
        response.extensions_mut().insert(take_over);
        response
    }

    /// Returns a session that was not refused; socketioxide may have closed it already.
    fn session(&self, sid: &str) -> Option<(Arc<Session>, Sid)> {
        let sid: Sid = sid.parse().ok()?;
        let session = self.inner.sessions.find(sid)?;
        let has_ended = session.refused().is_some() || session.has_moved();
        (!has_ended).then_some((session, sid))
    }

    fn refuse_unknown(&self) -> Response<Body> {
        self.inner.context.metrics.polling.unknown.increment();
        EngineError::UnknownSession.into_response()
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
        let response = response.map(Body::new);
        if response.status() != StatusCode::BAD_REQUEST {
            return response;
        }
        let body = to_bytes(response.into_body(), MAX_REFUSAL).await;
        EngineError::of_library(&body.unwrap_or_default()).into_response()
    }
}

/// Returns the credential with which a client joins the namespace, if that is what it sends.
fn joining_credential(packets: &[u8]) -> Option<Credential> {
    let packets = std::str::from_utf8(packets).ok()?;
    let packets = packets.split(char::from(SEPARATOR));
    let mut joining = packets.filter(|packet| packet.starts_with("40"));
    joining.find_map(|packet| match ClientPacket::parse(packet) {
        Ok(ClientPacket::Connect(MAIN, payload)) => Some(JoinPayload::parse(payload).credential()),
        _ => None,
    })
}

/// Answers a request that cannot be served.
fn refuse(error: EngineError) -> Response<Body> {
    if error == EngineError::UnsupportedVersion {
        limited(|suppressed| {
            tracing::warn!(
                held_back = suppressed,
                "refusing a client with another version of the protocol: it needs Engine.IO 4, which Socket.IO clients have since 3.0"
            );
        });
    }
    error.into_response()
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
        // Bounds the answers to polls. What a client sends has been measured before.
        .max_payload(config.max_event_bytes.max(POLL_BYTES) as u64)
        .max_buffer_size(config.client_buffer + LIBRARY_PACKETS)
        .with_parser(parser)
        .build_with_inner_svc(NotFound)
}

/// Copies the parts of a request that are read again. socketioxide keeps the head of the first request until the session ends,
/// and the head would keep the buffer it was read into.
fn slim(request: Request<Body>) -> Request<Body> {
    let (parts, body) = request.into_parts();
    let mut slim = Request::new(body);
    *slim.method_mut() = parts.method;
    if let Ok(uri) = parts.uri.to_string().parse() {
        *slim.uri_mut() = uri;
    }
    let content_type = parts.headers.get(CONTENT_TYPE);
    // Cannot fail: the bytes were a header value before.
    let content_type = content_type.map(|value| value.as_bytes().to_vec().try_into());
    if let Some(Ok(value)) = content_type {
        slim.headers_mut().insert(CONTENT_TYPE, value);
    }
    let (kept, all) = (slim.extensions_mut(), &parts.extensions);
    if let Some(address) = all.get::<ClientAddress>() {
        kept.insert(*address);
    }
    if let Some(session) = all.get::<Arc<Session>>() {
        kept.insert(Arc::clone(session));
    }
    slim
}

/// Registers everything on a socket before it gets the connect answer. Everything acquired here is released when the
/// socket is dropped: if the client disconnects now, no handler is called. `credential`: the one with which it joins.
///
/// # Errors
/// The client is not admitted. socketioxide sends it the reason.
fn prepare(
    socket: &Arc<Socket>,
    credential: Credential,
    context: &ConnectionContext,
) -> Result<(), NotAdmitted> {
    let handshake = socket.req_parts();
    let Some(session) = handshake.extensions.get::<Arc<Session>>().cloned() else {
        return Ok(());
    };
    // When this is over, the client has joined or is refused.
    let _ended = JoinEnd(Arc::clone(&session));
    let of_session = session.take_credential();
    let address = client_address(&handshake.extensions);
    let admitted = context.admit_now(&credential.or(of_session), address)?;
    if !session.join() {
        return Ok(());
    }
    let link = Link::polling(socket, Arc::clone(&session));
    let client = context.clients.create(socket.id, link, admitted);
    let commands = Arc::new(CommandQueue::new(context.limits.max_commands()));
    socket.extensions.insert(SocketCommands {
        client: Arc::clone(&client),
        queue: Arc::clone(&commands),
    });
    socket.on(SUBSCRIBE_DEVICE, async |_: Enqueue<Subscribe>| {});
    socket.on(UNSUBSCRIBE_DEVICE, async |_: Enqueue<Unsubscribe>| {});
    socket.on(AUTH_REFRESH, async |_: Enqueue<Refresh>| {});
    socket.on(SUBSCRIBE_FLEET, async |_: Enqueue<SubscribeFleet>| {});
    socket.on(UNSUBSCRIBE_FLEET, async |_: Enqueue<UnsubscribeFleet>| {});
    socket.on(SUBSCRIBE_ALARMS, async |_: Enqueue<SubscribeAlarms>| {});
    socket.on(UNSUBSCRIBE_ALARMS, async |_: Enqueue<UnsubscribeAlarms>| {});
    let leaving = Arc::clone(&client);
    let ended = Arc::downgrade(&session);
    socket.on_disconnect(async move |_: SocketRef, reason: DisconnectReason| {
        if leaving.websocket().is_some() {
            return;
        }
        limited(|suppressed| {
            tracing::info!(client = leaving.id().0, reason = %reason, held_back = suppressed, "client disconnected");
        });
        let refused = ended.upgrade().and_then(|session| session.refused());
        leaving.record_disconnect(refused.unwrap_or_else(|| close_reason(reason)));
    });
    let connection = PollingConnection::new(client, session, address, commands);
    socket.extensions.insert(Arc::new(connection));
    Ok(())
}

fn client_address(extensions: &Extensions) -> ClientAddress {
    let address = extensions.get::<ClientAddress>().copied();
    address.unwrap_or_else(ClientAddress::unknown)
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

/// The end of handling the packet for joining.
struct JoinEnd(Arc<Session>);

impl Drop for JoinEnd {
    fn drop(&mut self) {
        self.0.end_join();
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

/// Extractor of the shared socket and of the credential with which its client joins.
struct Joining {
    socket: Arc<Socket>,
    credential: Credential,
}

impl FromConnectParts<LocalAdapter> for Joining {
    type Error = Infallible;

    fn from_connect_parts(socket: &Arc<Socket>, auth: &Option<Value>) -> Result<Self, Infallible> {
        let TryData(payload) = TryData::<JoinPayload>::from_connect_parts(socket, auth)?;
        Ok(Self {
            socket: Arc::clone(socket),
            credential: payload.unwrap_or_default().credential(),
        })
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

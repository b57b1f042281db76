//! Socket.IO: the namespace, its commands, and one task per connection that works them off in order.
//!
//! The library spawns a task per event, the newest running first, and calls the connect handler after it has answered
//! the client. So every handler is registered before that answer, in the connect middleware, and only puts a command
//! into the connection's queue, in the order of the wire; the task that works them off starts in the connect handler.

mod client;
mod command;
mod transport;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, SEC_WEBSOCKET_KEY};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::SocketRef;
use socketioxide::handler::{ConnectHandler, FromConnectParts, Value};
use socketioxide::service::SocketIoService;
use socketioxide::socket::{DisconnectReason, Sid, Socket};
use socketioxide::{ParserConfig, SocketIo, TransportType};
use tokio::sync::mpsc;
use tower::ServiceExt;

pub(crate) use client::{Client, ClientId, Clients, LetGo};
pub(crate) use command::Unanswered;
use command::{Command, Subscribe, Unsubscribe, work_off};
use transport::{Transport, Upgrades};

use crate::config::Config;
use crate::drain;
use crate::lanes::Flushed;
use crate::listener::Link;
use crate::metrics::Metrics;
use crate::monitor::Monitor;
use crate::relay::Relay;

/// Path of every Socket.IO request.
pub(crate) const PATH: &str = "/socket.io";

/// Pause before a full queue of the library is tried again after it took something.
const RETRY: Duration = Duration::from_millis(8);
/// The longest pause: a client that takes nothing at all is asked less and less often.
const MAX_RETRY: Duration = Duration::from_millis(128);
/// How often a websocket's silence is looked at.
const SILENCE_CHECK: Duration = Duration::from_secs(5);
/// What a heartbeat may be late before the connection counts as dead.
const SILENCE_GRACE: Duration = Duration::from_secs(5);
/// How long a half-received event with attachments is kept; we take no attachments.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(5);
/// A small read buffer per connection: our incoming events are small, and there are many connections.
const READ_BUFFER: usize = 512;
/// Commands that may wait per connection, beyond one for each allowed subscription.
const SPARE_COMMANDS: usize = 64;
/// How long closing one polling session may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What every connection works with.
#[derive(Debug)]
struct Context {
    clients: Clients,
    relay: Relay,
    monitor: Monitor,
    upgrades: Upgrades,
    max_subscriptions: usize,
    max_silence: Duration,
}

/// The Socket.IO service of this replica.
#[derive(Clone)]
pub(crate) struct Sockets {
    inner: Arc<Inner>,
}

struct Inner {
    service: SocketIoService<NotFound>,
    upgrades: Upgrades,
    monitor: Monitor,
    metrics: Arc<Metrics>,
}

impl Sockets {
    pub(crate) fn new(config: &Config, clients: Clients, relay: Relay, monitor: Monitor) -> Self {
        let parser = ParserConfig::common()
            .max_incoming_binaries(0)
            .max_incoming_binary_buf_size(config.max_event_bytes)
            .packet_completion_timeout(COMPLETION_TIMEOUT);
        let (service, io) = SocketIo::builder()
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
            .build_with_inner_svc(NotFound);
        let upgrades = Upgrades::default();
        let metrics = Arc::clone(clients.metrics());
        let context = Arc::new(Context {
            clients,
            relay,
            monitor: monitor.clone(),
            upgrades: upgrades.clone(),
            max_subscriptions: config.subscriptions_per_client,
            max_silence: config.ping_interval + config.ping_timeout + SILENCE_GRACE,
        });
        let sockets = Self {
            inner: Arc::new(Inner {
                service,
                upgrades,
                monitor,
                metrics,
            }),
        };
        let connecting = Arc::clone(&context);
        // The service holds this handler: it must not be held by it.
        let closing = Arc::downgrade(&sockets.inner);
        let handler = async move |Handle(socket): Handle| {
            let Some(connection) = socket.extensions.remove::<Arc<Connection>>() else {
                return;
            };
            // The task must not keep the socket: its table does, as long as it is connected.
            drop(socket);
            connection.run(&context, &closing).await;
        };
        let middleware = async move |Handle(socket): Handle| {
            prepare(&socket, &connecting);
            Ok::<(), Infallible>(())
        };
        io.ns("/", handler.with(middleware));
        sockets
    }

    /// Answers a request below [`PATH`] whose origin was checked.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let session = session_of(request.uri()).map(str::parse::<Sid>);
        let is_websocket = query_value(request.uri().query(), "transport") == Some("websocket");
        let is_handshake = session.is_none();
        if is_handshake && self.inner.monitor.is_draining() {
            self.inner.metrics.refused.increment("draining");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if let (Some(Ok(sid)), true) = (session, is_websocket)
            && let Some(link) = request.extensions().get::<Arc<Link>>()
        {
            self.inner.upgrades.note(sid, link);
        }
        let response = self.call(slim(request)).await;
        if is_handshake && response.status().is_client_error() {
            self.inner.metrics.refused.increment("invalid");
        }
        response
    }

    /// Closes a polling session as a leaving client would.
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

/// The library keeps the head of the first request as long as the connection lives, and with it the whole buffer it was
/// read into: only what the library reads is copied out of it.
fn slim(request: Request<Body>) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    let mut headers = HeaderMap::new();
    for name in [SEC_WEBSOCKET_KEY, CONTENT_TYPE] {
        let value = parts
            .headers
            .get(&name)
            .map(|value| value.as_bytes().to_vec());
        // A value that was one stays one.
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

/// Whether it is a request of Socket.IO.
pub(crate) fn is_for(uri: &Uri) -> bool {
    let below = uri.path().strip_prefix(PATH);
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The connection a request belongs to; `None`: it begins one.
pub(crate) fn session_of(uri: &Uri) -> Option<&str> {
    query_value(uri.query(), "sid")
}

fn query_value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

/// Registers everything on a socket that is about to be told it is connected. What is acquired here is released when
/// the socket is dropped: nothing else is called if the client goes now.
fn prepare(socket: &Arc<Socket>, context: &Context) {
    let began_with_websocket =
        query_value(socket.req_parts().uri.query(), "transport") == Some("websocket");
    let link = socket.req_parts().extensions.get::<Arc<Link>>();
    let own = link.filter(|_| began_with_websocket).cloned();
    let transport = Transport::new(socket.id, own, context.upgrades.clone());
    let client = context.clients.create(socket, transport);
    // Full: the client is let go, see [`command::take`].
    let (tx, rx) = mpsc::channel(context.max_subscriptions + SPARE_COMMANDS);
    socket.extensions.insert(command::Queue {
        client: Arc::clone(&client),
        commands: tx,
    });
    socket.on("subscribe:device", async |_: Subscribe| {});
    socket.on("unsubscribe:device", async |_: Unsubscribe| {});
    let leaving = Arc::clone(&client);
    socket.on_disconnect(async move |_: SocketRef, reason: DisconnectReason| {
        client::tell(|held_back| {
            tracing::info!(client = %leaving.sid(), reason = %reason, held_back, "client disconnected");
        });
        leaving.has_left(reason);
    });
    let connection = Connection {
        client,
        commands: Mutex::new(Some(rx)),
    };
    socket.extensions.insert(Arc::new(connection));
}

/// What the connect handler takes over from the middleware.
struct Connection {
    client: Arc<Client>,
    // A std mutex: held for one take.
    commands: Mutex<Option<mpsc::Receiver<Command>>>,
}

impl Connection {
    /// The connection's task: works off its commands, flushes its lanes, watches its silence, until it is gone.
    async fn run(&self, context: &Context, sockets: &Weak<Inner>) {
        let taken = self
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(commands) = taken else {
            return;
        };
        let client = &self.client;
        let _registration = context.clients.register(client);
        let _missed = LetGoIfDropped(Arc::clone(client));
        let total = context.clients.count();
        client::tell(|held_back| {
            tracing::info!(client = %client.sid(), total, held_back, "client connected");
        });
        if let Some(status) = context.monitor.degraded() {
            client.send("system:status", &status);
        }
        let mut subscriptions = command::Subscriptions::new(context.max_subscriptions);
        tokio::select! {
            () = client.gone().cancelled() => {}
            () = work_off(client, commands, &context.relay, &mut subscriptions) => {}
            () = flush(client) => {}
            () = watch_silence(client, context.max_silence) => {}
            () = drain::turn_away(client, context.monitor.is_draining()) => {}
        }
        client.end();
        context
            .relay
            .gone(client, subscriptions.into_devices())
            .await;
        if client.transport().began_with_polling()
            && let Some(inner) = sockets.upgrade()
        {
            Sockets { inner }.close_polling(client.sid()).await;
        }
    }
}

/// A task that ends in a panic must not leave a client behind that looks connected.
struct LetGoIfDropped(Arc<Client>);

impl Drop for LetGoIfDropped {
    fn drop(&mut self) {
        // Does nothing to a client that is gone, which is the rule.
        self.0.let_go(LetGo::Broken);
    }
}

/// Hands over what waits: nothing tells when the library's queue has room again.
async fn flush(client: &Client) {
    loop {
        client.waiting().notified().await;
        let mut pause = RETRY;
        loop {
            match client.flush() {
                Flushed::All => break,
                Flushed::Some => pause = RETRY,
                Flushed::Nothing => pause = (pause * 2).min(MAX_RETRY),
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// The library's heartbeat cannot end a connection whose writer is stuck. A living websocket answers pings.
async fn watch_silence(client: &Client, max_silence: Duration) {
    let mut ticks = tokio::time::interval(SILENCE_CHECK);
    loop {
        ticks.tick().await;
        if client
            .transport()
            .silence()
            .is_some_and(|silence| silence > max_silence)
        {
            client.let_go(LetGo::Silent);
        }
    }
}

/// The socket itself, shared, as only an extractor is given it.
struct Handle(Arc<Socket>);

impl FromConnectParts<LocalAdapter> for Handle {
    type Error = Infallible;

    fn from_connect_parts(socket: &Arc<Socket>, _: &Option<Value>) -> Result<Self, Infallible> {
        Ok(Self(Arc::clone(socket)))
    }
}

/// What is below [`PATH`] and not Socket.IO.
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

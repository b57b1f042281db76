//! Accepts connections and serves HTTP/1.1 on them, until a WebSocket takes one over. Every connection can be ended from outside,
//! even if its peer does not react.
//!
//! A peer that stops reading, or disappears without notice, must not hold a task, a queue or a permit forever. The kernel
//! detects most such peers (keepalive, user timeout). The others are ended by the connection's `ConnectionHandle`.
//!
//! When every permit is taken, a few more connections are accepted that get one answer each: probes are answered, all other
//! requests get 503. In the kernel's queue, a probe would wait behind all other connections, and a probe that times out gets
//! the replica killed with all its clients. When these places are taken too, the oldest connection without a request makes
//! room (`idle_queue`).

pub(crate) mod address_limit;
pub(crate) mod answer;
pub(crate) mod certificate;
pub(crate) mod certificate_files;
pub(crate) mod connection;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod head;
mod http_stream;
mod idle_queue;
pub(crate) mod preamble;
pub(crate) mod proxy_protocol;
mod serve;
pub(crate) mod take_over;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use shared::error_chain::error_chain;
use shared::lifecycle::Lifecycle;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::admission::connections::CallerPlace;
use crate::shutdown_tokens::ShutdownTokens;
use address_limit::AddressLimit;
use connection::{AbortableStream, ConnectionPermit, PermitKind};
use idle_queue::IdleQueue;
use preamble::Preamble;
use serve::{IsWebSocket, serve};

/// Maximum number of connections that the kernel holds until they are accepted. Large, as all clients may reconnect at once.
const BACKLOG: u16 = 4096;
/// Maximum number of connections accepted beyond [`ListenerConfig::places`].
pub(crate) const RESERVE: usize = 256;
/// Pause after accepting failed, most likely because no file descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Maximum number of unsent bytes that the kernel accepts. By default it accepts megabytes, and nothing can overtake them:
/// an alarm for a slow client would wait behind all its old readings.
const UNSENT_BYTES: u32 = 64 * 1024;

/// Settings of accepted connections.
#[derive(Clone, Debug)]
pub(crate) struct ListenerConfig {
    /// How long sent bytes may stay without an acknowledgement by the peer's kernel.
    pub(crate) user_timeout: Duration,
    /// One permit per connection at a time. [`RESERVE`] more connections get an answer, the rest waits in the kernel's queue.
    pub(crate) places: Arc<Semaphore>,
    /// Connections beyond the places are served as all others are. The limit is only tried out.
    pub(crate) serves_excess: bool,
    /// The most connections of one address. [`RESERVE`] more of all such addresses together get an answer, the rest is closed.
    pub(crate) address_limit: Option<AddressLimit>,
    /// Which requests ask for a WebSocket.
    pub(crate) is_websocket: IsWebSocket,
    /// What comes before HTTP on every connection.
    pub(crate) preamble: Preamble,
}

/// Listens, with a queue long enough for all clients to reconnect at once.
///
/// # Errors
/// The address cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(u32::from(BACKLOG))
}

/// Accepts and serves connections until `tokens.accepting` is cancelled.
pub(crate) async fn accept<F, A>(
    listener: TcpListener,
    config: ListenerConfig,
    lifecycle: Lifecycle,
    tokens: ShutdownTokens,
    answer: F,
) -> anyhow::Result<()>
where
    F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    // The caller may have created the listener with the short default queue. Listening again changes only its length.
    SockRef::from(&listener).listen(i32::from(BACKLOG))?;
    let regular = config.places;
    let (number, excess) = if config.serves_excess {
        (Semaphore::MAX_PERMITS, PermitKind::Excess)
    } else {
        (RESERVE, PermitKind::Reserved)
    };
    let further = Arc::new(Semaphore::new(number));
    let of_full_addresses = Arc::new(Semaphore::new(RESERVE));
    let mut idle = IdleQueue::default();
    loop {
        let accepted = async {
            // The semaphores are never closed: they live as long as this loop.
            let (mut permit, mut kind) = loop {
                tokio::select! {
                    biased;
                    Ok(permit) = Arc::clone(&regular).acquire_owned() => break (permit, PermitKind::Regular),
                    Ok(permit) = Arc::clone(&further).acquire_owned() => break (permit, excess),
                    () = idle.close_oldest() => {}
                }
            };
            let stream = listener.accept().await;
            // A regular permit may have been released since.
            if kind != PermitKind::Regular
                && let Ok(released) = Arc::clone(&regular).try_acquire_owned()
            {
                (permit, kind) = (released, PermitKind::Regular);
            }
            (stream, permit, kind)
        };
        let (accepted, mut permit, mut kind) = tokio::select! {
            () = tokens.accepting.cancelled() => return Ok(()),
            accepted = accepted => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = configure(&stream, config.user_timeout) {
            let error = error_chain(&error);
            tracing::debug!(error, "connection was closed right after it was accepted");
            continue;
        }
        let limit = config.address_limit.as_ref();
        let of_address = match limit.map(|limit| limit.take(peer.ip())) {
            Some(Some(place)) => place,
            None => CallerPlace::uncounted(),
            Some(None) => {
                let Ok(reserved) = Arc::clone(&of_full_addresses).try_acquire_owned() else {
                    continue;
                };
                (permit, kind) = (reserved, PermitKind::AddressFull);
                CallerPlace::uncounted()
            }
        };
        let permit = ConnectionPermit {
            permit,
            kind,
            of_address,
        };
        let stream = AbortableStream::new(stream, peer.ip(), permit);
        idle.add_reserved(stream.handle());
        let connection = serve(
            stream,
            config.preamble.clone(),
            tokens.serving.clone(),
            config.is_websocket,
            answer.clone(),
        );
        lifecycle.spawn_short("connection", connection);
    }
}

fn configure(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(user_timeout)
        .with_interval(user_timeout / 4)
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    // Some sandboxes do not support it. There, alarms for slow clients are slower, but not lost.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES).ok();
    socket.set_tcp_user_timeout(Some(user_timeout))
}

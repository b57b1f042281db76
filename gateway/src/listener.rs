//! Accepts connections and serves HTTP/1.1 on them; every connection can be ended from outside, whatever its peer does.
//!
//! A peer that stops reading, or is gone without a sign, must not hold a task, a queue or a place for ever. The kernel
//! finds most of them (keepalive, user timeout); for the rest each stream carries a `Link` that ends it at once.
//!
//! Where every place is taken, a few more are accepted that get one answer each: whoever operates the service sees that it
//! lives, and everybody else is told that it is full. In the kernel's queue they would wait behind everybody, and a probe
//! that waits has the replica killed with all its clients.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::error_chain::error_chain;
use shared::lifecycle::Lifecycle;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections the kernel may hold until they are accepted: a reconnecting fleet comes at once.
const BACKLOG: u16 = 4096;
/// How long a request's head may take, and an idle connection may stay without one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request, and hyper's read buffer.
const MAX_BUFFER: usize = 64 * 1024;
/// Connections accepted beyond [`Settings::max_connections`], and how long a request's head may take on them.
const RESERVE: usize = 64;
const RESERVE_TIMEOUT: Duration = Duration::from_secs(2);
/// What the requests in hand may still take when everything ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Pause after accepting failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes the kernel takes ahead of what is on its way to a peer. It would take megabytes, which nothing could overtake: an
/// alarm for a slow client would wait behind all its old readings.
const TAKEN_AHEAD: u32 = 64 * 1024;

/// What accepted connections are set to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long sent data may stay without an answer of the peer's kernel.
    pub(crate) user_timeout: Duration,
    /// Connections at a time; [`RESERVE`] more get an answer, the rest waits in the kernel's queue.
    pub(crate) max_connections: usize,
}

/// Listens with a queue long enough for a fleet that reconnects.
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

/// What ends the service of connections.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// Nothing new is accepted.
    pub(crate) accepting: CancellationToken,
    /// Open connections get their last answers.
    pub(crate) serving: CancellationToken,
}

/// Accepts until told otherwise, then no more.
pub(crate) async fn accept<F, A>(
    listener: TcpListener,
    settings: Settings,
    lifecycle: Lifecycle,
    ends: Ends,
    answer: F,
) -> anyhow::Result<()>
where
    F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    // A listener made elsewhere may have the short default queue; listening again only lengthens it.
    SockRef::from(&listener).listen(i32::from(BACKLOG))?;
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let reserve = Arc::new(Semaphore::new(RESERVE));
    loop {
        let accepted = async {
            // The semaphores are never closed: they live as long as this loop.
            let mut place = tokio::select! {
                biased;
                Ok(place) = Arc::clone(&places).acquire_owned() => Place::taken(place),
                Ok(place) = Arc::clone(&reserve).acquire_owned() => Place::reserved(place),
                else => std::future::pending().await,
            };
            let stream = listener.accept().await;
            // One may have become free meanwhile.
            if place.is_reserved
                && let Ok(free) = Arc::clone(&places).try_acquire_owned()
            {
                place = Place::taken(free);
            }
            (stream, place)
        };
        let (accepted, place) = tokio::select! {
            () = ends.accepting.cancelled() => return Ok(()),
            accepted = accepted => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = tune(&stream, settings.user_timeout) {
            tracing::debug!(error = error_chain(&error), "connection gone at once");
            continue;
        }
        let stream = Killable::new(stream, place);
        let connection = serve_connection(stream, ends.serving.clone(), answer.clone());
        lifecycle.spawn_short("connection", connection);
    }
}

/// What an accepted connection holds as long as it lives.
struct Place {
    permit: OwnedSemaphorePermit,
    is_reserved: bool,
}

impl Place {
    fn taken(permit: OwnedSemaphorePermit) -> Self {
        Self {
            permit,
            is_reserved: false,
        }
    }

    fn reserved(permit: OwnedSemaphorePermit) -> Self {
        Self {
            permit,
            is_reserved: true,
        }
    }
}

fn tune(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(user_timeout)
        .with_interval(user_timeout / 4)
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    // Not every sandbox knows it; what it costs there is time, not alarms.
    socket.set_tcp_notsent_lowat(TAKEN_AHEAD).ok();
    socket.set_tcp_user_timeout(Some(user_timeout))
}

async fn serve_connection<F, A>(stream: Killable, finish: CancellationToken, answer: F)
where
    F: Fn(Request<Body>) -> A,
    A: Future<Output = Response<Body>>,
{
    let link = Arc::clone(&stream.link);
    let asked = Arc::clone(&link);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&asked));
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut http = http1::Builder::new();
    let (patience, keeps) = if link.is_reserved {
        (RESERVE_TIMEOUT, false)
    } else {
        (HEADER_TIMEOUT, true)
    };
    http.timer(TokioTimer::new())
        .header_read_timeout(patience)
        .keep_alive(keeps)
        .max_buf_size(MAX_BUFFER);
    let connection = http
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = finish.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // A peer that never sent a request, or never takes its answer, must not hold up the end.
            tokio::time::timeout(LAST_ANSWERS, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        // Peers that leave in the middle are everyday life.
        tracing::debug!(error = error_chain(&error), "connection ended");
    }
}

/// The handle by which a connection is ended and its silence is seen; in the extensions of each of its requests.
#[derive(Debug)]
pub(crate) struct Link {
    kill: CancellationToken,
    /// Every place is taken: one answer, and nothing that stays.
    is_reserved: bool,
    accepted: Instant,
    /// Milliseconds from `accepted` to the last read that brought something.
    last_read_ms: AtomicU64,
}

impl Link {
    fn new(is_reserved: bool) -> Self {
        Self {
            kill: CancellationToken::new(),
            is_reserved,
            accepted: Instant::now(),
            last_read_ms: AtomicU64::new(0),
        }
    }

    /// Ends the connection: reads end, writes fail, whoever waits for either is woken.
    pub(crate) fn kill(&self) {
        self.kill.cancel();
    }

    /// Whether the replica is full but for those who operate it.
    pub(crate) fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    /// How long the peer has sent nothing at all.
    pub(crate) fn silence(&self) -> Duration {
        let last_read = Duration::from_millis(self.last_read_ms.load(Ordering::Relaxed));
        self.accepted.elapsed().saturating_sub(last_read)
    }

    fn has_read(&self) {
        let elapsed = u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_read_ms.store(elapsed, Ordering::Relaxed);
    }
}

/// A stream that ends when its [`Link`] says so.
struct Killable {
    stream: TcpStream,
    link: Arc<Link>,
    // One each, as a future wakes only the task that polled it last.
    read_killed: Pin<Box<WaitForCancellationFutureOwned>>,
    write_killed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Given back when the stream is dropped, after an upgrade too.
    _place: OwnedSemaphorePermit,
}

impl Killable {
    fn new(stream: TcpStream, place: Place) -> Self {
        let link = Arc::new(Link::new(place.is_reserved));
        Self {
            stream,
            read_killed: Box::pin(link.kill.clone().cancelled_owned()),
            write_killed: Box::pin(link.kill.clone().cancelled_owned()),
            link,
            _place: place.permit,
        }
    }

    fn poll_killed_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.write_killed.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::BrokenPipe.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Killable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.link.has_read();
        }
        read
    }
}

impl AsyncWrite for Killable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_killed_write(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_killed_write(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_killed_write(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;

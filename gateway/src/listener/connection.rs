//! One accepted connection: its permit, its stream, and the handle through which other parts end it.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::admission::connections::CallerPlace;

use super::answer::{AnswerPace, HeldAnswer, Pacer, PresentAnswer};
use super::http_stream::{HttpStream, into_shared};
use crate::shared_stream::SharedStream;

/// How long a request's head may take, and how long an idle connection may stay without one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request's head may take on a reserved connection.
const RESERVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What kind of permit a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PermitKind {
    /// Any connection may get it.
    Regular,
    /// One of the few that are used when all regular ones are taken: the connection gets one answer and is closed.
    Reserved,
    /// All regular ones are taken, and that limit is only tried out.
    Excess,
    /// As reserved, because the clients of the peer's address have as many connections as they may have.
    AddressFull,
}

/// The permit that an accepted connection holds until it is closed. It limits the number of connections.
pub(super) struct ConnectionPermit {
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) kind: PermitKind,
    pub(super) of_address: CallerPlace,
}

/// What counts a connection until its end.
#[derive(Debug)]
pub(crate) struct ConnectionPlaces {
    _permit: OwnedSemaphorePermit,
    of_address: CallerPlace,
}

impl ConnectionPlaces {
    pub(crate) fn new(permit: OwnedSemaphorePermit, of_address: CallerPlace) -> Self {
        Self {
            _permit: permit,
            of_address,
        }
    }
}

/// Ends a connection from outside. Every request of the connection has it
/// in its extensions.
#[derive(Debug)]
pub(crate) struct ConnectionHandle {
    aborted: CancellationToken,
    permit: PermitKind,
    /// The connection may stay although its permit is reserved.
    is_kept: AtomicBool,
    /// A complete head of a request was received.
    has_request: AtomicBool,
    /// It is over TLS.
    is_secure: AtomicBool,
    peer: IpAddr,
    /// Sent by the proxy that has opened the connection.
    client: OnceLock<IpAddr>,
    accepted: Instant,
    answer: PresentAnswer,
}

impl ConnectionHandle {
    pub(crate) fn new(peer: IpAddr, permit: PermitKind) -> Self {
        Self {
            aborted: CancellationToken::new(),
            permit,
            is_kept: AtomicBool::new(false),
            has_request: AtomicBool::new(false),
            is_secure: AtomicBool::new(false),
            peer,
            client: OnceLock::new(),
            accepted: Instant::now(),
            answer: PresentAnswer::default(),
        }
    }

    /// Ends the connection: reads return the end of the stream, writes fail, and tasks that wait for either are woken.
    pub(crate) fn abort(&self) {
        self.aborted.cancel();
    }

    #[cfg(test)]
    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.is_cancelled()
    }

    /// Returns whether the connection was accepted although it has no regular permit.
    pub(crate) fn exceeds_places(&self) -> bool {
        self.permit != PermitKind::Regular
    }

    /// Returns whether the limit that the connection exceeds was counted when it was accepted.
    pub(crate) fn is_counted(&self) -> bool {
        self.permit == PermitKind::AddressFull
    }

    /// Returns whether the connection gets one answer and is closed.
    pub(super) fn is_reserved(&self) -> bool {
        matches!(self.permit, PermitKind::Reserved | PermitKind::AddressFull)
    }

    /// Returns how long the head of a request may take, and each part of what comes before it.
    pub(super) fn head_limit(&self) -> Duration {
        if self.is_reserved() {
            RESERVE_TIMEOUT
        } else {
            HEADER_TIMEOUT
        }
    }

    /// Lets a reserved connection stay for as long as its request takes.
    pub(crate) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    /// Records that the head of a request was received.
    pub(super) fn begin_request(&self) {
        self.has_request.store(true, Ordering::Relaxed);
    }

    /// Returns whether the head of a request was received.
    pub(super) fn has_request(&self) -> bool {
        self.has_request.load(Ordering::Relaxed)
    }

    /// Returns the scheme of the URLs that lead to this connection, even behind a proxy that terminates TLS.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.is_secure.load(Ordering::Relaxed) {
            "https"
        } else {
            "http"
        }
    }

    /// Returns the time since the connection was accepted.
    pub(super) fn age(&self) -> Duration {
        self.accepted.elapsed()
    }

    /// Returns the address of the peer, which may be a proxy, or the one that the proxy sent in front of the connection.
    pub(crate) fn peer(&self) -> IpAddr {
        self.client.get().copied().unwrap_or(self.peer)
    }

    /// Records the address of the client for which a proxy has opened the connection.
    pub(super) fn set_client(&self, client: IpAddr) {
        // Called once per connection.
        self.client.set(client).ok();
    }

    /// Ends the connection if its peer does not take the present answer at this pace.
    pub(crate) fn begin_answer(&self, pace: AnswerPace) {
        self.answer.begin(pace);
    }

    /// Keeps what the present answer holds until its bytes are handed to the kernel, or the connection ends.
    pub(crate) fn finish_answer(&self, held: Box<dyn HeldAnswer>) {
        self.answer.finish(held);
    }
}

/// A stream that its [`ConnectionHandle`] can end.
pub(crate) struct AbortableStream {
    stream: HttpStream,
    /// What was received and is read again before the rest.
    put_back: Bytes,
    handle: HandleOfStream,
    // One future for each direction, as a future wakes only the task that polled it last.
    read_aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    write_aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    pacer: Pacer,
    /// Released when the connection is closed.
    places: ConnectionPlaces,
}

/// The handle of a connection whose answers end with the stream.
struct HandleOfStream(Arc<ConnectionHandle>);

impl Drop for HandleOfStream {
    fn drop(&mut self) {
        self.0.answer.close();
    }
}

impl AbortableStream {
    pub(super) fn new(stream: TcpStream, peer: IpAddr, permit: ConnectionPermit) -> Self {
        let handle = Arc::new(ConnectionHandle::new(peer, permit.kind));
        Self {
            stream: HttpStream::Plain(stream),
            put_back: Bytes::new(),
            read_aborted: Box::pin(handle.aborted.clone().cancelled_owned()),
            write_aborted: Box::pin(handle.aborted.clone().cancelled_owned()),
            handle: HandleOfStream(handle),
            pacer: Pacer::default(),
            places: ConnectionPlaces::new(permit.permit, permit.of_address),
        }
    }

    /// Completes the TLS handshake.
    ///
    /// # Errors
    /// The peer does not speak TLS, does not accept the certificate, or the connection is ended.
    pub(super) async fn secure(mut self, acceptor: TlsAcceptor) -> io::Result<Self> {
        let HttpStream::Plain(tcp) = self.stream else {
            return Ok(self);
        };
        let aborted = self.handle.0.aborted.clone();
        let accepted = tokio::select! {
            accepted = acceptor.accept(tcp) => accepted?,
            () = aborted.cancelled() => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        self.stream = HttpStream::Tls(Box::new(accepted));
        self.handle.0.is_secure.store(true, Ordering::Relaxed);
        Ok(self)
    }

    pub(super) fn handle(&self) -> &Arc<ConnectionHandle> {
        &self.handle.0
    }

    /// Lets these bytes be read again.
    pub(super) fn put_back(&mut self, bytes: Vec<u8>) {
        self.put_back = bytes.into();
    }

    /// Returns the bytes that were put back and not read again.
    pub(super) fn take_put_back(&mut self) -> Bytes {
        std::mem::take(&mut self.put_back)
    }

    /// Counts the connection for its client, from now on.
    pub(super) fn count_for(&mut self, client: CallerPlace) {
        self.places.of_address = client;
    }

    /// Returns the stream and what counts it, for a WebSocket. The handle cannot end the connection any more.
    pub(super) fn into_parts(self) -> (SharedStream, ConnectionPlaces) {
        (into_shared(self.stream), self.places)
    }

    fn check_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.write_aborted.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::BrokenPipe.into()),
            Poll::Pending => Ok(()),
        }
    }

    /// Fails if the peer takes the present answer too slowly.
    fn check_answer(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let taken = match &written {
            Poll::Ready(written) => Poll::Ready(written.as_ref().copied().unwrap_or_default()),
            Poll::Pending => Poll::Pending,
        };
        if self.pacer.is_too_slow(cx, &self.handle.0.answer, taken) {
            self.handle.0.abort();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl AsyncRead for AbortableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_aborted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !self.put_back.is_empty() {
            let length = self.put_back.len().min(buffer.remaining());
            buffer.put_slice(&self.put_back.split_to(length));
            // An empty slice would keep the whole buffer.
            if self.put_back.is_empty() {
                self.put_back = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for AbortableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_write(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check_answer(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_write(cx)?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // hyper flushes when its own buffer is empty.
        if let Poll::Ready(Ok(())) = flushed {
            self.handle.0.answer.sent();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_write(cx)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.check_answer(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
pub(super) mod tests;

//! One accepted connection: its permit, its stream, and the handle through which other parts end it.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use shared::clock::millis;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::answer::{AnswerPace, HeldAnswer, Pacer, PresentAnswer};

/// The permit that an accepted connection holds until it is closed. It limits the number of connections.
pub(super) struct ConnectionPermit {
    permit: OwnedSemaphorePermit,
    pub(super) is_reserved: bool,
}

impl ConnectionPermit {
    /// Wraps a permit that any connection may get.
    pub(super) fn regular(permit: OwnedSemaphorePermit) -> Self {
        Self {
            permit,
            is_reserved: false,
        }
    }

    /// Wraps one of the few permits that are used when all regular ones are taken.
    pub(super) fn reserved(permit: OwnedSemaphorePermit) -> Self {
        Self {
            permit,
            is_reserved: true,
        }
    }
}

/// Ends a connection from outside, and shows how long its peer has been silent. Every request of the connection has it
/// in its extensions.
#[derive(Debug)]
pub(crate) struct ConnectionHandle {
    aborted: CancellationToken,
    /// Accepted although every regular permit was taken: the connection gets one answer and is closed.
    is_reserved: bool,
    /// A complete head of a request was received.
    has_request: AtomicBool,
    peer: IpAddr,
    accepted: Instant,
    /// Milliseconds from `accepted` to the last read that returned bytes.
    last_read_ms: AtomicI64,
    answer: PresentAnswer,
}

impl ConnectionHandle {
    pub(crate) fn new(peer: IpAddr, is_reserved: bool) -> Self {
        Self {
            aborted: CancellationToken::new(),
            is_reserved,
            has_request: AtomicBool::new(false),
            peer,
            accepted: Instant::now(),
            last_read_ms: AtomicI64::new(0),
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

    /// Returns whether the connection was accepted although every regular permit was taken.
    pub(crate) fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    /// Records that the head of a request was received.
    pub(super) fn begin_request(&self) {
        self.has_request.store(true, Ordering::Relaxed);
    }

    /// Returns whether the head of a request was received.
    pub(super) fn has_request(&self) -> bool {
        self.has_request.load(Ordering::Relaxed)
    }

    /// Returns the time since the connection was accepted.
    pub(super) fn age(&self) -> Duration {
        self.accepted.elapsed()
    }

    /// Returns the address of the peer, which may be a proxy.
    pub(crate) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Ends the connection if its peer does not take the present answer at this pace.
    pub(crate) fn begin_answer(&self, pace: AnswerPace) {
        self.answer.begin(pace);
    }

    /// Keeps what the present answer holds until its bytes are handed to the kernel, or the connection ends.
    pub(crate) fn finish_answer(&self, held: Box<dyn HeldAnswer>) {
        self.answer.finish(held);
    }

    /// Returns how long the peer has sent nothing.
    pub(crate) fn silence(&self) -> Duration {
        let last_read = self.last_read_ms.load(Ordering::Relaxed);
        let last_read = Duration::from_millis(last_read.unsigned_abs());
        self.accepted.elapsed().saturating_sub(last_read)
    }

    fn record_read(&self) {
        let elapsed = millis(self.accepted.elapsed());
        self.last_read_ms.store(elapsed, Ordering::Relaxed);
    }
}

/// A TCP stream that its [`ConnectionHandle`] can end.
pub(super) struct AbortableStream {
    stream: TcpStream,
    handle: Arc<ConnectionHandle>,
    // One future for each direction, as a future wakes only the task that polled it last.
    read_aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    write_aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    pacer: Pacer,
    /// Released when the stream is dropped, which is after an upgrade too.
    _permit: OwnedSemaphorePermit,
}

impl AbortableStream {
    pub(super) fn new(stream: TcpStream, peer: IpAddr, permit: ConnectionPermit) -> Self {
        let handle = Arc::new(ConnectionHandle::new(peer, permit.is_reserved));
        Self {
            stream,
            read_aborted: Box::pin(handle.aborted.clone().cancelled_owned()),
            write_aborted: Box::pin(handle.aborted.clone().cancelled_owned()),
            handle,
            pacer: Pacer::default(),
            _permit: permit.permit,
        }
    }

    pub(super) fn handle(&self) -> &Arc<ConnectionHandle> {
        &self.handle
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
        if self.pacer.is_too_slow(cx, &self.handle.answer, taken) {
            self.handle.abort();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl Drop for AbortableStream {
    fn drop(&mut self) {
        self.handle.answer.close();
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
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.handle.record_read();
        }
        read
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
            self.handle.answer.sent();
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
mod tests;

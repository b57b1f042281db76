//! Serves one connection until it ends, or until a WebSocket takes it over.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::error_chain::error_chain;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{AbortableStream, ConnectionHandle};
use super::head::Head;
use super::preamble::Preamble;
use super::take_over::{TakeOver, TakenConnection};

/// Largest head of a request, and hyper's read buffer, in bytes.
const MAX_BUFFER: usize = 64 * 1024;
/// Bytes that are read at once. Most heads are shorter.
const READ_BYTES: usize = 1024;
/// How long a reserved connection may stay in all. A peer that does not read its answer would hold the place.
const RESERVE_LIFE: Duration = Duration::from_secs(5);
/// How long open requests may still take during the shutdown.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long the answer to a request for a WebSocket may take. Nothing is waited for, and it fits into the kernel's buffer.
const WEBSOCKET_ANSWER: Duration = Duration::from_secs(10);

/// Which requests ask for a WebSocket, by their address.
pub(crate) type IsWebSocket = fn(&Uri) -> bool;

/// A connection that a WebSocket takes over: its stream, and what was received behind the request.
type Taken = (AbortableStream, Vec<u8>, TakeOver);

/// Serves a connection. Its first request is not read by hyper if it asks for a WebSocket.
pub(super) async fn serve<F, A>(
    stream: AbortableStream,
    preamble: Preamble,
    serving: CancellationToken,
    is_websocket: IsWebSocket,
    answer: F,
) where
    F: Fn(Request<Body>) -> A,
    A: Future<Output = Response<Body>>,
{
    let handle = Arc::clone(stream.handle());
    let life = async {
        if handle.is_reserved() {
            sleep(RESERVE_LIFE).await;
        }
        if !handle.is_reserved() || handle.is_kept() {
            std::future::pending::<()>().await;
        }
    };
    // On the heap, so that nothing of it is left when a WebSocket begins.
    let served = Box::pin(async {
        match preamble.read(stream, &serving).await? {
            Some(stream) => serve_until_taken(stream, &serving, is_websocket, &answer).await,
            None => Ok(None),
        }
    });
    let ended = tokio::select! {
        ended = served => ended,
        () = life => Ok(None),
    };
    match ended {
        Ok(Some((stream, received, take_over))) => {
            let (stream, places) = stream.into_parts();
            take_over.begin(TakenConnection {
                stream,
                received,
                places,
            });
        }
        Ok(None) => {}
        // Peers often disconnect in the middle of a request.
        Err(error) => {
            let error = error_chain(error.as_ref());
            tracing::debug!(error, "connection ended");
        }
    }
}

/// Returns the connection if a WebSocket takes it over.
async fn serve_until_taken<F, A>(
    mut stream: AbortableStream,
    serving: &CancellationToken,
    is_websocket: IsWebSocket,
    answer: &F,
) -> anyhow::Result<Option<Taken>>
where
    F: Fn(Request<Body>) -> A,
    A: Future<Output = Response<Body>>,
{
    let Some((head, received)) = read_first_head(&mut stream, serving).await? else {
        return Ok(None);
    };
    let mut prepared = None;
    if let Head::WebSocket(request, length) = head
        && is_websocket(request.uri())
    {
        let answering = answer(begin_request(*request, stream.handle()));
        let mut response = timeout(WEBSOCKET_ANSWER, answering).await?;
        if let Some(take_over) = response.extensions_mut().remove() {
            let head = switching_head(&response);
            let sending = async {
                stream.write_all(&head).await?;
                // TLS may have accepted what the kernel has not.
                stream.flush().await
            };
            timeout(WEBSOCKET_ANSWER, sending).await??;
            return Ok(Some((stream, received[length..].to_vec(), take_over)));
        }
        // hyper reads the head again, so that it sends this answer as it sends all others.
        prepared = Some(response);
    }
    stream.put_back(received);
    Box::pin(serve_http(stream, serving, prepared, answer)).await
}

/// Reads the head of the first request. `None` if there is none.
async fn read_first_head(
    stream: &mut AbortableStream,
    serving: &CancellationToken,
) -> anyhow::Result<Option<(Head, Vec<u8>)>> {
    let limit = stream.handle().head_limit();
    let mut received = Vec::new();
    let read = tokio::select! {
        biased;
        read = timeout(limit, read_head(stream, &mut received)) => read,
        // A peer that has sent nothing gets no answer.
        () = serving.cancelled() => {
            if received.is_empty() {
                return Ok(None);
            }
            timeout(LAST_ANSWERS, read_head(stream, &mut received)).await
        }
    };
    let head = read.context("no request arrived in time")??;
    Ok(head.map(|head| (head, received)))
}

/// Reads a head behind what was `received` of it; `None` if the peer ends the connection before. Dropping the future loses nothing.
async fn read_head(
    stream: &mut AbortableStream,
    received: &mut Vec<u8>,
) -> io::Result<Option<Head>> {
    loop {
        let seen = received.len();
        received.reserve_exact(READ_BYTES);
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
        match Head::parse(received, seen) {
            Head::Incomplete if received.len() < MAX_BUFFER => {}
            head => return Ok(Some(head)),
        }
    }
}

fn begin_request(mut request: Request<Body>, handle: &Arc<ConnectionHandle>) -> Request<Body> {
    handle.begin_request();
    request.extensions_mut().insert(Arc::clone(handle));
    request
}

/// Returns the head of an answer that ends HTTP on its connection.
fn switching_head(response: &Response<Body>) -> Vec<u8> {
    let mut head = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for (name, value) in response.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Serves what is no WebSocket. `prepared`: the answer to the first request, if it was given already. A later request may still ask
/// for a WebSocket, which takes the connection over then.
async fn serve_http<F, A>(
    stream: AbortableStream,
    serving: &CancellationToken,
    prepared: Option<Response<Body>>,
    answer: &F,
) -> anyhow::Result<Option<Taken>>
where
    F: Fn(Request<Body>) -> A,
    A: Future<Output = Response<Body>>,
{
    let handle = Arc::clone(stream.handle());
    let prepared = Mutex::new(prepared);
    let taking = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let prepared = lock(&prepared).take();
        let (handle, taking) = (&handle, &taking);
        Box::pin(async move {
            let mut response = match prepared {
                Some(response) => response,
                None => answer(begin_request(request.map(Body::new), handle)).await,
            };
            *lock(taking) = response.extensions_mut().remove::<TakeOver>();
            Ok::<_, Infallible>(response)
        })
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(handle.head_limit())
        .keep_alive(!handle.is_reserved())
        .max_buf_size(MAX_BUFFER);
    let mut connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        // First, so that it knows of the request before it must end.
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended?,
        () = serving.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            // A peer that never sent a request, or never reads its answer, must not delay the end.
            let ending = poll_fn(|cx| connection.poll_without_shutdown(cx));
            let Ok(ended) = timeout(LAST_ANSWERS, ending).await else {
                return Ok(None);
            };
            ended?;
        }
    }
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    if let Some(take_over) = lock(&taking).take() {
        let mut received = parts.read_buf.to_vec();
        received.extend(stream.take_put_back());
        return Ok(Some((stream, received, take_over)));
    }
    stream.shutdown().await?;
    Ok(None)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

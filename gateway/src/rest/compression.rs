//! With `--compress`: answers in gzip for clients that accept it.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Frame;

use super::accepted_coding::accepts_gzip;
use super::answers::{AnswerLimits, HeldBytes};
use crate::client_address::ClientAddress;

/// Shorter answers are not compressed, in bytes: they leave in one packet anyway.
const MIN_BYTES: u64 = 1024;
/// How well. Measured with a list of 20 000 devices: level 1 takes 1.4 ms per megabyte and leaves 9 %, level 6 takes 8.8 ms and
/// leaves 7 %.
const LEVEL: u32 = 1;
/// The most bytes that are compressed before other tasks get their turn.
const STEP: usize = 32 * 1024;
/// What compressing an answer takes, in bytes: some 320 KiB for the tables, and what waits to be taken. Counts as a part of the
/// answer.
const STATE_BYTES: u64 = 400 * 1024;

/// Middleware. Compresses the answer if the client accepts that.
pub(super) async fn compress(
    State(limits): State<AnswerLimits>,
    request: Request,
    next: Next,
) -> Response {
    let is_accepted = accepts_gzip(request.headers());
    let client = request.extensions().get::<ClientAddress>().copied();
    let mut response = next.run(request).await;
    if response.status() == StatusCode::NOT_MODIFIED {
        // As the answer that the client keeps (RFC 9110, 15.4.5).
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
        if is_accepted {
            weaken_etag(headers);
        }
        return response;
    }
    let is_worth_it = response.body().size_hint().lower() >= MIN_BYTES;
    if !is_worth_it || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    if !is_accepted {
        return response;
    }
    let mut held = limits.begin(client.unwrap_or_else(ClientAddress::unknown));
    if held.add(STATE_BYTES).is_err() {
        // The answer itself has its place.
        return response;
    }
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.remove(CONTENT_LENGTH);
    weaken_etag(headers);
    response.map(|body| Body::new(GzipBody::new(body, held)))
}

/// A strong `ETag` promises the same bytes, and the compressed ones are others.
fn weaken_etag(headers: &mut HeaderMap) {
    let strong = headers.get(ETAG).map(HeaderValue::as_bytes);
    let strong = strong.filter(|tag| !tag.starts_with(b"W/"));
    let weak = strong.map(|tag| HeaderValue::from_bytes(&[b"W/", tag].concat()));
    if let Some(Ok(weak)) = weak {
        headers.insert(ETAG, weak);
    }
}

/// A body that is compressed while it is sent.
struct GzipBody {
    body: Body,
    /// The part of the body that is not compressed yet.
    rest: Bytes,
    /// `None` once the last bytes were returned.
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// Something was compressed, and other tasks had no turn since.
    has_worked: bool,
    _held: HeldBytes,
}

impl GzipBody {
    fn new(body: Body, held: HeldBytes) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            encoder: Some(GzEncoder::new(Vec::new(), Compression::new(LEVEL))),
            has_worked: false,
            _held: held,
        }
    }
}

impl HttpBody for GzipBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(None);
            };
            if this.rest.is_empty() {
                match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                    Some(Ok(frame)) => this.rest = frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => {
                        let last = this.encoder.take().map(GzEncoder::finish);
                        let last = last.transpose().map_err(axum::Error::new);
                        let last = last.map(|last| Frame::data(last.unwrap_or_default().into()));
                        return Poll::Ready(Some(last));
                    }
                }
                continue;
            }
            if std::mem::take(&mut this.has_worked) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let step = this.rest.split_to(this.rest.len().min(STEP));
            if let Err(error) = encoder.write_all(&step) {
                return Poll::Ready(Some(Err(axum::Error::new(error))));
            }
            this.has_worked = true;
            let compressed = std::mem::take(encoder.get_mut());
            if !compressed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(compressed.into()))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none()
    }
}

#[cfg(test)]
mod tests;

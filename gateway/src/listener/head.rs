//! Reads the head of a connection's first request, and finds out whether it asks for a WebSocket.
//!
//! hyper needs some buffers and a task of its own for a connection, and what it frees is scattered among what stays. So a
//! request for a WebSocket does not go through hyper. Every other head does, with the bytes that were read here. This includes
//! heads that cannot be parsed, so the rules and answers are those of hyper, which uses the same parser.

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use httparse::{EMPTY_HEADER, Status};

/// The most headers of a head that is read here.
const MAX_HEADERS: usize = 100;

/// What is known of a head of which these bytes were received.
#[derive(Debug)]
pub(super) enum Head {
    /// More bytes are needed.
    Incomplete,
    /// A request for a WebSocket without a body. So many bytes belong to it.
    WebSocket(Box<Request<Body>>, usize),
    /// For hyper.
    Other,
}

impl Head {
    /// Reads a head. `seen`: how many of the bytes were there at the last call, which returned [`Head::Incomplete`].
    pub(super) fn parse(bytes: &[u8], seen: usize) -> Self {
        // A head that arrives byte by byte must not be parsed again with each of them.
        if seen > 0 && !may_end(bytes, seen) {
            return Self::Incomplete;
        }
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(bytes) {
            Ok(Status::Partial) => Self::Incomplete,
            Ok(Status::Complete(length)) => {
                let request = websocket_request(&parsed);
                request.map_or(Self::Other, |request| Self::WebSocket(request, length))
            }
            Err(_) => Self::Other,
        }
    }
}

/// Returns the request if it asks for a WebSocket and has no body.
fn websocket_request(parsed: &httparse::Request<'_, '_>) -> Option<Box<Request<Body>>> {
    let is_upgrade = parsed.method == Some("GET")
        && parsed.version == Some(1)
        && parsed.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case(UPGRADE.as_str())
                && header.value.eq_ignore_ascii_case(b"websocket")
        });
    if !is_upgrade {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for header in &*parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    if [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT]
        .iter()
        .any(|name| headers.contains_key(name))
    {
        return None;
    }
    let uri: Uri = parsed.path?.parse().ok()?;
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Some(Box::new(request))
}

/// Returns whether one of the new bytes may end the head: an empty line does, and lines may end without `\r`.
fn may_end(bytes: &[u8], seen: usize) -> bool {
    let new = &bytes[seen.saturating_sub(3).min(bytes.len())..];
    let ends = |end: &[u8]| new.windows(end.len()).any(|window| window == end);
    ends(b"\n\n") || ends(b"\n\r\n")
}

#[cfg(test)]
mod tests;

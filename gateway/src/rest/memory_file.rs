//! A file that is read once, at the start, and answered from memory: the dashboard, and site plans.

use std::io::Write;

use axum::body::{Body, Bytes};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use xxhash_rust::xxh3::xxh3_128;

use super::accepted_coding::accepts_gzip;

/// Shorter files are not compressed, in bytes: they leave in one packet anyway.
const MIN_COMPRESSED: usize = 1024;

/// The type of SVG, the one kind of image that is text.
pub(super) const SVG: &str = "image/svg+xml";

/// A file with everything that is sent beside it.
pub(super) struct MemoryFile {
    bytes: Bytes,
    /// In gzip, if that is shorter.
    compressed: Option<Bytes>,
    content_type: &'static str,
    /// The `ETag` of `bytes`.
    tag: Box<str>,
    /// The `ETag` of `compressed`.
    compressed_tag: Box<str>,
}

impl MemoryFile {
    pub(super) fn new(content_type: &'static str, bytes: Vec<u8>) -> Self {
        let is_text = !content_type.starts_with("image/") || content_type == SVG;
        let compressed = (is_text && bytes.len() >= MIN_COMPRESSED)
            .then(|| compress(&bytes))
            .filter(|compressed| compressed.len() < bytes.len());
        let hash = xxh3_128(&bytes);
        Self {
            bytes: bytes.into(),
            compressed: compressed.map(Bytes::from),
            content_type,
            tag: format!("\"{hash:032x}\"").into(),
            compressed_tag: format!("\"{hash:032x}-gzip\"").into(),
        }
    }

    /// Answers a request for the file. `caching`: what `Cache-Control` says.
    pub(super) fn answer(&self, caching: &'static str, request: &HeaderMap) -> Response {
        let compressed = self.compressed.as_ref().filter(|_| accepts_gzip(request));
        let (bytes, tag) = match compressed {
            Some(compressed) => (compressed, &self.compressed_tag),
            None => (&self.bytes, &self.tag),
        };
        let is_known = is_known(request, tag);
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Response::new(Body::from(bytes.clone()))
        };
        let headers = response.headers_mut();
        if !is_known {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            if compressed.is_some() {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        if let Ok(tag) = HeaderValue::from_str(tag) {
            headers.insert(ETAG, tag);
        }
        if self.compressed.is_some() {
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        response
    }
}

/// Whether the client has the bytes with this tag. With `--compress` an image was sent with a weak one.
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let values = request.get_all(IF_NONE_MATCH).iter();
    let mut texts = values.filter_map(|value| value.to_str().ok());
    texts.any(|tags| {
        let mut tags = tags.split(',').map(str::trim);
        tags.any(|known| known.strip_prefix("W/").unwrap_or(known) == tag)
    })
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail. An empty result would be wrong, and none is right.
    match encoder.write_all(bytes).and_then(|()| encoder.finish()) {
        Ok(compressed) => compressed,
        Err(_) => bytes.to_owned(),
    }
}

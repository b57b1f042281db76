//! `/ui`: the dashboard, a folder of built files that is read once, at the start. Without `--dashboard-dir` there are no such paths.
//!
//! Requests are answered from memory: no path of a request leads to the file system.

pub(crate) mod files;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    LOCATION, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use self::files::{DashboardFile, DashboardFiles};
use super::compression::accepts_gzip;
use crate::error::ApiError;

/// Where the pages begin. No path of REST begins with it.
const ROOT: &str = "/ui/";
/// The files below it have a hash of their contents in their names: they never change.
const HASHED: &str = "assets/";

/// Nothing comes from elsewhere, no script or style stands in a page, and no other page may show this one in a frame.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    ),
];

/// The routes of the dashboard.
pub(super) fn router<S: Clone + Send + Sync + 'static>(files: Arc<DashboardFiles>) -> Router<S> {
    Router::new()
        .route("/", get(to_root))
        .route("/ui", get(index))
        .route("/ui/{*path}", get(file))
        .layer(from_fn(protect))
        .with_state(files)
}

/// `GET /`: leads to the dashboard, with the same query.
async fn to_root(OriginalUri(uri): OriginalUri) -> Response {
    let query = uri.query().map(|query| format!("?{query}"));
    let location = format!("{ROOT}{}", query.unwrap_or_default());
    let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
    // The query of a request that was parsed fits into a header.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// `GET /ui`
async fn index(State(files): State<Arc<DashboardFiles>>, headers: HeaderMap) -> Response {
    answer(files.index(), "no-cache", &headers)
}

/// `GET /ui/…`: a file, or the page, which chooses its screen by the path.
async fn file(
    State(files): State<Arc<DashboardFiles>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let is_hashed = path.starts_with(HASHED);
    let caching = if is_hashed {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    match files.get(&path) {
        Some(file) => Ok(answer(file, caching, &headers)),
        // A page of an older build asks for its own files. It must not get a page instead.
        None if is_hashed => Err(ApiError::UnknownRoute),
        None => Ok(answer(files.index(), caching, &headers)),
    }
}

fn answer(file: &DashboardFile, caching: &'static str, request: &HeaderMap) -> Response {
    let compressed = file.compressed.as_ref().filter(|_| accepts_gzip(request));
    let (bytes, tag) = match compressed {
        Some(compressed) => (compressed, &file.compressed_tag),
        None => (&file.bytes, &file.tag),
    };
    let known = request.get_all(IF_NONE_MATCH).iter();
    let mut known = known.filter_map(|value| value.to_str().ok());
    let is_known = known.any(|tags| tags.split(',').any(|known| known.trim() == tag.as_ref()));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(bytes.clone()))
    };
    let headers = response.headers_mut();
    if !is_known {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
        if compressed.is_some() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    if file.compressed.is_some() {
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}

/// Middleware. Adds what keeps others from using these pages.
async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests;

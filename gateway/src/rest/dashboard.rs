//! `/ui`: the dashboard, a folder of built files that is read once, at the start. Without `--dashboard-dir` there are no such paths.
//!
//! Requests are answered from memory: no path of a request leads to the file system.

pub(crate) mod files;

use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Path, Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use self::files::DashboardFiles;
use crate::error::ApiError;

/// Where the pages begin. No path of REST begins with it.
const ROOT: &str = "/ui/";
/// The files below it have a hash of their contents in their names: they never change.
const HASHED: &str = "assets/";

/// Nothing comes from elsewhere, no script or style stands in a page, and no other page may show this one in a frame. A site plan needs
/// a token, so a page fetches it and shows what it has fetched.
const POLICY: &str = "default-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

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
    files.index().answer("no-cache", &headers)
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
        Some(file) => Ok(file.answer(caching, &headers)),
        // A page of an older build asks for its own files. It must not get a page instead.
        None if is_hashed => Err(ApiError::UnknownRoute),
        None => Ok(files.index().answer(caching, &headers)),
    }
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

//! Reads the body of a request within a bound and a deadline.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use http_body_util::LengthLimitError;
use tokio::time::timeout;

use crate::error::ApiError;

/// How long a body may take. With the largest body of Socket.IO (16 KiB) and of REST (100 KiB), that is a minimum of 1.6 and 10
/// KiB per second. Front ends send a few hundred bytes at once.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Reads the complete body.
///
/// # Errors
/// [`ApiError::TooLarge`], [`ApiError::SlowBody`], or [`ApiError::Unreadable`] if the client disconnected before the end.
pub(crate) async fn read(body: Body, max_bytes: usize) -> Result<Bytes, ApiError> {
    read_within(body, max_bytes, MAX_TIME).await
}

async fn read_within(body: Body, max_bytes: usize, time: Duration) -> Result<Bytes, ApiError> {
    match timeout(time, to_bytes(body, max_bytes)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(ApiError::TooLarge),
        Ok(Err(_)) => Err(ApiError::Unreadable {
            problem: "the body did not arrive completely".to_owned(),
        }),
        Err(_) => Err(ApiError::SlowBody),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<LengthLimitError>)
}

#[cfg(test)]
mod tests;

//! The refusal of a client that exceeds a limit.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};

use super::limit::Limit;

/// A client exceeds a limit. The text is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub(crate) struct Limited {
    limit: Limit,
    /// Whole seconds, at least one.
    retry_after: u64,
}

impl Limited {
    /// `wait`: how long until the client would be admitted.
    pub(super) fn new(limit: Limit, wait: Duration) -> Self {
        let began = u64::from(wait.subsec_nanos() > 0);
        Self {
            limit,
            retry_after: wait.as_secs().saturating_add(began).max(1),
        }
    }

    /// Returns the status of the answer: 503 only if it is not the fault of this client.
    pub(crate) const fn status(self) -> StatusCode {
        match self.limit {
            Limit::HandshakeRate => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Returns the value of `Retry-After`.
    pub(crate) fn retry_after(self) -> HeaderValue {
        self.retry_after.into()
    }

    const fn text(self) -> &'static str {
        match self.limit {
            Limit::MaxConnectionsPerAddress => {
                "Too many connections from this network address, try again later"
            }
            Limit::HandshakeRatePerAddress => {
                "Too many new connections from this network address, try again later"
            }
            Limit::HandshakeRate => "Too many new connections, try again later",
            Limit::WrongSignatureRate => "Too many tokens with a wrong signature, try again later",
            _ => "Too many requests, try again later",
        }
    }
}

#[cfg(test)]
mod tests;

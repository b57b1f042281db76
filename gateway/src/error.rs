//! What goes wrong with a request. Somebody matches on it (the answer's status), so it is a typed error; the cause is
//! logged here, once, and never sent.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::error_chain::error_chain;
use shared::store::StoreError;

use crate::rest::reply;
use crate::snapshot::ReadError;

/// Why a request is answered with an error; its text is what the client reads.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A device that was never heard of, or a text that cannot name one.
    #[error("Device not found")]
    UnknownDevice,
    /// No such alarm, or closed for too long.
    #[error("Alert not found")]
    UnknownAlert,
    /// No such route.
    #[error("Not found")]
    UnknownRoute,
    /// The route exists, with another method.
    #[error("Method not allowed")]
    WrongMethod,
    /// The page's origin is not allowed.
    #[error("Origin not allowed")]
    RefusedOrigin,
    /// Something in the request cannot be read; `problem` says what.
    #[error("{problem}")]
    Unreadable {
        /// What cannot be read, for the author of the client.
        problem: String,
    },
    /// More bytes than a request may have.
    #[error("Request body too large")]
    TooLarge,
    /// The client did not finish its request, or the answer took too long.
    #[error("Request took too long")]
    TooSlow,
    /// Every connection this replica may have is taken.
    #[error("Too many connections, try again later")]
    Full,
    /// Redis could not answer; `sentence` is what the contract says for the route.
    #[error("{sentence}")]
    Away {
        /// What could not be done.
        sentence: &'static str,
        /// Why.
        source: ReadError,
    },
    /// A bug of ours.
    #[error("Internal server error")]
    Bug,
}

/// The sentence of routes for which the contract has none.
pub(crate) const STORE_AWAY: &str = "The data store cannot be reached, try again later";

/// One device's keys cannot be used; the others are not concerned.
pub(crate) const DEVICE_BROKEN: &str = "The stored device cannot be read";

/// Body of every error answer. Front ends print `error_message`; `error` is the same text for older ones.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: String,
    pub(crate) error_message: String,
    pub(crate) error_code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
}

impl ApiError {
    /// Redis could not answer a route that has no sentence of its own.
    pub(crate) fn away(source: ReadError) -> Self {
        let sentence = match &source {
            ReadError::Store(StoreError::Refused(_)) => DEVICE_BROKEN,
            _ => STORE_AWAY,
        };
        Self::Away { sentence, source }
    }

    /// The same for a route with its own sentence: to be used with `map_err`.
    pub(crate) fn away_with(sentence: &'static str) -> impl Fn(ReadError) -> Self + Copy {
        move |source| Self::Away { sentence, source }
    }

    /// Stable word of a bounded set, for `error_code` and telemetry.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownDevice => "unknown_device",
            Self::UnknownAlert => "unknown_alert",
            Self::UnknownRoute => "unknown_route",
            Self::WrongMethod => "wrong_method",
            Self::RefusedOrigin => "refused_origin",
            Self::Unreadable { .. } => "unreadable",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Away { .. } => "store_away",
            Self::Full => "full",
            Self::Bug => "internal",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownDevice | Self::UnknownAlert | Self::UnknownRoute => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::RefusedOrigin => StatusCode::FORBIDDEN,
            Self::Unreadable { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow | Self::Full | Self::Away { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Bug => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match &self {
            // The outage itself is logged once, by who watches Redis: a line per request would be a flood.
            Self::Away { source, .. } => tracing::debug!(
                error = error_chain(source),
                "answered a request without the store"
            ),
            Self::Bug => tracing::error!("a request handler panicked"),
            _ => {}
        }
        let text = self.to_string();
        let body = ErrorBody {
            error: text.clone(),
            error_message: text,
            error_code: self.code(),
            request_id: None,
        };
        let mut response = reply::json(self.status(), &body);
        // The layer that knows the request id renders it once more with that.
        response.extensions_mut().insert(body);
        response
    }
}

#[cfg(test)]
mod tests;

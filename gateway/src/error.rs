//! Why a request is answered with an error. A typed error, because the status depends on it. The cause is logged here, once,
//! and never sent to the client.

use std::sync::Arc;

use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::error_chain::error_chain;
use shared::store::StoreError;
use shared::visible_text::clean;

use crate::access::NotAdmitted;
use crate::access::sign_in::SignInError;
use crate::admission::limited::Limited;
use crate::rest::reply;
use crate::store_reader::ReadError;

/// Why a request is answered with an error. Its text is sent to the client.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// No such device is stored, or the text cannot be a device id.
    #[error("Device not found")]
    UnknownDevice,
    /// The device has no such alarm, or it was closed so long ago that it is no longer stored.
    #[error("Alert not found")]
    UnknownAlert,
    /// There is no such site plan.
    #[error("Site plan not found")]
    UnknownPlan,
    /// No such route.
    #[error("Not found")]
    UnknownRoute,
    /// The route exists only with other methods.
    #[error("Method not allowed")]
    WrongMethod,
    /// The page's origin is not allowed.
    #[error("Origin not allowed")]
    RefusedOrigin,
    /// The request names a host that is not allowed.
    #[error("Host not allowed")]
    RefusedHost,
    /// Two servers could read this request differently. The connection is closed.
    #[error("{problem}")]
    Ambiguous {
        /// What is wrong, for the author of the client.
        problem: &'static str,
    },
    /// The client is not admitted.
    #[error("{0}")]
    Unauthorized(NotAdmitted),
    /// Whether the client is admitted cannot be decided now.
    #[error("{}", NotAdmitted::KeysAway)]
    KeysAway,
    /// A page of somebody else may have sent the request: the cookie of somebody who has signed in does not suffice to change something.
    #[error("Send the csrf_token of /auth/session in X-CSRF-Token, from a page of this service")]
    NotMeant,
    /// Nobody can sign in.
    #[error("Nobody can sign in here")]
    NoSignIn,
    /// Somebody is not signed in.
    #[error("{0}")]
    SignIn(SignInError),
    /// The client may not do this. The answer is the same whether what it is about exists or not.
    #[error("Not allowed")]
    Forbidden,
    /// Only operators may do this, and they do it at another port.
    #[error(
        "Detectors are retired and described at the port for operators (--ops-port), never here"
    )]
    OperatorsOnly,
    /// What the client wants to change is no longer what it has read.
    #[error("It was changed meanwhile: read it again")]
    Changed,
    /// The request does not say what the client has read.
    #[error("Send the ETag of what is to be changed in If-Match")]
    WithoutMatch,
    /// A part of the request cannot be read.
    #[error("{problem}")]
    Unreadable {
        /// Which part, for the author of the client.
        problem: String,
    },
    /// The request is longer than allowed.
    #[error("Request body too large")]
    TooLarge,
    /// The client did not send its complete request in time, or the answer took too long.
    #[error("Request took too long")]
    TooSlow,
    /// The body of the request did not arrive in time. The connection is closed.
    #[error("Request body took too long")]
    SlowBody,
    /// This replica has as many connections as it may have.
    #[error("Too many connections, try again later")]
    Full,
    /// The client exceeds a limit.
    #[error(transparent)]
    Limited(Limited),
    /// As many bytes of answers as allowed wait for clients to read them.
    #[error("Too many large answers, try again later")]
    Busy,
    /// Redis could not answer.
    #[error("{sentence}")]
    Unavailable {
        /// What failed. Some routes have a sentence of their own, as in the replaced system.
        sentence: &'static str,
        /// The cause. Requests that share an answer share it.
        source: Arc<ReadError>,
    },
    /// A bug in this service.
    #[error("Internal server error")]
    Bug,
}

/// The sentence of routes without one of their own.
pub(crate) const STORE_UNAVAILABLE: &str = "The data store cannot be reached, try again later";

/// The sentence if Redis answers and has no memory for what was asked, not even within `--memory-reserve`.
pub(crate) const STORE_FULL: &str =
    "The data store has no memory left, nothing was changed: inform an operator";

/// The sentence if the stored keys of one device cannot be read. Other devices are not affected.
pub(crate) const DEVICE_BROKEN: &str = "The stored device cannot be read";

/// Body of every error answer. Front ends show `error_message`; `error` has the same text for older ones.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: String,
    pub(crate) error_message: String,
    pub(crate) error_code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
}

impl ApiError {
    /// Redis could not answer, for a route without a sentence of its own.
    pub(crate) fn unavailable(source: ReadError) -> Self {
        let sentence = match &source {
            ReadError::Store(StoreError::Refused(_)) => DEVICE_BROKEN,
            ReadError::Store(err) if err.is_out_of_memory() => STORE_FULL,
            _ => STORE_UNAVAILABLE,
        };
        Self::Unavailable {
            sentence,
            source: Arc::new(source),
        }
    }

    /// Redis could not answer, for a route with this sentence. To be used with `map_err`.
    pub(crate) fn unavailable_with(sentence: &'static str) -> impl Fn(ReadError) -> Self + Copy {
        move |source| Self::Unavailable {
            sentence,
            source: Arc::new(source),
        }
    }

    /// Returns the `error_code` for clients, from a bounded set.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::UnknownDevice => "unknown_device",
            Self::UnknownAlert => "unknown_alert",
            Self::UnknownPlan => "unknown_plan",
            Self::UnknownRoute => "unknown_route",
            Self::WrongMethod => "wrong_method",
            Self::RefusedOrigin => "refused_origin",
            Self::RefusedHost => "refused_host",
            Self::Unauthorized(_) => "unauthorized",
            Self::KeysAway => "keys_away",
            Self::NotMeant => "csrf",
            Self::NoSignIn => "no_sign_in",
            Self::SignIn(error) => match error {
                SignInError::ProviderAway => "provider_away",
                SignInError::Busy => "busy",
                _ => "sign_in",
            },
            Self::Forbidden => "forbidden",
            Self::OperatorsOnly => "operators_only",
            Self::Changed => "changed",
            Self::WithoutMatch => "without_match",
            Self::Unreadable { .. } | Self::Ambiguous { .. } => "unreadable",
            Self::TooLarge => "too_large",
            Self::TooSlow | Self::SlowBody => "too_slow",
            Self::Unavailable { source, .. } if is_out_of_memory(source) => "store_full",
            Self::Unavailable { .. } => "store_away",
            Self::Full => "full",
            Self::Limited(_) => "limited",
            Self::Busy => "busy",
            Self::Bug => "internal",
        }
    }

    /// Returns the value of `Retry-After`, if trying again may help.
    fn retry_after(&self) -> Option<HeaderValue> {
        match self {
            Self::Busy
            | Self::Full
            | Self::TooSlow
            | Self::KeysAway
            | Self::SignIn(SignInError::ProviderAway | SignInError::Busy) => {
                Some(HeaderValue::from_static("2"))
            }
            Self::Limited(limited) => Some(limited.retry_after()),
            _ => None,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownDevice
            | Self::UnknownAlert
            | Self::UnknownPlan
            | Self::UnknownRoute
            | Self::NoSignIn => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::RefusedOrigin
            | Self::RefusedHost
            | Self::OperatorsOnly
            | Self::NotMeant
            | Self::Forbidden => StatusCode::FORBIDDEN,
            Self::SignIn(error) => match error {
                SignInError::ForeignReturn | SignInError::NotBegun => StatusCode::BAD_REQUEST,
                SignInError::ProviderAway | SignInError::Busy => StatusCode::SERVICE_UNAVAILABLE,
                SignInError::Refused(_)
                | SignInError::Code
                | SignInError::Untrusted
                | SignInError::TooManyClaims
                | SignInError::Revoked => StatusCode::FORBIDDEN,
            },
            Self::Unreadable { .. } | Self::Ambiguous { .. } => StatusCode::BAD_REQUEST,
            Self::Changed => StatusCode::PRECONDITION_FAILED,
            Self::WithoutMatch => StatusCode::PRECONDITION_REQUIRED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Limited(limited) => limited.status(),
            Self::TooSlow | Self::Full | Self::Busy | Self::KeysAway | Self::Unavailable { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Bug => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<NotAdmitted> for ApiError {
    fn from(reason: NotAdmitted) -> Self {
        match reason {
            NotAdmitted::KeysAway => Self::KeysAway,
            NotAdmitted::Limited(limited) => Self::Limited(limited),
            reason => Self::Unauthorized(reason),
        }
    }
}

impl From<SignInError> for ApiError {
    fn from(error: SignInError) -> Self {
        Self::SignIn(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match &self {
            // At `debug`: the outage itself is logged once, by the task that watches Redis.
            Self::Unavailable { source, .. } => {
                tracing::debug!(
                    error = error_chain(source.as_ref()),
                    "cannot read the store for a request"
                );
            }
            Self::Bug => tracing::error!("a request handler panicked"),
            _ => {}
        }
        // It may have a part of the request.
        let text = clean(&self.to_string()).into_owned();
        let body = ErrorBody {
            error: text.clone(),
            error_message: text,
            error_code: self.code(),
            request_id: None,
        };
        let mut response = reply::json(self.status(), &body);
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        if let Self::Unauthorized(reason) = &self {
            let challenge = HeaderValue::from_static(challenge(*reason));
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if matches!(self, Self::Ambiguous { .. } | Self::SlowBody) {
            // What follows on the connection is the rest of this request, or may be.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        // `rest::edge::complete` renders the body again with the request id, if the request has one.
        response.extensions_mut().insert(body);
        response
    }
}

/// Returns the header that asks a client for a token (RFC 6750, section 3).
fn challenge(reason: NotAdmitted) -> &'static str {
    match reason {
        NotAdmitted::TokenRequired | NotAdmitted::TooManyConnections => "Bearer",
        NotAdmitted::Invalid
        | NotAdmitted::Expired
        | NotAdmitted::Revoked
        | NotAdmitted::Limited(_)
        | NotAdmitted::KeysAway => r#"Bearer error="invalid_token""#,
    }
}

fn is_out_of_memory(error: &ReadError) -> bool {
    matches!(error, ReadError::Store(error) if error.is_out_of_memory())
}

#[cfg(test)]
mod tests;

//! Answers to Engine.IO requests that are refused, in the form that the protocol has for them.

use axum::body::Body;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::admission::limited::Limited;
use crate::rest::reply;

/// Why a request of the Engine.IO protocol is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("Transport unknown")]
    UnknownTransport,
    /// The session has ended, or another replica has it.
    #[error("Session ID unknown")]
    UnknownSession,
    /// A session is opened with GET.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// The session has broken a rule and is closed.
    #[error("Bad request")]
    BadRequest,
    /// Every connection is taken.
    #[error("Too many connections, try again later")]
    Full,
    /// The client exceeds a limit.
    #[error(transparent)]
    Limited(Limited),
    /// Another version of Engine.IO.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
}

/// The body, as `engine.io` of Node.js writes it.
#[derive(Serialize)]
struct ErrorBody {
    code: u8,
    message: String,
}

impl EngineError {
    /// The codes of the protocol. 4 is "forbidden", which comes nearest.
    fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::Full | Self::Limited(_) => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    /// Reads the code of a refusal of socketioxide, which writes it as text.
    pub(super) fn of_library(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Refusal<'a> {
            code: &'a str,
        }
        match serde_json::from_slice(body) {
            Ok(Refusal { code: "1" }) => Self::UnknownSession,
            _ => Self::BadRequest,
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let status = match self {
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Limited(limited) => limited.status(),
            _ => StatusCode::BAD_REQUEST,
        };
        let body = ErrorBody {
            code: self.code(),
            message: self.to_string(),
        };
        let mut response = reply::json(status, &body);
        let retry_after = match self {
            Self::Full => Some(HeaderValue::from_static("2")),
            Self::Limited(limited) => Some(limited.retry_after()),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

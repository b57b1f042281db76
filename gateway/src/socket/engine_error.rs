//! Answers to Engine.IO requests that are refused, in the form that the protocol has for them.

use axum::body::Body;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::rest::reply;

/// Why a request of the Engine.IO protocol is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// The session has ended, or another replica has it.
    #[error("Session ID unknown")]
    UnknownSession,
    /// The session has broken a rule and is closed.
    #[error("Bad request")]
    BadRequest,
    /// Every connection is taken.
    #[error("Too many connections, try again later")]
    Full,
}

/// The body, as `engine.io` of Node.js writes it.
#[derive(Serialize)]
struct ErrorBody {
    code: u8,
    message: String,
}

impl EngineError {
    /// The codes of the protocol: 1 unknown session, 3 bad request, 4 forbidden.
    fn code(self) -> u8 {
        match self {
            Self::UnknownSession => 1,
            Self::BadRequest => 3,
            Self::Full => 4,
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let status = match self {
            Self::UnknownSession | Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = ErrorBody {
            code: self.code(),
            message: self.to_string(),
        };
        let mut response = reply::json(status, &body);
        if self == Self::Full {
            let seconds = HeaderValue::from_static("2");
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

//! The reasons to refuse a command of a client.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::access::NotAdmitted;
use crate::json;
use crate::watches::WatchRefused;

/// Why a command of a client is refused. The error text is sent to the client as `message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("expected a device id of 1 to 128 bytes, or an object with `deviceId` and `since`")]
    Invalid,
    /// The argument of a subscription to all devices cannot be read.
    #[error(
        "expected an object with a `filter` of known words and, for the fleet, an `interval` of 250 to 60000 ms"
    )]
    InvalidFeed,
    /// A subscription to all devices was ended by the client before it was answered.
    #[error("a later command of this connection has ended it")]
    Replaced,
    /// The client may not read the device, which need not exist.
    #[error("not allowed")]
    Forbidden,
    /// The new token of the client is refused.
    #[error("{0}")]
    Unauthorized(NotAdmitted),
    /// The new token of the client is that of somebody else.
    #[error("the token has another subject")]
    OtherSubject,
    /// The client replaces its token too often.
    #[error("too many new tokens, try again later")]
    TooManyTokens,
    /// `auth:refresh` without a token.
    #[error("expected a token, or an object with `token`")]
    NoToken,
    /// The client already has the maximum number of subscriptions.
    #[error("no more than {0} subscriptions per connection")]
    Limit(usize),
    /// This replica watches as many devices as it may.
    #[error("this replica watches no more than {0} detectors")]
    ReplicaLimit(usize),
    /// The clients of the client's address watch as many devices as they may.
    #[error("no more than {0} detectors per network address")]
    AddressLimit(usize),
    /// This replica watches as many names that are not listed as it may.
    #[error("this replica watches no more than {0} detectors that have sent nothing yet")]
    UnlistedLimit(usize),
    /// The clients of the client's address watch as many names that are not listed as they may.
    #[error("no more than {0} detectors that have sent nothing yet per network address")]
    AddressUnlistedLimit(usize),
}

impl From<WatchRefused> for Refusal {
    fn from(refused: WatchRefused) -> Self {
        match refused {
            WatchRefused::Full(limit) => Self::ReplicaLimit(limit),
            WatchRefused::AddressFull(limit) => Self::AddressLimit(limit),
            WatchRefused::UnlistedFull(limit) => Self::UnlistedLimit(limit),
            WatchRefused::AddressUnlistedFull(limit) => Self::AddressUnlistedLimit(limit),
        }
    }
}

#[derive(Serialize)]
struct RefusalReply {
    ok: bool,
    error: RefusalError,
}

#[derive(Serialize)]
struct RefusalError {
    code: &'static str,
    message: String,
}

impl Refusal {
    const INVALID: &'static str = "invalid";
    const LIMIT: &'static str = "limit";
    const FORBIDDEN: &'static str = "forbidden";
    const UNAUTHORIZED: &'static str = "unauthorized";
    const UNAVAILABLE: &'static str = "unavailable";

    /// Every code.
    pub(crate) const CODES: [&'static str; 5] = [
        Self::INVALID,
        Self::LIMIT,
        Self::FORBIDDEN,
        Self::UNAUTHORIZED,
        Self::UNAVAILABLE,
    ];

    /// Returns the code for the client, logs and metrics.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Invalid | Self::InvalidFeed | Self::Replaced | Self::NoToken => Self::INVALID,
            Self::Forbidden => Self::FORBIDDEN,
            Self::Unauthorized(NotAdmitted::KeysAway) => Self::UNAVAILABLE,
            Self::Unauthorized(NotAdmitted::Limited(_))
            | Self::TooManyTokens
            | Self::Limit(_)
            | Self::ReplicaLimit(_)
            | Self::AddressLimit(_)
            | Self::UnlistedLimit(_)
            | Self::AddressUnlistedLimit(_) => Self::LIMIT,
            Self::Unauthorized(_) | Self::OtherSubject => Self::UNAUTHORIZED,
        }
    }

    /// Returns the reason for the audit trail; `None` for what is no question of permission.
    pub(crate) fn for_audit(self) -> Option<&'static str> {
        match self {
            Self::Unauthorized(error) => Some(error.code()),
            Self::Forbidden | Self::OtherSubject => Some(self.code()),
            _ => None,
        }
    }

    /// Renders the reply to the client.
    pub(crate) fn to_reply(self) -> Box<RawValue> {
        let error = RefusalError {
            code: self.code(),
            message: self.to_string(),
        };
        json::to_raw(&RefusalReply { ok: false, error })
    }
}

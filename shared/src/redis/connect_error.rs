//! Errors of connecting to Redis.

use redis::RedisError;

use super::refusal::{NO_AUTHENTICATION, WRONG_PASSWORD};

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Redis cannot be reached, did not answer in time, or refuses to work now: try again.
    #[error("redis is unavailable")]
    Unavailable(#[source] RedisError),
    /// Redis or this client refuses the other: an operator must act.
    #[error("no connection to Redis: {advice}")]
    Rejected {
        /// Why, in words that may be shown to anybody.
        reason: &'static str,
        /// Why, and the settings to look at.
        advice: String,
    },
    /// The user of the connection lacks a right: an operator must act.
    #[error("the Redis user lacks a right: {0}")]
    MissingRight(String),
    /// This server cannot be used: an operator must act.
    #[error("redis cannot be used: {0}")]
    Unusable(String),
}

impl From<RedisError> for ConnectError {
    fn from(err: RedisError) -> Self {
        match err.code() {
            Some("NOPERM") => Self::MissingRight(err.to_string()),
            Some("WRONGPASS") => Self::Rejected {
                reason: WRONG_PASSWORD,
                advice: "it does not accept the user or password (WRONGPASS): check both in --redis-url or --redis-url-file"
                    .to_owned(),
            },
            Some("NOAUTH") => Self::Rejected {
                reason: NO_AUTHENTICATION,
                advice: "it wants a user and password (NOAUTH): give redis://user:password@host in --redis-url or \
                         --redis-url-file"
                    .to_owned(),
            },
            _ => Self::Unavailable(err),
        }
    }
}

//! Errors of connecting to Redis.

use redis::RedisError;

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Redis cannot be reached, did not answer in time, or refuses to work now: try again.
    #[error("redis is unavailable")]
    Unavailable(#[source] RedisError),
    /// The user of the connection lacks a right: an operator must act.
    #[error("the Redis user lacks a right: {0}")]
    MissingRight(String),
    /// This server cannot be used: an operator must act.
    #[error("redis cannot be used: {0}")]
    Unusable(String),
}

impl From<RedisError> for ConnectError {
    fn from(err: RedisError) -> Self {
        if err.code() == Some("NOPERM") {
            return Self::MissingRight(err.to_string());
        }
        Self::Unavailable(err)
    }
}

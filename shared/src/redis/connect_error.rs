//! Errors of connecting to Redis.

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Redis cannot be reached, did not answer in time, or is loading its data: try again.
    #[error("redis is unavailable")]
    Unavailable(#[source] redis::RedisError),
    /// This server cannot be used: an operator must act.
    #[error("redis cannot be used: {0}")]
    Unusable(String),
}

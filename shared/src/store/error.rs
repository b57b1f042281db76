//! Errors of the store.

use redis::RedisError;

use crate::redis::ConnectError;

/// The reason why the store could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Redis cannot be reached, did not answer in time, or is loading: try again later.
    #[error("redis is unavailable")]
    Unavailable(#[source] RedisError),
    /// The server cannot be used: an operator must act.
    #[error("redis cannot be used: {0}")]
    Unusable(String),
    /// The keys of one device cannot be used; other devices are not affected.
    #[error("the stored device cannot be used: {0}")]
    Refused(String),
    /// The device is unknown, and the limit of devices is reached.
    #[error("the limit of devices is reached")]
    TooManyDevices,
}

impl StoreError {
    /// Whether the cause is the server rather than the device: the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unusable(_))
    }

    /// Returns a short constant for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "redis_away",
            Self::Unusable(_) => "redis_unusable",
            Self::Refused(_) => "device_refused",
            Self::TooManyDevices => "too_many_devices",
        }
    }
}

impl From<ConnectError> for StoreError {
    fn from(err: ConnectError) -> Self {
        match err {
            ConnectError::Unavailable(err) => Self::Unavailable(err),
            ConnectError::Unusable(why) => Self::Unusable(why),
        }
    }
}

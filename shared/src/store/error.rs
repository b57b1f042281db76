//! Errors of the store.

use redis::RedisError;

use crate::redis::{ConnectError, NO_PERMISSION, refusal};

/// The reason why the store could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Redis cannot be reached, did not answer in time, or refuses to work for us: try again later.
    #[error("redis is unavailable")]
    Unavailable(#[source] RedisError),
    /// The user of the connection lacks a right: an operator must act.
    #[error("the Redis user lacks a right: {0}")]
    MissingRight(String),
    /// The server cannot be used: an operator must act.
    #[error("redis cannot be used: {0}")]
    Unusable(String),
    /// The keys of one device cannot be used; other devices are not affected.
    #[error("the stored device cannot be used: {0}")]
    Refused(String),
    /// The device is unknown, and the limit of devices is reached.
    #[error("the limit of devices is reached")]
    TooManyDevices,
    /// The device is unknown, its message shows no danger, and the rest of the memory of Redis is kept for alarms.
    #[error(
        "Redis is full: the rest of its memory is kept for alarms, and this message of a new device shows no danger"
    )]
    RedisFull,
    /// The device is unknown, and the key of the places of devices cannot be used.
    #[error("the places of devices cannot be used: {0}")]
    PlacesUnusable(String),
    /// The device is unknown, and its serial is not among those that are admitted.
    #[error("the serial is not among those that --admit allows")]
    NotAdmitted,
}

impl StoreError {
    /// Whether the cause is the server rather than the device: the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::MissingRight(_) | Self::Unusable(_)
        )
    }

    /// Whether a write may have been carried out although it failed: the answer is missing. A server that refuses has written
    /// nothing, since all scripts check what can be refused before their first write.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Unavailable(err) if err.code().is_none())
    }

    /// Whether a service that meets this error at its start should exit: only an operator can mend it.
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        matches!(self, Self::MissingRight(_) | Self::Unusable(_))
    }

    /// Returns why Redis cannot be used, in words that may be shown to anybody.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable(err) => refusal(err).unwrap_or("no answer from Redis"),
            Self::MissingRight(_) => NO_PERMISSION,
            Self::Unusable(_) => "this Redis server cannot be used",
            Self::Refused(_) => "a key of a device cannot be used",
            Self::TooManyDevices => "the limit of devices is reached",
            Self::RedisFull => "Redis is full: its memory is kept for alarms",
            Self::PlacesUnusable(_) => "the key of the places of devices cannot be used",
            Self::NotAdmitted => "the device is not admitted",
        }
    }

    /// Returns a short constant for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "redis_away",
            Self::MissingRight(_) | Self::Unusable(_) => "redis_unusable",
            Self::Refused(_) => "device_refused",
            Self::TooManyDevices => "too_many_devices",
            Self::RedisFull => "redis_full",
            Self::PlacesUnusable(_) => "places_unusable",
            Self::NotAdmitted => "not_admitted",
        }
    }
}

impl From<ConnectError> for StoreError {
    fn from(err: ConnectError) -> Self {
        match err {
            ConnectError::Unavailable(err) => Self::Unavailable(err),
            ConnectError::MissingRight(what) => Self::MissingRight(what),
            ConnectError::Unusable(why) => Self::Unusable(why),
        }
    }
}

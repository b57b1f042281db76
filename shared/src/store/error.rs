//! Errors of the store.

use redis::RedisError;

use super::memory::is_out_of_memory;
use crate::device::DeviceId;
use crate::redis::{ConnectError, NO_PERMISSION, refusal};

/// The reason why the store could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Redis cannot be reached, did not answer in time, or refuses to work for us: try again later.
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
    /// The server cannot be used: an operator must act.
    #[error("redis cannot be used: {0}")]
    Unusable(String),
    /// The keys of one device cannot be used; other devices are not affected.
    #[error("the stored device cannot be used: {0}")]
    Refused(String),
    /// The device is unknown, and the limit of devices is reached.
    #[error("the limit of devices is reached{}", also_in_danger(*.in_danger))]
    TooManyDevices {
        /// A refused message shows a danger: the reserve is used up, too.
        in_danger: bool,
    },
    /// The device is unknown, its message shows no danger, and the rest of the memory of Redis is kept for alarms.
    #[error(
        "Redis is full: the rest of its memory is kept for alarms, and this message of a new device shows no danger"
    )]
    RedisFull,
    /// The device is unknown, and the key of the places of devices cannot be used.
    #[error("the places of devices cannot be used: {reason}")]
    PlacesUnusable {
        /// What is wrong with the key.
        reason: String,
        /// A refused message shows a danger.
        in_danger: bool,
    },
    /// The device is unknown, and its serial is not among those that are admitted.
    #[error("the serial is not among those that --admit allows")]
    NotAdmitted {
        /// A refused message shows a danger.
        in_danger: bool,
    },
}

fn also_in_danger(in_danger: bool) -> &'static str {
    if in_danger {
        ", and --alarm-reserve is used up: this device is in danger"
    } else {
        ""
    }
}

impl StoreError {
    /// Whether the cause is the server rather than the device: the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Rejected { .. }
                | Self::MissingRight(_)
                | Self::Unusable(_)
        )
    }

    /// Whether a write may have been carried out although it failed: the answer is missing. A server that refuses has written
    /// nothing, since all scripts check what can be refused before their first write.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Unavailable(err) if err.code().is_none())
    }

    /// Describes the error for the dead letter of a message, and names the device.
    #[must_use]
    pub fn detail(&self, device: &DeviceId) -> String {
        format!("{self}; it is from {}", device.for_log())
    }

    /// Whether a refused message shows a danger, or may show one: then somebody must learn which device is not watched.
    #[must_use]
    pub fn may_hide_danger(&self) -> bool {
        match self {
            Self::TooManyDevices { in_danger }
            | Self::PlacesUnusable { in_danger, .. }
            | Self::NotAdmitted { in_danger } => *in_danger,
            Self::Refused(_) => true,
            Self::Unavailable(_)
            | Self::Rejected { .. }
            | Self::MissingRight(_)
            | Self::Unusable(_)
            | Self::RedisFull => false,
        }
    }

    /// Whether Redis answered, and had no memory for the request.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Unavailable(err) if is_out_of_memory(err))
    }

    /// Whether a service that meets this error at its start should exit: only an operator can mend it.
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        matches!(
            self,
            Self::Rejected { .. } | Self::MissingRight(_) | Self::Unusable(_)
        )
    }

    /// Returns why Redis cannot be used, in words that may be shown to anybody.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable(err) => refusal(err).unwrap_or("no answer from Redis"),
            Self::Rejected { reason, .. } => reason,
            Self::MissingRight(_) => NO_PERMISSION,
            Self::Unusable(_) => "this Redis server cannot be used",
            Self::Refused(_) => "a key of a device cannot be used",
            Self::TooManyDevices { .. } => "the limit of devices is reached",
            Self::RedisFull => "Redis is full: its memory is kept for alarms",
            Self::PlacesUnusable { .. } => "the key of the places of devices cannot be used",
            Self::NotAdmitted { .. } => "the device is not admitted",
        }
    }

    /// Returns a short constant for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "redis_away",
            Self::Rejected { .. } | Self::MissingRight(_) | Self::Unusable(_) => "redis_unusable",
            Self::Refused(_) => "device_refused",
            Self::TooManyDevices { .. } => "too_many_devices",
            Self::RedisFull => "redis_full",
            Self::PlacesUnusable { .. } => "places_unusable",
            Self::NotAdmitted { .. } => "not_admitted",
        }
    }
}

impl From<ConnectError> for StoreError {
    fn from(err: ConnectError) -> Self {
        match err {
            ConnectError::Unavailable(err) => Self::Unavailable(err),
            ConnectError::Rejected { reason, advice } => Self::Rejected { reason, advice },
            ConnectError::MissingRight(what) => Self::MissingRight(what),
            ConnectError::Unusable(why) => Self::Unusable(why),
        }
    }
}

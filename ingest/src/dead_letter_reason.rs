//! The reasons for dead letters.

/// The reason why a message can never be processed and becomes a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterReason {
    /// The payload is longer than `--max-payload-bytes`.
    TooLarge,
    /// The payload is not UTF-8.
    NotUtf8,
    /// The payload is not JSON.
    NotJson,
    /// The JSON is nested too deeply.
    TooDeep,
    /// The JSON is not an object.
    NotAnObject,
    /// The payload has no serial number.
    MissingSerial,
    /// The serial number cannot be used.
    BadSerial,
    /// The device is unknown, and `--max-devices` is reached.
    TooManyDevices,
    /// The device is unknown, and no pattern of `--admit` fits its serial.
    NotAdmitted,
    /// The device is unknown, its message shows no danger, and the rest of the memory of Redis is kept for alarms.
    RedisFull,
    /// The keys of the device in Redis cannot be used, or the device is unknown and the key of the places cannot.
    CommitFailed,
}

impl DeadLetterReason {
    /// The codes of all reasons, in the order of the variants.
    pub const CODES: [&'static str; 11] = [
        "too_large",
        "not_utf8",
        "not_json",
        "too_deep",
        "not_an_object",
        "missing_serial",
        "bad_serial",
        "too_many_devices",
        "not_admitted",
        "redis_full",
        "commit_failed",
    ];

    /// Returns the code of the reason in dead letters, log lines, spans and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        Self::CODES[self as usize]
    }
}

#[cfg(test)]
mod tests;

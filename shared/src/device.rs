//! The identity of a detector.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A detector's serial from its payload: trimmed, 1 to 128 bytes, no control characters.
///
/// Such a text is safe in a Redis key and as the name of a Socket.IO room. It is never used as an MQTT topic level. Cheap to
/// clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(Arc<str>);

/// Maximum length of a serial in bytes.
pub const MAX_DEVICE_ID_BYTES: usize = 128;

/// The reason why a text is not a device id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceIdError {
    /// Nothing is left after trimming.
    #[error("the serial is empty")]
    Empty,
    /// More than [`MAX_DEVICE_ID_BYTES`].
    #[error("the serial is longer than {MAX_DEVICE_ID_BYTES} bytes")]
    TooLong,
    /// A control character.
    #[error("the serial has a control character")]
    ControlCharacter,
}

impl DeviceId {
    /// Returns the serial as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the partition of this device: CRC16 (the same variant as in Redis Cluster) modulo the number of partitions.
    #[must_use]
    pub fn partition(&self, partitions: u16) -> u16 {
        crc16::State::<crc16::XMODEM>::calculate(self.0.as_bytes()) % partitions.max(1)
    }

    /// Returns the serial for a log line: quoted and escaped if it could be mistaken for another field.
    #[must_use]
    pub fn for_log(&self) -> Cow<'_, str> {
        let text = self.as_str();
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
        if text.chars().all(is_plain) {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(format!("{text:?}"))
        }
    }

    /// Returns the serial with every character but ASCII letters, digits, `_` and `-` replaced by `-`.
    ///
    /// Alarm ids contain it, and front ends put them into URL paths without encoding.
    #[must_use]
    pub fn slug(&self) -> String {
        let safe = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        self.0
            .chars()
            .map(|c| if safe(c) { c } else { '-' })
            .collect()
    }
}

impl FromStr for DeviceId {
    type Err = DeviceIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let serial = text.trim();
        if serial.is_empty() {
            return Err(DeviceIdError::Empty);
        }
        if serial.len() > MAX_DEVICE_ID_BYTES {
            return Err(DeviceIdError::TooLong);
        }
        if serial.chars().any(char::is_control) {
            return Err(DeviceIdError::ControlCharacter);
        }
        Ok(Self(serial.into()))
    }
}

impl TryFrom<String> for DeviceId {
    type Error = DeviceIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;

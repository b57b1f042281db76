//! The identity of a detector.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::position::Epoch;
use crate::visible_text::is_hidden;

/// A detector's serial: trimmed, 1 to 128 bytes, no control characters. Two texts that differ in any character are two devices, also
/// where a person cannot see the difference: no release may refuse a serial under which an earlier one has stored a detector.
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

    /// Returns the serial as people read it in a log line or a dead letter. If it has other characters than ASCII letters, digits and
    /// marks, or could be mistaken for another field, it is quoted.
    ///
    /// Within quotes, blanks other than the space, combining characters, and whatever is not drawn are escaped as `\u{200b}`, so
    /// that serials which differ only in them differ here, too. Letters and digits of any alphabet stay as they are.
    #[must_use]
    pub fn for_log(&self) -> Cow<'_, str> {
        let text = self.as_str();
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
        if text.chars().all(is_plain) {
            return Cow::Borrowed(text);
        }
        let mut quoted = String::with_capacity(text.len() + 16);
        quoted.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                ' '..='~' => quoted.push(c),
                _ if c.is_alphanumeric() && !is_hidden(c) => quoted.extend(c.escape_debug()),
                _ => quoted.extend(c.escape_unicode()),
            }
        }
        quoted.push('"');
        Cow::Owned(quoted)
    }

    /// Returns an id that no other device has, of ASCII letters, digits, `_` and `-`: front ends put it into URL paths without
    /// encoding. `prefix` ends with its only `_`, and `number` is one of this device.
    ///
    /// Characters of the serial that an id cannot have become `-`. Then the whole serial follows, as `_x` and hex, since another
    /// serial may have the same characters. Ids without it end with `_` and digits.
    #[must_use]
    pub fn unique_id(&self, prefix: &str, epoch: Epoch, number: u64) -> String {
        let safe = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name: String = self
            .0
            .chars()
            .map(|c| if safe(c) { c } else { '-' })
            .collect();
        let mut id = format!("{prefix}{name}_{epoch}_{number}");
        if name != *self.0 {
            id.push_str("_x");
            for byte in self.0.bytes() {
                // Writing to a string does not fail.
                write!(id, "{byte:02x}").ok();
            }
        }
        id
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

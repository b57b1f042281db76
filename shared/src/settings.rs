//! The settings of the alarm rules. Only ingest has them: it gives them to every decision about a message or a deadline.

use std::time::Duration;

use crate::alarm_log::share::BURST;
use crate::decimal::Decimal;
use crate::device::DeviceId;
use crate::order::OrderSettings;

/// Settings of the alarm rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmSettings {
    /// Silence after which a device is offline.
    pub offline_after: Duration,
    /// A device of which nothing has been heard for this long of listening is retired, if only an acknowledged `device_offline` is
    /// open. Zero: never.
    pub forget_after: Duration,
    /// A device time further back than this, by the device's usual clock offset, is unusable.
    pub backlog_max: Duration,
    /// By how much a device time may be ahead of the newest time that is possible.
    pub clock_tolerance: Duration,
    /// The levels that stay open as `returned` until they are acknowledged, A1 first.
    pub returned_levels: [bool; 3],
    /// How long a chattering alarm must be calm until it may end. Zero: alarms do not chatter, and each raise is a new one.
    pub chatter_calm: Duration,
    /// How many messages per second a device may send, over 10 s. What exceeds it is not kept in history and telemetry, and
    /// raises `babbling`. 0: there is no limit.
    pub device_rate: u32,
    /// How many entries of the alarm log a device may write at once, beside one per hour. 0: there is no limit.
    pub log_burst: u32,
    /// Serials of the devices whose A1 is Low if they send no type.
    pub low_devices: SerialPatterns,
    /// Message types whose readings lower nothing.
    pub maintenance_message_types: MessageTypes,
    /// Message types that are only a sign of life if they have no value.
    pub alive_message_types: MessageTypes,
    /// An ingest replica of an earlier release is at work. Alarms that it does not know are not raised.
    pub earlier_release_at_work: bool,
    /// Deadband in percent of the span, or of the level where the device sends no span.
    pub alarm_deadband: Decimal,
    /// How long a value must be back within the deadband before its level returns to normal.
    pub alarm_off_delay: Duration,
    /// Meaning of a level of 0.
    pub zero_level: ZeroLevel,
}

impl Default for AlarmSettings {
    /// The defaults of the flags of ingest.
    fn default() -> Self {
        Self {
            offline_after: Duration::from_mins(3),
            forget_after: Duration::ZERO,
            backlog_max: Duration::from_hours(7 * 24),
            clock_tolerance: Duration::from_secs(5),
            returned_levels: [false, true, true],
            chatter_calm: Duration::from_mins(10),
            device_rate: 10,
            log_burst: BURST,
            low_devices: SerialPatterns::default(),
            maintenance_message_types: MessageTypes::new("CALIBRATION,TEST,BUMP TEST"),
            alive_message_types: MessageTypes::new("HEARTBEAT"),
            earlier_release_at_work: false,
            alarm_deadband: Decimal::from_int(2),
            alarm_off_delay: Duration::ZERO,
            zero_level: ZeroLevel::Value,
        }
    }
}

impl AlarmSettings {
    /// Returns [`Self::log_burst`] as it is stored with a device.
    #[must_use]
    pub fn stored_log_burst(&self) -> Option<u32> {
        Some(self.log_burst).filter(|burst| *burst != BURST)
    }

    /// Returns the settings for the order of messages.
    #[must_use]
    pub fn order(&self) -> OrderSettings {
        OrderSettings {
            offline_after: self.offline_after,
            backlog_max: self.backlog_max,
            clock_tolerance: self.clock_tolerance,
        }
    }
}

/// A comma-separated list of message types, compared without case and without surrounding blanks.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MessageTypes(Vec<String>);

impl MessageTypes {
    /// Reads the list.
    #[must_use]
    pub fn new(list: &str) -> Self {
        let words = list.split(',').map(|word| word.trim().to_uppercase());
        Self(words.filter(|word| !word.is_empty()).collect())
    }

    /// Whether the list has this message type.
    #[must_use]
    pub fn contains(&self, message_type: &str) -> bool {
        let wanted = message_type.trim().to_uppercase();
        self.0.contains(&wanted)
    }
}

/// A comma-separated list of serials, in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SerialPatterns(Vec<String>);

impl SerialPatterns {
    /// Reads the list.
    #[must_use]
    pub fn new(list: &str) -> Self {
        let patterns = list.split(',').map(|pattern| pattern.trim().to_owned());
        Self(patterns.filter(|pattern| !pattern.is_empty()).collect())
    }

    /// Whether the list has no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a pattern of the list fits the whole serial.
    #[must_use]
    pub fn matches(&self, device: &DeviceId) -> bool {
        self.0.iter().any(|pattern| fits(pattern, device.as_str()))
    }
}

fn fits(pattern: &str, serial: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == serial;
    };
    let Some(serial) = serial.strip_prefix(start) else {
        return false;
    };
    // The star may stand for any beginning of what is left.
    let mut ends = serial
        .char_indices()
        .map(|(index, _)| index)
        .chain([serial.len()]);
    ends.any(|index| fits(rest, &serial[index..]))
}

/// Meaning of a level of 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ZeroLevel {
    /// A level like any other.
    #[default]
    Value,
    /// The level is not used.
    Unused,
}

#[cfg(test)]
mod tests;

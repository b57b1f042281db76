//! The conditions that alarms are about, their kinds and severities.

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::forward::UnknownWord;
use crate::reading::Side;

/// The condition that an alarm is about. Its serialised form is `type` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The detector reports a fault of its sensor.
    SensorFault,
    /// A message without a usable value.
    ReadingInvalid,
    /// Gas at level A1.
    #[serde(rename = "alarm_level_1")]
    AlarmLevel1,
    /// Gas at level A2.
    #[serde(rename = "alarm_level_2")]
    AlarmLevel2,
    /// Gas at level A3.
    #[serde(rename = "alarm_level_3")]
    AlarmLevel3,
    /// The value is at the upper end of the measuring range, or above it.
    OverRange,
    /// The value is below the measuring range.
    UnderRange,
    /// No message, or no new reading, for longer than the silence limit.
    DeviceOffline,
    /// The LEDs of the detector contradict its levels.
    LedMismatch,
    /// The detector repeats one payload, with a device time that stands still.
    ReadingFrozen,
    /// A setting of the detector changed.
    SettingChanged,
    /// Levels are missing or unreadable.
    LevelsUnknown,
    /// The detector sends more than its rate.
    Babbling,
    /// A condition of a newer release: kept, shown as an alarm, and changed by nothing but acknowledgement and retirement.
    #[serde(untagged)]
    Unknown(UnknownWord),
}

/// A group of conditions of which a device has at most one open alarm. The gas levels of one side are one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// [`Condition::SensorFault`].
    SensorFault,
    /// [`Condition::ReadingInvalid`].
    ReadingInvalid,
    /// The gas levels on the High side.
    GasHigh,
    /// The gas levels on the Low side.
    GasLow,
    /// [`Condition::OverRange`].
    OverRange,
    /// [`Condition::UnderRange`].
    UnderRange,
    /// [`Condition::DeviceOffline`].
    DeviceOffline,
    /// [`Condition::LedMismatch`].
    LedMismatch,
    /// [`Condition::ReadingFrozen`].
    ReadingFrozen,
    /// [`Condition::SettingChanged`].
    SettingChanged,
    /// [`Condition::LevelsUnknown`].
    LevelsUnknown,
    /// [`Condition::Babbling`].
    Babbling,
    /// [`Condition::Unknown`], each of them a kind of its own.
    Unknown(UnknownWord),
}

/// How urgent an alarm is: `severity` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Gas at A1; doubts about a detector that measures.
    Warning,
    /// Gas at A2; a silent or frozen detector.
    High,
    /// Gas at A3, a value outside the measuring range, or a detector that cannot measure.
    Critical,
}

impl Condition {
    /// Every condition of this release. A test fails to compile if one is missing.
    pub const KNOWN: [Self; 13] = [
        Self::SensorFault,
        Self::ReadingInvalid,
        Self::AlarmLevel1,
        Self::AlarmLevel2,
        Self::AlarmLevel3,
        Self::OverRange,
        Self::UnderRange,
        Self::DeviceOffline,
        Self::LedMismatch,
        Self::ReadingFrozen,
        Self::SettingChanged,
        Self::LevelsUnknown,
        Self::Babbling,
    ];

    /// Returns the condition with this code: one of this release, or one of a newer release that this process has read from
    /// Redis. May be asked for any text of a client.
    #[must_use]
    pub fn existing(code: &str) -> Option<Self> {
        let known = Self::KNOWN.into_iter().find(|known| known.code() == code);
        known.or_else(|| UnknownWord::existing(code).map(Self::Unknown))
    }

    /// Returns the condition for gas at the level with this index; A1 is 0.
    #[must_use]
    pub fn gas(index: usize) -> Self {
        match index {
            0 => Self::AlarmLevel1,
            1 => Self::AlarmLevel2,
            _ => Self::AlarmLevel3,
        }
    }

    /// Returns the index of the gas level (A1 is 0); `None` for all other conditions.
    #[must_use]
    pub fn level_index(self) -> Option<usize> {
        match self {
            Self::AlarmLevel1 => Some(0),
            Self::AlarmLevel2 => Some(1),
            Self::AlarmLevel3 => Some(2),
            _ => None,
        }
    }

    /// Returns the severity.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::SensorFault
            | Self::ReadingInvalid
            | Self::AlarmLevel3
            | Self::OverRange
            | Self::UnderRange => Severity::Critical,
            // An unknown condition must not look harmless.
            Self::AlarmLevel2 | Self::DeviceOffline | Self::ReadingFrozen | Self::Unknown(_) => {
                Severity::High
            }
            Self::AlarmLevel1
            | Self::LedMismatch
            | Self::SettingChanged
            | Self::LevelsUnknown
            | Self::Babbling => Severity::Warning,
        }
    }

    /// Returns the serialised form: `type` on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::SensorFault => "sensor_fault",
            Self::ReadingInvalid => "reading_invalid",
            Self::AlarmLevel1 => "alarm_level_1",
            Self::AlarmLevel2 => "alarm_level_2",
            Self::AlarmLevel3 => "alarm_level_3",
            Self::OverRange => "over_range",
            Self::UnderRange => "under_range",
            Self::DeviceOffline => "device_offline",
            Self::LedMismatch => "led_mismatch",
            Self::ReadingFrozen => "reading_frozen",
            Self::SettingChanged => "setting_changed",
            Self::LevelsUnknown => "levels_unknown",
            Self::Babbling => "babbling",
            Self::Unknown(word) => word.as_str(),
        }
    }

    /// Returns the first part of an alarm's id.
    #[must_use]
    pub fn id_prefix(self) -> &'static str {
        match self {
            Self::SensorFault => "fault_",
            Self::ReadingInvalid => "invalid_",
            Self::AlarmLevel1 => "alarm1_",
            Self::AlarmLevel2 => "alarm2_",
            Self::AlarmLevel3 => "alarm3_",
            Self::OverRange => "range_",
            Self::UnderRange => "low_",
            Self::DeviceOffline => "offline_",
            Self::LedMismatch => "led_",
            Self::ReadingFrozen => "frozen_",
            Self::SettingChanged => "setting_",
            Self::LevelsUnknown => "levels_",
            Self::Babbling => "rate_",
            Self::Unknown(_) => "alarm_",
        }
    }

    /// Returns the message of an alarm with a level; `None` for conditions without a level.
    #[must_use]
    pub fn level_message(self, side: Side, threshold: Decimal, unit: &str) -> Option<String> {
        let word = match side {
            Side::High | Side::Unknown(_) => "above",
            Side::Low => "below",
        };
        if self == Self::OverRange {
            return Some(format!("Reading above span high ({threshold} {unit})"));
        }
        if self == Self::UnderRange {
            return Some(format!("Reading below span low ({threshold} {unit})"));
        }
        let number = self.level_index()? + 1;
        Some(format!(
            "Gas concentration {word} A{number} threshold ({threshold} {unit})"
        ))
    }
}

impl Kind {
    /// Returns the kind of an alarm. The side matters for gas alone.
    #[must_use]
    pub fn of(condition: Condition, side: Side) -> Self {
        match condition {
            Condition::AlarmLevel1 | Condition::AlarmLevel2 | Condition::AlarmLevel3 => {
                Self::gas(side)
            }
            Condition::SensorFault => Self::SensorFault,
            Condition::ReadingInvalid => Self::ReadingInvalid,
            Condition::OverRange => Self::OverRange,
            Condition::UnderRange => Self::UnderRange,
            Condition::DeviceOffline => Self::DeviceOffline,
            Condition::LedMismatch => Self::LedMismatch,
            Condition::ReadingFrozen => Self::ReadingFrozen,
            Condition::SettingChanged => Self::SettingChanged,
            Condition::LevelsUnknown => Self::LevelsUnknown,
            Condition::Babbling => Self::Babbling,
            Condition::Unknown(word) => Self::Unknown(word),
        }
    }

    /// Returns the kind of a gas alarm on this side.
    #[must_use]
    pub fn gas(side: Side) -> Self {
        match side {
            Side::High | Side::Unknown(_) => Self::GasHigh,
            Side::Low => Self::GasLow,
        }
    }

    /// The kinds whose alarms have levels: gas, and over range, which has one.
    pub const WITH_LEVELS: [Self; 3] = [Self::GasHigh, Self::GasLow, Self::OverRange];

    /// Whether the value that is shown may hide a danger as long as the alarm is active. So the device is not `NORMAL`.
    #[must_use]
    pub fn is_danger(self) -> bool {
        !matches!(self, Self::SettingChanged | Self::Babbling)
    }

    /// Whether its alarm has levels.
    #[must_use]
    pub fn has_levels(self) -> bool {
        Self::WITH_LEVELS.contains(&self)
    }

    /// Whether it is a gas alarm.
    #[must_use]
    pub fn is_gas(self) -> bool {
        matches!(self, Self::GasHigh | Self::GasLow)
    }

    /// Whether releases that have one gas alarm per device know this kind.
    #[must_use]
    pub fn is_known_to_earlier_releases(self) -> bool {
        matches!(
            self,
            Self::SensorFault
                | Self::ReadingInvalid
                | Self::GasHigh
                | Self::GasLow
                | Self::OverRange
                | Self::DeviceOffline
        )
    }
}

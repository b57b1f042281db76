//! An alarm and its states. On the wire an alarm is called *alert*. The names of states and transitions follow ISA-18.2.

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::decimal::Decimal;
use crate::forward::{UnknownFields, UnknownWord};
use crate::position::Position;
use crate::reading::Side;

/// One alarm of one device, open from its raise until it is cleared. A device has at most one open alarm per [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Stable id: prefix of the condition at the raise, serial, epoch and seq of the raise.
    pub id: String,
    /// The present condition. For gas it changes with the level.
    pub condition: Condition,
    /// The message shown to people, written at the last change of level.
    pub message: String,
    /// The level that was reached; `None` for conditions without a level.
    pub threshold: Option<Decimal>,
    /// The value at the last change of level.
    pub value: Option<Decimal>,
    /// Unit of the value and the threshold.
    pub unit: String,
    /// Gas of the reading at the raise.
    pub gas_type: String,
    /// Alias of the detector at the raise.
    pub device_name: String,
    /// Server time of the raise.
    pub raised_at: Time,
    /// Server time of the last change of level.
    pub changed_at: Time,
    /// The device's own time at the last change of level, as received.
    pub reading_timestamp: Option<String>,
    /// Position of the last raise or escalation. An acknowledgement covers the alarm only if the person had seen this
    /// position.
    pub reached: Position,
    /// The acknowledgement since the last raise or escalation.
    pub acknowledged: Option<Acknowledgement>,
    /// The highest seq that a person had seen who acknowledged the alarm but had not seen its present level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_before: Option<u64>,
    /// The value has returned to normal, and latching keeps the alarm open until it is acknowledged.
    pub latched: bool,
    /// Server time at which it was cleared.
    pub cleared_at: Option<Time>,
    /// The active levels, A1 first, `None` for an inactive one. Over range uses the first. Empty for conditions without a
    /// level.
    #[serde(rename = "holds", default, skip_serializing_if = "Vec::is_empty")]
    pub active_levels: Vec<Option<ActiveLevel>>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// Who acknowledged an alarm, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The person's name as given; `unknown` without a name.
    pub by: String,
    /// Server time.
    pub at: Time,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// A level that keeps its alarm open: from the value that reaches it until it has returned to normal and, if it is latched,
/// was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActiveLevel {
    /// The device latches this level: it stays active until it is acknowledged.
    #[serde(default, skip_serializing_if = "is_false")]
    pub latching: bool,
    /// When the running off-delay ends; `None` while none is running.
    #[serde(rename = "due", default, skip_serializing_if = "Option::is_none")]
    pub off_delay_ends: Option<Time>,
    /// The value is back by the deadband and the off-delay is over. Only latching keeps the level active.
    #[serde(default, skip_serializing_if = "is_false")]
    pub returned: bool,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

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
    /// The value is above the measuring range.
    OverRange,
    /// No message for longer than the silence limit.
    DeviceOffline,
    /// A condition of a newer release: kept, shown as an alarm, and changed by nothing but acknowledgement and retirement.
    #[serde(untagged)]
    Unknown(UnknownWord),
}

/// A group of conditions of which a device has at most one open alarm. The three gas levels are one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// [`Condition::SensorFault`].
    SensorFault,
    /// [`Condition::ReadingInvalid`].
    ReadingInvalid,
    /// The three gas levels.
    Gas,
    /// [`Condition::OverRange`].
    OverRange,
    /// [`Condition::DeviceOffline`].
    DeviceOffline,
    /// [`Condition::Unknown`], each of them a kind of its own.
    Unknown(UnknownWord),
}

/// How urgent an alarm is: `severity` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Gas at A1.
    Warning,
    /// Gas at A2; a silent detector.
    High,
    /// Gas at A3, over range, or a detector that cannot measure.
    Critical,
}

/// The state of an alarm, named as in ISA-18.2: `state` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlarmState {
    /// Active and not acknowledged.
    Unacknowledged,
    /// Active and acknowledged.
    Acknowledged,
    /// The value has returned to normal. The alarm stays open until it is acknowledged.
    Latched,
    /// No longer open.
    Cleared,
}

/// One transition of an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The kind of change.
    pub kind: ChangeKind,
    /// The alarm after this change.
    pub alarm: Alarm,
}

/// The transitions of an alarm. Their serialised form is `change` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A new alarm.
    Raised,
    /// A higher level. It needs a new acknowledgement.
    Escalated,
    /// A lower level that is still active.
    DeEscalated,
    /// The value has returned to normal, and latching keeps the alarm open.
    Latched,
    /// The value reached the latched level again.
    Unlatched,
    /// A person acknowledged it.
    Acknowledged,
    /// Returned to normal, and acknowledged if it was latched.
    Cleared,
    /// Closed because its device was retired.
    Retired,
    /// A transition of a newer release.
    #[serde(untagged)]
    Unknown(UnknownWord),
}

impl Acknowledgement {
    /// Creates an acknowledgement by this person at this server time.
    #[must_use]
    pub fn new(by: &str, at: Time) -> Self {
        Self {
            by: by.to_owned(),
            at,
            unknown: UnknownFields::default(),
        }
    }
}

impl ChangeKind {
    /// Returns the serialised form, for logs and metric labels.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Escalated => "escalated",
            Self::DeEscalated => "de_escalated",
            Self::Latched => "latched",
            Self::Unlatched => "unlatched",
            Self::Acknowledged => "acknowledged",
            Self::Cleared => "cleared",
            Self::Retired => "retired",
            Self::Unknown(word) => word.as_str(),
        }
    }
}

impl Alarm {
    /// Returns the state of the alarm.
    #[must_use]
    pub fn state(&self) -> AlarmState {
        if self.cleared_at.is_some() {
            AlarmState::Cleared
        } else if self.latched {
            AlarmState::Latched
        } else if self.acknowledged.is_some() {
            AlarmState::Acknowledged
        } else {
            AlarmState::Unacknowledged
        }
    }

    /// Returns the kind of the alarm's condition.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.condition.kind()
    }
}

impl Condition {
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

    /// Returns the kind of alarm that the condition belongs to.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::SensorFault => Kind::SensorFault,
            Self::ReadingInvalid => Kind::ReadingInvalid,
            Self::AlarmLevel1 | Self::AlarmLevel2 | Self::AlarmLevel3 => Kind::Gas,
            Self::OverRange => Kind::OverRange,
            Self::DeviceOffline => Kind::DeviceOffline,
            Self::Unknown(word) => Kind::Unknown(word),
        }
    }

    /// Returns the severity.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::SensorFault | Self::ReadingInvalid | Self::AlarmLevel3 | Self::OverRange => {
                Severity::Critical
            }
            // An unknown condition must not look harmless.
            Self::AlarmLevel2 | Self::DeviceOffline | Self::Unknown(_) => Severity::High,
            Self::AlarmLevel1 => Severity::Warning,
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
            Self::DeviceOffline => "device_offline",
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
            Self::DeviceOffline => "offline_",
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
        let number = self.level_index()? + 1;
        Some(format!(
            "Gas concentration {word} A{number} threshold ({threshold} {unit})"
        ))
    }
}

#[cfg(test)]
mod tests;

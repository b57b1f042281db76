//! An alarm and its life: raised, escalated, latched, acknowledged, cleared. The wire calls it *alert*.

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::decimal::Decimal;
use crate::position::Position;
use crate::reading::Side;

/// One condition of one device, open from its raise until it is cleared; at most one per [`Kind`] is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Stable id: prefix of the condition first met, serial, epoch and seq of the raise.
    pub id: String,
    /// What is wrong now; moves between levels for gas.
    pub condition: Condition,
    /// The sentence shown to people, as of the last change of level.
    pub message: String,
    /// The level that was reached; `None` for conditions without one.
    pub threshold: Option<Decimal>,
    /// The value at the last change of level.
    pub value: Option<Decimal>,
    /// Unit of value and threshold.
    pub unit: String,
    /// Gas of the reading.
    pub gas_type: String,
    /// Alias of the detector.
    pub device_name: String,
    /// Server time of the raise.
    pub raised_at: Time,
    /// Server time of the last change of level.
    pub changed_at: Time,
    /// The device's own time at the last change of level, as received.
    pub reading_timestamp: Option<String>,
    /// Position of the last raise or escalation: what an acknowledgement has to have seen.
    pub reached: Position,
    /// Who acknowledged it since then.
    pub acknowledged: Option<Acknowledgement>,
    /// The highest seq somebody acknowledged without having seen the level of today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_before: Option<u64>,
    /// Held by latching alone: the value is back, the acknowledgement is missing.
    pub latched: bool,
    /// Server time of the clearing.
    pub cleared_at: Option<Time>,
    /// The levels that stand, A1 first; over range uses the first; empty for conditions without a level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Option<Hold>>,
}

/// Who acknowledged an alarm, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Name as given; `unknown` without one.
    pub by: String,
    /// Server time.
    pub at: Time,
}

/// One level that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hold {
    /// The device latches this level.
    #[serde(default, skip_serializing_if = "is_false")]
    pub latching: bool,
    /// When the value will have been back for the off-delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Time>,
    /// The value is back and the off-delay is over: only latching holds the level.
    #[serde(default, skip_serializing_if = "is_false")]
    pub returned: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What an alarm is about; its serialised form is the wire's `type`.
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
    /// No message for the silence limit.
    DeviceOffline,
}

/// The conditions of which one device has at most one open alarm: gas is one kind whatever its level.
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
}

/// How urgent an alarm is, in the wire's three words.
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

/// Where an alarm stands (ISA-18.2 names, the wire's `state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlarmState {
    /// Active, nobody has acknowledged it.
    Unacknowledged,
    /// Active and acknowledged.
    Acknowledged,
    /// The value is back, the acknowledgement is missing.
    Latched,
    /// Over.
    Cleared,
}

/// One transition of an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The alarm as this change left it.
    pub alarm: Alarm,
}

/// The transitions; their serialised form is the wire's `change`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A new alarm.
    Raised,
    /// A higher level: needs a new acknowledgement.
    Escalated,
    /// A lower level, still standing.
    DeEscalated,
    /// The value is back, latching holds it.
    Latched,
    /// The value reached the level again.
    Unlatched,
    /// Somebody acknowledged it.
    Acknowledged,
    /// Over.
    Cleared,
    /// Closed because its device was retired.
    Retired,
}

impl ChangeKind {
    /// Every change, as [`ChangeKind::code`] spells it.
    pub const CODES: [&'static str; 8] = [
        "raised",
        "escalated",
        "de_escalated",
        "latched",
        "unlatched",
        "acknowledged",
        "cleared",
        "retired",
    ];

    /// The wire's word for it.
    #[must_use]
    pub fn code(self) -> &'static str {
        Self::CODES[self as usize]
    }
}

impl Alarm {
    /// Where the alarm stands.
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

    /// The kind of its condition.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.condition.kind()
    }
}

impl Condition {
    /// Gas at the level of this index, A1 being 0.
    #[must_use]
    pub fn gas(index: usize) -> Self {
        match index {
            0 => Self::AlarmLevel1,
            1 => Self::AlarmLevel2,
            _ => Self::AlarmLevel3,
        }
    }

    /// The index of the gas level, A1 being 0; `None` for everything else.
    #[must_use]
    pub fn level_index(self) -> Option<usize> {
        match self {
            Self::AlarmLevel1 => Some(0),
            Self::AlarmLevel2 => Some(1),
            Self::AlarmLevel3 => Some(2),
            _ => None,
        }
    }

    /// The kind of alarm it belongs to.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::SensorFault => Kind::SensorFault,
            Self::ReadingInvalid => Kind::ReadingInvalid,
            Self::AlarmLevel1 | Self::AlarmLevel2 | Self::AlarmLevel3 => Kind::Gas,
            Self::OverRange => Kind::OverRange,
            Self::DeviceOffline => Kind::DeviceOffline,
        }
    }

    /// The wire's severity.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::SensorFault | Self::ReadingInvalid | Self::AlarmLevel3 | Self::OverRange => {
                Severity::Critical
            }
            Self::AlarmLevel2 | Self::DeviceOffline => Severity::High,
            Self::AlarmLevel1 => Severity::Warning,
        }
    }

    /// First part of an alarm's id.
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
        }
    }

    /// The wire's sentence for a level condition; `None` for conditions without a level.
    #[must_use]
    pub fn level_message(self, side: Side, threshold: Decimal, unit: &str) -> Option<String> {
        let word = match side {
            Side::High => "above",
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

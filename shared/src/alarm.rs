//! An alarm and its states. On the wire an alarm is called *alert*. The names of states and transitions follow ISA-18.2.

mod condition;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::decimal::Decimal;
use crate::forward::{UnknownFields, UnknownWord};
use crate::position::Position;
use crate::reading::Side;

pub use condition::{Condition, Kind, Severity};

/// One alarm of one device, open from its raise until it is cleared. A device has at most one open alarm per [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Stable id: prefix of the condition at the raise, serial, epoch and seq of the raise.
    pub id: String,
    /// The present condition. For gas it changes with the level.
    pub condition: Condition,
    /// The dangerous side of a gas alarm. `None` for other alarms, and for one of a release that had one gas alarm per device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas_side: Option<GasSide>,
    /// The severity, where it is not that of the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// The message shown to people, written at the last change of level.
    pub message: String,
    /// The level that was reached; `None` for conditions without a level.
    pub threshold: Option<Decimal>,
    /// The value at the last change of level.
    pub value: Option<Decimal>,
    /// The highest value since the raise, or the lowest one on the Low side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_value: Option<Decimal>,
    /// The highest gas level since the raise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<Condition>,
    /// The highest gas level that nobody has acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remembered: Option<RememberedLevel>,
    /// How often it was raised: continued after its end, or counted while it chattered.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub count: u32,
    /// When the readings were taken that raised or escalated it last, oldest first: at most [`Alarm::MAX_RAISES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raises: Vec<Time>,
    /// It was raised so often that it stays open until this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chatters_until: Option<Time>,
    /// The condition no longer holds. Only chattering keeps the alarm open. (Alarms with levels use [`ActiveLevel::returned`].)
    #[serde(default, skip_serializing_if = "is_false")]
    pub ceased: bool,
    /// Server time of the last message in which the condition held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active: Option<Time>,
    /// The settings that the alarm is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<SettingChange>,
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
    /// The value has returned to normal, and [`Alarm::remembered`] keeps the alarm open until it is acknowledged.
    #[serde(default, skip_serializing_if = "is_false")]
    pub returned: bool,
    /// Server time at which it was cleared.
    pub cleared_at: Option<Time>,
    /// The active levels, A1 first, `None` for an inactive one. Over range uses the first. Empty for conditions without a
    /// level.
    #[serde(rename = "holds", default, skip_serializing_if = "Vec::is_empty")]
    pub active_levels: Vec<Option<ActiveLevel>>,
    /// Id of the first of the alarms with which this one is logged together; `None` if it is the first itself, or alone. Only the
    /// log uses it: see [`crate::alarm_log::share`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_group: Option<String>,
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
    /// What the person wrote beside it, fit for a screen: at most [`Acknowledgement::MAX_NOTE`] characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// The dangerous side of a gas alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GasSide {
    /// [`Side::High`] or [`Side::Low`].
    pub side: Side,
    /// The condition for which it was written. Another one was written by a release that does not know the side.
    pub of: Condition,
}

/// A gas level that was reached and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedLevel {
    /// The level's condition.
    pub condition: Condition,
    /// The level itself.
    pub threshold: Decimal,
}

/// One changed setting of a detector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// Name of the setting, as people know it.
    pub field: String,
    /// The value before the first change.
    pub before: String,
    /// The value after the last change.
    pub after: String,
    /// The last value that was another one, if the setting is now as it was before the first change: alarms may have been raised by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<String>,
}

/// A level that keeps its alarm open: from the value that reaches it until it has returned to normal and, if it is latched,
/// was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActiveLevel {
    /// The value that governs the level: a value on the safe side of it, by the deadband, is back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Decimal>,
    /// The deadband beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadband: Option<Decimal>,
    /// Its side, if it is not that of its alarm. Only earlier releases put levels of both sides into one alarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// Server time of the last message that reached it, or was not back from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_at: Option<Time>,
    /// The device latches this level: it stays active until it is acknowledged.
    #[serde(default, skip_serializing_if = "is_false")]
    pub latching: bool,
    /// When the running off-delay ends; `None` while none is running.
    #[serde(rename = "due", default, skip_serializing_if = "Option::is_none")]
    pub off_delay_ends: Option<Time>,
    /// The value is back by the deadband and the off-delay is over. Only latching or chattering keeps the level active.
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

fn once() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_once(count: &u32) -> bool {
    *count == 1
}

/// The state of an alarm, named as in ISA-18.2: `state` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlarmState {
    /// Active and not acknowledged.
    Unacknowledged,
    /// Active and acknowledged.
    Acknowledged,
    /// The value has returned to normal. The device latches the alarm: it stays open until it is acknowledged.
    Latched,
    /// The value has returned to normal. The alarm stays open until the highest level it reached is acknowledged.
    Returned,
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
    /// The value of a latched alarm is no longer normal.
    Unlatched,
    /// A person acknowledged it.
    Acknowledged,
    /// The value has returned to normal, and the highest level it reached is not acknowledged.
    Returned,
    /// Returned to normal, and acknowledged if that was needed.
    Cleared,
    /// Closed because its device was retired.
    Retired,
    /// A transition of a newer release.
    #[serde(untagged)]
    Unknown(UnknownWord),
}

impl Acknowledgement {
    /// The longest note, in characters.
    pub const MAX_NOTE: usize = 280;

    /// Creates an acknowledgement by this person at this server time, without a note.
    #[must_use]
    pub fn new(by: &str, at: Time) -> Self {
        Self {
            by: by.to_owned(),
            at,
            note: None,
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
            Self::Returned => "returned",
            Self::Cleared => "cleared",
            Self::Retired => "retired",
            Self::Unknown(word) => word.as_str(),
        }
    }
}

impl Alarm {
    /// Maximum number of times in [`Alarm::raises`].
    pub const MAX_RAISES: usize = 3;

    /// Creates an open alarm without a value, raised at this server time and position.
    #[must_use]
    pub fn new(id: String, condition: Condition, raised_at: Time, reached: Position) -> Self {
        Self {
            id,
            condition,
            gas_side: None,
            severity: None,
            message: String::new(),
            threshold: None,
            value: None,
            peak_value: None,
            peak: None,
            remembered: None,
            count: 1,
            raises: Vec::new(),
            chatters_until: None,
            ceased: false,
            last_active: None,
            settings: Vec::new(),
            unit: String::new(),
            gas_type: String::new(),
            device_name: String::new(),
            raised_at,
            changed_at: raised_at,
            reading_timestamp: None,
            reached,
            acknowledged: None,
            seen_before: None,
            latched: false,
            returned: false,
            cleared_at: None,
            active_levels: Vec::new(),
            log_group: None,
            unknown: UnknownFields::default(),
        }
    }

    /// Returns the id of the first of the alarms with which this one is logged together, which may be itself.
    #[must_use]
    pub fn group_id(&self) -> &str {
        self.log_group.as_deref().unwrap_or(&self.id)
    }

    /// Returns the state of the alarm.
    #[must_use]
    pub fn state(&self) -> AlarmState {
        if self.cleared_at.is_some() {
            AlarmState::Cleared
        } else if self.returned {
            AlarmState::Returned
        } else if self.latched {
            AlarmState::Latched
        } else if self.acknowledged.is_some() {
            AlarmState::Acknowledged
        } else {
            AlarmState::Unacknowledged
        }
    }

    /// Returns the kind of the alarm.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(self.condition, self.side())
    }

    /// Returns the dangerous side of a gas alarm.
    #[must_use]
    pub fn side(&self) -> Side {
        self.gas_side.map_or(Side::High, |gas| gas.side)
    }

    /// Returns the severity.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity.unwrap_or(self.condition.severity())
    }

    /// Whether its condition holds. If not, the alarm only waits for a person, or for calm.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !(self.returned || self.ceased)
    }
}

#[cfg(test)]
mod tests;

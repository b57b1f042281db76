//! One entry of the alarm log, as it is stored.

pub mod share;

use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, ChangeKind, Condition};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::forward::UnknownFields;
use crate::reading::Side;

/// A transition of an alarm, the retirement of a device, or the loss of its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmLogEntry {
    /// Server time of the decision.
    pub at: Time,
    /// The kind of change; `None` if the stored state of the device was lost.
    pub change: Option<ChangeKind>,
    /// The alarm as the change left it; `None` where the entry is about the device.
    pub alarm: Option<Alarm>,
    /// Who acknowledged or retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What the person wrote beside an acknowledgement. The alarm of an entry never has it: a note is once in the log, however many
    /// transitions follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The highest seq that an acknowledgement covers; 0 covers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// W3C `traceparent` of the cause, if it is traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The entry stands for several transitions of the alarm, because the device had written its share of the log. The other fields are
    /// those of the last of them, and of the last acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folded: Option<Box<Folded>>,
}

/// Transitions of one alarm that one entry stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// Number of transitions.
    pub transitions: u32,
    /// Number of raises and escalations among them.
    pub raises: u32,
    /// Server time of the first one.
    pub since: Time,
    /// Server time of the last one.
    pub until: Time,
    /// The worst that was seen.
    pub peak: Option<Peak>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// The worst of several transitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// The condition of the alarm then.
    pub condition: Condition,
    /// Its side, for gas.
    #[serde(default)]
    pub side: Side,
    /// Its message.
    pub message: String,
    /// The level that was reached.
    pub threshold: Option<Decimal>,
    /// The value that was shown.
    pub value: Option<Decimal>,
}

impl Peak {
    fn of(alarm: &Alarm) -> Self {
        Self {
            condition: alarm.condition,
            side: alarm.side(),
            message: alarm.message.clone(),
            threshold: alarm.threshold,
            value: alarm.value,
        }
    }

    /// Returns the worse of two: by severity, then by the value.
    fn higher(self, other: Self) -> Self {
        let severity = |peak: &Self| (peak.condition.severity(), peak.condition.level_index());
        let is_worse = match severity(&other).cmp(&severity(&self)) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal if other.side == Side::Low => other
                .value
                .is_some_and(|value| self.value.is_none_or(|own| value < own)),
            std::cmp::Ordering::Equal => other.value > self.value,
        };
        if is_worse { other } else { self }
    }
}

impl Folded {
    fn into_entry(self, last: AlarmLogEntry) -> AlarmLogEntry {
        AlarmLogEntry {
            folded: Some(Box::new(self)),
            ..last
        }
    }
}

impl AlarmLogEntry {
    /// Returns the person and the highest seq that is covered, if this is the entry of an acknowledgement.
    #[must_use]
    pub fn acknowledgement(&self) -> Option<(&str, u64)> {
        self.by.as_deref().zip(self.seen)
    }

    /// Whether it is the first raise of an alarm that is not logged together with earlier ones. There are no earlier entries of it.
    #[must_use]
    pub fn begins_group(&self) -> bool {
        let is_first = |alarm: &Alarm| {
            alarm.raised_at == self.at && alarm.count <= 1 && alarm.log_group.is_none()
        };
        self.change == Some(ChangeKind::Raised)
            && self.folded.is_none()
            && self.alarm.as_ref().is_some_and(is_first)
    }

    /// Whether it acknowledges an alarm that had been cleared before. A newer alarm that is logged together with it may stand, so this
    /// entry says nothing about the present state.
    #[must_use]
    pub fn is_late_acknowledgement(&self) -> bool {
        let is_cleared = |alarm: &Alarm| alarm.cleared_at.is_some();
        self.change == Some(ChangeKind::Acknowledged) && self.alarm.as_ref().is_some_and(is_cleared)
    }

    /// Creates the entry of an alarm change. An acknowledgement covers the alarm's last raise or escalation.
    pub(crate) fn of_change(change: ChangeKind, alarm: &Alarm, at: Time) -> Self {
        let mut alarm = alarm.clone();
        let acknowledged = alarm.acknowledged.as_mut();
        let note = acknowledged.and_then(|acknowledged| acknowledged.note.take());
        let acknowledged = alarm.acknowledged.as_ref();
        let acknowledged = acknowledged.filter(|_| change == ChangeKind::Acknowledged);
        Self {
            change: Some(change),
            by: acknowledged.map(|by| by.by.clone()),
            note: note.filter(|_| acknowledged.is_some()),
            seen: acknowledged.map(|_| alarm.reached.seq),
            alarm: Some(alarm),
            ..Self::empty(at)
        }
    }

    /// Creates the entry of a device whose stored state could not be read or was missing.
    #[must_use]
    pub fn state_lost(at: Time) -> Self {
        Self::empty(at)
    }

    /// An entry to be filled in.
    #[must_use]
    pub fn empty(at: Time) -> Self {
        Self {
            at,
            change: None,
            alarm: None,
            by: None,
            note: None,
            seen: None,
            trace: None,
            folded: None,
        }
    }
}

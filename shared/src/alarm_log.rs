//! One entry of the alarm log, as it is stored.

use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, ChangeKind};
use crate::clock::Time;

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
    /// The highest seq that an acknowledgement covers; 0 covers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// W3C `traceparent` of the cause, if it is traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl AlarmLogEntry {
    /// Returns the person and the highest seq that is covered, if this is the entry of an acknowledgement.
    #[must_use]
    pub fn acknowledgement(&self) -> Option<(&str, u64)> {
        self.by.as_deref().zip(self.seen)
    }

    /// Creates the entry of an alarm change. An acknowledgement covers the alarm's last raise or escalation.
    pub(crate) fn of_change(change: ChangeKind, alarm: &Alarm, at: Time) -> Self {
        let acknowledged = alarm.acknowledged.as_ref();
        let acknowledged = acknowledged.filter(|_| change == ChangeKind::Acknowledged);
        Self {
            change: Some(change),
            alarm: Some(alarm.clone()),
            by: acknowledged.map(|by| by.by.clone()),
            seen: acknowledged.map(|_| alarm.reached.seq),
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
            seen: None,
            trace: None,
        }
    }
}

//! Conditions without levels: faults of the sensor, doubts about it, and silence.

use super::{AlarmDetails, Alarms, NewAlarm, chatter};
use crate::alarm::{ChangeKind, Condition, Kind, Severity};
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::order::TIE_MS;
use crate::reading::Side;

/// Whether a condition holds, according to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It holds.
    Holds,
    /// It does not hold.
    Ceased,
    /// It does not hold, by a reading that cannot be ordered against the one before it.
    CeasedInTie,
    /// The message does not show it.
    Unknown,
}

impl Finding {
    /// A condition that may be cleared by a reading only if `may_clear`.
    #[must_use]
    pub fn of(holds: bool, may_clear: bool, is_tie: bool) -> Self {
        match (holds, may_clear) {
            (true, _) => Self::Holds,
            (false, true) if is_tie => Self::CeasedInTie,
            (false, true) => Self::Ceased,
            (false, false) => Self::Unknown,
        }
    }
}

/// What an alarm without levels says.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// The message.
    pub message: String,
    /// The value that was passed, if there is one.
    pub threshold: Option<Decimal>,
    /// The severity, if it is not that of the condition.
    pub severity: Option<Severity>,
}

impl From<&str> for Text {
    fn from(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            ..Self::default()
        }
    }
}

impl Alarms<'_> {
    /// Raises a condition that holds, or clears one that has ceased.
    pub fn set(
        &mut self,
        condition: Condition,
        finding: Finding,
        details: AlarmDetails<'_>,
        text: impl FnOnce() -> Text,
    ) {
        let kind = Kind::of(condition, Side::High);
        let is_open = self.get(kind).is_some();
        match (finding, is_open) {
            (Finding::Holds, false) => {
                let text = text();
                let new = NewAlarm {
                    condition,
                    side: Side::High,
                    message: text.message,
                    threshold: text.threshold,
                };
                self.raise(new, details, |alarm| alarm.severity = text.severity);
            }
            (Finding::Holds, true) => self.hold(kind, text),
            (Finding::Ceased, true) => self.cease(kind),
            (Finding::CeasedInTie, true) => {
                let now = self.moment.now;
                let last = self.get(kind).and_then(|alarm| alarm.last_active);
                if last.is_none_or(|last| now.millis_since(last) >= TIE_MS) {
                    self.cease(kind);
                }
            }
            (Finding::Unknown, _) | (Finding::Ceased | Finding::CeasedInTie, false) => {}
        }
    }

    /// The condition of an open alarm holds, still or again. A higher severity escalates the alarm.
    fn hold(&mut self, kind: Kind, text: impl FnOnce() -> Text) {
        let moment = self.moment;
        let (now, position) = (moment.now, moment.position);
        let calm = self.chatter_calm;
        self.adjust(kind, |alarm| {
            if alarm.ceased {
                alarm.ceased = false;
                alarm.count = alarm.count.saturating_add(1);
                chatter::count(alarm, moment, calm);
            }
            alarm.last_active = Some(now);
        });
        let text = text();
        let severity = self.get(kind).map(crate::alarm::Alarm::severity);
        if text.severity > severity {
            self.change(kind, ChangeKind::Escalated, |alarm| {
                alarm.severity = text.severity;
                alarm.message = text.message;
                alarm.changed_at = now;
                alarm.reached = position;
                alarm.acknowledged = None;
            });
        }
    }

    /// The condition of an open alarm has ceased: the alarm is cleared, or kept while it chatters.
    fn cease(&mut self, kind: Kind) {
        let at = self.moment.now;
        let Some(alarm) = self.get(kind) else { return };
        if chatter::chatters(alarm, at) {
            if self.must_stay_handled(alarm) {
                return;
            }
            self.adjust(kind, |alarm| alarm.ceased = true);
        } else {
            self.change(kind, ChangeKind::Cleared, |_| ());
        }
    }

    /// Whether a message showed a fault of the sensor, or a value outside the measuring range, so short a time ago that a reading
    /// that cannot be ordered may have been taken before it.
    #[must_use]
    pub fn has_recent_fault(&self) -> bool {
        let now = self.moment.now;
        let is_recent =
            |time: Option<Time>| time.is_some_and(|time| now.millis_since(time) < TIE_MS);
        self.open.iter().any(|alarm| match alarm.kind() {
            Kind::SensorFault | Kind::ReadingInvalid | Kind::UnderRange => {
                is_recent(alarm.last_active)
            }
            Kind::OverRange => {
                let mut levels = alarm.active_levels.iter().flatten();
                levels.any(|level| is_recent(level.reached_at))
            }
            _ => false,
        })
    }

    /// Clears the alarms whose condition has ceased and that are calm again.
    pub fn end_calm(&mut self) {
        let at = self.moment.now;
        while let Some(index) = self
            .open
            .iter()
            .position(|alarm| alarm.ceased && !chatter::chatters(alarm, at))
        {
            self.change_at(index, ChangeKind::Cleared, |_| ());
        }
    }
}

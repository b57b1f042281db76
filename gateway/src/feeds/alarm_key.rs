//! The order of alarms in lists of all devices, most urgent first. Pure.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use shared::alarm::{Alarm, Severity};
use shared::clock::Time;

/// The place of an alarm: by severity, then those that nobody has acknowledged, then the newest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AlarmKey {
    severity: Reverse<Severity>,
    is_acknowledged: bool,
    changed_at: Reverse<Time>,
    /// No two alarms have the same.
    id: Box<str>,
}

/// The text is not that of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAKey;

impl AlarmKey {
    pub(crate) fn of(alarm: &Alarm) -> Self {
        Self {
            severity: Reverse(alarm.severity()),
            is_acknowledged: alarm.acknowledged.is_some(),
            changed_at: Reverse(alarm.changed_at),
            id: alarm.id.as_str().into(),
        }
    }

    pub(super) fn severity(&self) -> Severity {
        self.severity.0
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

const SEVERITIES: [(Severity, &str); 3] = [
    (Severity::Critical, "c"),
    (Severity::High, "h"),
    (Severity::Warning, "w"),
];

impl fmt::Display for AlarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = SEVERITIES.iter();
        let word = words.find(|(severity, _)| *severity == self.severity.0);
        let (word, acknowledged) = (word.map_or("", |(_, word)| word), self.is_acknowledged);
        let millis = self.changed_at.0.as_millis();
        write!(f, "{word}{}.{millis}.{}", u8::from(acknowledged), self.id)
    }
}

impl FromStr for AlarmKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(NotAKey);
        let (first, millis, id) = (part()?, part()?, part()?);
        let (word, acknowledged) = first.split_at_checked(1).ok_or(NotAKey)?;
        let mut severities = SEVERITIES.iter();
        let severity = severities.find(|(_, known)| *known == word);
        let is_acknowledged = match acknowledged {
            "0" => false,
            "1" => true,
            _ => return Err(NotAKey),
        };
        Ok(Self {
            severity: Reverse(severity.ok_or(NotAKey)?.0),
            is_acknowledged,
            changed_at: Reverse(Time::from_millis(millis.parse().map_err(|_| NotAKey)?)),
            id: id.into(),
        })
    }
}

#[cfg(test)]
mod tests;

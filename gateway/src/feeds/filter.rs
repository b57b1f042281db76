//! Which rows or alarms a client wants. Pure.

use serde::Deserialize;
use serde::de::IgnoredAny;
use shared::alarm::Severity;
use shared::device::DeviceId;
use shared::device_status::DeviceStatus;

/// Longest prefix of a serial, in bytes.
const MAX_PREFIX: usize = 64;

/// Which rows a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FleetFilter {
    /// Empty: any.
    statuses: Vec<DeviceStatus>,
    prefix: Box<str>,
}

/// Which alarms a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AlarmFilter {
    /// Empty: any.
    severities: Vec<Severity>,
    prefix: Box<str>,
}

/// The filter of `subscribe:fleet`, as the client sends it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct FleetFilterArgument {
    status: Option<OneOrMany<DeviceStatus>>,
    prefix: Option<String>,
}

/// The filter of `subscribe:alarms`, as the client sends it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct AlarmFilterArgument {
    severity: Option<OneOrMany<Severity>>,
    prefix: Option<String>,
}

/// A word, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
    Unreadable(IgnoredAny),
}

impl<T: Copy + PartialEq> OneOrMany<T> {
    /// Returns each word once; `None` if they cannot be read.
    fn words(self) -> Option<Vec<T>> {
        let words = match self {
            Self::One(word) => vec![word],
            Self::Many(words) => words,
            Self::Unreadable(_) => return None,
        };
        let mut distinct = Vec::new();
        for word in words {
            if !distinct.contains(&word) {
                distinct.push(word);
            }
        }
        Some(distinct)
    }
}

fn words_of<T: Copy + PartialEq>(words: Option<OneOrMany<T>>) -> Option<Vec<T>> {
    words.map_or(Some(Vec::new()), OneOrMany::words)
}

fn checked_prefix(prefix: Option<String>) -> Option<Box<str>> {
    let prefix = prefix.unwrap_or_default();
    (prefix.len() <= MAX_PREFIX).then(|| prefix.into())
}

impl FleetFilter {
    /// Returns `None` for an argument that cannot be read.
    pub(crate) fn of(argument: FleetFilterArgument) -> Option<Self> {
        Some(Self {
            statuses: words_of(argument.status)?,
            prefix: checked_prefix(argument.prefix)?,
        })
    }

    pub(crate) fn matches(&self, device: &DeviceId, status: DeviceStatus) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && device.as_str().starts_with(&*self.prefix)
    }
}

impl AlarmFilter {
    /// Returns `None` for an argument that cannot be read.
    pub(crate) fn of(argument: AlarmFilterArgument) -> Option<Self> {
        let severities = words_of(argument.severity)?;
        let prefix = checked_prefix(argument.prefix)?;
        Some(Self { severities, prefix })
    }

    /// Creates the filter of a request.
    pub(crate) fn new(severities: Vec<Severity>, prefix: Option<String>) -> Option<Self> {
        let prefix = checked_prefix(prefix)?;
        Some(Self { severities, prefix })
    }

    pub(crate) fn matches_device(&self, device: &DeviceId) -> bool {
        device.as_str().starts_with(&*self.prefix)
    }

    pub(crate) fn matches_severity(&self, severity: Severity) -> bool {
        self.severities.is_empty() || self.severities.contains(&severity)
    }
}

#[cfg(test)]
mod tests;

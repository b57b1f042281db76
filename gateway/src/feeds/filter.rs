//! Which rows or alarms a client wants. Pure.

use serde::Deserialize;
use serde::de::IgnoredAny;
use shared::alarm::Severity;
use shared::device::DeviceId;
use shared::device_status::DeviceStatus;
use shared::profile::Profile;

/// Longest prefix of a serial, in bytes.
const MAX_PREFIX: usize = 64;

/// Where a device is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    zone: Option<Box<str>>,
    site: Option<Box<str>>,
}

impl Place {
    pub(crate) fn of(profile: &Profile) -> Self {
        Self::new(profile.zone.clone(), profile.site.clone())
    }

    /// A zone and a site; as a filter, `None` is any.
    pub(crate) fn new(zone: Option<String>, site: Option<String>) -> Self {
        Self {
            zone: zone.map(Into::into),
            site: site.map(Into::into),
        }
    }

    /// Whether a device there is wanted by this filter.
    pub(crate) fn admits(&self, other: &Self) -> bool {
        (self.zone.is_none() || self.zone == other.zone)
            && (self.site.is_none() || self.site == other.site)
    }

    fn is_short(&self) -> bool {
        let parts = [&self.zone, &self.site].into_iter().flatten();
        parts
            .map(|part| part.chars().count())
            .all(|len| len <= Profile::MAX_PLACE)
    }
}

/// Which rows a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FleetFilter {
    /// Empty: any.
    statuses: Vec<DeviceStatus>,
    prefix: Box<str>,
    place: Place,
}

/// Which alarms a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AlarmFilter {
    /// Empty: any.
    severities: Vec<Severity>,
    prefix: Box<str>,
    place: Place,
}

/// The filter of `subscribe:fleet`, as the client sends it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct FleetFilterArgument {
    status: Option<OneOrMany<DeviceStatus>>,
    prefix: Option<String>,
    zone: Option<String>,
    site: Option<String>,
}

/// The filter of `subscribe:alarms`, as the client sends it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct AlarmFilterArgument {
    severity: Option<OneOrMany<Severity>>,
    prefix: Option<String>,
    zone: Option<String>,
    site: Option<String>,
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

fn checked_place(zone: Option<String>, site: Option<String>) -> Option<Place> {
    // As in a profile: nothing and spaces are none.
    let given = |text: Option<String>| {
        let text = text.map(|text| text.trim().to_owned());
        text.filter(|text| !text.is_empty())
    };
    let place = Place::new(given(zone), given(site));
    place.is_short().then_some(place)
}

impl FleetFilter {
    /// Returns `None` for an argument that cannot be read.
    pub(crate) fn of(argument: FleetFilterArgument) -> Option<Self> {
        Some(Self {
            statuses: words_of(argument.status)?,
            prefix: checked_prefix(argument.prefix)?,
            place: checked_place(argument.zone, argument.site)?,
        })
    }

    pub(crate) fn matches(&self, device: &DeviceId, status: DeviceStatus, place: &Place) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && device.as_str().starts_with(&*self.prefix)
            && self.place.admits(place)
    }
}

impl AlarmFilter {
    /// Returns `None` for an argument that cannot be read.
    pub(crate) fn of(argument: AlarmFilterArgument) -> Option<Self> {
        Self::new(
            words_of(argument.severity)?,
            argument.prefix,
            argument.zone,
            argument.site,
        )
    }

    /// Creates the filter of a request.
    pub(crate) fn new(
        severities: Vec<Severity>,
        prefix: Option<String>,
        zone: Option<String>,
        site: Option<String>,
    ) -> Option<Self> {
        Some(Self {
            severities,
            prefix: checked_prefix(prefix)?,
            place: checked_place(zone, site)?,
        })
    }

    pub(crate) fn matches_device(&self, device: &DeviceId) -> bool {
        device.as_str().starts_with(&*self.prefix)
    }

    pub(crate) fn matches_place(&self, place: &Place) -> bool {
        self.place.admits(place)
    }

    pub(crate) fn matches_severity(&self, severity: Severity) -> bool {
        self.severities.is_empty() || self.severities.contains(&severity)
    }
}

#[cfg(test)]
mod tests;

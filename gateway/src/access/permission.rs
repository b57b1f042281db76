//! What a client may do, and with which devices. Pure.

use serde::{Deserialize, Serialize};
use shared::device::MAX_DEVICE_ID_BYTES;

/// The most patterns of one token.
pub(crate) const MAX_PATTERNS: usize = 256;

/// Something that a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verb {
    /// See readings and alarms.
    Read,
    /// Acknowledge alarms.
    Ack,
    /// Change devices: retire them.
    Operate,
    /// See how the service is used, and the audit trail. Only with every device.
    Admin,
}

/// What a client may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Permission {
    verbs: Vec<Verb>,
    devices: Vec<DevicePattern>,
}

/// The ids of devices: a text in which `*` stands for any characters, also none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DevicePattern(Box<str>);

impl DevicePattern {
    const ALL: &'static str = "*";

    /// Returns `None` for a text that no device id matches.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= MAX_DEVICE_ID_BYTES;
        fits.then(|| Self(text.into()))
    }

    fn matches(&self, device: &str) -> bool {
        let mut parts = self.0.split('*');
        // `split` returns at least one part.
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = device.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            // Without a `*`.
            return rest.is_empty();
        };
        for part in parts {
            // The first place is the best: it leaves the most for the parts behind.
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl Permission {
    pub(crate) fn new(verbs: Vec<Verb>, devices: Vec<DevicePattern>) -> Self {
        Self { verbs, devices }
    }

    /// These verbs with every device.
    pub(crate) fn with_all_devices(verbs: Vec<Verb>) -> Self {
        Self::new(verbs, vec![DevicePattern(DevicePattern::ALL.into())])
    }

    pub(crate) fn verbs(&self) -> &[Verb] {
        &self.verbs
    }

    /// Returns the patterns of devices as text.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|pattern| &*pattern.0)
    }

    /// Returns whether this may be done with any device at all.
    pub(crate) fn has(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// Returns whether this may be done with the device of this id, which need not exist. Whoever changes something must also be
    /// allowed to see it.
    pub(crate) fn allows(&self, verb: Verb, device: &str) -> bool {
        self.has(Verb::Read)
            && self.has(verb)
            && self.devices.iter().any(|pattern| pattern.matches(device))
    }

    /// Returns whether every device may be read that `other` may read.
    pub(crate) fn reads_all_of(&self, other: &Self) -> bool {
        // A pattern that matches the text of another one matches whatever that one does: only a `*` matches a `*`.
        let is_covered =
            |theirs: &DevicePattern| self.devices.iter().any(|ours| ours.matches(&theirs.0));
        !other.has(Verb::Read) || (self.has(Verb::Read) && other.devices.iter().all(is_covered))
    }

    /// Returns whether it is that of an administrator, who may see what is about every device.
    pub(crate) fn administers(&self) -> bool {
        self.has(Verb::Admin) && self.has_all_devices()
    }

    fn has_all_devices(&self) -> bool {
        let mut patterns = self.devices.iter();
        patterns.any(|pattern| pattern.0.bytes().all(|byte| byte == b'*'))
    }

    /// Returns whether every device may be read.
    pub(crate) fn reads_all(&self) -> bool {
        self.has(Verb::Read) && self.has_all_devices()
    }
}

#[cfg(test)]
mod tests;

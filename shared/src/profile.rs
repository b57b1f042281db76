//! What operators say about a device, beside what it sends itself.

use serde::{Deserialize, Serialize};

use crate::forward::UnknownFields;

/// What operators say about a device. It is kept until the device is retired, whatever the device sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The name that is shown instead of the one that the device sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The part of the site where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The site where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Profile {
    /// The longest name, in characters.
    pub const MAX_NAME: usize = 128;
    /// The longest zone or site, in characters.
    pub const MAX_PLACE: usize = 64;

    /// Returns the name that is shown of a device that sends this one.
    #[must_use]
    pub fn shown_name<'a>(&'a self, sent: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(sent)
    }
}

//! What operators say about a device, beside what it sends itself.

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
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
    /// Degrees north of the place where it is, instead of what it sends. Of no use without [`Profile::longitude`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latitude: Option<Decimal>,
    /// Degrees east.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longitude: Option<Decimal>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Profile {
    /// The longest name, in characters.
    pub const MAX_NAME: usize = 128;
    /// The longest zone or site, in characters.
    pub const MAX_PLACE: usize = 64;

    /// The largest number of degrees north or south.
    pub const MAX_LATITUDE: i32 = 90;
    /// The largest number of degrees east or west.
    pub const MAX_LONGITUDE: i32 = 180;

    /// Returns latitude and longitude, if an operator has said where the device is.
    #[must_use]
    pub fn coordinates(&self) -> Option<(Decimal, Decimal)> {
        self.latitude.zip(self.longitude)
    }

    /// Returns the name that is shown of a device that sends this one.
    #[must_use]
    pub fn shown_name<'a>(&'a self, sent: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(sent)
    }
}

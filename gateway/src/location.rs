//! Where a device is, as lists of devices show it. Pure.

use std::borrow::Cow;

use shared::decimal::Decimal;
use shared::profile::Profile;
use shared::reading::{Coordinate, Reading};

/// The word for a location that an operator has set.
const OF_PROFILE: &str = "profile";

/// The coordinates of a device: what its profile says, else what it sends.
#[derive(Clone, Debug)]
pub(crate) struct Location<'a> {
    pub(crate) latitude: Cow<'a, Coordinate>,
    pub(crate) longitude: Cow<'a, Coordinate>,
    /// Who says so, unless it is the device.
    pub(crate) source: Option<&'static str>,
}

impl<'a> Location<'a> {
    pub(crate) fn of(profile: &Profile, reading: &'a Reading) -> Self {
        match profile.coordinates() {
            Some((latitude, longitude)) => Self {
                latitude: Cow::Owned(Coordinate::Number(latitude)),
                longitude: Cow::Owned(Coordinate::Number(longitude)),
                source: Some(OF_PROFILE),
            },
            None => Self {
                latitude: Cow::Borrowed(&reading.latitude),
                longitude: Cow::Borrowed(&reading.longitude),
                source: None,
            },
        }
    }

    /// Returns degrees north and east. `None` if unknown, out of range or `0, 0`.
    pub(crate) fn degrees(&self) -> Option<(Decimal, Decimal)> {
        let within = |coordinate, bound| {
            let degrees: Decimal = text_of(coordinate).parse().ok()?;
            is_within(degrees, bound).then_some(degrees)
        };
        let north = within(&self.latitude, Profile::MAX_LATITUDE)?;
        let east = within(&self.longitude, Profile::MAX_LONGITUDE)?;
        (north != Decimal::ZERO || east != Decimal::ZERO).then_some((north, east))
    }

    /// Renders `<lat>, <long>` as received. Empty without usable degrees: the map draws every text that it can parse.
    pub(crate) fn text(&self) -> String {
        if self.degrees().is_none() {
            return String::new();
        }
        let (latitude, longitude) = (text_of(&self.latitude), text_of(&self.longitude));
        format!("{latitude}, {longitude}")
    }
}

/// Whether degrees are within so many on both sides of zero.
pub(crate) fn is_within(degrees: Decimal, bound: i32) -> bool {
    let bound = Decimal::from_int(bound);
    degrees <= bound && Decimal::ZERO - degrees <= bound
}

fn text_of(coordinate: &Coordinate) -> Cow<'_, str> {
    match coordinate {
        Coordinate::Number(number) => Cow::Owned(number.to_string()),
        Coordinate::Text(text) => Cow::Borrowed(text.trim()),
    }
}

#[cfg(test)]
mod tests;

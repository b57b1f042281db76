//! The order of the rows of all partitions. Pure.

use std::fmt;
use std::str::FromStr;

use shared::clock::Time;
use shared::store::LogId;

/// Where a row is among those of all partitions. Newer rows are greater.
///
/// Its text is `next` of an answer and `before` of the next request. It has everything that is needed to go on, so any replica can, also
/// when the row is gone meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The time of the row.
    pub(super) at: Time,
    /// Its entry in the log of its partition.
    pub(super) id: LogId,
    pub(super) partition: u16,
}

impl Place {
    /// The place after all rows of this time: they are the next that a search finds before it.
    pub(super) const fn after_all_at(at: Time) -> Self {
        Self {
            at,
            id: LogId {
                millis: u64::MAX,
                number: u64::MAX,
            },
            partition: u16::MAX,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, id, partition } = self;
        write!(f, "{}_{id}_{partition}", at.as_millis())
    }
}

/// The text is not one that an answer had.
#[derive(Debug)]
pub(super) struct NotAPlace;

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let mut parts = text.split('_');
        let mut next = || parts.next().ok_or(NotAPlace);
        let (at, id, partition) = (next()?, next()?, next()?);
        let place = Self {
            at: Time::from_millis(at.parse().map_err(|_| NotAPlace)?),
            id: id.parse().map_err(|_| NotAPlace)?,
            partition: partition.parse().map_err(|_| NotAPlace)?,
        };
        // One row has one text.
        if place.to_string() == text {
            Ok(place)
        } else {
            Err(NotAPlace)
        }
    }
}

#[cfg(test)]
mod tests;

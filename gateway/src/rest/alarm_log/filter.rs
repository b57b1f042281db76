//! Which rows of the alarm log a query wants.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as UnknownValue;
use shared::alarm::{Condition, Severity};
use shared::clock::Time;
use shared::device::DeviceId;

use super::index::RowFilter;
use super::place::Place;
use crate::access::identity::Identity;
use crate::access::permission::Verb;
use crate::error::ApiError;
use crate::rest::query::Query;
use crate::store_reader::StoreReader;

/// Which rows a query wants.
#[derive(Debug)]
pub(super) struct LogFilter {
    pub(super) since: Option<Time>,
    pub(super) until: Option<Time>,
    pub(super) device: Choice<DeviceId>,
    pub(super) alarm_type: Choice<Condition>,
    pub(super) severity: Choice<Severity>,
    /// Who asks and may not read every device.
    pub(super) reader: Option<Arc<Identity>>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Choice<T> {
    Any,
    Only(T),
    /// The text in the query names no existing value, so no row matches.
    Nothing,
}

impl<T> Choice<T> {
    /// Returns the only value that matches; `None` if all do. See [`LogFilter::admits_nothing`] for [`Choice::Nothing`].
    fn only(&self) -> Option<&T> {
        match self {
            Self::Only(only) => Some(only),
            Self::Any | Self::Nothing => None,
        }
    }
}

impl<'de, T: Deserialize<'de>> Choice<T> {
    /// Parses a filter. Its text is compared with the values as answers spell them. Without a text, every value matches.
    pub(super) fn of_text(text: Option<&'de str>) -> Self {
        let Some(text) = text else {
            return Self::Any;
        };
        let value: Result<T, UnknownValue> = T::deserialize(text.into_deserializer());
        value.map_or(Self::Nothing, Self::Only)
    }
}

impl LogFilter {
    pub(super) fn of_counts(query: &Query) -> Result<Self, ApiError> {
        Ok(Self {
            since: query.date("start_date")?,
            until: query.date("end_date")?,
            device: Choice::of_text(query.text("device_id")),
            alarm_type: Choice::Any,
            severity: Choice::Any,
            reader: None,
        })
    }

    pub(super) fn of_rows(query: &Query) -> Result<Self, ApiError> {
        Ok(Self {
            // Not deserialised: that would keep every word of every client for ever.
            alarm_type: match query.text("alarm_type") {
                Some(code) => Condition::existing(code).map_or(Choice::Nothing, Choice::Only),
                None => Choice::Any,
            },
            severity: Choice::of_text(query.text("severity")),
            ..Self::of_counts(query)?
        })
    }

    /// Limits it to the devices that this client may read. One that it may not read is as one that does not exist: nothing is read for it.
    pub(super) fn for_reader(mut self, reader: Option<&Arc<Identity>>) -> Self {
        self.reader = reader.map(Arc::clone);
        if let (Choice::Only(device), Some(reader)) = (&self.device, reader)
            && !reader.permission().allows(Verb::Read, device.as_str())
        {
            self.device = Choice::Nothing;
        }
        self
    }

    /// Returns whether no row can match, because a word in the query names nothing.
    pub(super) fn admits_nothing(&self) -> bool {
        self.device == Choice::Nothing
            || self.alarm_type == Choice::Nothing
            || self.severity == Choice::Nothing
            || matches!((self.since, self.until), (Some(since), Some(until)) if since > until)
    }

    /// Returns the rows that it wants, before this place in the order of the answer.
    pub(super) fn rows(&self, before: Option<Place>) -> RowFilter<'_> {
        RowFilter {
            since: self.since,
            until: self.until,
            before,
            device: self.device.only(),
            condition: self.alarm_type.only().copied(),
            severity: self.severity.only().copied(),
            readable: self.reader.as_ref().map(|reader| reader.permission()),
        }
    }
}

/// Returns the partitions that may hold matching rows.
pub(super) fn partitions(reader: &StoreReader, filter: &LogFilter) -> Vec<u16> {
    let number = reader.store.partitions();
    if filter.admits_nothing() {
        return Vec::new();
    }
    match &filter.device {
        Choice::Any => (0..number).collect(),
        Choice::Only(device) => vec![device.partition(number)],
        Choice::Nothing => Vec::new(),
    }
}

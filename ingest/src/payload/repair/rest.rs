//! What a payload has behind the objects that are taken one by one.
//!
//! It is sorted by detector, so that each one is reported once. The memory is bounded by the size of the payload: there are no more
//! ranges than objects in it, and no more detectors than serials.

use std::collections::HashMap;
use std::ops::Range;

use shared::device::DeviceId;

use super::Content;
use super::object::{Object, SerialState};

/// The pieces behind the objects that are taken one by one.
#[derive(Debug, Default)]
pub(in crate::payload) struct Rest {
    /// Where each detector that is certain has its objects, in order.
    pub(in crate::payload) certain: Vec<(DeviceId, Vec<Range<usize>>)>,
    indexes: HashMap<DeviceId, usize>,
    /// Everything else.
    pub(in crate::payload) others: Vec<Range<usize>>,
    /// The last piece was one of the others.
    is_behind_other: bool,
    /// Detectors that are named there.
    named: Vec<DeviceId>,
}

impl Rest {
    pub(super) fn is_empty(&self) -> bool {
        self.certain.is_empty() && self.others.is_empty()
    }

    pub(super) fn add(&mut self, range: Range<usize>, content: &Content) {
        let object = match content {
            Content::Whole(object) | Content::Broken(object) => Some(object),
            Content::NotAnObject => None,
        };
        let mut serials = object.map(Object::serials).unwrap_or_default();
        let is_certain = object.is_some_and(|object| object.serial() == SerialState::Certain);
        match serials.pop() {
            Some(serial) if is_certain => {
                let index = *self.indexes.entry(serial.clone()).or_insert_with(|| {
                    self.certain.push((serial, Vec::new()));
                    self.certain.len() - 1
                });
                self.certain[index].1.push(range);
                self.is_behind_other = false;
            }
            last => {
                self.named.extend(serials.into_iter().chain(last));
                match self.others.last_mut() {
                    Some(before) if self.is_behind_other => before.end = range.end,
                    _ => self.others.push(range),
                }
                self.is_behind_other = true;
            }
        }
    }

    /// Returns the detectors of which it is not certain that anything is about them, each once.
    pub(in crate::payload) fn named(&self) -> Vec<DeviceId> {
        let mut named = self.named.clone();
        named.sort();
        named.dedup();
        named.retain(|serial| !self.indexes.contains_key(serial));
        named
    }
}

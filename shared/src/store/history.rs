//! Reads the samples of a device, for clients.

use serde_json::value::RawValue;

use super::reply::{Entry, entries, stream_bound};
use super::{Store, StoreError};
use crate::clock::Time;
use crate::device::DeviceId;
use crate::event;
use crate::sample::{self, Sample};

/// The most samples of a piece: some 30 KB of an answer of Redis, which does nothing else meanwhile.
pub const HISTORY_PIECE: usize = 1_000;

/// A part of the history of a device.
#[derive(Clone, Debug, Default)]
pub struct HistoryPiece {
    /// Oldest first. A sample that cannot be read is left out, so that it does not hide the others.
    pub samples: Vec<StoredSample>,
    /// Where the next piece begins; `None` behind the last one.
    pub next: Option<HistoryPlace>,
}

/// A sample, and when Redis stored it: a few milliseconds behind its own time, and never before the sample that was stored before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSample {
    /// When Redis stored it.
    pub at: Time,
    /// The sample.
    pub sample: Sample,
}

/// A place behind a sample. Samples that are removed meanwhile do not move it.
#[derive(Clone, Debug)]
pub struct HistoryPlace(String);

impl Store {
    /// Returns the newest `limit` samples of the device's history from `since` to `until` (server time, inclusive): JSON objects,
    /// oldest first. A sample that cannot be read is left out, so that it does not hide the others.
    pub async fn history(
        &self,
        device: &DeviceId,
        since: Option<Time>,
        until: Option<Time>,
        limit: usize,
    ) -> Result<Vec<Box<RawValue>>, StoreError> {
        let answer = self
            .run(|_, pipe| {
                pipe.cmd("XREVRANGE").arg(self.keys(device).history(device));
                pipe.arg(stream_bound(until, "+"));
                pipe.arg(stream_bound(since, "-"));
                pipe.arg("COUNT").arg(limit);
            })
            .await?;
        let newest_first = entries(answer).map_err(StoreError::Unavailable)?;
        let samples = newest_first.into_iter().rev();
        Ok(samples.filter_map(sample_as_json).collect())
    }

    /// Returns the samples from `since` to `until` (server time, inclusive), oldest first, at most [`HISTORY_PIECE`] of them. With
    /// `place`, those behind it.
    pub async fn history_piece(
        &self,
        device: &DeviceId,
        (since, until): (Time, Time),
        place: Option<&HistoryPlace>,
    ) -> Result<HistoryPiece, StoreError> {
        let start = match place {
            Some(HistoryPlace(place)) => place.clone(),
            None => stream_bound(Some(since), "-"),
        };
        let answer = self
            .run(|_, pipe| {
                pipe.cmd("XRANGE").arg(self.keys(device).history(device));
                pipe.arg(&start).arg(stream_bound(Some(until), "+"));
                pipe.arg("COUNT").arg(HISTORY_PIECE);
            })
            .await?;
        let found = entries(answer).map_err(StoreError::Unavailable)?;
        let last = found.last().filter(|_| found.len() == HISTORY_PIECE);
        let next = last.map(|last| HistoryPlace(format!("({}", last.id)));
        let stored = |entry: Entry| {
            let at = entry.written()?;
            let sample = sample_of(entry)?;
            Some(StoredSample { at, sample })
        };
        let samples = found.into_iter().filter_map(stored).collect();
        Ok(HistoryPiece { samples, next })
    }
}

fn sample_as_json(mut entry: Entry) -> Option<Box<RawValue>> {
    let stored = entry.written()?;
    let bytes = entry.fields.remove("s")?;
    if bytes.first() == Some(&sample::VERSION) {
        return Some(event::to_raw(&Sample::decode(&bytes, stored)?));
    }
    // Releases before 0.2 stored JSON.
    RawValue::from_string(String::from_utf8(bytes).ok()?).ok()
}

pub(super) fn sample_of(mut entry: Entry) -> Option<Sample> {
    let stored = entry.written()?;
    let bytes = entry.fields.remove("s")?;
    if bytes.first() == Some(&sample::VERSION) {
        return Sample::decode(&bytes, stored);
    }
    Sample::of_json(&bytes)
}

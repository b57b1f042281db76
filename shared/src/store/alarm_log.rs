//! Reads the alarm log.

use super::reply::{Entry, entries, stream_bound};
use super::{Store, StoreError};
use crate::alarm_log::AlarmLogEntry;
use crate::clock::Time;
use crate::keys::PartitionKeys;

/// Maximum number of entries of a page.
const PAGE: usize = 500;

/// An entry of the alarm log with its row id.
#[derive(Clone, Debug)]
pub struct LoggedEntry {
    /// Id of the row: letters, digits, `_` and `-`.
    pub id: String,
    /// Serial of the device, as it is written in the log.
    pub device: String,
    /// When Redis stored it; entries are in this order.
    pub written: Time,
    /// The entry, or its text if it cannot be read.
    pub entry: Result<AlarmLogEntry, String>,
}

impl LoggedEntry {
    pub(super) fn read(partition: u16, found: &Entry) -> Self {
        let field = |name| {
            let bytes = found.fields.get(name).map(Vec::as_slice);
            String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
        };
        let millis = found.id.split_once('-').map(|(millis, _)| millis.parse());
        let line = field("line");
        Self {
            id: format!("log-{partition}-{}", found.id),
            device: field("device"),
            written: Time::from_millis(millis.and_then(Result::ok).unwrap_or_default()),
            entry: serde_json::from_str(&line).map_err(|_| line),
        }
    }
}

impl Store {
    /// Returns a page of a partition's alarm log, newest first: entries older than `before`, a row id of that partition, and not
    /// older than `since`. An empty page is the end of the log.
    pub async fn alarm_log(
        &self,
        partition: u16,
        before: Option<&str>,
        since: Option<Time>,
    ) -> Result<Vec<LoggedEntry>, StoreError> {
        let newest = match before.and_then(stream_id_of_row) {
            Some(id) => format!("({id}"),
            None => "+".to_owned(),
        };
        let answer = self
            .run(|_, pipe| {
                pipe.cmd("XREVRANGE");
                pipe.arg(PartitionKeys::new(partition).log());
                pipe.arg(&newest).arg(stream_bound(since, "-"));
                pipe.arg("COUNT").arg(PAGE);
            })
            .await?;
        let entries = entries(answer).map_err(StoreError::Unavailable)?;
        Ok(entries
            .iter()
            .map(|entry| LoggedEntry::read(partition, entry))
            .collect())
    }
}

fn stream_id_of_row(row: &str) -> Option<&str> {
    let (_, id) = row.strip_prefix("log-")?.split_once('-')?;
    Some(id)
}

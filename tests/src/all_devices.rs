//! What a browser shows of all devices: its lists, as they follow from the events that it received.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::browser::{Browser, BrowserEvent};
use crate::http;

/// A list by id, and whether its last snapshot is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// The entries.
    pub entries: BTreeMap<String, Value>,
    /// The parts of a snapshot that is not whole yet.
    parts: Option<BTreeMap<String, Value>>,
    /// Number of whole snapshots.
    pub snapshots: usize,
}

impl List {
    /// Returns the rows that the browser shows.
    pub fn of_rows(browser: &Browser) -> Result<Self> {
        let mut list = Self::default();
        for seen in browser.seen() {
            match (seen.what.as_str(), seen.name.as_str()) {
                ("connect", _) => list.parts = None,
                ("event", "fleet:snapshot") => list.take_part(&seen, "devices", "deviceId")?,
                ("event", "fleet:changed") => {
                    list.put(&seen.body["devices"], "deviceId")?;
                    for device in array(&seen.body["removed"])? {
                        let device = device.as_str().context("a serial")?;
                        let removed = list.entries.remove(device);
                        ensure!(removed.is_some(), "{device} was not shown: {seen:?}");
                    }
                }
                _ => {}
            }
        }
        Ok(list)
    }

    /// Returns the alarms that the browser shows.
    pub fn of_alarms(browser: &Browser) -> Result<Self> {
        let mut list = Self::default();
        for seen in browser.seen() {
            match (seen.what.as_str(), seen.name.as_str()) {
                ("connect", _) => list.parts = None,
                ("event", "alarms:snapshot") => list.take_part(&seen, "alarms", "id")?,
                ("event", "alarms:changed") => {
                    list.put(&seen.body["changed"], "id")?;
                    for ended in array(&seen.body["ended"])? {
                        list.entries.remove(ended["id"].as_str().context("an id")?);
                    }
                }
                _ => {}
            }
        }
        Ok(list)
    }

    fn take_part(&mut self, seen: &BrowserEvent, field: &str, key: &str) -> Result<()> {
        let part = &seen.body[field];
        ensure!(array(part)?.len() <= 100, "a long part: {seen:?}");
        let before = self.parts.take();
        let mut entries = if seen.body["first"].as_bool().context("no `first`")? {
            // A list that was not finished is over.
            BTreeMap::new()
        } else {
            before.with_context(|| format!("a part of no list: {seen:?}"))?
        };
        put(&mut entries, part, key)?;
        if seen.body["more"] == true {
            self.parts = Some(entries);
        } else {
            self.entries = entries;
            self.snapshots += 1;
        }
        Ok(())
    }

    fn put(&mut self, changed: &Value, key: &str) -> Result<()> {
        put(&mut self.entries, changed, key)
    }
}

fn put(entries: &mut BTreeMap<String, Value>, changed: &Value, key: &str) -> Result<()> {
    for entry in array(changed)? {
        let key = entry[key].as_str().context("a key")?;
        entries.insert(key.to_owned(), entry.clone());
    }
    Ok(())
}

fn array(value: &Value) -> Result<&Vec<Value>> {
    value
        .as_array()
        .with_context(|| format!("no list: {value}"))
}

/// What a row and the list of REST both have of a device.
pub const ROW_FIELDS: [&str; 8] = [
    "deviceId",
    "status",
    "alarm_status",
    "name",
    "lastSeen",
    "location",
    "epoch",
    "seq",
];

/// Returns what makes up an open alarm: not how it came about, nor a peak that changes without a transition.
pub fn without_position(alarms: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut alarms = alarms.clone();
    for alarm in alarms.values_mut() {
        if let Some(fields) = alarm.as_object_mut() {
            for field in ["change", "epoch", "seq", "peak_value"] {
                fields.shift_remove(field);
            }
        }
    }
    alarms
}

/// Reads the open alarms of all devices over REST, page by page.
pub async fn open_alarms(port: u16) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    let mut path = "/api/alarms/open?limit=50".to_owned();
    loop {
        let page = http::send(port, "GET", &path, &[], b"")
            .await?
            .expect(200)?;
        let before = found.len();
        put(&mut found, &page["alarms"], "id")?;
        ensure!(page["count"] == found.len() - before, "twice: {page}");
        let Some(next) = page["next"].as_str() else {
            return Ok(found);
        };
        path = format!("/api/alarms/open?limit=50&after={next}");
    }
}

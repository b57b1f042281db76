//! The positions in the events of one client. Pure.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::browser::BrowserEvent;

/// A position: its epoch and its seq.
pub(super) type Position = (String, u64);

pub(super) fn position(body: &Value) -> Option<Position> {
    Some((body["epoch"].as_str()?.to_owned(), body["seq"].as_u64()?))
}

/// How the subscriptions of a client recovered.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    pub(super) recovered: usize,
    pub(super) gaps: usize,
    pub(super) alarm_gaps: usize,
    pub(super) skipped: u64,
}

/// Checks what a client that follows the device by `more` received about it:
///
/// * Positions follow each other without a gap, or the gap is announced: by the number of readings that were skipped for a slow
///   client, or by alarm changes alone with a snapshot after them.
/// * Every event of a position but its last has `more`. On one connection, nothing else comes before that last event, and no
///   event of the position after it.
/// * After a reconnection, the events continue after the newest position that was whole, and no event is new twice.
/// * The latest reading never goes back, unless the clock of the device was set.
pub(super) fn check_positions(all: &[BrowserEvent], serial: &str) -> Result<Recoveries> {
    let mut seen = Seen::default();
    for (index, entry) in all.iter().enumerate() {
        seen.add(entry, serial).with_context(|| {
            let before = entries_before(all, index, serial);
            format!("{entry:?}, after {before:#?}")
        })?;
    }
    let gap = &seen.gap;
    ensure!(gap.is_none(), "no snapshot after the gap before {gap:?}");
    Ok(seen.recoveries)
}

/// What a client has received of one device.
#[derive(Debug, Default)]
struct Seen {
    recoveries: Recoveries,
    /// The newest position; after a reconnection, the newest whole one.
    last: Option<Position>,
    /// The newest position of which the client has every event, as it knows from `more`.
    whole: Option<Position>,
    /// More events of the newest position were announced.
    is_open: bool,
    /// The seq after a jump of positions, until the snapshot that must follow.
    gap: Option<u64>,
    /// After a reconnection, events after the newest whole position may arrive again.
    is_recovering: bool,
    /// The highest seq per epoch.
    highest: HashMap<String, u64>,
    /// Every event but snapshots and stale readings, by position and name.
    events: HashSet<(Position, String)>,
    /// Device time of the latest reading.
    newest: String,
}

impl Seen {
    fn add(&mut self, entry: &BrowserEvent, serial: &str) -> Result<()> {
        let is_about = entry.body["deviceId"] == serial;
        match entry.what.as_str() {
            "connect" => self.reconnect(),
            "followed" if entry.name == serial => self.answer(&entry.body)?,
            "again" if is_about => {
                ensure!(self.is_recovering, "received twice on one connection");
            }
            "event" if is_about && entry.body["stale"] == true => {
                // It is repeated at its old position, also after the retirement of its device.
                ensure!(entry.body["more"].is_null(), "a stale reading with `more`");
            }
            "event" if is_about => self.event(entry)?,
            _ => {}
        }
        Ok(())
    }

    /// What broke off begins again after the newest whole position.
    fn reconnect(&mut self) {
        self.gap = None;
        self.is_open = false;
        self.is_recovering = true;
        self.last.clone_from(&self.whole);
        if let Some((epoch, seq)) = &self.whole {
            self.highest.insert(epoch.clone(), *seq);
        }
    }

    fn answer(&mut self, body: &Value) -> Result<()> {
        self.recoveries.count(body);
        self.is_recovering = false;
        let at = position(body).context("an answer without position")?;
        // The position of an unknown device is 0.
        let is_last = self.last.as_ref().is_none_or(|last| *last == at) || at.1 == 0;
        ensure!(
            is_last && !self.is_open,
            "not the position of the last event, or before its last event: {self:?}"
        );
        self.last = Some(at.clone());
        self.whole = Some(at);
        Ok(())
    }

    fn event(&mut self, entry: &BrowserEvent) -> Result<()> {
        let body = &entry.body;
        let at = position(body).context("no position")?;
        let has_more = match &body["more"] {
            Value::Null => false,
            Value::Bool(true) => true,
            other => bail!("`more` is {other}"),
        };
        let is_snapshot = body["snapshot"] == true;
        let highest = self.highest.entry(at.0.clone()).or_default();
        ensure!(at.1 >= *highest, "went back from {highest}");
        *highest = at.1;
        if entry.name == "device:data" {
            self.check_reading(body)?;
        }
        if is_snapshot {
            let is_in_order =
                !self.is_open || self.gap.is_some() || self.last.as_ref() == Some(&at);
            ensure!(is_in_order, "events of {:?} are missing", self.last);
            self.gap = None;
        } else {
            self.check_order(entry, &at, has_more)?;
            let is_new = self.events.insert((at.clone(), entry.name.clone()));
            ensure!(is_new, "the same event twice");
            if body["skipped"].is_u64() {
                // The readings left out before it are no longer needed.
                self.whole = Some((at.0.clone(), at.1.saturating_sub(1)));
            }
        }
        self.is_open = has_more;
        if !has_more {
            self.whole = Some(at.clone());
        }
        self.last = Some(at);
        Ok(())
    }

    /// Checks that an event, which is no snapshot, is the next one.
    fn check_order(&mut self, entry: &BrowserEvent, at: &Position, has_more: bool) -> Result<()> {
        let is_change = entry.name == "device:alerts:changed";
        if is_change && has_more {
            // Changes alone precede a snapshot.
            let is_in_order = !self.is_open || self.gap.is_some();
            ensure!(is_in_order, "events of {:?} are missing", self.last);
            self.gap = Some(at.1);
            return Ok(());
        }
        ensure!(self.gap.is_none(), "no snapshot after a gap");
        if self.last.as_ref() == Some(at) {
            ensure!(self.is_open, "an event after the last one of its position");
            return Ok(());
        }
        ensure!(!self.is_open, "events of {:?} are missing", self.last);
        let before = self.last.as_ref().map_or(0, |(_, seq)| *seq);
        let skipped = entry.body["skipped"].as_u64().unwrap_or(0);
        self.recoveries.skipped += skipped;
        let follows = at.1 == before + 1 + skipped;
        ensure!(follows, "a gap without announcement: from {before}");
        Ok(())
    }

    fn check_reading(&mut self, body: &Value) -> Result<()> {
        let time = body["data"]["timestamp"].as_str().unwrap_or_default();
        let is_set_back = body["data"]["clock_suspect"] == true;
        ensure!(
            time >= self.newest.as_str() || is_set_back,
            "the latest went back from {}",
            self.newest
        );
        time.clone_into(&mut self.newest);
        Ok(())
    }
}

/// Returns the last entries about a device before `index`, shortened.
fn entries_before(all: &[BrowserEvent], index: usize, serial: &str) -> Vec<String> {
    let is_about = |seen: &&BrowserEvent| {
        let of_connection = ["connect", "disconnect"].contains(&seen.what.as_str());
        of_connection || seen.name == serial || seen.body["deviceId"] == serial
    };
    let brief = |seen: &BrowserEvent| {
        let mut body = seen.body.clone();
        if let Some(fields) = body.as_object_mut() {
            for long in ["data", "alerts", "alert", "changes"] {
                fields.shift_remove(long);
            }
        }
        format!("{} {} {body}", seen.what, seen.name)
    };
    let earlier: Vec<&BrowserEvent> = all[..index].iter().filter(is_about).collect();
    let newest = earlier.len().saturating_sub(25);
    earlier[newest..].iter().map(|seen| brief(seen)).collect()
}

impl Recoveries {
    fn count(&mut self, answer: &Value) {
        if answer["since"].is_null() {
            return;
        }
        if answer["recovered"] == true {
            self.recovered += 1;
        } else if answer["alarmsRecovered"] == false {
            self.alarm_gaps += 1;
        } else {
            self.gaps += 1;
        }
    }
}

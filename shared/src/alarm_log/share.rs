//! The share that one device has of the alarm log of its partition. What exceeds it is folded into counts, so that a device that
//! flaps does not push out the evidence of others.
//!
//! A device has an allowance of entries (a token bucket): [`BURST`] at once (`--log-burst`), and one more per [`PER_ENTRY`]. In the default
//! `--log-age` of 35 days that is 200 + 840 entries, 5 % of the default `--log-max`. Without an allowance, an entry is still written if
//! it is the first of its group with that transition and level, or an acknowledgement: a person did that, and looks for it in the log.
//! [`MAX_OWED`] acknowledgements may be written ahead of the allowance. All others are folded: one entry says how many they were.
//!
//! A group is one alarm. Only while there is no allowance, a new alarm joins the group of the last one of its kind, if that was cleared less
//! than `group_is_open_for` ago: both are logged together ([`Alarm::log_group`]). So the number of groups is bounded, and with it that of
//! first entries. The alarms themselves stay apart: each has an id of its own, and is acknowledged for itself.
//!
//! Time is that of the server. A device cannot gain an allowance by the times that it sends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AlarmLogEntry, Folded, Peak};
use crate::alarm::{Alarm, ChangeKind, Kind};
use crate::clock::{Time, millis};
use crate::forward::UnknownFields;

/// So many entries may be written at once, by default.
pub const BURST: u32 = 200;
/// One more entry may be written after this time.
pub const PER_ENTRY: Duration = Duration::from_millis(PER_ENTRY_MS.unsigned_abs());
/// So many entries may be written for acknowledgements ahead of the allowance.
pub const MAX_OWED: u32 = 50;
/// Maximum number of groups whose entries are folded at one time: more than there are kinds.
pub(crate) const MAX_FOLDED: usize = 16;

/// What a device may still write to the alarm log, and what was folded. Stored only while something of it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogShare {
    /// Server time of the last change.
    pub at: Time,
    /// The allowance at that time, in milliseconds: an entry costs [`PER_ENTRY`].
    pub allowance_ms: i64,
    /// The groups with folded entries, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<FoldedAlarm>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// The entries of one group since the device had no allowance. Kept until half of the allowance is back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedAlarm {
    /// Id of the group, which is that of its first alarm.
    pub id: String,
    /// The transitions that were written without an allowance, one bit each: see `bit`.
    #[serde(default)]
    pub written: u32,
    /// Whether its newest line in the log says that its alarm has cleared. Then the next raise is written, so that the log never shows a
    /// group as cleared while one of its alarms stands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shows_cleared: bool,
    /// The last entry that was folded, with the counts of all of them; `None` if they are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Box<AlarmLogEntry>>,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// What is written, and how many entries were folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The entries to write, in order.
    pub entries: Vec<AlarmLogEntry>,
    /// Number of entries that are counted and not written.
    pub folded: u32,
    /// New alarms that are logged together with earlier ones.
    pub joined_groups: Vec<JoinedGroup>,
}

/// A new alarm that is logged together with earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedGroup {
    /// Id of the new alarm.
    pub alarm: String,
    /// Id of the group.
    pub group: String,
}

/// The alarm of a kind that was cleared last.
#[derive(Clone, Debug)]
pub(crate) struct LastCleared {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) group: String,
    pub(crate) cleared_at: Time,
}

/// Decides which of these entries are written at this server time. `cleared`: of each kind the alarm that was cleared last, before these
/// entries. `burst`: how many may be written at once; 0: there is no limit.
pub(crate) fn write(
    memory: &mut Option<LogShare>,
    entries: Vec<AlarmLogEntry>,
    mut cleared: Vec<LastCleared>,
    now: Time,
    burst: u32,
) -> Written {
    if burst == 0 {
        let counts = write_all(memory, now).into_iter();
        return Written {
            entries: counts.chain(entries).collect(),
            ..Written::default()
        };
    }
    if memory.is_none() && entries.is_empty() {
        return Written::default();
    }
    let full_ms = i64::from(burst) * PER_ENTRY_MS;
    let share = memory.get_or_insert_with(|| LogShare {
        at: now,
        allowance_ms: full_ms,
        alarms: Vec::new(),
        unknown: UnknownFields::default(),
    });
    share.allowance_ms = share.allowance_at(now).min(full_ms);
    share.at = share.at.max(now);
    // Forgotten any sooner, the first entries of an alarm would come again with each entry that is allowed.
    let is_calm = share.allowance_ms >= full_ms / 2;
    let mut written = Written::default();
    share.write_pending(now, &mut written);
    if is_calm {
        share.alarms.retain(|alarm| alarm.pending.is_some());
    }
    for mut entry in entries {
        share.choose_group(&mut entry, &mut cleared, &mut written.joined_groups);
        share.add(entry, now, &mut written);
    }
    if share.allowance_ms >= full_ms && share.next_at().is_none() {
        *memory = None;
    }
    written
}

/// Returns all counts that were not written yet, because the device is retired.
pub(crate) fn write_all(memory: &mut Option<LogShare>, now: Time) -> Vec<AlarmLogEntry> {
    let share = memory.take().into_iter();
    let alarms = share.flat_map(|share| share.alarms);
    let pending = alarms.filter_map(|alarm| alarm.pending);
    pending
        .map(|entry| AlarmLogEntry { at: now, ..*entry })
        .collect()
}

const PER_ENTRY_MS: i64 = 3_600_000;

/// How long after its last alarm was cleared a group takes a new alarm of the same kind.
fn group_is_open_for(kind: Kind) -> Duration {
    match kind {
        // A new release of gas should not look like the last one for long.
        Kind::GasHigh | Kind::GasLow | Kind::OverRange | Kind::UnderRange => {
            Duration::from_hours(1)
        }
        _ => Duration::from_hours(6),
    }
}

impl LogShare {
    fn allowance_at(&self, now: Time) -> i64 {
        let passed_ms = now.millis_since(self.at).max(0);
        self.allowance_ms.saturating_add(passed_ms)
    }

    /// Lets a new alarm join the group of the last one of its kind, if the device has no allowance for another group. Notes in `cleared`
    /// which alarm was cleared last.
    fn choose_group(
        &self,
        entry: &mut AlarmLogEntry,
        cleared: &mut Vec<LastCleared>,
        joined: &mut Vec<JoinedGroup>,
    ) {
        let is_new = entry.begins_group();
        let Some(alarm) = &mut entry.alarm else {
            return;
        };
        let kind = alarm.kind();
        let last = cleared.iter().position(|last| last.kind == kind);
        if is_new
            && self.allowance_ms < PER_ENTRY_MS
            && let Some(last) = last.map(|index| &cleared[index])
            // With the same id it is not new: it is the same alarm, raised again.
            && last.id != alarm.id
            && entry.at.millis_since(last.cleared_at) <= millis(group_is_open_for(kind))
        {
            joined.push(JoinedGroup {
                alarm: alarm.id.clone(),
                group: last.group.clone(),
            });
        }
        if let Some(known) = joined.iter().find(|known| known.alarm == alarm.id) {
            alarm.log_group = Some(known.group.clone());
        }
        if entry.change == Some(ChangeKind::Cleared) {
            if let Some(index) = last {
                cleared.remove(index);
            }
            cleared.push(LastCleared {
                kind,
                id: alarm.id.clone(),
                group: alarm.group_id().to_owned(),
                cleared_at: entry.at,
            });
        }
    }

    /// Returns when counts that wait may be written.
    pub(crate) fn next_at(&self) -> Option<Time> {
        let mut alarms = self.alarms.iter();
        let waits = alarms.any(|alarm| alarm.pending.is_some());
        let missing_ms = (PER_ENTRY_MS - self.allowance_ms).max(0).unsigned_abs();
        waits.then(|| self.at + Duration::from_millis(missing_ms))
    }

    fn spend(&mut self) {
        self.allowance_ms = (self.allowance_ms - PER_ENTRY_MS).max(self.allowance_ms.min(0));
    }

    fn write_pending(&mut self, now: Time, written: &mut Written) {
        while self.allowance_ms >= PER_ENTRY_MS {
            // The counts that have waited longest first, so that an alarm that goes on flapping does not keep back the others.
            let since = |alarm: &FoldedAlarm| Some(alarm.pending.as_ref()?.folded.as_ref()?.since);
            let waiting = self.alarms.iter().enumerate();
            let waiting = waiting.filter_map(|(index, alarm)| Some((since(alarm)?, index)));
            let Some((_, index)) = waiting.min() else {
                return;
            };
            self.write_counts(index, now, written);
        }
    }

    fn write_counts(&mut self, index: usize, now: Time, written: &mut Written) {
        if let Some(entry) = self.alarms[index].pending.take() {
            let is_cleared = |alarm: &Alarm| alarm.cleared_at.is_some();
            let is_cleared = entry.alarm.as_ref().is_some_and(is_cleared);
            let tells_state = !entry.is_late_acknowledgement();
            written.entries.push(AlarmLogEntry { at: now, ..*entry });
            self.spend();
            if tells_state {
                self.alarms[index].shows_cleared = is_cleared;
            }
            if tells_state && is_cleared {
                // The raise that may follow is written, and paid for now.
                self.allowance_ms -= PER_ENTRY_MS;
            }
        }
    }

    fn add(&mut self, entry: AlarmLogEntry, now: Time, written: &mut Written) {
        let Some(alarm) = &entry.alarm else {
            self.spend();
            written.entries.push(entry);
            return;
        };
        let group = alarm.group_id();
        let known = self.alarms.iter().position(|folded| folded.id == group);
        let is_cleared = alarm.cleared_at.is_some();
        let tells_state = !entry.is_late_acknowledgement();
        if self.allowance_ms >= PER_ENTRY_MS {
            if let Some(index) = known.filter(|_| tells_state) {
                self.alarms[index].shows_cleared = is_cleared;
            }
            self.spend();
            written.entries.push(entry);
            return;
        }
        let index = known.unwrap_or_else(|| {
            if self.alarms.len() >= MAX_FOLDED {
                self.write_counts(0, now, written);
                self.alarms.remove(0);
            }
            self.alarms.push(FoldedAlarm {
                id: group.to_owned(),
                written: 0,
                shows_cleared: false,
                pending: None,
                unknown: UnknownFields::default(),
            });
            self.alarms.len() - 1
        });
        let bit = bit(entry.change, alarm);
        let stands_again =
            self.alarms[index].shows_cleared && entry.change == Some(ChangeKind::Raised);
        let is_acknowledgement = entry.change == Some(ChangeKind::Acknowledged);
        let is_owed = is_acknowledgement && self.allowance_ms > -i64::from(MAX_OWED) * PER_ENTRY_MS;
        if self.alarms[index].written & bit == 0 || stands_again || is_owed {
            if is_owed {
                let entries = 1 + i64::from(self.alarms[index].pending.is_some());
                self.allowance_ms -= entries * PER_ENTRY_MS;
            }
            // The last line of a group shows its present state, so the counts are written before it.
            self.write_counts(index, now, written);
            self.alarms[index].written |= bit;
            if tells_state {
                self.alarms[index].shows_cleared = is_cleared;
            }
            written.entries.push(entry);
        } else {
            let pending = self.alarms[index].pending.take();
            self.alarms[index].pending = Some(Box::new(folded(pending, entry)));
            written.folded = written.folded.saturating_add(1);
        }
    }
}

/// Returns the bit of a transition, that of a raise or an escalation for each level.
fn bit(change: Option<ChangeKind>, alarm: &Alarm) -> u32 {
    let level = alarm.condition.level_index().map_or(0, |level| level + 1);
    let number = match change {
        None => 0,
        Some(ChangeKind::Raised) if level == 0 => 1,
        Some(ChangeKind::Raised) => 14 + level,
        Some(ChangeKind::DeEscalated) => 2,
        Some(ChangeKind::Latched) => 3,
        Some(ChangeKind::Unlatched) => 4,
        Some(ChangeKind::Acknowledged) => 5,
        Some(ChangeKind::Returned) => 6,
        Some(ChangeKind::Cleared) => 7,
        Some(ChangeKind::Retired) => 8,
        Some(ChangeKind::Unknown(_)) => 9,
        Some(ChangeKind::Escalated) => 10 + level,
    };
    1 << number
}

/// Adds an entry to the counts before it.
fn folded(before: Option<Box<AlarmLogEntry>>, entry: AlarmLogEntry) -> AlarmLogEntry {
    let is_raise = matches!(
        entry.change,
        Some(ChangeKind::Raised | ChangeKind::Escalated)
    );
    let mut before = before.map(|before| *before);
    let counts = before.as_mut().and_then(|before| before.folded.take());
    let counts = counts.map_or_else(
        || Folded {
            transitions: 0,
            raises: 0,
            since: entry.at,
            until: entry.at,
            peak: None,
            unknown: UnknownFields::default(),
        },
        |counts| *counts,
    );
    let is_late = entry.is_late_acknowledgement();
    let peak = entry.alarm.as_ref().filter(|_| !is_late).map(Peak::of);
    let counts = Folded {
        transitions: counts.transitions.saturating_add(1),
        raises: counts.raises.saturating_add(u32::from(is_raise)),
        until: entry.at,
        peak: match (counts.peak, peak) {
            (Some(before), Some(new)) => Some(before.higher(new)),
            (before, new) => before.or(new),
        },
        ..counts
    };
    let Some(before) = before else {
        return counts.into_entry(entry);
    };
    let seen = entry.seen.max(before.seen);
    let is_newest = entry.by.is_some() && entry.seen >= before.seen || before.by.is_none();
    let of = if is_newest { &entry } else { &before };
    let (by, note) = (of.by.clone(), of.note.clone());
    // An alarm of the group that is newer than the one acknowledged may stand.
    let last = if is_late { before } else { entry };
    counts.into_entry(AlarmLogEntry {
        by,
        note,
        seen,
        ..last
    })
}

#[cfg(test)]
mod tests;

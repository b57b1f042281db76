//! What the index needs to know of one entry.

use std::hash::BuildHasher;

use shared::alarm::{ChangeKind, Condition, Severity};
use shared::clock::Time;
use shared::device::DeviceId;
use shared::store::LoggedEntry;

/// An entry that can be read and is about a device that can be read.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) device: DeviceId,
    /// `None`: the device was retired.
    pub(super) alarm: Option<AlarmFacts>,
}

/// A transition of an alarm, or several.
#[derive(Debug)]
pub(super) struct AlarmFacts {
    /// Hash of device and alarm. Alarms that are logged together are one.
    pub(super) key: u64,
    /// There are no earlier entries of the group.
    pub(super) begins_group: bool,
    /// It says nothing about the present state of the group.
    pub(super) is_late_acknowledgement: bool,
    /// The seq that it acknowledges.
    pub(super) seen: Option<u64>,
    pub(super) row: Option<RowFacts>,
}

/// The entry is a row.
#[derive(Debug)]
pub(super) struct RowFacts {
    pub(super) at: Time,
    pub(super) condition: Condition,
    pub(super) severity: Severity,
    pub(super) reached: u64,
    pub(super) stands_for: u32,
}

impl Facts {
    /// Returns `None` for an entry that changes nothing. The rules are those of `LogFold`.
    pub(super) fn of(logged: LoggedEntry, hasher: &impl BuildHasher) -> Option<Self> {
        let device: DeviceId = logged.device.parse().ok()?;
        let entry = logged.entry.ok()?;
        let seen = entry.acknowledgement().map(|(_, seen)| seen);
        let begins_group = entry.begins_group();
        let is_late_acknowledgement = entry.is_late_acknowledgement();
        let Some(alarm) = entry.alarm else {
            let is_retirement = entry.change == Some(ChangeKind::Retired);
            return is_retirement.then_some(Self {
                device,
                alarm: None,
            });
        };
        let key = hasher.hash_one((&device, alarm.group_id()));
        let own = RowFacts {
            at: entry.at,
            condition: alarm.condition,
            severity: alarm.severity(),
            reached: alarm.reached.seq,
            stands_for: 1,
        };
        let (seen, row) = match (entry.folded, entry.change) {
            (Some(folded), _) if folded.raises == 0 => (seen, None),
            (Some(folded), _) => {
                let peak = folded.peak.as_ref().map(|peak| peak.condition);
                let row = RowFacts {
                    at: folded.until,
                    condition: peak.unwrap_or(own.condition),
                    severity: peak.map_or(own.severity, Condition::severity),
                    stands_for: folded.raises,
                    ..own
                };
                (seen, Some(row))
            }
            (None, Some(ChangeKind::Raised | ChangeKind::Escalated)) => (None, Some(own)),
            (None, Some(ChangeKind::Acknowledged)) => (seen, None),
            (None, _) => (None, None),
        };
        let alarm = AlarmFacts {
            key,
            begins_group,
            is_late_acknowledgement,
            seen,
            row,
        };
        Some(Self {
            device,
            alarm: Some(alarm),
        })
    }
}

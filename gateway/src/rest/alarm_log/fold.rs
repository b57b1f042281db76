//! Turns the transitions of the alarm log into the rows that clients read. A row is a raise or an escalation, and shows what
//! happened to its alarm later.

use std::collections::HashMap;

use serde::Serialize;
use shared::alarm::{Alarm, AlarmState, ChangeKind, Condition, Severity};
use shared::alarm_log::Folded;
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::event::{iso, iso_option};
use shared::store::LoggedEntry;

/// One row, with its fields in the order of the answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LogRow {
    pub(crate) device_id: DeviceId,
    pub(crate) device_name: String,
    pub(crate) serial_number: DeviceId,
    pub(crate) alarm_type: Condition,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) threshold: Option<Decimal>,
    pub(crate) current_value: Option<Decimal>,
    pub(crate) unit: String,
    pub(crate) gas_type: String,
    #[serde(serialize_with = "iso")]
    pub(crate) timestamp: Time,
    pub(crate) acknowledged: bool,
    #[serde(serialize_with = "iso_option")]
    pub(crate) acknowledged_at: Option<Time>,
    pub(crate) acknowledged_by: Option<String>,
    pub(crate) id: String,
    /// The same as `id`: rows of the replaced system had one name or the other.
    #[serde(rename = "_id")]
    pub(crate) stored_id: String,
    pub(crate) alarm_id: String,
    /// Id of the first of the alarms that are logged together, because the device had written its share of the log. Absent for all
    /// others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_alarm_id: Option<String>,
    /// The present state of the alarm, on each of its rows. Of several that are logged together, that of the newest.
    pub(crate) state: AlarmState,
    #[serde(serialize_with = "iso_option")]
    pub(crate) cleared_at: Option<Time>,
    /// The device's own time of the reading that caused the row, as received.
    pub(crate) reading_timestamp: Option<String>,
    /// What the person wrote beside the acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) acknowledged_note: Option<String>,
    /// The row stands for several, because the device had written its share of the log. Absent for all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) folded: Option<FoldedRows>,
}

/// What a row stands for. The other fields of the row are the worst of the alarm within that time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct FoldedRows {
    /// Number of raises and escalations: the rows there would have been.
    pub(crate) rows: u32,
    /// Number of all transitions.
    pub(crate) transitions: u32,
    #[serde(serialize_with = "iso")]
    pub(crate) since: Time,
    #[serde(serialize_with = "iso")]
    pub(crate) until: Time,
}

/// Folds the transitions of one partition, newest first, into rows.
///
/// Its memory is bounded by the length of the log: an alarm is forgotten once its first raise was read, since it has no earlier
/// transition. Alarms that are logged together ([`Alarm::group_id`]) are folded as one.
#[derive(Debug, Default)]
pub(crate) struct LogFold {
    /// The alarms whose first raise was not read yet, by the id of the first that is logged together with them. By device too: in
    /// earlier releases, two devices may have alarms with the same id.
    later: HashMap<(DeviceId, String), LaterTransitions>,
    /// When a device was retired next. That closed the alarms it had raised before, even those that the retirement did not
    /// list because the device's state was lost.
    retired: HashMap<DeviceId, Time>,
}

/// The later history of an alarm, from the transitions read so far.
#[derive(Debug)]
struct LaterTransitions {
    state: AlarmState,
    cleared_at: Option<Time>,
    /// Only late acknowledgements were read so far. They may be of an earlier alarm than the newest.
    is_preliminary: bool,
    /// Newest first.
    acknowledgements: Vec<LoggedAcknowledgement>,
}

#[derive(Debug)]
struct LoggedAcknowledgement {
    by: String,
    note: Option<String>,
    at: Time,
    /// Number of the position that the person had seen.
    seen_seq: u64,
}

impl LaterTransitions {
    fn of(alarm: &Alarm, retired_at: Option<Time>) -> Self {
        let (state, cleared_at) = state_of(alarm, retired_at);
        Self {
            state,
            cleared_at,
            is_preliminary: true,
            acknowledgements: Vec::new(),
        }
    }
}

/// Returns the state of an alarm after this transition, and when it was cleared.
fn state_of(alarm: &Alarm, retired_at: Option<Time>) -> (AlarmState, Option<Time>) {
    let state = match retired_at {
        Some(_) => AlarmState::Cleared,
        None => alarm.state(),
    };
    (state, alarm.cleared_at.or(retired_at))
}

impl LogFold {
    /// Adds the next older transition. A raise or an escalation becomes a row.
    pub(crate) fn add(&mut self, logged: LoggedEntry) -> Option<LogRow> {
        let device: DeviceId = logged.device.parse().ok()?;
        let entry = logged.entry.ok()?;
        let acknowledgement = entry
            .acknowledgement()
            .map(|(by, seen_seq)| LoggedAcknowledgement {
                by: by.to_owned(),
                note: entry.note.clone(),
                at: entry
                    .folded
                    .as_ref()
                    .map_or(entry.at, |folded| folded.until),
                seen_seq,
            });
        let is_late = entry.is_late_acknowledgement();
        let begins_group = entry.begins_group();
        let Some(alarm) = entry.alarm else {
            if entry.change == Some(ChangeKind::Retired) {
                self.retired.insert(device, entry.at);
            }
            return None;
        };
        let key = (device.clone(), alarm.group_id().to_owned());
        let retired_at = self.retired.get(&device).copied();
        let later = self
            .later
            .entry(key.clone())
            .or_insert_with(|| LaterTransitions::of(&alarm, retired_at));
        if later.is_preliminary {
            (later.state, later.cleared_at) = state_of(&alarm, retired_at);
            later.is_preliminary = is_late;
        }
        let folded = entry.folded;
        match entry.change {
            _ if let Some(folded) = &folded => {
                later.acknowledgements.extend(acknowledgement);
                if folded.raises == 0 {
                    return None;
                }
            }
            Some(ChangeKind::Raised | ChangeKind::Escalated) => {}
            Some(ChangeKind::Acknowledged) => {
                later.acknowledgements.extend(acknowledgement);
                return None;
            }
            _ => return None,
        }
        // The first acknowledgement that covers this level counts.
        let reached = alarm.reached.seq;
        let covers = |found: &&LoggedAcknowledgement| found.seen_seq >= reached;
        let first = later.acknowledgements.iter().rev().find(covers);
        let severity = alarm.severity();
        let mut row = LogRow {
            severity,
            device_id: device.clone(),
            device_name: alarm.device_name,
            serial_number: device,
            alarm_type: alarm.condition,
            message: alarm.message,
            threshold: alarm.threshold,
            current_value: alarm.value,
            unit: alarm.unit,
            gas_type: alarm.gas_type,
            timestamp: entry.at,
            acknowledged: first.is_some(),
            acknowledged_at: first.map(|first| first.at),
            acknowledged_by: first.map(|first| first.by.clone()),
            id: logged.id.clone(),
            stored_id: logged.id,
            alarm_id: alarm.id,
            first_alarm_id: alarm.log_group,
            state: later.state,
            cleared_at: later.cleared_at,
            reading_timestamp: alarm.reading_timestamp,
            acknowledged_note: first.and_then(|first| first.note.clone()),
            folded: None,
        };
        if let Some(folded) = folded {
            let Folded { since, until, .. } = *folded;
            row.timestamp = until;
            row.folded = Some(FoldedRows {
                rows: folded.raises,
                transitions: folded.transitions,
                since,
                until,
            });
            if let Some(peak) = folded.peak {
                row.severity = peak.condition.severity();
                row.alarm_type = peak.condition;
                row.message = peak.message;
                row.threshold = peak.threshold;
                row.current_value = peak.value;
            }
            return Some(row);
        }
        // A later raise of the same alarm continues it after it was cleared.
        if begins_group {
            self.later.remove(&key);
        }
        Some(row)
    }
}

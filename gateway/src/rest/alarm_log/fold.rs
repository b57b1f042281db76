//! The alarm log keeps transitions; clients read rows. A row is a raise or an escalation, and what happened to its
//! alarm later shows on it.

use std::collections::HashMap;

use serde::Serialize;
use shared::alarm::{AlarmState, ChangeKind, Condition, Severity};
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::event::{iso, iso_option};
use shared::store::LoggedEntry;

/// One row of the contract (section 3), in its order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
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
    /// Rows of the original's database carried their id so.
    #[serde(rename = "_id")]
    pub(crate) stored_id: String,
    pub(crate) alarm_id: String,
    /// Where the alarm stands now, whichever of its rows this is.
    pub(crate) state: AlarmState,
    #[serde(serialize_with = "iso_option")]
    pub(crate) cleared_at: Option<Time>,
}

/// Folds the transitions of one partition, taken newest first, into rows.
///
/// What it remembers is bounded by the log itself: an alarm is forgotten at its raise, before which it has nothing.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    /// By device too: serials that differ in a character that ids cannot hold may share an id.
    later: HashMap<(DeviceId, String), Later>,
    /// When a device was retired next: what it had raised before is over then, also where its lost state could not tell.
    retired: HashMap<DeviceId, Time>,
}

/// What is known of an alarm from transitions after the one being read.
#[derive(Debug)]
struct Later {
    state: AlarmState,
    cleared_at: Option<Time>,
    /// Newest first.
    acknowledgements: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    by: String,
    at: Time,
    seq: u64,
}

impl Fold {
    /// Takes the next older transition; a raise or an escalation becomes a row.
    pub(crate) fn take(&mut self, logged: LoggedEntry) -> Option<Row> {
        let device: DeviceId = logged.device.parse().ok()?;
        let entry = logged.entry.ok()?;
        let acknowledgement = entry.acknowledgement().map(|(by, seq)| Seen {
            by: by.to_owned(),
            at: entry.at,
            seq,
        });
        let Some(alarm) = entry.alarm else {
            if entry.change == Some(ChangeKind::Retired) {
                self.retired.insert(device, entry.at);
            }
            return None;
        };
        let key = (device.clone(), alarm.id.clone());
        let retired_at = self.retired.get(&device).copied();
        let later = self.later.entry(key.clone()).or_insert_with(|| {
            let cleared_at = alarm.cleared_at.or(retired_at);
            let state = match retired_at {
                Some(_) => AlarmState::Cleared,
                None => alarm.state(),
            };
            Later {
                state,
                cleared_at,
                acknowledgements: Vec::new(),
            }
        });
        match entry.change {
            Some(ChangeKind::Raised | ChangeKind::Escalated) => {}
            Some(ChangeKind::Acknowledged) => {
                later.acknowledgements.extend(acknowledgement);
                return None;
            }
            _ => return None,
        }
        // The first to acknowledge this level keeps name and time: the oldest that had seen it.
        let reached = alarm.reached.seq;
        let covers = |seen: &&Seen| seen.seq >= reached;
        let seen = later.acknowledgements.iter().rev().find(covers);
        let row = Row {
            device_id: device.clone(),
            device_name: alarm.device_name,
            serial_number: device,
            alarm_type: alarm.condition,
            severity: alarm.condition.severity(),
            message: alarm.message,
            threshold: alarm.threshold,
            current_value: alarm.value,
            unit: alarm.unit,
            gas_type: alarm.gas_type,
            timestamp: entry.at,
            acknowledged: seen.is_some(),
            acknowledged_at: seen.map(|seen| seen.at),
            acknowledged_by: seen.map(|seen| seen.by.clone()),
            id: logged.id.clone(),
            stored_id: logged.id,
            alarm_id: alarm.id,
            state: later.state,
            cleared_at: later.cleared_at,
        };
        if entry.change == Some(ChangeKind::Raised) {
            self.later.remove(&key);
        }
        Some(row)
    }
}

//! The two fields of a device's hash that hold its alarms.
//!
//! Releases before 0.2 read `alarms` alone. They know one gas alarm per device and fewer conditions, and would end an alarm that only
//! waits for its acknowledgement or for calm. So `alarms` has only what they handle well, and `more` has the rest, which they
//! leave as it is.

use serde::{Deserialize, Serialize};

use super::earlier_writes::{Context, complete};
use crate::alarm::Alarm;
use crate::rules::earlier_release;
use crate::state::{ClosedAlarm, DeviceState, Latest};

/// The field `more`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::store) struct MoreAlarms {
    /// Open alarms that earlier releases do not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::store) alarms: Vec<Alarm>,
    /// Alarms that were cleared a short while ago.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::store) closed: Vec<ClosedAlarm>,
}

/// Returns the contents of both fields.
pub(in crate::store) fn split(state: &DeviceState) -> (Vec<&Alarm>, MoreAlarms) {
    let mut has_gas = false;
    let (alarms, more) = state.alarms.iter().partition(|alarm: &&Alarm| {
        let is_handled = earlier_release::handles(alarm);
        let is_second_side = alarm.kind().is_gas() && has_gas;
        has_gas |= is_handled && alarm.kind().is_gas();
        is_handled && !is_second_side
    });
    let more: Vec<&Alarm> = more;
    let more = MoreAlarms {
        alarms: more.into_iter().cloned().collect(),
        closed: state.closed.clone(),
    };
    (alarms, more)
}

/// Returns the alarms of both fields, oldest first.
pub(in crate::store) fn join(
    mut alarms: Vec<Alarm>,
    more: MoreAlarms,
    latest: Option<&Latest>,
) -> Vec<Alarm> {
    let context = Context {
        latest,
        ..Context::default()
    };
    for alarm in &mut alarms {
        complete(alarm, context);
    }
    alarms.extend(more.alarms);
    alarms.sort_by(|a, b| (a.raised_at, &a.id).cmp(&(b.raised_at, &b.id)));
    alarms
}

#[cfg(test)]
pub(crate) mod tests;

//! The two fields of a device's hash that hold its alarms.
//!
//! Releases before 0.2 read `alarms` alone. They know one gas alarm per device and fewer conditions, and would end an alarm that only
//! waits for its acknowledgement or for calm. So `alarms` has only what they handle well, and `more` has the rest, which they
//! leave as it is.

use serde::{Deserialize, Serialize};

use crate::alarm::{ActiveLevel, Alarm, GasSide, Kind};
use crate::reading::Side;
use crate::rules::levels;
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
        let is_known = is_known_to_earlier_releases(alarm);
        let is_second_side = alarm.kind().is_gas() && has_gas;
        has_gas |= is_known && alarm.kind().is_gas();
        is_known && !is_second_side
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
    alarms: Vec<Alarm>,
    more: MoreAlarms,
    latest: Option<&Latest>,
) -> Vec<Alarm> {
    let mut joined: Vec<Alarm> = alarms.into_iter().chain(more.alarms).collect();
    for alarm in &mut joined {
        complete_side(alarm, latest);
    }
    joined.sort_by(|a, b| (a.raised_at, &a.id).cmp(&(b.raised_at, &b.id)));
    joined
}

/// An alarm whose level an earlier release has set takes the side of that level.
fn complete_side(alarm: &mut Alarm, latest: Option<&Latest>) {
    let Some(index) = alarm.condition.level_index() else {
        return;
    };
    if alarm.gas_side.is_none_or(|gas| gas.of != alarm.condition) {
        let side = latest.map_or(Side::High, |latest| latest.sides[index]);
        alarm.gas_side = Some(GasSide {
            side,
            of: alarm.condition,
        });
    }
}

fn is_known_to_earlier_releases(alarm: &Alarm) -> bool {
    let kind = alarm.kind();
    let is_unknown_word = matches!(kind, Kind::Unknown(_));
    if !kind.is_known_to_earlier_releases() {
        return is_unknown_word;
    }
    if !levels::KINDS.contains(&kind) {
        return alarm.is_active();
    }
    // Of a returned level they keep only a latched gas level.
    let stays = |level: &ActiveLevel| !level.returned || (level.latching && kind.is_gas());
    alarm.active_levels.iter().flatten().any(stays)
}

#[cfg(test)]
pub(crate) mod tests;

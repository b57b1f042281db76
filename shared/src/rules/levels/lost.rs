//! Standing levels that a reading would end by its settings instead of its value.
//!
//! A setting that comes for the first time is no change of a setting. Neither is one that could not be read before. But an alarm
//! may stand by what was assumed instead, such as a default level. So the loss of its level is reported like a change. A deadband that was
//! assumed is no loss: it is only our guess of the detector's hysteresis.

use super::Alarms;
use crate::alarm::{ActiveLevel, Alarm, Kind, SettingChange};
use crate::reading::Side;
use crate::rules::limits::{Limit, Limits};

impl Limits {
    fn at(&self, kind: Kind, index: usize, side: Side) -> Option<Limit> {
        if kind == Kind::OverRange {
            return self.range.filter(|_| index == 0);
        }
        let limit = self.gas.get(index).copied();
        limit.filter(|limit| limit.is_on(side))
    }
}

impl Alarms<'_> {
    /// Returns an alarm that has an active level of gas or of the measuring range.
    #[must_use]
    pub fn with_active_level(&self) -> Option<&Alarm> {
        let mut alarms = Kind::WITH_LEVELS.iter().filter_map(|kind| self.get(*kind));
        alarms.find(|alarm| alarm.active_levels.iter().any(Option::is_some))
    }

    /// Returns the settings by which a reading loses levels that are active. `before`: the limits of the reading before it, if what
    /// that one had lost is reported already.
    #[must_use]
    pub fn lost_levels(&self, before: Option<&Limits>, now: &Limits) -> Vec<SettingChange> {
        let mut lost = Vec::new();
        for alarm in Kind::WITH_LEVELS.iter().filter_map(|kind| self.get(*kind)) {
            let kind = alarm.kind();
            for (index, level) in alarm.active_levels.iter().enumerate() {
                let Some(level) = level else { continue };
                if level.returned && !level.latching {
                    continue;
                }
                let side = level.side.unwrap_or(alarm.side());
                let loses_by = |limits: &Limits| {
                    let limit = limits.at(kind, index, side);
                    let other = limits.gas.get(index).filter(|limit| limit.used);
                    loss_of(level, (kind, index, side), limit, other)
                };
                if before.and_then(loses_by).is_none() {
                    lost.extend(loses_by(now));
                }
            }
        }
        lost
    }
}

/// Returns the setting by which an active level is lost. `limit`: the present limit on the side of the level. `other`: the present limit
/// of this level on either side.
fn loss_of(
    level: &ActiveLevel,
    (kind, index, side): (Kind, usize, Side),
    limit: Option<Limit>,
    other: Option<&Limit>,
) -> Option<SettingChange> {
    let stored = level.stored_limit(side)?;
    let name = |what: &str| format!("A{} {what}", index + 1);
    let change = |field: String, before: String, after: String| {
        Some(SettingChange {
            field,
            before,
            after,
            between: None,
        })
    };
    let level_name = || match kind {
        Kind::OverRange => "span high".to_owned(),
        _ => name("level"),
    };
    let Some(limit) = limit else {
        return match other.filter(|_| kind != Kind::OverRange) {
            Some(other) => change(name("type"), side.to_string(), other.side.to_string()),
            None => change(level_name(), stored.level.to_string(), "unused".to_owned()),
        };
    };
    if stored.is_reached_later_by(limit) {
        return change(
            level_name(),
            stored.level.to_string(),
            limit.level.to_string(),
        );
    }
    if level.latching && limit.latching == Some(false) {
        return change(name("latching"), "on".to_owned(), "off".to_owned());
    }
    None
}

//! Alarms while a release with earlier rules works on the same devices, as during a rolling upgrade.
//!
//! Such a release has one gas alarm per device and fewer conditions. It would end an alarm that only waits for its
//! acknowledgement or for calm. So the alarms that it does not handle well are stored where it leaves them alone, and new ones of
//! them are held back while it is at work. Nothing is lost by that: an alarm that would become one of them goes on standing, and
//! the device is shown in `ALARM` if a danger is held back.

use super::Alarms;
use crate::alarm::{ActiveLevel, Alarm, Change, ChangeKind, Condition, Kind};

/// Whether a release with earlier rules handles this alarm as it should, if it is the only gas alarm of the device.
#[must_use]
pub fn handles(alarm: &Alarm) -> bool {
    let kind = alarm.kind();
    if !kind.is_known_to_earlier_releases() {
        return matches!(kind, Kind::Unknown(_));
    }
    if alarm.returned || alarm.ceased {
        return false;
    }
    // Of a returned level they keep only a latched gas level.
    let stays = |level: &ActiveLevel| !level.returned || (level.latching && kind.is_gas());
    !kind.has_levels() || alarm.active_levels.iter().flatten().any(stays)
}

impl Alarms<'_> {
    /// Holds back what an earlier release does not know, if one works on the same devices.
    #[must_use]
    pub fn beside_earlier_release(mut self, is_at_work: bool) -> Self {
        self.earlier_release_at_work = is_at_work;
        let unhandled = self.open.iter().filter(|alarm| !handles(alarm));
        self.unhandled = unhandled.map(|alarm| alarm.id.clone()).collect();
        self
    }

    /// Whether an alarm of a danger was not raised, because an earlier release is at work.
    #[must_use]
    pub fn has_held_back_danger(&self) -> bool {
        self.has_held_back_danger
    }

    /// Whether changed settings are not reported now. They must not be learnt then, so that they are reported later.
    #[must_use]
    pub fn holds_back_settings(&self) -> bool {
        self.earlier_release_at_work && self.get(Kind::SettingChanged).is_none()
    }

    /// Whether a new alarm of this kind must not be raised now.
    pub(super) fn holds_back(&self, kind: Kind) -> bool {
        let mut handled = self.open.iter().filter(|alarm| handles(alarm));
        let is_second_side = kind.is_gas() && handled.any(|alarm| alarm.kind().is_gas());
        self.earlier_release_at_work && (!kind.is_known_to_earlier_releases() || is_second_side)
    }

    /// Whether the alarm must not become one that an earlier release does not handle.
    pub(super) fn must_stay_handled(&self, alarm: &Alarm) -> bool {
        self.earlier_release_at_work && !self.unhandled.contains(&alarm.id)
    }

    /// Merges alarms of one kind: an earlier release may have raised one beside one that it could not see. The one that stands
    /// goes on, of several the one with the highest level, and of those the oldest. It takes over what is known of the others.
    pub(super) fn merge_doubles(&mut self) {
        let mut index = 0;
        while index < self.open.len() {
            let double = &self.open[index];
            let better = self.open.iter().position(|other| is_better(other, double));
            let Some(better) = better else {
                index += 1;
                continue;
            };
            let double = double.clone();
            let position = self.moment.position;
            let other = &mut self.open[better];
            let was_acknowledged = other.acknowledged.is_some();
            take_over(other, &double);
            if was_acknowledged && other.acknowledged.is_none() {
                other.reached = position;
                let alarm = other.clone();
                self.changes.push(Change {
                    kind: ChangeKind::Escalated,
                    alarm,
                });
            }
            self.change_at(index, ChangeKind::Cleared, |_| ());
            // The merged alarm continues under its own id. A raise must not continue the other one.
            self.closed.retain(|closed| closed.id != double.id);
        }
    }
}

/// Whether both alarms are of one kind, and the first one goes on if they are merged.
fn is_better(other: &Alarm, alarm: &Alarm) -> bool {
    let stands = |alarm: &Alarm| alarm.is_active() && !alarm.latched;
    let rank = |alarm: &Alarm| (stands(alarm), alarm.condition.level_index());
    other.id != alarm.id
        && other.kind() == alarm.kind()
        && !matches!(alarm.kind(), Kind::Unknown(_))
        && (rank(other), alarm.raised_at, &alarm.id) > (rank(alarm), other.raised_at, &other.id)
}

/// Adds what is known of another alarm of the same kind, which ends.
fn take_over(alarm: &mut Alarm, double: &Alarm) {
    if alarm.is_active() && double.is_active() {
        let length = alarm.active_levels.len().max(double.active_levels.len());
        alarm.active_levels.resize(length, None);
        for (level, other) in alarm.active_levels.iter_mut().zip(&double.active_levels) {
            *level = merged_level(level.take(), other.clone());
        }
    }
    let higher = |known: &Option<_>, other: &Option<_>| other > known;
    let index = |alarm: &Alarm| alarm.peak.and_then(Condition::level_index);
    if higher(&index(alarm), &index(double)) {
        alarm.peak = double.peak;
        alarm.peak_value = double.peak_value;
    }
    let remembered = |alarm: &Alarm| {
        let remembered = alarm.remembered?;
        remembered.condition.level_index()
    };
    if higher(&remembered(alarm), &remembered(double)) {
        alarm.remembered = double.remembered;
    }
    // In doubt nobody has seen it.
    if double.acknowledged.is_none() {
        alarm.acknowledged = None;
    }
    alarm.count = alarm.count.max(double.count);
    alarm.last_active = alarm.last_active.max(double.last_active);
}

/// Of one level in two alarms: it stays active as long as either says.
fn merged_level(level: Option<ActiveLevel>, other: Option<ActiveLevel>) -> Option<ActiveLevel> {
    let (level, other) = match (level, other) {
        (Some(level), Some(other)) => (level, other),
        (level, other) => return level.or(other),
    };
    let latching = level.latching || other.latching;
    let reached_at = level.reached_at.max(other.reached_at);
    let kept = if level.returned { other } else { level };
    Some(ActiveLevel {
        reached_at,
        latching,
        ..kept
    })
}

//! Changed settings of a detector: levels, sides, latching, hysteresis, span, unit, gas, decimal point.
//!
//! A setting is compared with the value the detector sent last. A key that is absent, or comes for the first time, changes
//! nothing: the two payload formats may alternate. Until somebody acknowledges the change, nothing is lowered by it.

use std::fmt::Display;

use super::{AlarmDetails, Alarms, NewAlarm, chatter};
use crate::alarm::{ChangeKind, Condition, Kind, SettingChange};
use crate::decimal::Decimal;
use crate::reading::{PayloadFacts, Reading, Side, UNKNOWN_UNIT};
use crate::state::DeviceMemory;

/// Names of the settings that decide what a value means.
const UNIT: &str = "unit";
const GAS: &str = "gas";
const DECIMAL_POINT: &str = "decimal point";

/// How values were read of a device that did not say it.
#[derive(Clone, Copy, Debug)]
pub struct Assumed<'a> {
    /// The unit.
    pub unit: &'a str,
    /// The `Decimal Point`.
    pub decimal_point: Decimal,
}

/// Remembers the settings that a reading in order has sent. Returns those that changed. `keeps_changed`: a changed setting is not
/// learnt, so that it is a change again with the next reading. `assumed`: how the values were read by which alarms stand.
pub fn learn(
    memory: &mut DeviceMemory,
    reading: &Reading,
    facts: &PayloadFacts,
    keeps_changed: bool,
    assumed: Option<Assumed<'_>>,
) -> Vec<SettingChange> {
    let mut changes = Changes {
        list: Vec::new(),
        keeps_changed,
    };
    for (index, setting) in reading.levels.iter().enumerate() {
        let name = |what: &'static str| move || format!("A{} {what}", index + 1);
        changes.note(&mut memory.levels[index], setting.level, name("level"));
        changes.note(&mut memory.sides[index], setting.side, name("type"));
        let latching = &mut memory.latching[index];
        *latching = latching.map(as_switch);
        let sent = setting.latching.map(as_switch);
        changes.note_as(latching, sent, name("latching"), |flag| {
            switch_text(*flag).to_owned()
        });
        let hysteresis = &mut memory.hysteresis[index];
        changes.note(hysteresis, setting.hysteresis, name("hysteresis"));
    }
    let [low, high] = &mut memory.span;
    changes.note(low, reading.span_low, || "span low".to_owned());
    changes.note(high, reading.span_high, || "span high".to_owned());
    let point = Some(reading.decimal_point).filter(|_| facts.decimal_point_sent);
    if point.is_some() {
        let known = &mut memory.decimal_point;
        *known = known.or_else(|| assumed.map(|assumed| assumed.decimal_point));
        changes.note(known, point, || DECIMAL_POINT.to_owned());
    }
    if facts.unit_sent {
        let known = &mut memory.unit;
        let assumed = assumed.map(|assumed| assumed.unit);
        let assumed = assumed.filter(|unit| *unit != UNKNOWN_UNIT);
        *known = known.take().or_else(|| assumed.map(str::to_owned));
        let unit = spelled_as_before(&reading.unit, known.as_deref());
        changes.note(known, Some(unit), || UNIT.to_owned());
    }
    if facts.gas_sent {
        let known = &mut memory.gas;
        let gas = spelled_as_before(&reading.gas_type, known.as_deref());
        changes.note(known, Some(gas), || GAS.to_owned());
    }
    changes.list
}

/// Returns the text as it was spelled before, if only case or blanks differ.
fn spelled_as_before(text: &str, before: Option<&str>) -> String {
    let letters = |text: &str| -> String {
        let letters = text.chars().filter(|letter| !letter.is_whitespace());
        letters.flat_map(char::to_lowercase).collect()
    };
    let same = before.filter(|before| *before == text || letters(before) == letters(text));
    same.unwrap_or(text.trim()).to_owned()
}

/// The changes found so far.
struct Changes {
    list: Vec<SettingChange>,
    /// Changed settings keep their earlier value in the memory.
    keeps_changed: bool,
}

impl Changes {
    /// Remembers a setting that was sent, and notes it if it is another one.
    fn note<T: PartialEq + Display>(
        &mut self,
        known: &mut Option<T>,
        sent: Option<T>,
        name: impl FnOnce() -> String,
    ) {
        self.note_as(known, sent, name, T::to_string);
    }

    fn note_as<T: PartialEq>(
        &mut self,
        known: &mut Option<T>,
        sent: Option<T>,
        name: impl FnOnce() -> String,
        text: impl Fn(&T) -> String,
    ) {
        let Some(sent) = sent else { return };
        if let Some(before) = known.as_ref()
            && *before != sent
        {
            self.list.push(SettingChange {
                field: name(),
                before: text(before),
                after: text(&sent),
                between: None,
            });
            if self.keeps_changed {
                return;
            }
        }
        *known = Some(sent);
    }
}

/// A flag of 1 or more is 1, any other 0.
fn as_switch(flag: Decimal) -> Decimal {
    Decimal::from_int(i32::from(flag >= Decimal::from_int(1)))
}

/// How a flag is shown in a message.
fn switch_text(flag: Decimal) -> &'static str {
    if as_switch(flag) == Decimal::ZERO {
        "off"
    } else {
        "on"
    }
}

impl Alarms<'_> {
    /// Raises the alarm of changed settings, or adds the changes to the open one.
    pub fn settings_changed(&mut self, changes: Vec<SettingChange>, details: AlarmDetails<'_>) {
        if changes.is_empty() {
            return;
        }
        if self.holds_back_settings() {
            self.settings_held_back = changes;
            return;
        }
        let (moment, calm) = (self.moment, self.chatter_calm);
        let Some(open) = self.get(Kind::SettingChanged) else {
            let new = NewAlarm {
                condition: Condition::SettingChanged,
                side: Side::High,
                message: message(&changes),
                threshold: None,
            };
            self.raise(new, details, |alarm| alarm.settings = changes);
            return;
        };
        let mut settings = open.settings.clone();
        let is_listed = |change: &SettingChange| {
            let mut listed = open.settings.iter();
            listed.any(|known| known.field == change.field)
        };
        let has_news = !changes.iter().all(is_listed);
        for change in changes {
            let known = settings
                .iter_mut()
                .find(|known| known.field == change.field);
            match known {
                Some(known) => change_again(known, change.after),
                None => settings.push(change),
            }
        }
        // Two detectors with one serial would change the same settings with every message.
        let is_reported = has_news || !chatter::chatters(open, moment.taken_at);
        let edit = |alarm: &mut crate::alarm::Alarm| {
            alarm.message = message(&settings);
            alarm.settings = settings;
            chatter::count(alarm, moment, calm);
        };
        if is_reported {
            self.change(Kind::SettingChanged, ChangeKind::Escalated, |alarm| {
                edit(alarm);
                alarm.changed_at = moment.now;
                alarm.reached = moment.position;
                alarm.acknowledged = None;
            });
        } else {
            self.adjust(Kind::SettingChanged, |alarm| {
                edit(alarm);
                alarm.count = alarm.count.saturating_add(1);
            });
        }
    }

    /// Whether settings changed and nobody has acknowledged it.
    #[must_use]
    pub fn has_changed_settings(&self) -> bool {
        self.get(Kind::SettingChanged).is_some() || !self.settings_held_back.is_empty()
    }

    /// Whether values now mean something else than before, since unit, gas or decimal point changed and nobody has acknowledged it.
    #[must_use]
    pub fn has_changed_quantity(&self) -> bool {
        // Even if it has changed back: an alarm may have been raised in between.
        let is_other =
            |change: &SettingChange| [UNIT, GAS, DECIMAL_POINT].contains(&change.field.as_str());
        let open = self.get(Kind::SettingChanged);
        let reported = open.into_iter().flat_map(|alarm| &alarm.settings);
        reported.chain(&self.settings_held_back).any(is_other)
    }
}

/// Notes a further change of the same setting.
fn change_again(known: &mut SettingChange, after: String) {
    let last = std::mem::replace(&mut known.after, after);
    if known.after != known.before {
        known.between = None;
    } else if last != known.before {
        known.between = Some(last);
    }
}

fn message(changes: &[SettingChange]) -> String {
    let parts = changes.iter().map(|change| {
        let SettingChange {
            field,
            before,
            after,
            between,
        } = change;
        match between {
            Some(between) => format!("{field} {before} to {between} and back to {after}"),
            None => format!("{field} {before} to {after}"),
        }
    });
    let list: Vec<String> = parts.collect();
    format!("Detector setting changed: {}", list.join(", "))
}

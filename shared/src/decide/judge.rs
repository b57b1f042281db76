//! What one reading says, and what it may change.

use std::sync::Arc;

use super::last_known;
use crate::alarm::Condition;
use crate::clock::Time;
use crate::decimal::Decimal;
use crate::forward::UnknownFields;
use crate::reading::{PayloadFacts, Reading, Repair, Side};
use crate::rules::Alarms;
use crate::rules::levels::{self, Evidence};
use crate::rules::limits::{BelowRange, Levels, Limits, below_range, range_limit};
use crate::rules::sensor::{Finding, Text};
use crate::settings::AlarmSettings;
use crate::state::{DeviceMemory, Latest};

/// So many messages in a row that all need the same unimportant repairs show a habit of the firmware, not a broken detector.
const HABIT: u32 = 10;

/// What the evaluation of a reading is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It becomes the latest.
    Latest {
        /// It cannot be ordered against the reading before it.
        is_tie: bool,
        /// The broker had retained it.
        is_retained: bool,
    },
    /// It is the latest already: it may end what an older reading raised.
    Again,
    /// It may only raise alarms.
    RaiseOnly,
}

/// A reading, with how it was judged.
pub(super) struct Judgement {
    /// The reading with the levels it is judged by.
    pub(super) latest: Latest,
    /// Whether it may lower or end alarms.
    pub(super) may_lower: bool,
    /// Whether its settings govern alarms that others have raised.
    has_settings: bool,
    /// The highest and the lowest value of the message.
    values: Option<(Decimal, Decimal)>,
    below_range: BelowRange,
    levels_unknown: bool,
    role: Role,
}

impl Role {
    fn is_tie(self) -> bool {
        matches!(self, Self::Latest { is_tie: true, .. })
    }

    fn is_retained(self) -> bool {
        matches!(
            self,
            Self::Latest {
                is_retained: true,
                ..
            }
        )
    }

    fn moves_latest(self) -> bool {
        matches!(self, Self::Latest { .. })
    }
}

impl Judgement {
    pub(super) fn of(
        reading: Arc<Reading>,
        facts: &PayloadFacts,
        role: Role,
        (memory, now): (&DeviceMemory, Time),
        settings: &AlarmSettings,
    ) -> Self {
        let reading = last_known::with_latching(reading, facts, memory);
        let levels = Levels::of(&reading, facts.levels_unreadable, memory, settings);
        let values = extremes(
            reading
                .value
                .into_iter()
                .chain(facts.other_values.iter().copied()),
        );
        let reading = with_worse_value(reading, values, levels.sides[0]);
        let below = |(_, lowest)| below_range(lowest, &reading, &levels, memory);
        let below_range = values.map_or(BelowRange::No, below);
        let range = range_limit(&reading, memory, settings);
        let is_over =
            range.is_some_and(|range| values.is_some_and(|(highest, _)| range.is_reached(highest)));

        let is_habit =
            memory.repaired_in_row >= HABIT && facts.repair_kinds == memory.repairs_in_row;
        let is_read = match facts.repair {
            Repair::None => true,
            Repair::Unimportant => is_habit,
            Repair::Important | Repair::Unreadable => false,
        };
        let is_maintenance = settings
            .maintenance_message_types
            .contains(&reading.message_type);
        let is_current = role != Role::RaiseOnly && !role.is_retained();
        let is_trusted = is_read && is_current && !reading.unclear && !is_maintenance;
        let in_range = !is_over && below_range == BelowRange::No;
        // A newer release wrote this side, and this one does not know which values it means.
        let has_unknown_side = levels
            .sides
            .iter()
            .any(|side| matches!(side, Side::Unknown(_)));
        let doubtful = levels.are_unknown
            || levels.has_default
            || has_unknown_side
            || below_range != BelowRange::No;
        Self {
            may_lower: is_trusted && in_range && !reading.has_fault() && reading.value.is_some(),
            has_settings: role.moves_latest() && is_current && facts.repair < Repair::Important,
            values,
            below_range,
            levels_unknown: levels.are_unknown,
            role,
            latest: Latest {
                levels: levels.levels,
                sides: levels.sides,
                used: levels.used,
                taken_at: now,
                published_at: now,
                age_ms: None,
                doubtful,
                clock_suspect: false,
                in_order: false,
                held_back: false,
                unknown: UnknownFields::default(),
                reading,
            },
        }
    }

    /// Judges the latest reading once more, as it was stored.
    pub(super) fn again(latest: &Latest, memory: &DeviceMemory, settings: &AlarmSettings) -> Self {
        let facts = PayloadFacts::default();
        let reading = Arc::clone(&latest.reading);
        let at = (memory, latest.taken_at);
        let judgement = Self::of(reading, &facts, Role::Again, at, settings);
        Self {
            may_lower: judgement.may_lower && latest.in_order,
            ..judgement
        }
    }

    pub(super) fn limits(&self, memory: &DeviceMemory, settings: &AlarmSettings) -> Limits {
        Limits::of(&self.latest, memory, settings)
    }

    /// Changes the alarms.
    pub(super) fn apply(
        &self,
        alarms: &mut Alarms<'_>,
        settings: &AlarmSettings,
        memory: &DeviceMemory,
    ) {
        let is_tie = self.role.is_tie();
        let may_lower = self.may_lower && !(is_tie && alarms.has_recent_fault());
        self.apply_sensor(alarms, may_lower);
        if !may_lower && self.role.moves_latest() {
            levels::cancel_off_delays(alarms);
        }
        let Some((highest, lowest)) = self.values else {
            return;
        };
        let evidence = Evidence {
            highest,
            lowest,
            may_lower,
            is_tie,
            keeps_limits: !self.has_settings || alarms.has_changed_settings(),
            off_delay: settings.alarm_off_delay,
            returned_levels: settings.returned_levels,
        };
        let details = self.latest.details();
        let limits = self.limits(memory, settings);
        levels::evaluate_gas(alarms, &limits.gas, evidence, details);
        levels::evaluate_over_range(alarms, limits.range, evidence, details);
    }

    fn apply_sensor(&self, alarms: &mut Alarms<'_>, may_lower: bool) {
        let reading = &self.latest.reading;
        let details = self.latest.details();
        let finding = |holds| Finding::of(holds, may_lower, self.role.is_tie());
        alarms.set(
            Condition::SensorFault,
            finding(reading.has_fault()),
            details,
            || "Sensor fault detected".into(),
        );
        alarms.set(
            Condition::ReadingInvalid,
            finding(reading.value.is_none()),
            details,
            || "Sensor reading missing or unreadable".into(),
        );
        let low = match self.below_range {
            BelowRange::Fault(low) => Some(low),
            BelowRange::No | BelowRange::Doubtful => None,
        };
        alarms.set(
            Condition::UnderRange,
            finding(low.is_some()),
            details,
            || Text {
                message: Condition::UnderRange
                    .level_message(Side::Low, low.unwrap_or_default(), &reading.unit)
                    .unwrap_or_default(),
                threshold: low,
                severity: None,
            },
        );
        if self.role.moves_latest() {
            let levels_unknown = finding(self.levels_unknown);
            alarms.set(Condition::LevelsUnknown, levels_unknown, details, || {
                "Alarm levels missing or unreadable, defaults in use".into()
            });
        }
    }
}

/// Returns the highest and the lowest of the values.
fn extremes(values: impl Iterator<Item = Decimal>) -> Option<(Decimal, Decimal)> {
    values.fold(None, |found, value| {
        let (highest, lowest) = found.unwrap_or((value, value));
        Some((highest.max(value), lowest.min(value)))
    })
}

/// Of several values of one key, the more dangerous one is shown.
fn with_worse_value(
    mut reading: Arc<Reading>,
    values: Option<(Decimal, Decimal)>,
    side: Side,
) -> Arc<Reading> {
    let worse = values.map(|(highest, lowest)| if side == Side::Low { lowest } else { highest });
    let value = reading.value.and(worse);
    if value != reading.value {
        Arc::make_mut(&mut reading).value = value;
    }
    reading
}

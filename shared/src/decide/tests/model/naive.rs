//! The rules for gas, stated once more from scratch: simple, slow, and with everything remembered for ever.

use super::*;

pub(super) const DEADBAND: i64 = 40;
pub(super) const OFF_DELAY_S: u64 = 20;
const TIE_MS: i64 = 2_000;
const MINUTE_MS: i64 = 60_000;

/// A detector: three High levels, or two and a Low one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plant {
    pub(super) latching: bool,
    pub(super) off_delay: bool,
    pub(super) both_sides: bool,
}

impl Plant {
    pub(super) fn level(self, index: usize) -> (i64, Side) {
        match (index, self.both_sides) {
            (0, _) => (250, Side::High),
            (1, _) => (500, Side::High),
            (_, false) => (1_000, Side::High),
            (_, true) => (50, Side::Low),
        }
    }

    /// How far the value is on the dangerous side of this level.
    fn excess(self, index: usize, value: i64) -> i64 {
        let (level, side) = self.level(index);
        if side == Side::Low {
            level - value
        } else {
            value - level
        }
    }
}

/// An active level.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Level {
    /// When a message was not back from it last.
    not_back_at: Time,
    /// Since when the value is back.
    back_since: Option<Time>,
    /// The value is back, and the off-delay is over.
    is_back: bool,
}

/// One side.
#[derive(Clone, Debug, Default, PartialEq)]
struct SideModel {
    levels: [Option<Level>; 3],
    /// The level that is shown; `None` if no alarm is open.
    shown: Option<usize>,
    /// No level is active; the peak waits for its acknowledgement.
    returned: bool,
    /// Every active level is back, and latching keeps the alarm open.
    latched: bool,
    acknowledged: bool,
    /// The highest level since the raise.
    peak: Option<usize>,
    /// The highest one that nobody acknowledged.
    unacknowledged: Option<usize>,
    /// Seq of the last raise or escalation.
    reached_seq: u64,
    /// When the readings were taken of all raises and renewed escalations.
    raises: Vec<Time>,
    /// When it has been calm.
    calm_at: Option<Time>,
}

impl SideModel {
    /// Counts a raise. The third within a minute chatters, and so does any further one, for ten minutes from then on.
    fn count(&mut self, taken_at: Time, now: Time) {
        self.raises.push(taken_at);
        let third = self.raises.len().checked_sub(3).map(|i| self.raises[i]);
        let is_often = third.is_some_and(|third| taken_at.millis_since(third) <= MINUTE_MS);
        if is_often || self.chatters(now) {
            self.calm_at = Some(now + std::time::Duration::from_mins(10));
        }
    }

    fn chatters(&self, now: Time) -> bool {
        self.calm_at.is_some_and(|calm_at| now < calm_at)
    }

    fn is_back(&self) -> bool {
        self.levels.iter().flatten().all(|level| level.is_back)
    }

    /// Ends the levels that are back and held by nothing.
    fn release(&mut self, latching: bool, at: Time) {
        if self.shown.is_none() || self.returned {
            return;
        }
        let is_held = self.chatters(at) || (latching && !self.acknowledged);
        for level in &mut self.levels {
            *level = level.filter(|level| !level.is_back || is_held);
        }
        self.shown = (0..3).rev().find(|index| self.levels[*index].is_some());
        self.latched = self.shown.is_some() && self.is_back() && !self.chatters(at);
        if self.shown.is_none() {
            // A2 and A3 are remembered.
            self.shown = self.unacknowledged.filter(|level| *level >= 1);
            self.returned = self.shown.is_some();
            // It was calm. Two raises alone do not chatter.
            self.raises = self.raises.split_off(self.raises.len().saturating_sub(2));
            if !self.returned {
                self.close();
            }
        }
    }

    /// Forgets the alarm. Its raises still count.
    fn close(&mut self) {
        let raises = std::mem::take(&mut self.raises);
        *self = Self {
            raises,
            ..Self::default()
        };
    }
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) plant: Plant,
    high: SideModel,
    low: SideModel,
    /// The latest value, and whether it may lower once more.
    latest: Option<(i64, bool)>,
    last_fault: Option<Time>,
}

/// A message, as far as one side is concerned.
#[derive(Clone, Copy)]
struct Input {
    value: i64,
    may_lower: bool,
    is_tie: bool,
    now: Time,
    taken_at: Time,
    seq: u64,
}

impl Model {
    pub(super) fn new(plant: Plant) -> Self {
        Self {
            plant,
            high: SideModel::default(),
            low: SideModel::default(),
            latest: None,
            last_fault: None,
        }
    }

    fn sides(&mut self) -> [(&mut SideModel, Side); 2] {
        [(&mut self.high, Side::High), (&mut self.low, Side::Low)]
    }

    fn evaluate(&mut self, input: Input) {
        let plant = self.plant;
        for (model, side) in self.sides() {
            evaluate_side(model, side, plant, input);
        }
    }

    pub(super) fn message(
        &mut self,
        value: Option<i64>,
        is_faulty: bool,
        class: Class,
        now: Time,
        seq: u64,
    ) {
        let (age_ms, is_tie, is_latest) = match class {
            Class::Next(clock) => (clock.age_ms, false, true),
            Class::Tie(clock) => (clock.age_ms, true, true),
            Class::Late(late) => (Some(late.age_ms), false, false),
            _ => return,
        };
        let age = Duration::from_millis(age_ms.unwrap_or(0).max(0).unsigned_abs());
        let after_fault = self
            .last_fault
            .is_some_and(|fault| now.millis_since(fault) < TIE_MS);
        let is_good = value.is_some() && !is_faulty && !(is_tie && after_fault);
        let input = Input {
            value: value.unwrap_or_default(),
            may_lower: is_good && is_latest,
            is_tie,
            now,
            taken_at: now - age,
            seq,
        };
        let before = [self.high.clone(), self.low.clone()];
        if is_latest && !is_good {
            let latching = self.plant.latching;
            for level in self
                .sides()
                .into_iter()
                .flat_map(|(model, _)| model.levels.iter_mut().flatten())
            {
                level.back_since = None;
                // Only chattering holds it. Nothing shows any more that it is back.
                level.is_back &= latching;
            }
        }
        if value.is_some() {
            self.evaluate(input);
        }
        if is_faulty || value.is_none() {
            self.last_fault = Some(now);
        }
        match class {
            Class::Late(late) if late.is_proved_old => {
                // What it raised ends, unless the latest reading may not lower.
                if let Some((value, true)) = self.latest {
                    self.evaluate(Input {
                        value,
                        may_lower: true,
                        is_tie: false,
                        ..input
                    });
                }
            }
            Class::Late(_) => {
                let is_unchanged = before == [self.high.clone(), self.low.clone()];
                self.latest = self
                    .latest
                    .map(|(value, in_order)| (value, in_order && is_unchanged));
            }
            _ => self.latest = Some((input.value, is_good && !is_tie)),
        }
    }

    pub(super) fn timer(&mut self, now: Time) {
        let plant = self.plant;
        for (model, _) in self.sides() {
            for level in model.levels.iter_mut().flatten() {
                end_off_delay(level, plant, now);
            }
            model.release(plant.latching, now);
        }
    }

    pub(super) fn acknowledge(&mut self, kind: Kind, seen: u64, now: Time) {
        let latching = self.plant.latching;
        let model = if kind == Kind::GasLow {
            &mut self.low
        } else {
            &mut self.high
        };
        if model.shown.is_none() || model.acknowledged || seen < model.reached_seq {
            return;
        }
        model.acknowledged = true;
        model.unacknowledged = None;
        if model.returned {
            model.close();
        }
        model.release(latching, now);
    }

    /// The level, the state, and whether it is acknowledged.
    pub(super) fn shown(&self, kind: Kind) -> Option<(usize, AlarmState, bool)> {
        let model = if kind == Kind::GasLow {
            &self.low
        } else {
            &self.high
        };
        let state = if model.returned {
            AlarmState::Returned
        } else if model.latched {
            AlarmState::Latched
        } else if model.acknowledged {
            AlarmState::Acknowledged
        } else {
            AlarmState::Unacknowledged
        };
        model.shown.map(|shown| (shown, state, model.acknowledged))
    }
}

fn end_off_delay(level: &mut Level, plant: Plant, now: Time) {
    let delay_ms = if plant.off_delay {
        1_000 * OFF_DELAY_S.cast_signed()
    } else {
        0
    };
    if level
        .back_since
        .is_some_and(|since| now.millis_since(since) >= delay_ms)
    {
        level.back_since = None;
        level.is_back = true;
    }
}

fn evaluate_side(model: &mut SideModel, side: Side, plant: Plant, input: Input) {
    let before = model.clone();
    let Input {
        value,
        now,
        taken_at,
        ..
    } = input;
    let on_side = |index: &usize| plant.level(*index).1 == side;
    let reached = (0..3)
        .rev()
        .filter(on_side)
        .find(|index| plant.excess(*index, value) >= 0);
    for index in (0..3).filter(on_side) {
        let excess = plant.excess(index, value);
        let is_active = model.levels[index].is_some();
        if excess >= 0 || (is_active && excess >= -DEADBAND) {
            model.levels[index] = Some(Level {
                not_back_at: now,
                back_since: None,
                is_back: false,
            });
        } else if let Some(level) = &mut model.levels[index] {
            let is_undecided = input.is_tie && now.millis_since(level.not_back_at) < TIE_MS;
            if input.may_lower && !is_undecided && !level.is_back {
                level.back_since.get_or_insert(now);
                end_off_delay(level, plant, now);
            }
        }
    }
    if let Some(reached) = reached {
        let comes_back = before.levels[reached].is_some_and(|level| level.is_back);
        let ends_calm = comes_back && before.chatters(now);
        let is_told = match before.shown {
            None => true,
            Some(_) if before.returned => true,
            Some(shown) => reached > shown || (reached == shown && comes_back && !ends_calm),
        };
        let is_renewed = before.peak.is_none_or(|peak| reached <= peak);
        if ends_calm || (is_told && is_renewed) {
            model.count(taken_at, now);
        }
        if !before.acknowledged || before.shown.is_some_and(|shown| reached > shown) {
            model.unacknowledged = model.unacknowledged.max(Some(reached));
        }
        model.peak = model.peak.max(Some(reached));
        if is_told {
            model.shown = Some(reached);
            model.returned = false;
            model.latched = false;
            model.acknowledged = false;
            model.reached_seq = input.seq;
        }
    }
    if input.may_lower {
        model.release(plant.latching, now);
    } else {
        model.latched &= model.is_back();
    }
}

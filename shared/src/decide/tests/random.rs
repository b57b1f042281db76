//! Random histories of one device, for the property tests.
//!
//! They reach: detectors with High levels, with levels on both sides, with latching, a span, a hysteresis or an off-delay; cadences
//! of 0.2 s to 2 min and pauses of up to an hour; values at and beside every level, deadband and end of the span; readings that are
//! faulty, unreadable, unclear, repaired, of another unit, gas or message type, outside the range, late, redelivered, retained or
//! tied; settings that become less or more sensitive; LEDs; acknowledgements of any alarm with any earlier position; deadlines;
//! restarts. They do not reach: clocks that jump (tested with the order), several writers, lost states.

use proptest::prelude::*;

use super::*;
use crate::reading::{Repair, Side};

/// The settings of a detector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detector {
    pub(super) kind: DetectorKind,
    pub(super) latching: bool,
    pub(super) has_span: bool,
    pub(super) hysteresis: Option<i32>,
    pub(super) off_delay_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum DetectorKind {
    /// Three High levels: 250, 500, 1000.
    Toxic,
    /// Oxygen: Low 19.5 and 18, High 23.5. Values are given in tenths.
    Oxygen,
}

impl DetectorKind {
    /// A value, level or end of the span of this kind.
    pub(super) fn number(self, value: i32) -> Decimal {
        match self {
            Self::Toxic => Decimal::from_int(value),
            Self::Oxygen => Decimal::new(value, 1),
        }
    }
}

/// One input to the device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A message after a pause.
    Message {
        value: i32,
        after_ms: u64,
        flaw: Flaw,
    },
    /// The timers look at the device after a pause.
    Deadline { after_ms: u64 },
    /// Acknowledges an open alarm (counted from the first), having seen the position so many steps ago.
    Acknowledge { alarm: usize, back: usize },
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Flaw {
    None,
    Fault,
    NoValue,
    Unclear,
    Calibration,
    Heartbeat,
    OtherUnit,
    OtherGas,
    Repaired(Repair),
    /// A second value of the same key.
    Twice(i32),
    /// The device time of the message before.
    Tie,
    Late {
        back_s: u64,
        dup: bool,
    },
    Retained {
        ahead_s: u64,
    },
    /// Levels ten times as far on the dangerous side, no hysteresis, no latching.
    LessSensitive,
    /// Levels nearer to the safe side.
    MoreSensitive,
    /// The other payload format: no span, types, hysteresis, latching, unit or gas.
    OtherFormat,
    Lit(usize),
}

impl Flaw {
    /// Whether a message like this may lower an alarm, if its order, its value and its settings allow it.
    pub(super) fn may_lower(self) -> bool {
        matches!(
            self,
            Self::None
                | Self::Twice(_)
                | Self::Tie
                | Self::Late { .. }
                | Self::OtherUnit
                | Self::OtherGas
                | Self::LessSensitive
                | Self::MoreSensitive
                | Self::OtherFormat
                | Self::Lit(_)
        )
    }
}

pub(super) fn any_detector() -> impl Strategy<Value = Detector> {
    (
        prop_oneof![Just(DetectorKind::Toxic), Just(DetectorKind::Oxygen)],
        any::<bool>(),
        any::<bool>(),
        prop::option::of(prop_oneof![Just(0), 1..20_i32, Just(100_000)]),
        prop_oneof![3 => Just(0_u64), 1 => 1..200_u64],
    )
        .prop_map(
            |(kind, latching, has_span, hysteresis, off_delay_s)| Detector {
                kind,
                latching,
                has_span,
                hysteresis,
                off_delay_s,
            },
        )
}

fn any_value() -> impl Strategy<Value = i32> {
    let edges = vec![
        0, 10, 170, 180, 181, 190, 195, 196, 202, 203, 209, 210, 228, 229, 234, 235, 237, 238, 249,
        250, 300, 475, 499, 500, 600, 960, 999, 1000, 1200, 1999, 2000, 2001, -50, -51, -101,
        -9999,
    ];
    prop_oneof![4 => prop::sample::select(edges), 1 => -200..2_200_i32, 2 => Just(209)]
}

fn any_pause() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 200..5_000_u64,
        3 => 5_000..120_000_u64,
        1 => 120_000..3_600_000_u64,
    ]
}

fn any_flaw() -> impl Strategy<Value = Flaw> {
    prop_oneof![
        12 => Just(Flaw::None),
        1 => Just(Flaw::Fault),
        1 => Just(Flaw::NoValue),
        1 => Just(Flaw::Unclear),
        1 => Just(Flaw::Calibration),
        1 => Just(Flaw::Heartbeat),
        1 => Just(Flaw::OtherUnit),
        1 => Just(Flaw::OtherGas),
        1 => prop_oneof![
            Just(Repair::Unimportant),
            Just(Repair::Important),
            Just(Repair::Unreadable)
        ].prop_map(Flaw::Repaired),
        1 => any_value().prop_map(Flaw::Twice),
        2 => Just(Flaw::Tie),
        2 => (1..600_u64, any::<bool>()).prop_map(|(back_s, dup)| Flaw::Late { back_s, dup }),
        1 => (0..60_u64).prop_map(|ahead_s| Flaw::Retained { ahead_s }),
        1 => Just(Flaw::LessSensitive),
        1 => Just(Flaw::MoreSensitive),
        2 => Just(Flaw::OtherFormat),
        2 => (0..3_usize).prop_map(Flaw::Lit),
    ]
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (any_value(), any_pause(), any_flaw())
            .prop_map(|(value, after_ms, flaw)| Step::Message { value, after_ms, flaw }),
        2 => any_pause().prop_map(|after_ms| Step::Deadline { after_ms }),
        2 => (0..4_usize, 0..4_usize).prop_map(|(alarm, back)| Step::Acknowledge { alarm, back }),
    ]
}

pub(super) fn any_history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(), 1..50)
}

/// A device that lives through a random history.
pub(super) struct Plant {
    pub(super) device: TestDevice,
    pub(super) detector: Detector,
    /// The positions after each step.
    pub(super) positions: Vec<Position>,
    start: Time,
    /// When the timers look at the device.
    due: Option<Time>,
}

impl Plant {
    pub(super) fn new(detector: Detector) -> Self {
        let mut device = TestDevice::new();
        device.settings.alarm_off_delay = Duration::from_secs(detector.off_delay_s);
        Self {
            start: device.now,
            device,
            detector,
            positions: Vec::new(),
            due: None,
        }
    }

    pub(super) fn state(&self) -> &DeviceState {
        &self.device.stored.state
    }

    /// A reading in clean air, or with this value.
    pub(super) fn reading(&self, value: Option<i32>) -> Reading {
        let Detector {
            kind,
            latching,
            has_span,
            hysteresis,
            ..
        } = self.detector;
        let mut reading = reading(None);
        reading.value = value.map(|value| kind.number(value));
        let (levels, span) = match kind {
            DetectorKind::Toxic => (
                [(250, Side::High), (500, Side::High), (1000, Side::High)],
                2000,
            ),
            DetectorKind::Oxygen => ([(195, Side::Low), (180, Side::Low), (235, Side::High)], 250),
        };
        for (setting, (level, side)) in reading.levels.iter_mut().zip(levels) {
            setting.level = Some(kind.number(level));
            setting.side = Some(side);
            setting.hysteresis = hysteresis.map(|hysteresis| kind.number(hysteresis));
            setting.latching = Some(Decimal::from_int(i32::from(latching)));
        }
        reading.span_low = has_span.then_some(Decimal::ZERO);
        reading.span_high = has_span.then(|| kind.number(span));
        reading
    }

    pub(super) fn clean_air(&self) -> i32 {
        match self.detector.kind {
            DetectorKind::Toxic => 10,
            DetectorKind::Oxygen => 209,
        }
    }

    pub(super) fn advance_ms(&mut self, ms: u64) {
        let pause = Duration::from_millis(ms);
        self.device.now = self.device.now + pause;
        self.device.device_time = self.device.device_time + pause;
    }

    pub(super) fn run_timer(&mut self) -> Decision {
        let decision = self.device.run_timer(self.start);
        self.note_deadline(&decision);
        decision
    }

    fn note_deadline(&mut self, decision: &Decision) {
        match decision.deadline {
            Deadline::At(due) => self.due = Some(due),
            Deadline::Never => self.due = None,
            Deadline::Keep => {}
        }
    }

    /// Does one step.
    pub(super) fn step(&mut self, step: Step) -> Decision {
        self.pass_time(step);
        self.act(step)
    }

    /// Lets the time before the step pass, and the timers look at the device when they are due.
    pub(super) fn pass_time(&mut self, step: Step) {
        if let Step::Message { after_ms, .. } | Step::Deadline { after_ms } = step {
            self.advance_ms(after_ms);
        }
        if self.due.is_some_and(|due| due <= self.device.now) {
            self.run_timer();
        }
    }

    /// Does what the step does after its time has passed.
    pub(super) fn act(&mut self, step: Step) -> Decision {
        let decision = match step {
            Step::Message { value, flaw, .. } => self.send(value, flaw),
            Step::Deadline { .. } => self.run_timer(),
            Step::Acknowledge { alarm, back } => self.acknowledge(alarm, back),
        };
        self.note_deadline(&decision);
        self.positions.push(self.state().position);
        decision
    }

    fn acknowledge(&mut self, alarm: usize, back: usize) -> Decision {
        let id = self.acknowledged_id(alarm).unwrap_or_default();
        let seen = self.seen(back);
        self.device.acknowledge_seen(&id, seen)
    }

    pub(super) fn acknowledged_id(&self, alarm: usize) -> Option<String> {
        let open = &self.state().alarms;
        let index = alarm % open.len().max(1);
        open.get(index).map(|alarm| alarm.id.clone())
    }

    pub(super) fn seen(&self, back: usize) -> Position {
        let earlier = self.positions.iter().rev().nth(back);
        earlier.copied().unwrap_or(self.state().position)
    }

    fn send(&mut self, value: i32, flaw: Flaw) -> Decision {
        let mut reading = self.reading(Some(value));
        reading.device_time = Some(self.device.device_time);
        let mut facts = PayloadFacts {
            has_value_key: true,
            unit_sent: true,
            gas_sent: true,
            decimal_point_sent: true,
            leds_sent: true,
            ..PayloadFacts::default()
        };
        let (mut dup, mut retain) = (false, false);
        match flaw {
            Flaw::None => {}
            Flaw::Fault => reading.sensor_fault = dec("1"),
            Flaw::NoValue => reading.value = None,
            Flaw::Unclear => reading.unclear = true,
            Flaw::Calibration => "CALIBRATION".clone_into(&mut reading.message_type),
            Flaw::Heartbeat => {
                "HEARTBEAT".clone_into(&mut reading.message_type);
                reading.value = None;
                facts.has_value_key = false;
            }
            Flaw::OtherUnit => "%LEL".clone_into(&mut reading.unit),
            Flaw::OtherGas => "Methane".clone_into(&mut reading.gas_type),
            Flaw::Repaired(repair) => {
                facts.repair = repair;
                if repair == Repair::Unreadable {
                    reading.value = None;
                    facts.other_values = vec![self.detector.kind.number(value)];
                }
            }
            Flaw::Twice(other) => facts.other_values = vec![self.detector.kind.number(other)],
            Flaw::Tie => reading.device_time = self.state().order.latest_time,
            Flaw::Late {
                back_s,
                dup: is_dup,
            } => {
                dup = is_dup;
                let latest = self.state().order.latest_time;
                let time = latest.unwrap_or(self.device.device_time);
                reading.device_time = Some(time - Duration::from_secs(back_s));
            }
            Flaw::Retained { ahead_s } => {
                retain = true;
                reading.device_time = Some(self.device.device_time + Duration::from_secs(ahead_s));
            }
            Flaw::LessSensitive => edit_levels(&mut reading, true),
            Flaw::MoreSensitive => edit_levels(&mut reading, false),
            Flaw::OtherFormat => {
                reading.span_low = None;
                reading.span_high = None;
                for level in &mut reading.levels {
                    level.side = None;
                    level.hysteresis = None;
                    level.latching = None;
                }
                facts.unit_sent = false;
                facts.gas_sent = false;
                facts.decimal_point_sent = false;
            }
            Flaw::Lit(led) => reading.leds[led] = dec("1"),
        }
        let fingerprint = self.device.next_fingerprint();
        self.device.decide_message(&Message {
            facts,
            dup,
            retain,
            ..message(reading, fingerprint)
        })
    }
}

/// Moves every level to its dangerous side, or nearer to its safe one.
fn edit_levels(reading: &mut Reading, is_less_sensitive: bool) {
    for setting in &mut reading.levels {
        let level = setting.level.unwrap_or_default();
        let share = level.percent(dec(if is_less_sensitive { "80" } else { "1" }));
        let is_up = (setting.side == Some(Side::Low)) != is_less_sensitive;
        setting.level = Some(if is_up { level + share } else { level - share });
        if is_less_sensitive {
            setting.hysteresis = Some(Decimal::ZERO);
            setting.latching = Some(Decimal::ZERO);
        }
    }
}

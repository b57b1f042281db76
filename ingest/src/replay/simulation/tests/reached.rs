//! Whatever a clock does: a level that a message reaches, a fault flag and an unreadable reading stand from the commit of that
//! message on, until a message denies it.
//!
//! Reach of the generator: the clocks, cadences and delays of [`super::clocks`], 1 to 4 of these clocks one after the other, batches
//! of up to 4; runs of equal readings: normal, at each level, on both sides (oxygen), with a fault flag, unreadable, and of a
//! calibration; messages that are redelivered (DUP) or retained, messages that come again, readings of equal bytes; restarts of
//! ingest for up to 20 min; alarms that are acknowledged; latching; an off-delay of 0 or 10 s.
//!
//! Not expected: anything of a redelivered or a retained message whose time is not newer than all others, of a retained message
//! without a usable time (before 2015), and of a message whose bytes came before.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use shared::alarm::{Alarm, ChangeKind, Condition, Kind};
use shared::device_status::DeviceStatus;
use shared::reading::Side;

use super::clocks::{START, any_clock, at, cadence_ms, delay_ms, take_and_send};
use super::detector::{Content, Detector};
use super::*;

/// What a message shows, and what only a message can deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Danger {
    High(usize),
    Low(usize),
    Fault,
    Unreadable,
}

/// What a reading says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Normal,
    Level(usize),
    Fault,
    Unreadable,
    Calibration,
}

const CARBON_MONOXIDE: [&str; 4] = ["5", "300", "700", "1200"];
/// Normal, too thin (A1), too rich (A2).
const OXYGEN: [&str; 3] = ["20.9", "17", "25"];

#[derive(Clone, Debug)]
struct Script {
    is_oxygen: bool,
    is_latching: bool,
    off_delay: u64,
    clocks: Vec<(clocks::Clock, usize)>,
    cadence_ms: i64,
    batch: usize,
    delays_ms: Vec<i64>,
    runs: Vec<(Says, usize)>,
    flags: Vec<u32>,
    has_numbers: bool,
}

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        6 => Just(Says::Normal),
        5 => (1..=3_usize).prop_map(Says::Level),
        1 => Just(Says::Fault),
        1 => Just(Says::Unreadable),
        1 => Just(Says::Calibration),
    ]
}

const MAX_MESSAGES: usize = 120;

fn script() -> impl Strategy<Value = Script> {
    let clocks = prop::collection::vec((any_clock(), 1..50_usize), 1..=4);
    let runs = prop::collection::vec((says(), 1..12_usize), 1..40);
    let delays = prop::collection::vec(delay_ms(), MAX_MESSAGES);
    let flags = prop::collection::vec(0..40_u32, MAX_MESSAGES);
    let settings = (any::<bool>(), any::<bool>(), prop_oneof![Just(0), Just(10)]);
    (
        settings,
        clocks,
        cadence_ms(),
        1..=4_usize,
        delays,
        runs,
        flags,
        any::<bool>(),
    )
        .prop_map(
            |(settings, clocks, cadence_ms, batch, delays_ms, runs, flags, has_numbers)| Script {
                is_oxygen: settings.0,
                is_latching: settings.1,
                off_delay: settings.2,
                clocks,
                cadence_ms,
                batch,
                delays_ms,
                runs,
                flags,
                has_numbers,
            },
        )
}

impl Says {
    fn content(self, is_oxygen: bool, time: Option<Time>) -> Content {
        let normal = if is_oxygen {
            OXYGEN[0]
        } else {
            CARBON_MONOXIDE[0]
        };
        let reading = Content::reading(normal, time);
        match self {
            Self::Normal => reading,
            Self::Level(level) if is_oxygen => Content::reading(OXYGEN[level.min(2)], time),
            Self::Level(level) => Content::reading(CARBON_MONOXIDE[level], time),
            Self::Fault => Content {
                fault: true,
                ..reading
            },
            Self::Unreadable => Content::reading("null", time),
            Self::Calibration => Content {
                message_type: "CALIBRATION",
                ..reading
            },
        }
    }

    fn shows(self, is_oxygen: bool) -> Vec<Danger> {
        match self {
            Self::Level(1) if is_oxygen => vec![Danger::Low(0)],
            Self::Level(_) if is_oxygen => vec![Danger::High(1)],
            Self::Level(level) => (0..level).map(Danger::High).collect(),
            Self::Fault => vec![Danger::Fault],
            Self::Unreadable => vec![Danger::Unreadable],
            Self::Normal | Self::Calibration => Vec::new(),
        }
    }

    /// Whether it is a reading that says something else.
    fn denies(self, danger: Danger, is_oxygen: bool) -> bool {
        match self {
            Self::Normal | Self::Level(_) => !self.shows(is_oxygen).contains(&danger),
            Self::Fault | Self::Unreadable | Self::Calibration => false,
        }
    }
}

/// Checks that the danger is reported.
fn check(simulation: &Simulation, device: &DeviceId, danger: Danger) -> Result<(), TestCaseError> {
    let stands = |alarm: &&Alarm| {
        let has_level = |index: usize| alarm.active_levels.get(index).is_some_and(Option::is_some);
        match danger {
            Danger::High(index) => alarm.kind() == Kind::gas(Side::High) && has_level(index),
            Danger::Low(index) => alarm.kind() == Kind::gas(Side::Low) && has_level(index),
            Danger::Fault => alarm.condition == Condition::SensorFault,
            Danger::Unreadable => alarm.condition == Condition::ReadingInvalid,
        }
    };
    let open = simulation.open_alarms(device);
    let alarm = open.iter().find(stands);
    let alarm = alarm.ok_or_else(|| TestCaseError::fail(format!("{danger:?} in {open:?}")))?;
    let index = match danger {
        Danger::High(index) | Danger::Low(index) => Some(index),
        Danger::Fault | Danger::Unreadable => None,
    };
    let is_reported = simulation.changes().iter().any(|change| {
        let kind = change.change.kind;
        let is_raise = matches!(kind, ChangeKind::Raised | ChangeKind::Escalated);
        let reported = &change.change.alarm;
        is_raise && reported.id == alarm.id && reported.condition.level_index() >= index
    });
    prop_assert!(is_reported, "{:?} was never reported", danger);
    let data = simulation.data(device).expect("a known device");
    prop_assert!(data.get().contains(r#""alarm_status":"ALARM""#), "{}", data);
    let status = simulation.status(device).expect("a known device");
    prop_assert_ne!(status, DeviceStatus::Online);
    Ok(())
}

fn run(script: &Script) -> Result<(), TestCaseError> {
    let is_oxygen = script.is_oxygen;
    let detector = Detector {
        latching: script.is_latching,
        format: detector::PayloadFormat::Mixed,
        ..if is_oxygen {
            Detector::oxygen("A", None)
        } else {
            Detector::carbon_monoxide("A")
        }
    };
    let device = detector.device();
    let mut settings = default_settings();
    settings.alarms.alarm_off_delay = Duration::from_secs(script.off_delay);
    let mut simulation = Simulation::new(settings, START);
    let says: Vec<Says> = script
        .runs
        .iter()
        .flat_map(|(says, count)| vec![*says; *count])
        .collect();
    let on_the_way = take_and_send(
        &script.clocks,
        script.cadence_ms,
        script.batch,
        &script.delays_ms,
    );
    let mut messages: Vec<_> = on_the_way
        .iter()
        .enumerate()
        .map(|(index, message)| (message.arrival_ms, index))
        .collect();
    messages.sort_unstable();

    let mut standing = BTreeSet::new();
    let mut sent: Vec<Vec<u8>> = Vec::new();
    let mut newest = None;
    let mut resumes_ms = None;
    for (arrival_ms, index) in messages {
        let flag = script.flags[index];
        // A message that comes again, as a bridge sends it.
        let source = if flag == 3 { index / 2 } else { index };
        let says = says.get(source).copied().unwrap_or(Says::Normal);
        let time = on_the_way[source].device_time;
        let mut content = says.content(is_oxygen, time);
        content.number = if script.has_numbers { source + 1 } else { 0 };
        let payload = detector.payload(&content, source);
        let (dup, retain) = (flag == 1, flag == 2);

        if resumes_ms.is_some_and(|resumes_ms| resumes_ms <= arrival_ms) {
            resumes_ms = None;
            simulation.set_listening(at(arrival_ms), true);
        }
        simulation.advance_to(at(arrival_ms));
        let is_listening = resumes_ms.is_none();
        if is_listening {
            for danger in &standing {
                check(&simulation, &device, *danger)?;
            }
        }
        let delivery = Delivery {
            payload: &payload,
            retain,
            dup,
        };
        simulation.publish(at(arrival_ms), delivery);

        let usable = time.filter(|time| *time > Time::from_millis(1_420_070_400_000));
        let is_newest = newest.is_some() && usable > newest;
        let is_shown = match (dup, retain) {
            (false, false) => true,
            // Without a usable time it counts as arriving now.
            (true, false) => usable.is_none() || is_newest,
            (_, true) => is_newest,
        };
        let counts = !sent.contains(&payload) && (sent.is_empty() || is_shown);
        sent.push(payload);
        newest = newest.max(usable.filter(|_| !retain));
        standing.retain(|danger| retain || !says.denies(*danger, is_oxygen));
        if counts {
            standing.extend(says.shows(is_oxygen));
        }
        if is_listening {
            for danger in &standing {
                check(&simulation, &device, *danger)?;
            }
        }
        if flag == 4 && is_listening {
            resumes_ms = Some(arrival_ms + i64::try_from(index % 20).expect("small") * 60_000);
            simulation.set_listening(at(arrival_ms), false);
        }
        if flag == 5 && is_listening {
            let ids: Vec<String> = simulation
                .open_alarms(&device)
                .iter()
                .map(|alarm| alarm.id.clone())
                .collect();
            for id in ids {
                simulation.acknowledge(at(arrival_ms), &device, &id, "User", None);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    #[test]
    fn what_a_message_shows_stands_until_a_message_denies_it(script in script()) {
        run(&script)?;
    }
}

//! A normal plant stays quiet: the simulated week.
//!
//! Two of the detectors send for the whole week, one message a minute, the others for the days and hours around the events: a
//! debug build processes about 10 000 messages a second, and the tests of this file together shall need less than 15 s. So all ten
//! send about 55 000 messages.
//!
//! What is expected, of each detector: `device_offline` once, while the network is away for longer than the silence limit, and of the
//! detector whose A1 the installer raises `setting_changed`, until it is acknowledged. Nothing else is raised: twelve rows of the alarm
//! log in a week. Outside of the outage and what follows it at once, every detector is shown as `NORMAL` and `good`.
//!
//! One detector is reported as silent once more: it has sent a constant zero once a minute, in whole seconds. When its clock is set back
//! by an hour, it repeats the bytes of the hour before. Nothing distinguishes them from old messages that a faulty bridge repeats, so no reading
//! becomes the latest for that hour. With any other cadence or value its messages differ.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;
use shared::event;
use shared::reading::Quality;

use super::clocks::{START, at};
use super::plant::{Backlog, Events, HOUR, MINUTE, Member, SECOND, members};
use super::*;

const DAY: i64 = 24 * HOUR;

/// The week. It begins on a Friday at 08:00 UTC.
const WEEK: Events = Events {
    from: 0,
    to: 7 * DAY,
    clock_back: DAY + 17 * HOUR,
    clock_forward: DAY + 23 * HOUR,
    outage: (2 * DAY + 2 * HOUR, 2 * DAY + 2 * HOUR + 45 * MINUTE),
    restart: (2 * DAY + 6 * HOUR, 2 * DAY + 6 * HOUR + 10 * MINUTE),
    overtaking: (2 * DAY + 8 * HOUR, 2 * DAY + 9 * HOUR),
    renamed: 2 * DAY + 10 * HOUR,
    installer: 2 * DAY + 11 * HOUR,
    calibration: 2 * DAY + 12 * HOUR,
};

/// The same events within an hour and a half, for detectors that send often.
const TWO_HOURS: Events = Events {
    from: 0,
    to: 110 * MINUTE,
    clock_back: 10 * MINUTE,
    clock_forward: 80 * MINUTE,
    outage: (20 * MINUTE, 25 * MINUTE),
    restart: (40 * MINUTE, 45 * MINUTE),
    overtaking: (50 * MINUTE, 60 * MINUTE),
    renamed: 65 * MINUTE,
    installer: 67 * MINUTE,
    calibration: 70 * MINUTE,
};

/// The events of the detector in the week.
fn events_of(member: &Member) -> Events {
    match member.detector.serial {
        "NEWEST" | "NO-CLOCK" => WEEK,
        "ONE-A-SECOND" => TWO_HOURS,
        "FIVE-A-SECOND" => Events {
            from: 18 * MINUTE,
            to: 48 * MINUTE,
            ..TWO_HOURS
        },
        _ => Events {
            from: DAY + 15 * HOUR,
            to: 2 * DAY + 14 * HOUR,
            ..WEEK
        },
    }
}

/// What is left of a run.
pub(super) struct Run {
    pub(super) simulation: Simulation,
    /// `7380 s raised device_offline` and so on, in order.
    pub(super) changes: Vec<String>,
    /// Times at which the detector was not shown as `NORMAL` and `good` after a message, in milliseconds since the start.
    pub(super) not_quiet: Vec<i64>,
}

/// Runs a detector. An operator looks once every `look_ms` and acknowledges all alarms.
pub(super) fn run(
    member: &Member,
    events: &Events,
    excursion: Option<plant::Excursion>,
    look_ms: i64,
    seed: u64,
) -> Run {
    let device = member.detector.device();
    let mut settings = default_settings();
    let limit_ms = member.silence_limit_ms().unsigned_abs();
    settings.alarms.offline_after = Duration::from_millis(limit_ms);
    let mut simulation = Simulation::new(settings, START);
    let mut look = look_ms;
    let mut is_restarted = [false; 2];
    let mut not_quiet = Vec::new();
    for arrival in member.arrivals(events, excursion, seed) {
        if !is_restarted[0] && events.restart.0 <= arrival.at_ms {
            is_restarted[0] = true;
            simulation.set_listening(at(events.restart.0), false);
        }
        if !is_restarted[1] && events.restart.1 <= arrival.at_ms {
            is_restarted[1] = true;
            simulation.set_listening(at(events.restart.1), true);
        }
        while look <= arrival.at_ms {
            acknowledge_all(&mut simulation, &device, at(look));
            look += look_ms;
        }
        let delivery = Delivery {
            payload: &arrival.payload,
            retain: arrival.retain,
            dup: arrival.dup,
        };
        simulation.publish(at(arrival.at_ms), delivery);
        let is_listening = is_restarted[0] == is_restarted[1];
        if is_listening && !is_normal_and_good(&simulation, &device) {
            not_quiet.push(arrival.at_ms);
        }
    }
    let changes = simulation.changes().iter();
    let text = |found: &CommittedChange| {
        let (kind, alarm) = (found.change.kind, &found.change.alarm);
        let seconds = found.at.millis_since(START) / SECOND;
        format!("{seconds} s {} {}", kind.code(), alarm.condition.code())
    };
    let changes = changes.map(text).collect();
    Run {
        simulation,
        changes,
        not_quiet,
    }
}

pub(super) fn acknowledge_all(simulation: &mut Simulation, device: &DeviceId, at: Time) {
    simulation.advance_to(at);
    let open = simulation.open_alarms(device).iter();
    let ids: Vec<String> = open.map(|alarm| alarm.id.clone()).collect();
    for id in ids {
        simulation.acknowledge(at, device, &id, "User", None);
    }
}

pub(super) fn is_normal_and_good(simulation: &Simulation, device: &DeviceId) -> bool {
    let known = simulation.devices.get(device).expect("a known device");
    let freshness = known.freshness(simulation.now);
    let state = &known.stored.state;
    event::alarm_status(state, freshness) == "NORMAL"
        && event::data_quality(state, freshness) == Quality::Good
}

/// The times in which a detector may be shown as not normal: while the network is away, until the backlog is processed, and right
/// behind the restart, when the readings that waited are up to one cadence old.
fn disturbed(member: &Member, events: &Events) -> Vec<Range<i64>> {
    let mut found = vec![
        events.outage.0..events.outage.1 + 3 * MINUTE,
        events.restart.0..events.restart.1 + member.cadence_ms + SECOND,
    ];
    if repeats_an_hour(member, events) {
        found.push(events.clock_back..events.clock_back + HOUR + 4 * MINUTE);
    }
    found
}

/// Whether the detector sends the bytes of the last hour again when its clock is set back by an hour.
fn repeats_an_hour(member: &Member, events: &Events) -> bool {
    member.has_clock && member.drift_milli == 0 && events.clock_back - events.from > HOUR
}

/// Checks that a detector stayed as quiet as it must.
fn check(member: &Member, events: &Events, run: &mut Run) -> Result<(), String> {
    let device = member.detector.device();
    let raised = |condition: &str| {
        let changes = run.simulation.changes().iter();
        let of_kind = changes.filter(|found| found.change.alarm.condition.code() == condition);
        let numbers: BTreeSet<usize> = of_kind.map(|found| found.number).collect();
        numbers.len()
    };
    let is_long = events.outage.1 - events.outage.0 > member.silence_limit_ms() + member.cadence_ms;
    let outages = usize::from(is_long) + usize::from(repeats_an_hour(member, events));
    let changed = usize::from(member.new_a1.is_some());
    let serial = member.detector.serial;
    let story = format!("{serial}: {:?}", run.changes);
    if raised("device_offline") != outages || raised("setting_changed") != changed {
        return Err(format!("{story}, not {outages} and {changed} alarms"));
    }
    // A backlog in bursts may cross the silence limit twice.
    let rows = run.simulation.log_rows(&device);
    let alarms = run.simulation.alarms_raised(&device);
    if alarms != outages + changed || rows > alarms + usize::from(is_long) {
        return Err(format!("{story}: {alarms} alarms, {rows} rows"));
    }
    if !run.simulation.dead_letters().is_empty() {
        return Err(format!("{serial}: {:?}", run.simulation.dead_letters()));
    }
    let disturbed = disturbed(member, events);
    let is_disturbed = |ms: &i64| disturbed.iter().any(|times| times.contains(ms));
    let mut unexpected = run.not_quiet.iter().filter(|ms| !is_disturbed(ms));
    if let Some(ms) = unexpected.next() {
        return Err(format!("{story}: not quiet at {} s", ms / SECOND));
    }
    let now = run.simulation.now();
    acknowledge_all(&mut run.simulation, &device, now);
    let open = run.simulation.open_alarms(&device);
    if !open.is_empty() {
        return Err(format!("{story}: open in the end: {open:?}"));
    }
    Ok(())
}

#[track_caller]
fn check_week(serials: impl Fn(&str) -> bool, rows: usize) {
    let mut found = 0;
    for member in members() {
        if serials(member.detector.serial) {
            let events = events_of(&member);
            let mut run = run(&member, &events, None, 30 * MINUTE, 1);
            check(&member, &events, &mut run).unwrap_or_else(|fault| panic!("{fault}"));
            found += run.simulation.log_rows(&member.detector.device());
        }
    }
    assert_eq!(found, rows, "rows of the alarm log");
}

fn is_often(serial: &str) -> bool {
    serial.ends_with("A-SECOND")
}

#[test]
fn a_normal_plant_stays_quiet_for_a_week() {
    check_week(|serial| !is_often(serial), 10);
}

#[test]
fn detectors_that_send_often_stay_quiet() {
    check_week(is_often, 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    /// One detector of the plant for a few hours. Reach: each of the ten; any seed of drift, noise and delays; a rate of the clock within
    /// ±100 ppm; each kind of backlog; the events at other times.
    #[test]
    fn a_normal_detector_stays_quiet(
        number in 0..10_usize,
        seed in any::<u64>(),
        ppm in -100..=100_i64,
        backlog in prop_oneof![Just(Backlog::InOrder), Just(Backlog::InBursts), Just(Backlog::BesideLive)],
        shifts in prop::collection::vec(0..50_i64, 5),
    ) {
        let member = members().into_iter().nth(number).expect("ten detectors");
        let member = Member { ppm, backlog, ..member }.with_fewer_messages();
        let events = Events::of_a_few_hours(&member).shifted(&shifts);
        let mut run = run(&member, &events, None, 30 * MINUTE, seed);
        let fault = check(&member, &events, &mut run).err();
        prop_assert!(fault.is_none(), "{}", fault.unwrap_or_default());
    }
}

//! The plant of [`super::week`] with gas: every excursion is reported once, none is lost, and its alarm ends.
//!
//! Each detector has one excursion at each of its levels, of one reading and of several: on a quiet day, while the clock is set back
//! and forward, during the outage (so that it comes with the backlog), while no ingest listens, and beside overtaken readings.

use std::collections::BTreeSet;

use proptest::prelude::*;
use shared::alarm::{ChangeKind, Kind};
use shared::reading::Side;

use super::plant::{Backlog, Events, Excursion, Member, members};
use super::week::{self, acknowledge_all};
use super::*;

/// A side, a level, a value that reaches it, and the LEDs.
type Gas = (Side, usize, &'static str, [u8; 3]);

fn gases(member: &Member) -> Vec<Gas> {
    let values: [&str; 3] = match member.detector.levels[0] {
        "19.5" => {
            return vec![
                (Side::Low, 0, "17", [1, 0, 0]),
                (Side::High, 1, "24", [0, 1, 0]),
            ];
        }
        "5" => ["7", "12.5", "20"],
        "20" => ["30", "50", "70"],
        _ => ["310", "700", "1200"],
    };
    let leds = [[1, 0, 0], [1, 1, 0], [1, 1, 1]];
    let levels = values.into_iter().zip(leds).enumerate();
    levels
        .map(|(index, (value, leds))| (Side::High, index, value, leds))
        .collect()
}

/// The beginnings of the excursions.
fn beginnings(events: &Events) -> Vec<(&'static str, i64)> {
    let middle = |(from, to): (i64, i64)| i64::midpoint(from, to);
    vec![
        ("a quiet day", events.clock_back / 2),
        ("clock back", events.clock_back),
        ("clock forward", events.clock_forward),
        ("outage", middle(events.outage)),
        ("first of the outage", events.outage.0),
        ("last of the outage", events.outage.1 - 1),
        ("no ingest", middle(events.restart)),
        ("overtaking", middle(events.overtaking)),
    ]
}

fn check(member: &Member, gas: Gas, what: &str, count: i64, seed: u64) -> Result<(), String> {
    let (side, level, value, leds) = gas;
    let events = Events::of_a_few_hours(member);
    let found = beginnings(&events)
        .into_iter()
        .find(|(name, _)| *name == what);
    let (_, from) = found.ok_or("no such time")?;
    // The reading taken at this time, or the next one. With overtaking, an overtaken one.
    let mut index = (from + member.cadence_ms - 1) / member.cadence_ms;
    if what.starts_with("last") {
        index -= 1;
    }
    if what == "overtaking" {
        index = index / 20 * 20 + 7;
    }
    let from = index * member.cadence_ms;
    let excursion = Excursion {
        from,
        to: from + count * member.cadence_ms,
        value,
        leds,
    };
    let fault = |text: String| {
        let serial = member.detector.serial;
        format!("{serial}, {value}, {count} readings, {what}: {text}")
    };
    let mut run = week::run(member, &events, Some(excursion), i64::MAX, seed);
    let device = member.detector.device();
    let of_gas = |found: &&CommittedChange| found.change.alarm.kind() == Kind::gas(side);
    let changes: Vec<_> = run.simulation.changes().iter().filter(of_gas).collect();
    let is_reported = changes.iter().any(|found| {
        let is_raise = matches!(
            found.change.kind,
            ChangeKind::Raised | ChangeKind::Escalated
        );
        is_raise && found.change.alarm.condition.level_index() == Some(level)
    });
    let in_words = |found: &CommittedChange| {
        let (kind, alarm) = (found.change.kind, &found.change.alarm);
        let seconds = found.at.millis_since(clocks::START) / 1_000;
        let condition = alarm.condition.code();
        format!("{seconds} s {} {condition} {}", kind.code(), found.number)
    };
    let story: Vec<String> = run.simulation.changes().iter().map(in_words).collect();
    let story = story.join(", ");
    if !is_reported {
        return Err(fault(format!("not reported: {story}")));
    }
    let ids: BTreeSet<&str> = changes
        .iter()
        .map(|found| found.change.alarm.id.as_str())
        .collect();
    if ids.len() != 1 {
        return Err(fault(format!("{} alarms: {story}", ids.len())));
    }
    let rows = run.simulation.log_rows(&device);
    if rows > 8 {
        return Err(fault(format!("{rows} rows: {story}")));
    }
    let open = run.simulation.open_alarms(&device);
    let is_waiting = |alarm: &shared::alarm::Alarm| {
        alarm.returned || alarm.latched || alarm.kind() == Kind::SettingChanged
    };
    if !open.iter().all(is_waiting) {
        return Err(fault(format!("it does not end: {story}, {open:?}")));
    }
    let now = run.simulation.now();
    acknowledge_all(&mut run.simulation, &device, now);
    let open = run.simulation.open_alarms(&device);
    if !open.is_empty() {
        return Err(fault(format!("it cannot end: {story}, {open:?}")));
    }
    Ok(())
}

/// The names of all times at which there is gas.
fn times() -> Vec<&'static str> {
    let [member, ..] = members();
    let all = beginnings(&Events::of_a_few_hours(&member)).into_iter();
    all.map(|(what, _)| what).collect()
}

#[test]
fn every_excursion_is_reported_once_and_ends() {
    let mut faults = Vec::new();
    for (number, member) in members().into_iter().enumerate() {
        let member = member.with_fewer_messages();
        for (place, what) in times().into_iter().enumerate() {
            // One level and one length at each time, by turns.
            let gases = gases(&member);
            let gas = gases[(number + place) % gases.len()];
            let count = [1, 4][(number + place / 2) % 2];
            faults.extend(check(&member, gas, what, count, 7).err());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    /// Reach: each detector of the plant, each of its levels, one to eight readings, each time, each kind of backlog, any seed of drift,
    /// noise and delays.
    #[test]
    fn any_excursion_is_reported_once_and_ends(
        number in 0..10_usize,
        gas in 0..3_usize,
        time in 0..8_usize,
        count in 1..=8_i64,
        backlog in prop_oneof![Just(Backlog::InOrder), Just(Backlog::InBursts), Just(Backlog::BesideLive)],
        seed in any::<u64>(),
    ) {
        let member = members().into_iter().nth(number).expect("ten detectors");
        let member = Member { backlog, ..member }.with_fewer_messages();
        let gases = gases(&member);
        let gas = gases[gas % gases.len()];
        let fault = check(&member, gas, times()[time], count, seed).err();
        prop_assert!(fault.is_none(), "{}", fault.unwrap_or_default());
    }
}

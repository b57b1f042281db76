//! With a sane clock, readings that are overtaken, and a backlog beside live readings, leave no alarm active once the live readings
//! are normal; and one excursion is one alarm.
//!
//! Reach of the generators: any constant offset of the clock within ±10 days, a rate off by up to 100 ppm, milliseconds or whole
//! seconds; cadences of 0.2 to 120 s (of 4 to 120 s with an outage); batches of up to 4; messages take up to 1 s and single ones up to 60 s more; an excursion of
//! one to twenty readings at each level, noisy or not; an outage at any time around the excursion, whose backlog comes beside the
//! live readings, up to 20 messages a second.
//!
//! Not reached: overtaken readings that arrive one behind the other with none in order between them. They cannot be distinguished from a
//! clock that was set back.

use proptest::prelude::*;
use shared::alarm::Alarm;

use super::clocks::{DAY_MS, START, at, cadence_ms};
use super::detector::{Content, Detector, PayloadFormat};
use super::*;

const MINUTE: i64 = 60_000;

#[derive(Clone, Debug)]
struct Script {
    offset_ms: i64,
    ppm: i64,
    has_millis: bool,
    cadence_ms: i64,
    batch: i64,
    /// Index and length of the excursion.
    excursion: (i64, i64),
    level: usize,
    is_noisy: bool,
    delays_ms: Vec<i64>,
    /// Extra delay of single messages.
    overtaken_ms: Vec<i64>,
}

fn script() -> impl Strategy<Value = Script> {
    let overtaken = prop_oneof![Just(0_i64), 2_001..=60_000_i64];
    (
        (-10 * DAY_MS..10 * DAY_MS, -100..=100_i64, any::<bool>()),
        (cadence_ms(), 1..=4_i64),
        (5..40_i64, 1..20_i64),
        (1..=3_usize, any::<bool>()),
        prop::collection::vec(0..=1_000_i64, 100),
        prop::collection::vec(overtaken, 100),
    )
        .prop_map(
            |(clock, sending, excursion, gas, delays_ms, overtaken_ms)| Script {
                offset_ms: clock.0,
                ppm: clock.1,
                has_millis: clock.2,
                cadence_ms: sending.0,
                batch: sending.1,
                // A backlog brings no more than half an hour that belongs to an alarm.
                excursion: (excursion.0, excursion.1.min(25 * MINUTE / sending.0)),
                level: gas.0,
                is_noisy: gas.1,
                delays_ms,
                overtaken_ms,
            },
        )
}

impl Script {
    /// Time after the start, of the reading with this index.
    fn taken_ms(&self, index: i64) -> i64 {
        index * self.cadence_ms
    }

    fn payload(&self, index: i64, taken_ms: i64) -> Vec<u8> {
        let detector = Detector {
            format: if self.has_millis {
                PayloadFormat::Mixed
            } else {
                PayloadFormat::Newest
            },
            ..Detector::carbon_monoxide("A")
        };
        let (first, count) = self.excursion;
        let is_gas = (first..first + count).contains(&index);
        // A noisy excursion ends again and again, for less than a minute.
        let is_noisy = self.is_noisy && self.cadence_ms < 25_000;
        let is_dip = is_noisy && index % 3 == 1 && index > first && index + 1 < first + count;
        let value = match self.level {
            _ if !is_gas || is_dip => "5",
            1 => "300",
            2 => "700",
            _ => "1200",
        };
        let time = at(taken_ms + self.offset_ms + taken_ms * self.ppm / 1_000_000);
        let mut content = Content::reading(value, Some(time));
        content.number = usize::try_from(index + 1).expect("small");
        detector.payload(&content, 0)
    }

    fn limit_ms(&self) -> i64 {
        (3 * MINUTE).max(4 * self.cadence_ms * self.batch)
    }

    fn simulation(&self) -> Simulation {
        let mut settings = default_settings();
        settings.alarms.offline_after = Duration::from_millis(self.limit_ms().unsigned_abs());
        Simulation::new(settings, START)
    }
}

/// Live readings for long enough that a chattering alarm is calm again.
fn be_calm(script: &Script, simulation: &mut Simulation, index: i64, from_ms: i64) {
    let cadence_ms = script.cadence_ms.max(20_000);
    let count = 12 * MINUTE / cadence_ms + 3;
    for step in 1..=count {
        let taken_ms = from_ms + step * cadence_ms;
        let payload = script.payload(index + step, taken_ms);
        simulation.publish(at(taken_ms + 500), live(&payload));
    }
}

/// Checks that there was one alarm of gas, and that it does not stand.
fn check(script: &Script, simulation: &Simulation) -> Result<(), TestCaseError> {
    let device: DeviceId = "A".parse().expect("a serial");
    let open = simulation.open_alarms(&device);
    let is_active = |alarm: &&Alarm| alarm.is_active();
    prop_assert!(open.iter().find(is_active).is_none(), "{:?}", open);
    prop_assert!(open.iter().all(|alarm| alarm.returned), "{:?}", open);
    prop_assert_eq!(open.len(), usize::from(script.level > 1), "{:?}", open);
    prop_assert!(week::is_normal_and_good(simulation, &device));
    let gas = simulation
        .changes()
        .iter()
        .map(|change| &change.change.alarm);
    let gas = gas.filter(|alarm| alarm.kind().is_gas());
    let ids: std::collections::BTreeSet<&str> = gas.map(|alarm| alarm.id.as_str()).collect();
    prop_assert_eq!(ids.len(), 1, "{:?}", kinds(simulation));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn overtaken_readings_leave_no_alarm_active(script in script()) {
        let count = 80_i64;
        let interval_ms = script.cadence_ms * script.batch;
        // Two overtaken readings are so far apart that one in order arrives between them.
        let step = (3 + 5_000 / interval_ms) * script.batch;
        let mut messages = Vec::new();
        for index in 0..count {
            let last = if index == 0 { 0 } else { ((index - 1) / script.batch + 1) * script.batch };
            let place = usize::try_from(index).expect("small");
            let group = usize::try_from(last % 100).expect("small");
            let is_overtaken = index % step == 1;
            let extra_ms = if is_overtaken { script.overtaken_ms[place] } else { 0 };
            let arrival_ms = script.taken_ms(last) + script.delays_ms[group] + extra_ms;
            messages.push((arrival_ms, index));
        }
        messages.sort_unstable();
        let mut simulation = script.simulation();
        let mut end_ms = 0;
        for (arrival_ms, index) in messages {
            let payload = script.payload(index, script.taken_ms(index));
            simulation.publish(at(arrival_ms), live(&payload));
            end_ms = arrival_ms;
        }
        be_calm(&script, &mut simulation, count, end_ms);
        check(&script, &simulation)?;
    }

    #[test]
    fn a_backlog_beside_live_readings_leaves_no_alarm_active(
        script in script(),
        outage in (3..45_i64, 2..60_i64),
        pauses in prop::collection::vec(prop_oneof![2 => 50..500_i64, 1 => 500..20_000_i64], 60),
    ) {
        let script = Script { batch: 1, cadence_ms: script.cadence_ms.max(4_000), ..script };
        let (first, length) = outage;
        // The outage is longer than the silence limit: a shorter gap is no backlog.
        let length = length.max(script.limit_ms() / script.cadence_ms + 2);
        let mut messages = Vec::new();
        let is_away = |index: i64| (first..first + length).contains(&index);
        let backlog_from = script.taken_ms(first + length);
        let mut backlog_ms = backlog_from + 1_500;
        for index in 0..first + length {
            if is_away(index) {
                messages.push((backlog_ms, index));
                backlog_ms += pauses[usize::try_from(index % 60).expect("small")];
            } else {
                messages.push((script.taken_ms(index) + 100, index));
            }
        }
        let mut index = first + length;
        let end = script.excursion.0 + script.excursion.1 + 1;
        while script.taken_ms(index) < backlog_ms + 5_000 || index < end {
            messages.push((script.taken_ms(index) + 100, index));
            index += 1;
        }
        messages.sort_unstable();
        let mut simulation = script.simulation();
        let mut end_ms = 0;
        for (arrival_ms, index) in messages {
            let payload = script.payload(index, script.taken_ms(index));
            simulation.publish(at(arrival_ms), live(&payload));
            end_ms = arrival_ms;
        }
        be_calm(&script, &mut simulation, index, end_ms);
        check(&script, &simulation)?;
    }
}

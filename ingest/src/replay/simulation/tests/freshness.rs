//! Freshness: an old reading is never shown as good, whatever keeps arriving.
//!
//! Reach of the generators:
//!
//! * Any clock: the clocks, cadences, delays and batches of [`super::clocks`]; phases of up to 30 messages in which only old messages
//!   come again, two of them by turns, as a faulty bridge sends them, with DUP, retained (not the first one of all) or neither; restarts of ingest for up to
//!   20 min. Only messages that were shown come again, and only those of a clock that moves and is not fast: without one, nothing distinguishes an old message from a new one. A single
//!   message that comes again is a clock that stands still, and soon `reading_frozen`.
//! * A sane clock: any constant offset within ±10 days, a rate off by up to 100 ppm, milliseconds or whole seconds; outages after which
//!   the backlog comes in order, at once, in bursts, or at 1.5 to 20 times the speed at which it was recorded.

use proptest::prelude::*;

use super::clocks::{DAY_MS, START, any_clock, at, cadence_ms, delay_ms, take_and_send};
use super::detector::{Content, Detector, PayloadFormat};
use super::*;

/// The silence limit: the default.
const LIMIT_MS: i64 = 180_000;
/// A deadline is looked for four times a second.
const OFFLINE_MS: i64 = LIMIT_MS + 1_000;

fn detector() -> Detector {
    Detector {
        format: PayloadFormat::Mixed,
        ..Detector::carbon_monoxide("A")
    }
}

/// The reading with this index, which no other has.
fn value(index: usize) -> String {
    format!("{}.{:03}", index / 1_000, index % 1_000)
}

/// Returns the index of the reading that is shown.
fn shown(simulation: &Simulation, device: &DeviceId) -> Option<usize> {
    let reading = &simulation.state(device)?.latest.as_ref()?.reading;
    let milli = reading.value?.to_string().parse::<f64>().ok()? * 1_000.0;
    format!("{milli:.0}").parse().ok()
}

fn has_offline_alarm(simulation: &Simulation, device: &DeviceId) -> bool {
    let mut open = simulation.open_alarms(device).iter();
    open.any(|alarm| {
        let is_offline = alarm.condition.code() == "device_offline" && alarm.is_active();
        is_offline && alarm.message.starts_with("No ")
    })
}

/// Checks what is shown now of a reading that arrived at `arrived_ms`. If the first reading of a clock was delayed by up to
/// `delay_ms`, the others look that much younger.
fn check(
    simulation: &Simulation,
    device: &DeviceId,
    (arrived_ms, delay_ms): (i64, i64),
    listening_ms: Option<i64>,
) -> Result<(), TestCaseError> {
    let now_ms = simulation
        .now()
        .millis_since(START)
        .saturating_sub(delay_ms);
    let data = simulation.data(device).expect("a known device");
    if now_ms - arrived_ms > LIMIT_MS {
        let text = data.get();
        prop_assert!(text.contains(r#""data_quality":"offline""#), "{}", text);
        prop_assert!(text.contains(r#""alarm_status":"ALARM""#), "{}", text);
    }
    if let Some(listening_ms) = listening_ms
        && now_ms - arrived_ms.max(listening_ms) > OFFLINE_MS
    {
        let open = simulation.open_alarms(device);
        prop_assert!(has_offline_alarm(simulation, device), "{:?}", open);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn an_old_reading_is_never_good_whatever_keeps_arriving(
        clocks in prop::collection::vec((any_clock(), 1..50_usize), 1..=4),
        cadence in cadence_ms(),
        batch in 1..=4_usize,
        delays in prop::collection::vec(delay_ms(), 120),
        phases in prop::collection::vec((0..6_u32, 1..30_usize, 0..5_usize), 120),
    ) {
        let (detector, device) = (detector(), detector().device());
        let on_the_way = take_and_send(&clocks, cadence, batch, &delays);
        let mut messages: Vec<(i64, usize)> = (0_usize..).zip(&on_the_way).map(|(index, message)| (message.arrival_ms, index)).collect();
        messages.sort_unstable();
        // The beginnings of the clocks. Only messages of the present one come again.
        let beginnings: Vec<(usize, clocks::Clock)> = clocks
            .iter()
            .scan(0, |next, (clock, count)| Some((std::mem::replace(next, *next + count), *clock)))
            .collect();
        // What the messages of this phase are: 0 to 2 are new readings.
        let mut kinds = phases.iter().flat_map(|(kind, count, back)| vec![(*kind, *back); *count]);
        let delay_ms = cadence * i64::try_from(batch - 1).expect("small") + delays.iter().max().copied().unwrap_or(0);
        let mut simulation = Simulation::new(default_settings(), START);
        let mut listening = Some(0);
        let mut resumes = None;
        // When each reading was first processed.
        let mut arrived = vec![None; on_the_way.len()];
        let mut was_shown = vec![false; on_the_way.len()];
        let mut waiting = Vec::new();
        let mut turn = 0;
        let mut sent: Vec<(i64, usize, u32, Option<i64>)> = Vec::new();
        for (arrival_ms, index) in messages {
            let mut now_ms = simulation.now().millis_since(START);
            while now_ms < arrival_ms {
                now_ms = (now_ms + 20_000).min(arrival_ms);
                if resumes.is_some_and(|resumes_ms| resumes_ms <= now_ms) {
                    resumes = None;
                    simulation.set_listening(at(now_ms), true);
                    listening = Some(now_ms);
                    for index in std::mem::take(&mut waiting) {
                        let first: &mut Option<i64> = &mut arrived[index];
                        first.get_or_insert(now_ms);
                    }
                }
                simulation.advance_to(at(now_ms));
                if let Some(index) = shown(&simulation, &device) {
                    check(&simulation, &device, (arrived[index].unwrap_or(i64::MIN), delay_ms), listening)
                        .map_err(|err| TestCaseError::fail(format!("{err} {sent:?}")))?;
                }
            }
            let (kind, back) = kinds.next().unwrap_or_default();
            // Of a device that is known only from a retained message, nothing shows how old that was.
            let kind = if simulation.state(&device).is_some() { kind } else { 0 };
            let clock = beginnings.iter().rfind(|(begins, _)| *begins <= index);
            let repeated = match (kind, clock) {
                (3.., Some((begins, clocks::Clock::Runs { per_mille: ..=1_000, .. }))) if begins + back + 1 < index => {
                    turn += 1;
                    Some(begins + back + turn % 2)
                }
                _ => None,
            };
            let source = repeated.filter(|source| was_shown[*source]).unwrap_or(index);
            if sent.last().is_some_and(|(_, last, ..)| *last == source) {
                // A message that comes several times in a row is a clock that stands still.
                continue;
            }
            let content = Content::reading(value(source), on_the_way[source].device_time);
            let payload = detector.payload(&content, 0);
            let delivery = Delivery { payload: &payload, retain: kind == 3, dup: kind == 4 };
            sent.push((arrival_ms, source, kind, on_the_way[source].device_time.map(|time| time.millis_since(START))));
            simulation.publish(at(arrival_ms), delivery);
            if kind == 3 {
                // A retained message of a known device never becomes the latest.
            } else if listening.is_some() {
                arrived[source].get_or_insert(arrival_ms);
            } else {
                waiting.push(source);
            }
            if let Some(index) = shown(&simulation, &device) {
                was_shown[index] = true;
                check(&simulation, &device, (arrived[index].unwrap_or(i64::MIN), delay_ms), listening)
                    .map_err(|err| TestCaseError::fail(format!("{err} {sent:?}")))?;
            }
            if back == 4 && index % 31 == 30 && listening.is_some() {
                listening = None;
                resumes = Some(arrival_ms + i64::try_from(index % 20).expect("small") * 60_000);
                simulation.set_listening(at(arrival_ms), false);
            }
        }
    }

    #[test]
    fn the_age_of_a_reading_is_its_real_one(
        offset_ms in -10 * DAY_MS..10 * DAY_MS,
        ppm in -100..=100_i64,
        has_millis in any::<bool>(),
        cadence in cadence_ms(),
        outages in prop::collection::vec((10..60_i64, 3..100_i64, 1_500..20_000_i64, 1..30_i64), 1..4),
        jitter in prop::collection::vec(0..1_000_i64, 50),
    ) {
        let detector = Detector {
            format: if has_millis { PayloadFormat::Mixed } else { PayloadFormat::Newest },
            ..detector()
        };
        let device = detector.device();
        let mut simulation = Simulation::new(default_settings(), START);
        let mut index = 0_usize;
        let mut arrival_ms = 0;
        let taken = |index: usize| i64::try_from(index).expect("small") * cadence;
        let mut send = |index: usize, arrival_ms: i64| -> Result<(), TestCaseError> {
            let taken_ms = taken(index);
            let time = at(taken_ms + offset_ms + taken_ms * ppm / 1_000_000);
            let payload = detector.payload(&Content::reading(value(index), Some(time)), 0);
            let before_ms = simulation.now().millis_since(START);
            // What is shown just before, and after the message.
            for now_ms in [before_ms.max(arrival_ms - 1), arrival_ms] {
                simulation.advance_to(at(now_ms));
                if now_ms == arrival_ms {
                    simulation.publish(at(arrival_ms), live(&payload));
                }
                let Some(shown) = shown(&simulation, &device) else { continue };
                let state = simulation.state(&device).expect("a known device");
                let latest = state.latest.as_ref().expect("a reading");
                let measured_ms = latest.measured_at().millis_since(START);
                let error_ms = measured_ms - taken(shown);
                prop_assert!((-6_000..=6_000).contains(&error_ms), "off by {} ms", error_ms);
                if week::is_normal_and_good(&simulation, &device) {
                    prop_assert!(now_ms - taken(shown) <= LIMIT_MS + 6_000, "{} of {}", shown, now_ms);
                    let age_ms = latest.taken_at.millis_since(START) - taken(shown);
                    prop_assert!(age_ms <= 36_000, "{} ms", age_ms);
                }
            }
            Ok(())
        };
        for (live_count, outage, speed_per_mille, burst) in outages {
            for _ in 0..live_count {
                arrival_ms = arrival_ms.max(taken(index) + jitter[index % 50]);
                send(index, arrival_ms)?;
                index += 1;
            }
            let first = index;
            let resumes_ms = taken(first + usize::try_from(outage).expect("small"));
            // The backlog ends when a reading is sent soon after it was taken.
            for sent in 0_i64..400 {
                let sent_ms = resumes_ms + sent / burst * burst * cadence * 1_000 / speed_per_mille;
                if sent_ms - taken(index) < cadence {
                    break;
                }
                arrival_ms = arrival_ms.max(sent_ms + jitter[index % 50]);
                send(index, arrival_ms)?;
                index += 1;
            }
        }
    }
}

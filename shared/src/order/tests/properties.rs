//! Properties of the order over random clocks and networks.
//!
//! Reach of the generators:
//!
//! * Any clock: 1 to 6 spans of 1 to 40 readings. In each, the clock is off by 0, ±4 s, ±1 h, ±1 day, ±1 year or by any time
//!   within ±10 days. It runs at 0.1 to 2 times the right rate (every second one at the right rate), stands still, is missing, or
//!   begins at 1970.
//! * Cadence: 0.2 to 120 s. Readings are sent one by one or in batches of up to 4. Each takes up to 2 s, and some up to 60 s, so
//!   that they overtake each other. In some runs all arrivals are rounded to 10 s, so that many have the same arrival time.
//! * Flags: some messages are redelivered (DUP) or retained. Some repeat earlier bytes.
//! * A sane clock: any constant offset within ±10 days, a rate off by up to 100 ppm, with milliseconds or whole seconds. Messages
//!   take up to 1 s, and single ones up to 60 s more. Several in a row that are overtaken and arrive with none in order between
//!   them cannot be told from a clock that was set back.
//!
//! Not reached: clocks that run backwards, and server times that go back (the caller prevents them).

use proptest::prelude::*;

use super::*;

/// A message of a generated sequence, before it is sent.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Server time at which the reading was taken, in milliseconds since the start.
    at_ms: i64,
    /// What the device's clock showed.
    device_time: Option<Time>,
    /// Index of its span of the clock.
    span: usize,
}

/// What a clock does for a while.
#[derive(Clone, Copy, Debug)]
enum Clock {
    /// It is off by `offset_ms` at first, and then runs at `per_mille` of the right rate.
    Runs { offset_ms: i64, per_mille: i64 },
    /// It stands still.
    Stands { offset_ms: i64 },
    /// It is missing.
    Missing,
    /// It begins at 1970.
    Begins1970,
}

impl Clock {
    fn show(self, start_ms: i64, at_ms: i64) -> Option<Time> {
        let passed_ms = at_ms - start_ms;
        let millis = match self {
            Self::Runs {
                offset_ms,
                per_mille,
            } => BASE_MS + start_ms + offset_ms + passed_ms * per_mille / 1_000,
            Self::Stands { offset_ms } => BASE_MS + start_ms + offset_ms,
            Self::Missing => return None,
            Self::Begins1970 => passed_ms,
        };
        Some(Time::from_millis(millis))
    }
}

const DAY_MS: i64 = 24 * 3_600 * 1_000;

fn offset() -> impl Strategy<Value = i64> {
    prop_oneof![
        2 => Just(0),
        1 => prop_oneof![Just(4_000), Just(-4_000)],
        2 => prop_oneof![Just(3_600_000), Just(-3_600_000)],
        2 => prop_oneof![Just(DAY_MS), Just(-DAY_MS)],
        1 => prop_oneof![Just(365 * DAY_MS), Just(-365 * DAY_MS)],
        2 => -10 * DAY_MS..10 * DAY_MS,
    ]
}

fn clock(max_per_mille: i64) -> impl Strategy<Value = Clock> {
    prop_oneof![
        3 => offset().prop_map(|offset_ms| Clock::Runs { offset_ms, per_mille: 1_000 }),
        3 => (offset(), 100..=max_per_mille)
            .prop_map(|(offset_ms, per_mille)| Clock::Runs { offset_ms, per_mille }),
        1 => offset().prop_map(|offset_ms| Clock::Stands { offset_ms }),
        1 => Just(Clock::Missing),
        1 => Just(Clock::Begins1970),
    ]
}

fn cadence_ms() -> impl Strategy<Value = i64> {
    prop_oneof![200..2_000_i64, 2_000..20_000_i64, 20_000..=120_000_i64]
}

/// A delay on the way: mostly short.
fn delay_ms() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 0..300_i64, 3 => 0..=2_000_i64, 1 => 0..=60_000_i64]
}

fn take_readings(spans: &[(Clock, usize)], cadence_ms: i64) -> Vec<Taken> {
    let mut at_ms = 0;
    let mut taken = Vec::new();
    for (span, (clock, count)) in spans.iter().enumerate() {
        let start_ms = at_ms;
        for _ in 0..*count {
            taken.push(Taken {
                at_ms,
                device_time: clock.show(start_ms, at_ms),
                span,
            });
            at_ms += cadence_ms;
        }
    }
    taken
}

/// Server time at which the batch of a reading is sent, in milliseconds since the start.
fn sent_ms(taken: &[Taken], index: usize, batch: usize) -> i64 {
    let last = (index / batch * batch + batch - 1).min(taken.len() - 1);
    taken[last].at_ms
}

fn becomes_latest(class: Class) -> bool {
    matches!(class, Class::Next(_) | Class::Tie(_))
}

fn server_time(at_ms: i64) -> Time {
    Time::from_millis(BASE_MS + at_ms)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_the_invariants(
        spans in prop::collection::vec((clock(2_000), 1..40_usize), 1..6),
        cadence in cadence_ms(),
        batch in 1..=4_usize,
        delays in prop::collection::vec(delay_ms(), 240),
        kinds in prop::collection::vec(0..20_u32, 240),
        rounded in prop_oneof![3 => Just(1_i64), 1 => Just(10_000_i64)],
    ) {
        let taken = take_readings(&spans, cadence);
        let mut messages: Vec<(i64, usize)> = (0..taken.len())
            .map(|index| {
                let arrival_ms = sent_ms(&taken, index, batch) + delays[index];
                (arrival_ms / rounded * rounded, index)
            })
            .collect();
        messages.sort_by_key(|(at_ms, _)| *at_ms);
        let mut device = Device::new();
        for (at_ms, index) in messages {
            let kind = kinds[index];
            let source = if kind == 3 { index / 2 } else { index };
            let arrival = Arrival {
                fingerprint: u64::try_from(source).expect("small"),
                device_time: taken[source].device_time,
                unreadable_time: None,
                has_value: true,
                dup: kind == 1,
                retain: kind == 2,
                at: server_time(at_ms),
            };
            let before = device.state.clone();
            let known = device.known;
            let again = classify(&before, &device.fingerprints, known, arrival, &device.settings);
            let class = device.arrive(arrival);
            prop_assert_eq!(class, again.0, "the same arguments give the same class");
            match class {
                Class::Next(clock) | Class::Tie(clock) => {
                    prop_assert!(clock.age_ms.is_none_or(|age_ms| age_ms >= 0));
                    prop_assert_eq!(device.state.latest_fingerprint, Some(arrival.fingerprint));
                    prop_assert_eq!(device.state.latest_arrival, arrival.at);
                    prop_assert!(device.state.late.is_none());
                }
                Class::Late(late) => {
                    prop_assert!(late.age_ms >= 0);
                    prop_assert_eq!(late.is_proved_old, arrival.dup);
                    prop_assert_eq!(device.state.latest_time, before.latest_time);
                    prop_assert!(arrival.device_time < before.latest_time);
                }
                Class::RetainedNewer | Class::Ignored => {
                    prop_assert!(known && arrival.retain);
                    prop_assert_eq!(&device.state, &before);
                }
                Class::Duplicate | Class::Repeated => {
                    prop_assert_eq!(device.state.latest_arrival, before.latest_arrival);
                    prop_assert_eq!(device.state.latest_time, before.latest_time);
                }
            }
            let json = serde_json::to_string(&device.state).expect("JSON");
            prop_assert!(json.len() <= 1_400, "{} bytes: {}", json.len(), json);
            let stored: OrderState = serde_json::from_str(&json).expect("a state");
            prop_assert_eq!(&stored, &device.state, "the stored state is the same");
            prop_assert!(device.state.offset_minima.len() <= MAX_OFFSET_MINIMA);
        }

        // All messages of the last 64 that come again are duplicates and change nothing.
        let state = device.state.clone();
        let at = state.latest_arrival + Duration::from_secs(30);
        for fingerprint in device.fingerprints.clone() {
            let index = usize::try_from(fingerprint).expect("small");
            let class = device.arrive(Arrival {
                fingerprint,
                device_time: taken[index].device_time,
                unreadable_time: None,
                has_value: true,
                dup: true,
                retain: false,
                at,
            });
            prop_assert_eq!(class, Class::Duplicate);
        }
        prop_assert_eq!(&device.state, &state);
    }

    /// Live messages of a clock that was set, in order, always become the latest soon, unless their times lie in the last gap. The
    /// clock must not be fast: a fast one that was set back is late until it catches up, and the silence limit covers that.
    #[test]
    fn at_most_two_seconds_and_two_arrivals_pass_until_a_reading_becomes_the_latest(
        spans in prop::collection::vec((clock(1_000), 20..40_usize), 1..6),
        cadence in cadence_ms(),
        batch in 1..=4_usize,
    ) {
        let taken = take_readings(&spans, cadence);
        let mut device = Device::new();
        let mut behind_since = None;
        for (index, reading) in taken.iter().enumerate() {
            let arrival_ms = sent_ms(&taken, index, batch);
            let arrival_gap_ms = cadence * i64::try_from(batch).expect("small");
            let class = device.send_at(server_time(arrival_ms), reading.device_time, Flags::default());
            let in_gap = device.state.gap.as_ref().is_some_and(|gap| {
                reading.device_time.is_some_and(|time| gap.from < time && time < gap.to)
            });
            let is_new_span = index == 0 || taken[index - 1].span != reading.span;
            if becomes_latest(class) || in_gap {
                behind_since = None;
                continue;
            }
            if is_new_span {
                behind_since = None;
            }
            let since = *behind_since.get_or_insert(arrival_ms);
            prop_assert!(
                arrival_ms - since <= 2_000 + 2 * arrival_gap_ms,
                "{:?} at {} ms, late since {} ms", class, arrival_ms, since
            );
        }
    }

    #[test]
    fn a_sane_clock_is_never_late_in_order_and_its_ages_are_true(
        offset_ms in -10 * DAY_MS..10 * DAY_MS,
        ppm in -100..=100_i64,
        has_millis in any::<bool>(),
        count in 2..400_usize,
        cadence in cadence_ms(),
        batch in 1..=4_usize,
        delays in prop::collection::vec(0..=1_000_i64, 400),
        overtaken in prop::collection::vec(prop_oneof![Just(0_i64), 2_001..=60_000_i64], 400),
    ) {
        let batch = i64::try_from(batch).expect("small");
        let interval_ms = cadence * batch;
        let total_ms = i64::try_from(count).expect("small") * cadence;
        // Two overtaken readings that arrive with none in order between them are further apart in time than a clock that was set
        // back would show.
        let step = usize::try_from(3 + 5_000 / interval_ms).expect("small");
        let batch = usize::try_from(batch).expect("small");
        let mut messages = Vec::new();
        // The first reading comes alone.
        for (index, extra_ms) in overtaken.into_iter().enumerate().take(count) {
            let taken_ms = i64::try_from(index).expect("small") * cadence;
            let last = if index == 0 { 0 } else { ((index - 1) / batch + 1) * batch };
            let sent_ms = i64::try_from(last).expect("small") * cadence;
            let ends_in_time = taken_ms + 65_000 + interval_ms < total_ms;
            let is_overtaken = index % (step * batch) == 1 && ends_in_time;
            let extra_ms = if is_overtaken { extra_ms } else { 0 };
            let clock_ms = BASE_MS + offset_ms + taken_ms + taken_ms * ppm / 1_000_000;
            let shown_ms = if has_millis { clock_ms } else { clock_ms / 1_000 * 1_000 };
            messages.push((sent_ms + delays[last.min(399)] + extra_ms, taken_ms, shown_ms));
        }
        // Those of a batch arrive in order, and those that are not overtaken arrive in order.
        messages.sort_by_key(|(arrival_ms, taken_ms, _)| (*arrival_ms, *taken_ms));
        let mut device = Device::new();
        let mut newest_ms = i64::MIN;
        for (arrival_ms, taken_ms, shown_ms) in messages {
            let device_time = Some(Time::from_millis(shown_ms));
            let class = device.send_at(server_time(arrival_ms), device_time, Flags::default());
            match class {
                Class::Next(_) => prop_assert!(shown_ms > newest_ms),
                Class::Tie(_) => prop_assert_eq!(shown_ms, newest_ms),
                Class::Late(_) => prop_assert!(shown_ms < newest_ms),
                _ => prop_assert!(false, "{:?}", class),
            }
            newest_ms = newest_ms.max(shown_ms);
            // The usual offset contains a delay of at most 1 s. A clock with whole seconds adds one, and the drift the rest.
            let delay_ms = arrival_ms - taken_ms;
            let age_ms = match class {
                Class::Next(clock) | Class::Tie(clock) => clock.age_ms,
                Class::Late(late) => Some(late.age_ms),
                _ => None,
            };
            let age_ms = age_ms.expect("an age");
            prop_assert!(age_ms <= delay_ms + 6_000, "{} > {}", age_ms, delay_ms);
            prop_assert!(age_ms >= delay_ms - 6_000, "{} < {}", age_ms, delay_ms);
        }
    }

    /// After an outage, a backlog arrives in order: at once, or in bursts with pauses, at least 1.5 times as fast as it grows.
    #[test]
    fn a_backlog_in_order_shows_its_real_age(
        cadence in cadence_ms(),
        outage in 50..400_i64,
        burst in 2..100_i64,
        speed_per_mille in 1_500..20_000_i64,
        jitter in prop::collection::vec(0..1_000_i64, 100),
    ) {
        let mut device = Device::new();
        for index in -20..0 {
            device.send_at(server_time(index * cadence), Some(server_time(index * cadence)), Flags::default());
        }
        let at_ms = outage * cadence;
        let pause_ms = burst * cadence * 1_000 / speed_per_mille;
        // The backlog ends when a reading is sent soon after it was taken.
        for (burst_index, index) in (0..4_000).map(|index| (index / burst, index)) {
            let sent_ms = at_ms + burst_index * pause_ms;
            let taken_ms = index * cadence;
            if sent_ms - taken_ms < cadence {
                break;
            }
            let arrival_ms = sent_ms + jitter[usize::try_from(index % 100).expect("small")];
            let device_time = Some(server_time(taken_ms));
            let class = device.send_at(server_time(arrival_ms), device_time, Flags::default());
            let Class::Next(clock) = class else {
                return Err(TestCaseError::fail(format!("{class:?} at {arrival_ms}")));
            };
            prop_assert_eq!(clock.age_ms, Some(arrival_ms - taken_ms), "at {}", arrival_ms);
        }
    }

    /// After an outage, live readings arrive in order, and the backlog between them.
    #[test]
    fn a_backlog_beside_live_readings_changes_nothing(
        cadence in cadence_ms(),
        outage_s in 190..10_000_i64,
        pauses in prop::collection::vec(prop_oneof![Just(0_i64), 1..500_i64, 500..20_000_i64], 200),
    ) {
        let mut device = Device::new();
        for index in -20..=0 {
            device.send_at(server_time(index * cadence), Some(server_time(index * cadence)), Flags::default());
        }
        let live_ms = outage_s * 1_000 + cadence;
        let mut at_ms = live_ms;
        let mut next_live_ms = live_ms;
        let mut backlog_ms = cadence.min(100_000);
        for pause_ms in pauses {
            while next_live_ms <= at_ms {
                let at = server_time(next_live_ms);
                let class = device.send_at(at, Some(at), Flags::default());
                prop_assert!(matches!(class, Class::Next(clock) if clock.age_ms == Some(0)), "{:?}", class);
                next_live_ms += cadence;
            }
            if backlog_ms >= live_ms {
                break;
            }
            let class = device.send_at(server_time(at_ms), Some(server_time(backlog_ms)), Flags::default());
            prop_assert!(matches!(class, Class::Late(late) if late.age_ms == at_ms - backlog_ms), "{:?}", class);
            backlog_ms += cadence;
            at_ms += pause_ms;
        }
    }
}

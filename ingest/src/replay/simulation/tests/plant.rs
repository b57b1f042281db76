//! Ten detectors in clean air, and what happens to them: the simulated plant.
//!
//! Each detector runs in a simulation of its own, because they have different silence limits. That detectors do not touch each
//! other is shown by a scenario.

use fastrand::Rng;
use shared::clock::Time;

use super::clocks::at;
use super::detector::{Content, Detector, PayloadFormat};

pub(super) const SECOND: i64 = 1_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;

/// How a detector sends what it kept during an outage of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backlog {
    /// All of it in order, twenty messages a second, and live readings behind it.
    InOrder,
    /// In order, ten messages every five seconds, and live readings behind it.
    InBursts,
    /// Between the live readings.
    BesideLive,
}

/// What happens, in milliseconds since the start. Nothing happens twice at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Events {
    /// When the readings begin and end.
    pub(super) from: i64,
    pub(super) to: i64,
    /// The clock is set back, and forward again, by one hour.
    pub(super) clock_back: i64,
    pub(super) clock_forward: i64,
    /// The network is away.
    pub(super) outage: (i64, i64),
    /// No ingest listens. The broker sends its last messages again when one does, and messages that it retained.
    pub(super) restart: (i64, i64),
    /// Every twentieth message is overtaken, by ten seconds.
    pub(super) overtaking: (i64, i64),
    pub(super) renamed: i64,
    pub(super) installer: i64,
    pub(super) calibration: i64,
}

impl Events {
    /// All events within some hours; within minutes for a detector that sends often.
    pub(super) fn of_a_few_hours(member: &Member) -> Self {
        let unit = if member.cadence_ms < 20 * SECOND {
            MINUTE
        } else {
            10 * MINUTE
        };
        Self {
            from: 0,
            to: 28 * unit,
            clock_back: 2 * unit,
            clock_forward: 27 * unit,
            outage: (5 * unit, 9 * unit),
            restart: (11 * unit, 12 * unit),
            overtaking: (13 * unit, 17 * unit),
            renamed: 18 * unit,
            installer: 18 * unit + unit / 2,
            calibration: 19 * unit,
        }
    }

    /// The events, each somewhat later: by up to 50 hundredths of the time from the beginning to the first one.
    pub(super) fn shifted(self, hundredths: &[i64]) -> Self {
        let later = |time: i64, index: usize| time + hundredths[index] * self.clock_back / 200;
        Self {
            clock_back: later(self.clock_back, 0),
            outage: (later(self.outage.0, 1), later(self.outage.1, 2)),
            restart: (later(self.restart.0, 3), later(self.restart.1, 3)),
            calibration: later(self.calibration, 4),
            ..self
        }
    }
}

/// A detector of the plant.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) detector: Detector,
    pub(super) cadence_ms: i64,
    pub(super) has_clock: bool,
    pub(super) ppm: i64,
    pub(super) backlog: Backlog,
    /// The reading in clean air, and by how much it drifts. In thousandths.
    pub(super) clean_milli: i64,
    pub(super) drift_milli: i64,
    pub(super) has_leds: bool,
    /// The A1 that the installer sets.
    pub(super) new_a1: Option<&'static str>,
}

/// Gas for a while, by the time at which readings are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Excursion {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) value: &'static str,
    /// The LEDs that the detector lights.
    pub(super) leds: [u8; 3],
}

/// A message as it arrives.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) at_ms: i64,
    pub(super) payload: Vec<u8>,
    pub(super) dup: bool,
    pub(super) retain: bool,
}

impl Member {
    /// The silence limit: 3 min, or four times the cadence.
    pub(super) fn silence_limit_ms(&self) -> i64 {
        (3 * MINUTE).max(4 * self.cadence_ms)
    }

    /// The same detector with fewer messages, for tests that run many: one in three seconds at most.
    pub(super) fn with_fewer_messages(self) -> Self {
        Self {
            cadence_ms: self.cadence_ms.max(3 * SECOND),
            ..self
        }
    }

    fn time(&self, events: &Events, taken_ms: i64) -> Option<Time> {
        let is_back = events.clock_back <= taken_ms && taken_ms < events.clock_forward;
        let set_ms = if is_back { -HOUR } else { 0 };
        self.has_clock
            .then(|| at(taken_ms + set_ms + taken_ms * self.ppm / 1_000_000))
    }

    fn content(
        &self,
        events: &Events,
        excursion: Option<Excursion>,
        taken_ms: i64,
        rng: &mut Rng,
    ) -> Content {
        // A slow drift over the day, and noise of a tenth of it.
        let day = 24 * HOUR;
        let phase = (taken_ms % day - day / 2).abs() * 4 - day;
        let noise = rng.i64(-self.drift_milli / 10..=self.drift_milli / 10);
        let drift = self.drift_milli * 9 / 10 * phase / day + noise;
        let time = self.time(events, taken_ms);
        let mut content = Content::reading(decimal(self.clean_milli + drift), time);
        content.leds = self.has_leds.then_some([0; 3]);
        if events.calibration <= taken_ms && taken_ms < events.calibration + 5 * MINUTE {
            content.message_type = "CALIBRATION";
        }
        if let Some(excursion) = excursion
            && excursion.from <= taken_ms
            && taken_ms < excursion.to
        {
            content.value = excursion.value.to_owned();
            content.leds = self.has_leds.then_some(excursion.leds);
        }
        content
    }

    /// Returns the messages in the order in which they arrive.
    pub(super) fn arrivals(
        &self,
        events: &Events,
        excursion: Option<Excursion>,
        seed: u64,
    ) -> Vec<Arrival> {
        let mut rng = Rng::with_seed(seed);
        let mut detector = self.detector.clone();
        let mut arrivals: Vec<Arrival> = Vec::new();
        let mut kept = Vec::new();
        // The connection of the detector is busy until then.
        let mut busy_until = 0;
        let count = usize::try_from((events.to - events.from) / self.cadence_ms).expect("positive");
        for index in 0..count {
            let taken_ms = events.from + i64::try_from(index).expect("small") * self.cadence_ms;
            if taken_ms >= events.renamed {
                detector.name = "Boiler room, north wall";
            }
            if taken_ms >= events.installer
                && let Some(new_a1) = self.new_a1
            {
                detector.levels[0] = new_a1;
            }
            let content = self.content(events, excursion, taken_ms, &mut rng);
            let payload = detector.payload(&content, index);
            let is_away = |ms: i64| events.outage.0 <= ms && ms < events.outage.1;
            if is_away(taken_ms) {
                kept.push(payload);
                continue;
            }
            if !kept.is_empty() {
                let step = |sent: i64| match self.backlog {
                    Backlog::InOrder => sent * 50,
                    Backlog::InBursts => sent / 10 * 5 * SECOND + sent % 10 * 20,
                    Backlog::BesideLive => sent * (self.cadence_ms / 4).clamp(20, 2 * SECOND) + 7,
                };
                for (sent, payload) in (0..).zip(std::mem::take(&mut kept)) {
                    let at_ms = taken_ms + 300 + step(sent);
                    arrivals.push(Arrival::live(at_ms, payload));
                    if self.backlog != Backlog::BesideLive {
                        busy_until = at_ms + 20;
                    }
                }
            }
            let is_overtaken = events.overtaking.0 <= taken_ms
                && taken_ms < events.overtaking.1
                && index % 20 == 7;
            let delay_ms = rng.i64(20..300) + if is_overtaken { 10 * SECOND } else { 0 };
            let at_ms = (taken_ms + delay_ms).max(busy_until);
            if busy_until > taken_ms {
                busy_until += 20;
            }
            arrivals.push(Arrival::live(at_ms, payload));
        }
        Self::add_redeliveries(events, &mut arrivals);
        arrivals.sort_by_key(|arrival| arrival.at_ms);
        arrivals
    }

    /// When ingest listens again, the broker sends the last twenty messages once more, marked as redelivered, an old message that
    /// it retained, and one that arrived meanwhile.
    fn add_redeliveries(events: &Events, arrivals: &mut Vec<Arrival>) {
        let before = arrivals
            .iter()
            .filter(|arrival| arrival.at_ms < events.restart.0);
        let before: Vec<Arrival> = before.cloned().collect();
        if before.is_empty() {
            return;
        }
        let meanwhile = arrivals
            .iter()
            .rfind(|arrival| events.restart.0 <= arrival.at_ms && arrival.at_ms < events.restart.1);
        let retained = before.first().into_iter().chain(meanwhile);
        let retained: Vec<Arrival> = retained
            .map(|arrival| Arrival {
                at_ms: events.restart.1 + 1,
                retain: true,
                ..arrival.clone()
            })
            .collect();
        let again = before[before.len().saturating_sub(20)..].iter();
        let again = again.map(|arrival| Arrival {
            at_ms: events.restart.1,
            dup: true,
            ..arrival.clone()
        });
        arrivals.splice(0..0, again.chain(retained).collect::<Vec<_>>());
    }
}

impl Arrival {
    fn live(at_ms: i64, payload: Vec<u8>) -> Self {
        Self {
            at_ms,
            payload,
            dup: false,
            retain: false,
        }
    }
}

fn decimal(milli: i64) -> String {
    let sign = if milli < 0 { "-" } else { "" };
    let milli = milli.unsigned_abs();
    format!("{sign}{}.{:03}", milli / 1_000, milli % 1_000)
}

/// The ten detectors of the plant.
#[expect(clippy::too_many_lines, reason = "a list")]
pub(super) fn members() -> [Member; 10] {
    let carbon_monoxide = |serial| Member {
        detector: Detector::carbon_monoxide(serial),
        cadence_ms: 60 * SECOND,
        has_clock: true,
        ppm: 30,
        backlog: Backlog::InOrder,
        clean_milli: 0,
        drift_milli: 20_000,
        has_leds: true,
        new_a1: None,
    };
    let old = |serial| Detector {
        format: PayloadFormat::Old,
        gas: Some("Carbon Monoxide (CO)"),
        a1_type: Some("High"),
        span: Some(("0", "2000")),
        ..Detector::carbon_monoxide(serial)
    };
    let oxygen = |serial, span_high, drift_milli| Member {
        detector: Detector::oxygen(serial, span_high),
        clean_milli: 20_900,
        drift_milli,
        ..carbon_monoxide(serial)
    };
    [
        // The newest format, constant zero.
        Member {
            drift_milli: 0,
            ..carbon_monoxide("NEWEST")
        },
        // The old format, latching, with a drift of 1 % of its span.
        Member {
            detector: Detector {
                latching: true,
                ..old("OLD")
            },
            backlog: Backlog::InBursts,
            ppm: -100,
            ..carbon_monoxide("OLD")
        },
        // The mixed format, with small levels.
        Member {
            detector: Detector {
                format: PayloadFormat::Mixed,
                gas: Some("Hydrogen Sulfide (H2S)"),
                levels: vec!["5", "10", "15"],
                span: Some(("0", "100")),
                ..old("MIXED")
            },
            cadence_ms: 40 * SECOND,
            backlog: Backlog::BesideLive,
            drift_milli: 1_000,
            ..carbon_monoxide("MIXED")
        },
        // Both formats by turns. It is renamed, and the installer raises A1.
        Member {
            detector: Detector {
                format: PayloadFormat::Alternating,
                ..old("ALTERNATING")
            },
            cadence_ms: 30 * SECOND,
            new_a1: Some("300"),
            ..carbon_monoxide("ALTERNATING")
        },
        Member {
            backlog: Backlog::BesideLive,
            ..oxygen("OXYGEN", None, 250)
        },
        Member {
            backlog: Backlog::InBursts,
            ..oxygen("OXYGEN-25", Some("25"), 250)
        },
        Member {
            detector: Detector {
                format: PayloadFormat::Old,
                ..Detector::oxygen("OXYGEN-100", Some("100"))
            },
            has_leds: false,
            ..oxygen("OXYGEN-100", Some("100"), 1_000)
        },
        // Without a clock.
        Member {
            has_clock: false,
            drift_milli: 0,
            ..carbon_monoxide("NO-CLOCK")
        },
        // Five messages a second.
        Member {
            detector: Detector {
                format: PayloadFormat::Mixed,
                gas: Some("Methane (CH4)"),
                unit: "%LEL",
                levels: vec!["20", "40", "60"],
                span: Some(("0", "100")),
                latching: true,
                ..old("FIVE-A-SECOND")
            },
            cadence_ms: 200,
            backlog: Backlog::InOrder,
            drift_milli: 1_000,
            ..carbon_monoxide("FIVE-A-SECOND")
        },
        // One message a second, without LED keys and with whole seconds.
        Member {
            cadence_ms: SECOND,
            backlog: Backlog::BesideLive,
            has_leds: false,
            ..carbon_monoxide("ONE-A-SECOND")
        },
    ]
}

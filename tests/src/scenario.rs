//! The payloads of simulated detectors, as pure functions: the same time and seed give the same payload.

mod gas;
mod render;

use std::time::Duration;

use shared::clock::Time;

use gas::Gas;
use render::Sample;

/// A realistic story of one detector. It repeats until the simulator ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Clean air and a little noise.
    Steady,
    /// Gas rises through A1, A2 and A3 and falls again.
    Ramp,
    /// Oxygen falls through A1, A2 and A3 and rises again.
    LowOxygen,
    /// The fault flag is set for a while, with a value that looks like clean air.
    SensorFault,
    /// Every second payload is unreadable for a while, in every known way.
    GarbageReading,
    /// The detector stops sending for longer than the silence limit.
    Silence,
    /// The detector's clock stands still while gas passes A1.
    StuckClock,
}

impl Scenario {
    /// Every scenario, in the order in which devices get them.
    pub const ALL: [Self; 7] = [
        Self::Ramp,
        Self::Steady,
        Self::LowOxygen,
        Self::SensorFault,
        Self::GarbageReading,
        Self::StuckClock,
        Self::Silence,
    ];
}

/// How a detector writes its payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PayloadFormat {
    /// The announced firmware: live reading, unit code, no gas and no span.
    New,
    /// The reading under `Offset`, gas and span named, local time.
    Old,
    /// The live reading with the keys of the old format, time in UTC.
    Mixed,
}

impl PayloadFormat {
    /// Every format, in the order in which devices get them.
    pub const ALL: [Self; 3] = [Self::New, Self::Old, Self::Mixed];
}

/// The times, time zone and seed of a simulation.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// When the scenarios begin.
    pub started: Time,
    /// How long a scenario takes before it repeats.
    pub cycle: Duration,
    /// How long a detector is silent in [`Scenario::Silence`].
    pub silence: Duration,
    /// Time zone of device times without one, in seconds east of UTC.
    pub utc_offset_seconds: i32,
    /// Seed of the noise.
    pub seed: u64,
}

/// One simulated detector.
#[derive(Clone, Debug)]
pub struct Detector {
    serial: String,
    index: u64,
    scenario: Scenario,
    format: PayloadFormat,
    gas: &'static Gas,
    /// The share of the cycle by which this detector is ahead of the first one with the same scenario.
    head_start: f64,
    setting: Setting,
}

impl Detector {
    /// Creates `devices` detectors and divides the scenarios and formats evenly among them. Neither list may be empty.
    pub fn fleet(
        devices: u32,
        serial_prefix: &str,
        scenarios: &[Scenario],
        formats: &[PayloadFormat],
        setting: Setting,
    ) -> Vec<Self> {
        let turns = scenarios.iter().cycle().zip(0..devices);
        let one = |(scenario, index): (&Scenario, u32)| {
            let round = index as usize / scenarios.len();
            // Formats shift by one each round. Otherwise a scenario would always have the same format.
            let format = formats[(index as usize + round) % formats.len()];
            Self {
                serial: format!("{serial_prefix}{:04}", index + 1),
                index: u64::from(index),
                scenario: *scenario,
                format,
                gas: Gas::of(*scenario, index),
                // The golden ratio spreads any number of detectors evenly.
                head_start: (f64::from(u32::try_from(round).unwrap_or(0)) * 0.618).fract(),
                setting,
            }
        };
        turns.map(one).collect()
    }

    pub fn serial(&self) -> &str {
        &self.serial
    }

    pub fn scenario(&self) -> Scenario {
        self.scenario
    }

    /// Renders message number `tick` of this detector at `now`. `None` while it is silent.
    pub fn payload(&self, tick: u64, now: Time) -> Option<Vec<u8>> {
        let noise = self.noise(tick);
        let progress = self.progress(now);
        let clean = Sample {
            value: self.gas.clean + noise * self.gas.noise,
            has_fault: false,
            device_time: now,
        };
        let towards = |danger: f64, share: f64| clean.value + (danger - clean.value) * share;
        let sample = match self.scenario {
            Scenario::Ramp | Scenario::LowOxygen => Sample {
                value: towards(self.gas.beyond_a3(), hill(progress)),
                ..clean
            },
            Scenario::SensorFault if (0.35..0.65).contains(&progress) => Sample {
                value: 0.0,
                has_fault: true,
                ..clean
            },
            Scenario::GarbageReading if (0.3..0.7).contains(&progress) && tick % 2 == 1 => {
                return Some(render::garbage(self, &clean, tick / 2));
            }
            Scenario::Silence if self.is_silent(now) => return None,
            Scenario::Steady
            | Scenario::SensorFault
            | Scenario::GarbageReading
            | Scenario::Silence => clean,
            Scenario::StuckClock => Sample {
                value: towards(self.gas.beyond_a1(), hill(progress)),
                device_time: self.setting.started,
                ..clean
            },
        };
        Some(render::payload(self, &sample).to_string().into_bytes())
    }

    /// Returns a value between -1 and 1 that is different for every detector and message.
    fn noise(&self, tick: u64) -> f64 {
        let message = (self.index << 40).wrapping_add(tick);
        let seed = self.setting.seed ^ message.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        fastrand::Rng::with_seed(seed).f64() * 2.0 - 1.0
    }

    /// Returns the share of the present cycle that is over, from 0 to 1.
    fn progress(&self, now: Time) -> f64 {
        let cycles = self.elapsed(now).as_secs_f64() / self.setting.cycle.as_secs_f64().max(0.001);
        (cycles + self.head_start).fract()
    }

    fn is_silent(&self, now: Time) -> bool {
        let sending = self.setting.cycle / 2;
        let round = (sending + self.setting.silence).as_millis().max(1);
        self.elapsed(now).as_millis() % round >= sending.as_millis()
    }

    fn elapsed(&self, now: Time) -> Duration {
        let millis = now.millis_since(self.setting.started);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

/// Rises from 0 to 1 and falls back to 0, with a pause at both ends and at the top.
fn hill(progress: f64) -> f64 {
    match progress {
        ..0.1 => 0.0,
        ..0.5 => (progress - 0.1) / 0.4,
        ..0.6 => 1.0,
        ..0.9 => (0.9 - progress) / 0.3,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;

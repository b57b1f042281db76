//! The gases that simulated detectors measure, with usual alarm levels.

use super::Scenario;

#[derive(Debug)]
pub(super) struct Gas {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) is_low: bool,
    pub(super) levels: [f64; 3],
    pub(super) span_high: f64,
    pub(super) clean: f64,
    pub(super) noise: f64,
    /// Decimal places that the detector measures.
    pub(super) places: usize,
}

const TOXIC_AND_COMBUSTIBLE: [Gas; 3] = [
    Gas {
        name: "Carbon Monoxide (CO)",
        unit: "ppm",
        is_low: false,
        levels: [250.0, 500.0, 1000.0],
        span_high: 2000.0,
        clean: 12.0,
        noise: 4.0,
        places: 0,
    },
    Gas {
        name: "Hydrogen Sulfide (H2S)",
        unit: "ppm",
        is_low: false,
        levels: [5.0, 10.0, 15.0],
        span_high: 100.0,
        clean: 0.5,
        noise: 0.3,
        places: 1,
    },
    Gas {
        name: "Methane (CH4)",
        unit: "%LEL",
        is_low: false,
        levels: [10.0, 20.0, 40.0],
        span_high: 100.0,
        clean: 1.0,
        noise: 0.6,
        places: 1,
    },
];

const OXYGEN: Gas = Gas {
    name: "Oxygen (O2)",
    unit: "%VOL",
    is_low: true,
    levels: [19.5, 18.0, 17.0],
    span_high: 25.0,
    clean: 20.8,
    noise: 0.1,
    places: 1,
};

impl Gas {
    pub(super) fn of(scenario: Scenario, index: u32) -> &'static Self {
        match scenario {
            Scenario::LowOxygen => &OXYGEN,
            _ => &TOXIC_AND_COMBUSTIBLE[index as usize % TOXIC_AND_COMBUSTIBLE.len()],
        }
    }

    /// Returns a concentration as a detector of this gas measures it: never negative, and rounded.
    pub(super) fn measured(&self, concentration: f64) -> f64 {
        let shown = format!("{:.*}", self.places, concentration.max(0.0));
        shown.parse().unwrap_or_default()
    }

    /// Returns a value that raises an alarm of the highest level.
    pub(super) fn beyond_a3(&self) -> f64 {
        let [_, a2, a3] = self.levels;
        a3 + (a3 - a2) * 0.4
    }

    /// Returns a value that raises an alarm of the lowest level only.
    pub(super) fn beyond_a1(&self) -> f64 {
        let [a1, a2, _] = self.levels;
        a1 + (a2 - a1) * 0.4
    }

    /// Returns for each level 1 if the value has reached it, else 0.
    pub(super) fn reached(&self, value: f64) -> [u8; 3] {
        self.levels.map(|level| {
            let is_reached = if self.is_low {
                value <= level
            } else {
                value >= level
            };
            u8::from(is_reached)
        })
    }
}

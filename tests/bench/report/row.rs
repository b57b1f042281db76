//! What was measured of one system in one scenario.

use serde::Serialize;

use crate::load::tally::Sums;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) system: String,
    /// What is compared.
    pub(crate) figure: Figure,
    /// The lowest and the highest value of all repetitions. The others of the row are from the one in the middle.
    pub(crate) range: [f64; 2],
    pub(crate) latency: Option<Latency>,
    pub(crate) sums: Option<Sums>,
    pub(crate) more: Vec<Figure>,
}

/// A number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

/// From the time at which a message was due until a client had it, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Figure {
    pub(crate) fn new(name: &str, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit,
        }
    }
}

impl Row {
    pub(crate) fn new(scenario: &str, system: &str, figure: Figure) -> Self {
        Self {
            scenario: scenario.to_owned(),
            system: system.to_owned(),
            range: [figure.value; 2],
            figure,
            latency: None,
            sums: None,
            more: Vec::new(),
        }
    }

    /// Returns the repetition whose figure is in the middle, with the range of all.
    pub(crate) fn middle(mut repetitions: Vec<Self>) -> Option<Self> {
        repetitions.sort_by(|one, other| one.figure.value.total_cmp(&other.figure.value));
        let range = [repetitions.first()?, repetitions.last()?].map(|row| row.figure.value);
        let index = (repetitions.len() - 1) / 2;
        let mut row = repetitions.swap_remove(index);
        row.range = range;
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_row_knows_the_range() {
        let row = |value| Row::new("fan", "ours", Figure::new("cost", value, "µs"));
        let middle = Row::middle(vec![row(3.0), row(1.0), row(2.0), row(9.0)]).unwrap();
        assert!((middle.figure.value - 2.0).abs() < f64::EPSILON);
        assert!((middle.range[1] - 9.0).abs() < f64::EPSILON);
        assert!(Row::middle(Vec::new()).is_none());
    }
}

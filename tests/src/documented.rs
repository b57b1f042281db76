//! The metrics that `deploy/METRICS.md` describes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use crate::repository;

/// One metric as it is documented, or served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metric {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it means.
    pub help: String,
    /// The names of its labels.
    pub labels: BTreeSet<String>,
}

/// The rows of all tables by the name of the metric. One that both services have stands in both, with the same words.
pub fn metrics() -> Result<BTreeMap<String, Metric>> {
    let path = repository::root().join("deploy/METRICS.md");
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("reading `{}`", path.display()))?;
    let mut metrics = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else {
            bail!("not four cells: {row}");
        };
        let labels = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`'));
        let metric = Metric {
            kind: kind.to_owned(),
            help: help.to_owned(),
            labels: labels
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect(),
        };
        let name = name.trim_matches('`').to_owned();
        let before = metrics.insert(name.clone(), metric.clone());
        ensure!(
            before.is_none_or(|before| before == metric),
            "{name} is described in two ways"
        );
    }
    ensure!(metrics.len() > 40, "only {} rows found", metrics.len());
    Ok(metrics)
}

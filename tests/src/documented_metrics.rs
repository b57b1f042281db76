//! Reads the tables of metrics in `deploy/METRICS.md`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use crate::repository;

/// One metric, as documented or as served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metric {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The help text.
    pub help: String,
    /// The names of its labels.
    pub labels: BTreeSet<String>,
}

/// Reads the metrics of both services, by name. A metric of both services must have the same row in both tables.
pub fn all() -> Result<BTreeMap<String, Metric>> {
    let mut all = of_service("ingest")?;
    for (name, metric) in of_service("gateway")? {
        let previous = all.insert(name.clone(), metric.clone());
        ensure!(
            previous.is_none_or(|previous| previous == metric),
            "the two rows of {name} differ"
        );
    }
    Ok(all)
}

/// Reads the metrics in the table of one service, by name.
pub fn of_service(service: &str) -> Result<BTreeMap<String, Metric>> {
    let path = repository::root().join("deploy/METRICS.md");
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("reading `{}`", path.display()))?;
    let heading = format!("\n## {service}\n");
    let (_, table) = text
        .split_once(&heading)
        .with_context(|| format!("no section `{}`", heading.trim()))?;
    let table = table.split("\n## ").next().unwrap_or_default();
    let mut metrics = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else {
            bail!("a row without exactly four cells: {row}");
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
        let previous = metrics.insert(name.clone(), metric);
        ensure!(previous.is_none(), "{name} has two rows");
    }
    ensure!(metrics.len() > 20, "only {} rows found", metrics.len());
    Ok(metrics)
}

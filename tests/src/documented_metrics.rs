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

/// The metrics of both services, by name. A metric that both have is in both tables, with the same help text.
pub fn metrics() -> Result<BTreeMap<String, Metric>> {
    let mut all = metrics_of("ingest")?;
    for (name, metric) in metrics_of("gateway")? {
        let before = all.insert(name.clone(), metric.clone());
        ensure!(
            before.is_none_or(|before| before == metric),
            "{name} is described in two ways"
        );
    }
    Ok(all)
}

/// The rows of one service's table, by the name of the metric.
pub fn metrics_of(service: &str) -> Result<BTreeMap<String, Metric>> {
    let path = repository::root().join("deploy/METRICS.md");
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("reading `{}`", path.display()))?;
    let heading = format!("\n## {service}\n");
    let (_, table) = text.split_once(&heading).context(heading.clone())?;
    let table = table.split("\n## ").next().unwrap_or_default();
    let mut metrics = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
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
        let before = metrics.insert(name.clone(), metric);
        ensure!(before.is_none(), "{name} is described twice");
    }
    ensure!(metrics.len() > 20, "only {} rows found", metrics.len());
    Ok(metrics)
}

//! What is shipped in `deploy/observability`: checked by promtool, run in a Prometheus, compared with METRICS.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::eventually::eventually;
use tests::http;
use tests::ports::Port;
use tests::repository;
use tests::server_process::ServerProcess;
use tests::stack::Plan;

fn folder() -> PathBuf {
    repository::root().join("deploy/observability")
}

fn text(name: &str) -> Result<String> {
    let path = folder().join(name);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

fn promtool(arguments: &[&str], file: &Path) -> Result<()> {
    let output = Command::new("promtool")
        .args(arguments)
        .arg(file)
        .current_dir(folder())
        .output()
        .context("`promtool` is missing: run `tests/run`")?;
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    ensure!(output.status.success(), "promtool {arguments:?}: {told}");
    Ok(())
}

#[test]
fn the_rules_and_the_scrape_configuration_are_sound_and_every_alert_is_tested() -> Result<()> {
    promtool(
        &["check", "rules", "--lint=all", "--lint-fatal"],
        &folder().join("alerts.yaml"),
    )?;
    promtool(&["check", "config"], &folder().join("prometheus.yaml"))?;
    promtool(&["test", "rules"], &folder().join("alerts.test.yaml"))?;
    let (alerts, tests) = (text("alerts.yaml")?, text("alerts.test.yaml")?);
    let mut alerts = alerts.split("- alert: ").skip(1).peekable();
    ensure!(alerts.peek().is_some(), "no alerts");
    for alert in alerts {
        let name = alert.lines().next().unwrap_or_default();
        for part in ["severity: ", "summary: '", "runbook: '"] {
            ensure!(alert.matches(part).count() == 1, "{name}: {part}");
        }
        let fires = format!(
            "(ALERTS{{alertname=\"{name}\", alertstate=\"firing\"}})'\n        eval_time: "
        );
        let fires = tests.split(fires.as_str()).skip(1);
        let sample = format!("- labels: '{{alertname=\"{name}\"}}'\n            value: 1");
        let is_tested = |mut tests: std::iter::Skip<std::str::Split<'_, &str>>| {
            tests.any(|test| {
                let end = test.find("      - expr").unwrap_or(test.len());
                test[..end].contains(&sample)
            })
        };
        ensure!(is_tested(fires), "{name}: no test in which it fires");
    }
    Ok(())
}

/// Metrics with their labels, as METRICS.md documents them; histograms by the three names they are read under.
fn documented() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let path = repository::root().join("deploy/METRICS.md");
    let document = fs::read_to_string(&path).context("reading METRICS.md")?;
    let quoted = |cell: &str| -> Vec<String> {
        let words = cell.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    };
    let mut metrics = BTreeMap::new();
    for line in document.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').collect();
        let [_, name, kind, labels, ..] = cells.as_slice() else {
            continue;
        };
        let mut labels: BTreeSet<String> = quoted(labels).into_iter().collect();
        labels.extend(["job", "instance"].map(str::to_owned));
        let name = quoted(name).pop().context("a metric has a name")?;
        if kind.trim() == "histogram" {
            for part in ["sum", "count"] {
                metrics.insert(format!("{name}_{part}"), labels.clone());
            }
            labels.insert("le".to_owned());
            metrics.insert(format!("{name}_bucket"), labels);
        } else {
            metrics.insert(name, labels);
        }
    }
    ensure!(metrics.len() > 50, "only {} metrics found", metrics.len());
    let targets = ["job", "instance"].map(str::to_owned);
    metrics.insert("up".to_owned(), targets.into());
    Ok(metrics)
}

/// Words of the query language, beside names of metrics and labels.
const WORDS: [&str; 20] = [
    "absent",
    "and",
    "by",
    "count",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "offset",
    "on",
    "or",
    "rate",
    "sum",
    "topk",
    "unless",
    "vector",
    "m",
    "s",
    "le",
    "__rate_interval",
];

/// Fails for a word of the expression that is neither one of the language nor documented, or a label none of its metrics has.
fn check_names(expression: &str, metrics: &BTreeMap<String, BTreeSet<String>>) -> Result<()> {
    // What stands in quotes is a value.
    let code: String = expression
        .split('"')
        .step_by(2)
        .collect::<Vec<_>>()
        .join("\"\"");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = code.split(|c| !is_name(c));
    let words =
        words.filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'));
    let words: BTreeSet<&str> = words.collect();
    let named = words.iter().filter_map(|word| metrics.get(*word));
    let labels: BTreeSet<&String> = named.flatten().collect();
    for word in words {
        let is_known = WORDS.contains(&word)
            || metrics.contains_key(word)
            || labels.iter().any(|label| *label == word);
        ensure!(is_known, "`{word}` is not documented: {expression}");
    }
    Ok(())
}

/// The expressions of the rules, those of several lines in one.
fn rule_expressions() -> Result<Vec<String>> {
    let rules = text("alerts.yaml")?;
    let expressions = rules.split("        expr: ").skip(1).filter_map(|rest| {
        let end = rest
            .find("\n        for:")
            .or_else(|| rest.find("\n        labels:"));
        let end = end
            .into_iter()
            .chain(rest.find("\n        labels:"))
            .min()?;
        Some(
            rest[..end]
                .trim_start_matches(">-")
                .trim()
                .trim_matches('\'')
                .to_owned(),
        )
    });
    Ok(expressions.collect())
}

fn dashboard() -> Result<Value> {
    serde_json::from_str(&text("dashboard.json")?).context("the dashboard is no JSON")
}

fn dashboard_expressions() -> Result<Vec<String>> {
    let dashboard = dashboard()?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let expressions = targets.flatten().map(|target| target["expr"].as_str());
    let expressions: Option<Vec<&str>> = expressions.collect();
    let expressions = expressions.context("a target without an expression")?;
    Ok(expressions.into_iter().map(str::to_owned).collect())
}

#[test]
fn every_metric_and_label_in_rules_and_dashboard_is_documented() -> Result<()> {
    let metrics = documented()?;
    let (rules, panels) = (rule_expressions()?, dashboard_expressions()?);
    ensure!(
        rules.len() >= 20 && panels.len() >= 40,
        "{} and {}",
        rules.len(),
        panels.len()
    );
    for expression in rules.iter().chain(&panels) {
        check_names(expression, &metrics)?;
    }
    ensure!(
        check_names("max(gateway_connectoins)", &metrics).is_err(),
        "it takes any name"
    );
    ensure!(
        check_names("sum by (lane) (gateway_rooms)", &metrics).is_err(),
        "it takes any label"
    );
    Ok(())
}

#[test]
fn the_dashboard_is_sound() -> Result<()> {
    let dashboard = dashboard()?;
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        ensure!(ids.insert(panel["id"].as_u64()), "an id twice: {panel}");
        let place = |key: &str| panel["gridPos"][key].as_u64().context("a place");
        let (x, y, width, height) = (place("x")?, place("y")?, place("w")?, place("h")?);
        ensure!(x + width <= 24, "wider than the grid: {panel}");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            ensure!(cells.insert(cell), "panels overlap: {panel}");
        }
        if panel["type"] != "row" {
            let is_told = |key: &str| panel[key].as_str().is_some_and(|text| !text.is_empty());
            ensure!(is_told("title") && is_told("description"), "{panel}");
            ensure!(panel["datasource"]["uid"] == "${datasource}", "{panel}");
        }
    }
    // As rules, for promtool to read them.
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, expression) in dashboard_expressions()?.iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "5m");
        let rule = format!("      - record: panel:{number}\n        expr: '{expression}'\n");
        rules.push_str(&rule);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("dashboard.yaml");
    fs::write(&path, rules)?;
    promtool(&["check", "rules"], &path)
}

#[tokio::test]
async fn a_prometheus_with_the_shipped_files_reads_both_services_and_fires() -> Result<()> {
    let stack = Plan::default().start().await?;
    let port = Port::reserve()?;
    // Only where things are, and how often: the shipped 10 s would only make the test slower.
    let shipped = text("prometheus.yaml")?;
    let replaced = shipped
        .replace("scrape_interval: 10s", "scrape_interval: 1s")
        .replace("scrape_timeout: 5s", "scrape_timeout: 1s")
        .replace("evaluation_interval: 10s", "evaluation_interval: 1s")
        .replace(
            "- alerts.yaml",
            &format!("- {}", folder().join("alerts.yaml").display()),
        )
        .replace("\"alertmanager:9093\"", "")
        .replace(
            "\"ingest-1:3003\", \"ingest-2:3003\"",
            &format!("\"127.0.0.1:{}\"", stack.ingests[0].port()),
        )
        .replace(
            "\"gateway-1:3002\", \"gateway-2:3002\"",
            &format!("\"127.0.0.1:{}\"", stack.gateways[0].port()),
        );
    let configuration = stack.folder().join("prometheus.yaml");
    fs::write(&configuration, replaced)?;
    let mut prometheus = ServerProcess::start(
        "prometheus",
        Path::new("prometheus"),
        [
            format!("--config.file={}", configuration.display()),
            format!(
                "--storage.tsdb.path={}",
                stack.folder().join("prometheus").display()
            ),
            format!("--web.listen-address=127.0.0.1:{}", port.number()),
        ],
        stack.folder(),
    )?;
    let ask = async |path: &str| {
        http::send(port.number(), "GET", path, &[], b"")
            .await?
            .expect(200)
    };
    for metric in ["ingest_broker_link_up", "gateway_subscriber_up"] {
        eventually("both are targets that answer", async || {
            let answer = ask(&format!("/api/v1/query?query={metric}")).await?;
            ensure!(answer["data"]["result"][0]["value"][1] == "1", "{answer}");
            Ok(())
        })
        .await?;
    }
    eventually("the dead man's switch fires", async || {
        let alerts = ask("/api/v1/alerts").await?;
        let alerts = alerts["data"]["alerts"]
            .as_array()
            .context("alerts")?
            .clone();
        let fires = |alert: &Value| {
            alert["labels"]["alertname"] == "DeadMansSwitch" && alert["state"] == "firing"
        };
        ensure!(alerts.iter().any(fires), "{alerts:?}");
        Ok(())
    })
    .await?;
    prometheus.check_alive()?;
    prometheus.terminate().await?;
    stack.pass()
}

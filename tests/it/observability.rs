//! Tests of the files in `deploy/observability`: checked by promtool, run in a Prometheus, compared with METRICS.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::documented_metrics;
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
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure!(output.status.success(), "promtool {arguments:?}: {text}");
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

/// Labels of metrics by the names they are read under, which are three of a histogram.
fn documented() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let targets = ["job", "instance"].map(str::to_owned);
    let mut names = BTreeMap::from([("up".to_owned(), BTreeSet::from(targets.clone()))]);
    for (name, mut metric) in documented_metrics::all()? {
        metric.labels.extend(targets.clone());
        if metric.kind == "histogram" {
            for part in ["sum", "count"] {
                names.insert(format!("{name}_{part}"), metric.labels.clone());
            }
            metric.labels.insert("le".to_owned());
            names.insert(format!("{name}_bucket"), metric.labels);
        } else {
            names.insert(name, metric.labels);
        }
    }
    Ok(names)
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

/// Fails for a word of the expression that is neither part of the language nor documented, or that is a label of none of
/// its metrics.
fn check_names(expression: &str, metrics: &BTreeMap<String, BTreeSet<String>>) -> Result<()> {
    // Text in quotes is a value.
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

/// Returns the expressions of the rules.
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
    serde_json::from_str(&text("dashboard.json")?).context("the dashboard is not JSON")
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
            let has_text = |key: &str| panel[key].as_str().is_some_and(|text| !text.is_empty());
            ensure!(has_text("title") && has_text("description"), "{panel}");
            ensure!(panel["datasource"]["uid"] == "${datasource}", "{panel}");
        }
    }
    // As rules, so that promtool reads them.
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
    // With other addresses and shorter intervals: with the shipped 10 s the test would be slower.
    let rules = format!("- {}", folder().join("alerts.yaml").display());
    let ingest = format!("\"127.0.0.1:{}\"", stack.ingests[0].port());
    let gateway = format!("\"127.0.0.1:{}\"", stack.gateways[0].port());
    let mut replaced = text("prometheus.yaml")?;
    for (shipped, ours) in [
        ("scrape_interval: 10s", "scrape_interval: 1s"),
        ("scrape_timeout: 5s", "scrape_timeout: 1s"),
        ("evaluation_interval: 10s", "evaluation_interval: 1s"),
        ("- alerts.yaml", &rules),
        ("\"alertmanager:9093\"", ""),
        ("\"ingest-1:3003\", \"ingest-2:3003\"", &ingest),
        ("\"gateway-1:3004\", \"gateway-2:3004\"", &gateway),
    ] {
        let count = replaced.matches(shipped).count();
        ensure!(count == 1, "prometheus.yaml has `{shipped}` {count} times");
        replaced = replaced.replace(shipped, ours);
    }
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

#[tokio::test]
async fn the_command_of_the_runbook_finds_detectors_that_cannot_be_read() -> Result<()> {
    let stack = Plan::default().operator_port().start().await?;
    let serials = ["OTSM-0001", "OTSM-0002", "OTSM-0003", "OTSM-0004"];
    for serial in serials {
        // With alarms, so that the answer of REST has other ids too.
        stack.device(serial).send(1_200).await?;
        stack.shows(serial, 1_200).await?;
    }
    let readme = text("README.md")?;
    let command = readme.split("```sh\n").nth(1);
    let command = command.and_then(|rest| rest.split("```").next());
    let command = command.context("the README has no command")?;
    let redis = format!("redis://127.0.0.1:{}", stack.redis.port());
    let gateway = format!("http://127.0.0.1:{}", stack.gateways[0].port());
    let found = async || -> Result<String> {
        let output = tokio::process::Command::new("sh")
            .args(["-euc", command])
            .env("REDIS_URL", &redis)
            .env("GATEWAY", &gateway)
            .current_dir(stack.folder())
            .output()
            .await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    ensure!(found().await?.is_empty(), "{}", found().await?);

    // Two devices that cannot be read, for different reasons.
    let mut connection = stack.redis_connection().await?;
    let key = async |serial: &str, connection: &mut _| -> Result<String> {
        let pattern = format!("st:*:device:{serial}");
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(pattern)
            .query_async(connection)
            .await?;
        keys.into_iter().next().context("the key of the device")
    };
    let half = key("OTSM-0002", &mut connection).await?;
    redis::cmd("HSET")
        .arg(&[half.as_str(), "alarms", "[{"])
        .exec_async(&mut connection)
        .await?;
    let other = key("OTSM-0004", &mut connection).await?;
    redis::cmd("SET")
        .arg(&[other.as_str(), "no hash"])
        .exec_async(&mut connection)
        .await?;
    let names = found().await?;
    ensure!(names == "OTSM-0002\nOTSM-0004\n", "{names}");
    // The first can be retired. The key of the other has the wrong type and must be deleted first.
    let retired = async |serial: &str| stack.retire(serial, "").await;
    retired("OTSM-0002").await?.expect(200)?;
    let refused = retired("OTSM-0004").await?;
    ensure!(refused.status == 503, "{refused:?}");
    redis::cmd("DEL")
        .arg(&other)
        .exec_async(&mut connection)
        .await?;
    let names = found().await?;
    ensure!(
        names == "OTSM-0004\n",
        "a deleted state is not a retired device: {names}"
    );
    retired("OTSM-0004").await?.expect(200)?;
    ensure!(found().await?.is_empty(), "{}", found().await?);
    stack.pass()
}

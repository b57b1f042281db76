//! Every bound stands in one table of `SECURITY.md`, with the setting and the default that the services have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tests::documented_metrics;
use tests::repository;
use tests::server_process::kept_environment;

/// Settings that bound nothing that a detector, a client or a request can take.
const NO_BOUNDS: [&str; 89] = [
    "alarm-deadband",
    "alarm-off-delay",
    "alive-message-types",
    "allow-anonymous",
    "allowed-hosts",
    "allowed-origins",
    "backlog-max",
    "broadcast-all",
    "chatter-calm",
    "clock-tolerance",
    "compress",
    "dashboard-dir",
    "decimal-point",
    "device-utc-offset",
    "drain-delay",
    "drain-period",
    "forwarded-header",
    "help",
    "http-port",
    "limits-dry-run",
    "listen-address",
    "live-raw-message",
    "location-events",
    "log-format",
    "log-level",
    "low-devices",
    "maintenance-message-types",
    "mqtt-broker",
    "mqtt-ca-file",
    "mqtt-cert-file",
    "mqtt-client-id",
    "mqtt-connect-timeout",
    "mqtt-keep-alive",
    "mqtt-key-file",
    "mqtt-password",
    "mqtt-password-file",
    "mqtt-session-expiry",
    "mqtt-share-group",
    "mqtt-takeover-retry",
    "mqtt-topic",
    "mqtt-topic-subtronic-command",
    "mqtt-topic-subtronic-data",
    "mqtt-trust-traces",
    "mqtt-username",
    "mqtt-username-file",
    "mqtt-version",
    "no-default-origins",
    "normal-words",
    "offline-after",
    "oidc-client-id",
    "oidc-client-secret-file",
    "oidc-issuer",
    "ops-port",
    "otel-exporter",
    "otel-exporter-otlp-endpoint",
    "otel-traces-sampler-arg",
    "partitions",
    "ping-interval",
    "proxy-protocol",
    "public-url",
    "quiet-after",
    "redis-away-after",
    "redis-ca-file",
    "redis-cert-file",
    "redis-key-file",
    "redis-timeout",
    "redis-url",
    "redis-url-file",
    "redis-watch",
    "replica-name",
    "report-interval",
    "returned-levels",
    "session-key-file",
    "site-plans",
    "tls-cert-file",
    "tls-key-file",
    "token-audience",
    "token-grace",
    "token-in-query",
    "token-issuer",
    "token-jwks-url",
    "token-key-files",
    "token-leeway",
    "token-notice",
    "token-secret-file",
    "trusted-proxies",
    "unit-codes",
    "version",
    "zero-level",
];

struct Bound {
    what: String,
    default: String,
    settings: Vec<String>,
    metrics: Vec<String>,
}

/// Reads the table.
fn documented() -> Result<Vec<Bound>> {
    let text = fs::read_to_string(repository::root().join("SECURITY.md"))?;
    let (_, section) = text.split_once("\n## Bounds\n").context("no section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let rows = rows.filter(|line| !line.starts_with("| what |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [what, default, settings, happens, metrics] = cells[..] else {
            bail!("a row without exactly five cells: {row}");
        };
        ensure!(!happens.is_empty(), "nothing happens: {row}");
        Ok(Bound {
            what: what.to_owned(),
            default: default.to_owned(),
            settings: quoted(settings),
            metrics: quoted(metrics),
        })
    })
    .collect()
}

/// Returns the texts in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Reads the settings of a service and their defaults from its help.
fn settings(service: &str) -> Result<BTreeMap<String, Option<String>>> {
    let output = Command::new(repository::binary(service)?)
        .arg("--help")
        .env_clear()
        .envs(kept_environment())
        .output()?;
    let help = String::from_utf8(output.stdout)?;
    let mut settings = BTreeMap::new();
    let mut name = String::new();
    for line in help.lines().map(str::trim) {
        if let Some(flag) = line.strip_prefix("--") {
            // A text that begins with the name of another setting has no value behind it.
            let mut words = flag.split([' ', '[']);
            let flag = words.next().unwrap_or_default();
            let value = words.next().unwrap_or_default();
            if value.is_empty() || value.starts_with('<') {
                flag.clone_into(&mut name);
                settings.insert(name.clone(), None);
            }
        }
        let default = line.split_once("[default: ").map(|(_, rest)| rest);
        if let Some(default) = default.and_then(|rest| rest.split(']').next()) {
            settings.insert(name.clone(), Some(default.to_owned()));
        }
    }
    Ok(settings)
}

#[test]
fn every_bound_is_in_the_table_with_its_setting_default_and_metric() -> Result<()> {
    let mut settings_of_both = settings("ingest")?;
    settings_of_both.extend(settings("gateway")?);
    let metrics = documented_metrics::all()?;
    let mut listed = BTreeSet::new();
    for bound in documented()? {
        let what = &bound.what;
        for setting in &bound.settings {
            let name = setting.trim_start_matches("--");
            let default = settings_of_both.get(name);
            let default = default.with_context(|| format!("{what}: no setting {setting}"))?;
            if let Some(default) = default {
                let shown = format!("`{default}`");
                ensure!(
                    bound.default == shown,
                    "{what}: the default is {shown}, the table says {}",
                    bound.default
                );
            }
            listed.insert(name.to_owned());
        }
        for metric in &bound.metrics {
            ensure!(metrics.contains_key(metric), "{what}: no metric {metric}");
        }
    }
    for name in settings_of_both.keys() {
        let is_no_bound = NO_BOUNDS.contains(&name.as_str());
        ensure!(
            listed.contains(name) != is_no_bound,
            "--{name}: either a row of the table or one of NO_BOUNDS, and not both"
        );
    }
    Ok(())
}

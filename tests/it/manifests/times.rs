//! Times that must fit together: grace periods and stops, timeouts of proxies, and rolling updates.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use shared::{lifecycle, telemetry};
use tests::manifests::{FOLDERS, documents, find, list, objects, pod_template, variables};

use super::settings::{self, Settings};
use super::{name, text};

/// Seconds of `52.5s`, `10s`, `1h` or a number of seconds.
fn seconds(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits
        .parse()
        .with_context(|| format!("no time: `{text}`"))?;
    match &text[digits.len()..] {
        "ms" => Ok(number / 1000.0),
        "s" | "" => Ok(number),
        "m" => Ok(number * 60.0),
        "h" => Ok(number * 3600.0),
        unit => bail!("no unit of time: `{unit}`"),
    }
}

/// Returns the longest stop of this service, by its configuration: the configured periods, tasks that do not end, the last
/// metrics, the last spans and the last log lines.
fn longest_stop(program: &str, variables: &[(String, Option<String>)]) -> Result<f64> {
    let (periods, rest) = match program {
        "gateway" => (
            &["DRAIN_DELAY", "DRAIN_PERIOD"][..],
            gateway::FINISH_PERIOD * 2,
        ),
        _ => (&["DRAIN_PERIOD"][..], Duration::ZERO),
    };
    let settings = Settings::of_all()?;
    let settings = settings.named(program).context("a service")?;
    let mut longest = rest
        + lifecycle::LAST_WAIT
        + telemetry::flush::LAST_EXPORT * 2
        + telemetry::flush::LAST_LINES;
    for period in periods {
        let period = seconds(settings.value(variables, period)?)?;
        longest += Duration::from_secs_f64(period);
    }
    Ok(longest.as_secs_f64())
}

fn holds(grace: f64, program: &str, variables: &[(String, Option<String>)]) -> Result<()> {
    let longest = longest_stop(program, variables)?;
    ensure!(
        grace > longest,
        "{program}: {grace} s of grace, a stop takes {longest} s"
    );
    Ok(())
}

#[test]
fn grace_periods_are_longer_than_a_stop() -> Result<()> {
    for kustomization in FOLDERS {
        let objects = objects(kustomization)?;
        for (kind, object, program) in [
            ("Deployment", "gateway", "gateway"),
            ("StatefulSet", "subtronics-ingest", "ingest"),
        ] {
            let template = pod_template(find(&objects, kind, object)?).context("it has pods")?;
            let variables = variables(&objects, &template["spec"]["containers"][0])?;
            let grace = template["spec"]["terminationGracePeriodSeconds"].as_f64();
            holds(grace.unwrap_or_default(), program, &variables).context(kustomization)?;
        }
    }
    let settings = Settings::of_all()?;
    let compose = documents(&text("deploy/compose.yaml")?)?;
    let services = compose[0]["services"].as_object().context("no services")?;
    let mut checked = 0;
    for service in services.values() {
        for program in ["gateway", "ingest"] {
            if settings
                .program_of(service)
                .is_some_and(|own| own.is(program))
            {
                checked += 1;
                let grace = service["stop_grace_period"].as_str().unwrap_or_default();
                let variables = settings::of_map(&service["environment"])?;
                holds(seconds(grace)?, program, &variables).context("compose")?;
            }
        }
    }
    let hosting = documents(&text("deploy/render.yaml")?)?;
    for service in list(&hosting[0]["services"]) {
        let command = service["dockerCommand"].as_str().unwrap_or_default();
        for program in ["gateway", "ingest"] {
            if settings.named(command).is_some_and(|own| own.is(program)) {
                checked += 1;
                let grace = service["maxShutdownDelaySeconds"].as_f64();
                let variables = settings::of_list(&service["envVars"])?;
                holds(grace.unwrap_or_default(), program, &variables).context("hosting")?;
            }
        }
    }
    assert_eq!(checked, 6, "two of each in compose, one of each hosted");
    Ok(())
}

#[test]
fn nothing_is_lost_by_an_update() -> Result<()> {
    for kustomization in FOLDERS {
        let objects = objects(kustomization)?;
        let gateway = find(&objects, "Deployment", "gateway")?;
        assert_eq!(
            gateway["spec"]["strategy"]["rollingUpdate"],
            json!({"maxSurge": 1, "maxUnavailable": 0})
        );
        let ingest = find(&objects, "StatefulSet", "subtronics-ingest")?;
        assert_eq!(ingest["spec"]["podManagementPolicy"], "Parallel");
        let of_gateway = json!([
            {"name": "http", "containerPort": 3002}, {"name": "ops", "containerPort": 3004}
        ]);
        let of_ingest = json!([{"name": "http", "containerPort": 3003}]);
        for (object, scaler, ports, probed) in [
            (gateway, "gateway", of_gateway, "ops"),
            (ingest, "ingest", of_ingest, "http"),
        ] {
            let container = &pod_template(object).context("it has pods")?["spec"]["containers"][0];
            assert_eq!(container["ports"], ports);
            for (probe, path) in [
                ("startupProbe", "/livez"),
                ("livenessProbe", "/livez"),
                ("readinessProbe", "/readyz"),
            ] {
                assert_eq!(
                    container[probe]["httpGet"],
                    json!({"path": path, "port": probed}),
                    "{probe}"
                );
            }
            // Otherwise every apply would undo the number of the autoscaler.
            ensure!(
                object["spec"]["replicas"].is_null(),
                "{scaler} has a number of replicas"
            );
            let scaler = find(&objects, "HorizontalPodAutoscaler", scaler)?;
            ensure!(
                scaler["spec"]["minReplicas"].as_u64() >= Some(2),
                "{}",
                name(scaler)
            );
            assert_eq!(
                scaler["spec"]["scaleTargetRef"]["name"],
                object["metadata"]["name"]
            );
            find(
                &objects,
                "PodDisruptionBudget",
                scaler["metadata"]["name"].as_str().unwrap_or_default(),
            )?;
        }
    }
    Ok(())
}

#[test]
fn proxies_wait_longer_than_a_client_may_be_silent() -> Result<()> {
    let settings = Settings::of_all()?;
    let gateway = settings.named("gateway").context("the gateway")?;
    let time = |flag: &str| {
        seconds(
            gateway
                .default(flag)
                .with_context(|| format!("{flag} has no default"))?,
        )
    };
    let silence = time("--ping-interval")? + time("--ping-timeout")?;
    for kustomization in FOLDERS {
        let objects = objects(kustomization)?;
        // The other timeouts are configured in the controller (k8s/README.md).
        let annotations = &find(&objects, "Service", "gateway")?["metadata"]["annotations"];
        let timeout = annotations["haproxy.org/timeout-server"].as_str();
        let timeout = seconds(timeout.unwrap_or_default())?;
        ensure!(
            timeout > silence,
            "{kustomization}: {timeout} s, {silence} s of silence"
        );
    }
    let haproxy = text("deploy/haproxy.cfg")?;
    for key in ["timeout client ", "timeout server ", "timeout tunnel "] {
        let line = haproxy
            .lines()
            .find_map(|line| line.trim().strip_prefix(key));
        let timeout = seconds(line.with_context(|| format!("no {key}"))?.trim())?;
        ensure!(
            timeout > silence,
            "{key}{timeout} s, {silence} s of silence"
        );
    }
    Ok(())
}

//! Memory limits, and the settings that determine how much is used.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::manifests::{documents, find, list, objects, pod_template, variables};

use super::settings::{self, Program, Settings};
use super::text;

/// Bytes of `2Gi`, `512m`, `614mb`, or a number of bytes.
fn bytes(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits
        .parse()
        .with_context(|| format!("no size: `{text}`"))?;
    let unit = match text[digits.len()..].to_lowercase().as_str() {
        "" => 0,
        "k" | "kb" | "ki" => 1,
        "m" | "mb" | "mi" => 2,
        "g" | "gb" | "gi" => 3,
        unit => bail!("no unit of size: `{unit}`"),
    };
    Ok(number * 1024_f64.powi(unit))
}

type Variables = Vec<(String, Option<String>)>;

/// Returns the maximum memory that a service needs for data that arrives or is requested faster than it is processed.
fn worst(program: &Program, variables: &Variables) -> Result<f64> {
    let value = |name: &str| bytes(program.value(variables, name)?);
    if program.is("ingest") {
        // Two receive windows of the longest messages.
        return Ok(2.0 * value("MQTT_RECEIVE_MAXIMUM")? * value("MQTT_MAX_PACKET_SIZE")?);
    }
    // For each client that does not read: its outbox, the queue of socketioxide with packets of usual length, and buffers.
    // And the large answers of REST.
    let client = value("OUTBOX_BYTES")? + (value("CLIENT_BUFFER")? + 256.0) * 1024.0;
    Ok(value("MAX_CONNECTIONS")? * client + value("ANSWER_BYTES")?)
}

fn holds(limit: f64, program: &Program, variables: &Variables) -> Result<()> {
    let worst = worst(program, variables)?;
    let share = if program.is("ingest") { 0.55 } else { 0.95 };
    ensure!(worst < share * limit, "up to {worst} bytes of {limit}");
    Ok(())
}

#[test]
fn memory_limits_are_above_what_a_service_holds() -> Result<()> {
    let settings = Settings::of_all()?;
    for kustomization in ["k8s/overlays/dev", "k8s/overlays/prod"] {
        let objects = objects(kustomization)?;
        for (kind, object, program) in [
            ("Deployment", "gateway", "gateway"),
            ("StatefulSet", "subtronics-ingest", "ingest"),
        ] {
            let template = pod_template(find(&objects, kind, object)?).context("it makes pods")?;
            let container = &template["spec"]["containers"][0];
            let limit = container["resources"]["limits"]["memory"].as_str();
            let limit = bytes(limit.context("no limit")?)?;
            let program = settings.named(program).context("a service")?;
            holds(limit, program, &variables(&objects, container)?).context(kustomization)?;
        }
    }
    let compose = documents(&text("deploy/compose.yaml")?)?;
    let services = compose[0]["services"].as_object().context("no services")?;
    let mut checked = 0;
    for service in services.values() {
        let program = settings.program_of(service);
        if let Some(program) = program.filter(|own| own.is("gateway") || own.is("ingest")) {
            checked += 1;
            let limit = bytes(service["mem_limit"].as_str().context("no limit")?)?;
            let variables = settings::of_map(&service["environment"])?;
            holds(limit, program, &variables).context("compose")?;
        }
    }
    let hosting = documents(&text("deploy/render.yaml")?)?;
    for service in list(&hosting[0]["services"]) {
        let command = service["dockerCommand"].as_str().unwrap_or_default();
        if let Some(program) = settings.named(command) {
            checked += 1;
            let limit = match service["plan"].as_str() {
                Some("starter") => 512e6,
                Some("standard") => 2e9,
                plan => bail!("what memory has {plan:?}"),
            };
            let variables = settings::of_list(&service["envVars"])?;
            holds(limit, program, &variables).context("hosting")?;
        }
    }
    assert_eq!(checked, 6, "two of each in compose, one of each hosted");
    Ok(())
}

/// Returns the part of a limit that Redis may use.
fn share_of_redis(limit: &str, arguments: &Value) -> Result<f64> {
    let mut arguments = list(arguments).skip_while(|argument| *argument != "--maxmemory");
    let most = arguments.nth(1).and_then(Value::as_str);
    Ok(bytes(most.context("no --maxmemory")?)? / bytes(limit)?)
}

#[test]
fn redis_refuses_writes_before_it_reaches_its_memory_limit() -> Result<()> {
    let objects = objects("k8s/overlays/dev")?;
    let redis = pod_template(find(&objects, "Deployment", "redis")?).context("it makes pods")?;
    let container = &redis["spec"]["containers"][0];
    let limit = container["resources"]["limits"]["memory"].as_str();
    let compose = documents(&text("deploy/compose.yaml")?)?;
    let service = &compose[0]["services"]["redis"];
    for (limit, arguments) in [
        (limit, &container["args"]),
        (service["mem_limit"].as_str(), &service["command"]),
    ] {
        let share = share_of_redis(limit.context("no limit")?, arguments)?;
        ensure!((0.5..=0.61).contains(&share), "{share} of {limit:?}");
    }
    Ok(())
}

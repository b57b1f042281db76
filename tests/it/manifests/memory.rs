//! Limits of memory, and the settings beside them that say what is used.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::manifests::{documents, find, list, objects, pod_template, variables};

use super::settings::{self, Settings};
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

/// What a gateway's clients cost at most that do not read: the outbox, 128 packets of 1 KiB, and 256 KiB of buffers.
fn worst(variables: &[(String, Option<String>)]) -> Result<f64> {
    let value = |name: &str| {
        let found = variables.iter().find(|(own, _)| own == name);
        let value = found.and_then(|(_, value)| value.as_deref());
        // The defaults are for a machine of its own.
        bytes(value.with_context(|| format!("{name} is not set"))?)
    };
    Ok(value("MAX_CONNECTIONS")? * (value("OUTBOX_BYTES")? + (128.0 + 256.0) * 1024.0))
}

fn holds(limit: f64, variables: &[(String, Option<String>)]) -> Result<()> {
    let worst = worst(variables)?;
    ensure!(
        worst < 0.95 * limit,
        "clients may cost {worst} bytes of {limit}"
    );
    Ok(())
}

#[test]
fn limits_hold_what_clients_of_a_gateway_may_cost() -> Result<()> {
    for kustomization in ["k8s/overlays/dev", "k8s/overlays/prod"] {
        let objects = objects(kustomization)?;
        let gateway =
            pod_template(find(&objects, "Deployment", "gateway")?).context("it makes pods")?;
        let container = &gateway["spec"]["containers"][0];
        let limit = container["resources"]["limits"]["memory"].as_str();
        holds(
            bytes(limit.context("no limit")?)?,
            &variables(&objects, container)?,
        )
        .context(kustomization)?;
    }
    let settings = Settings::of_all()?;
    let compose = documents(&text("deploy/compose.yaml")?)?;
    let services = compose[0]["services"].as_object().context("no services")?;
    let mut checked = 0;
    for service in services.values() {
        let program = settings.program_of(service);
        if program.is_some_and(|program| program.is("gateway")) {
            checked += 1;
            let limit = service["mem_limit"].as_str().context("no limit")?;
            holds(bytes(limit)?, &settings::of_map(&service["environment"])?).context("compose")?;
        }
    }
    let hosting = documents(&text("deploy/render.yaml")?)?;
    for service in list(&hosting[0]["services"]) {
        let command = service["dockerCommand"].as_str().unwrap_or_default();
        if settings
            .named(command)
            .is_some_and(|program| program.is("gateway"))
        {
            checked += 1;
            assert_eq!(service["plan"], "standard", "another plan has other memory");
            holds(2e9, &settings::of_list(&service["envVars"])?).context("hosting")?;
        }
    }
    assert_eq!(checked, 3, "two in compose, one hosted");
    Ok(())
}

/// The share of a limit that Redis may fill.
fn share_of_redis(limit: &str, arguments: &Value) -> Result<f64> {
    let mut arguments = list(arguments).skip_while(|argument| *argument != "--maxmemory");
    let most = arguments.nth(1).and_then(Value::as_str);
    Ok(bytes(most.context("no --maxmemory")?)? / bytes(limit)?)
}

#[test]
fn redis_refuses_before_it_is_killed() -> Result<()> {
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

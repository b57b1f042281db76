//! What a configuration for production must not be without: tokens, TLS, and no secret in the repository.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::manifests::{documents, find, list, objects, pod_template, variables};

use super::settings::{self, Settings};
use super::text;

type Variables = Vec<(String, Option<String>)>;

/// Lists what a service must not be without in production. A variable without a value gets it from a secret or the platform.
fn problems(program: &str, variables: &Variables) -> Vec<String> {
    let value = |name: &str| {
        let set = variables.iter().find(|(own, _)| own == name);
        set.map(|(_, value)| value.as_deref().unwrap_or_default())
    };
    let mut problems = Vec::new();
    let mut want = |is_so: bool, what: &str| {
        if !is_so {
            problems.push(format!("{program}: {what}"));
        }
    };
    for secret in ["REDIS_URL", "MQTT_USERNAME", "MQTT_PASSWORD"] {
        let is_name = secret == "MQTT_USERNAME" && value(secret) == Some("ingest");
        let is_here = value(secret).is_some_and(|text| !text.is_empty());
        want(!is_here || is_name, &format!("{secret} is written down"));
    }
    want(
        value("REDIS_URL").or(value("REDIS_URL_FILE")).is_some(),
        "no Redis",
    );
    if program == "ingest" {
        let broker = value("MQTT_BROKER");
        let is_secured =
            broker.is_some_and(|broker| broker.is_empty() || broker.starts_with("mqtts://"));
        want(is_secured, "the broker is reached without TLS");
        let password = value("MQTT_PASSWORD").or(value("MQTT_PASSWORD_FILE"));
        want(password.is_some(), "the broker asks for no password");
        return problems;
    }
    want(
        value("TOKEN_KEY_FILES").is_some_and(|files| !files.is_empty()),
        "no public key for tokens",
    );
    want(
        value("TOKEN_SECRET_FILE").is_none(),
        "whoever takes it over can make tokens",
    );
    for claim in ["TOKEN_ISSUER", "TOKEN_AUDIENCE"] {
        want(value(claim).is_some(), &format!("no {claim}"));
    }
    want(
        value("ALLOW_ANONYMOUS").is_none_or(|allowed| allowed == "none"),
        "it serves clients without a token",
    );
    want(
        value("TOKEN_IN_QUERY").is_none(),
        "tokens are in the logs of proxies",
    );
    want(
        value("NO_DEFAULT_ORIGINS") == Some("true"),
        "pages of local development may use it",
    );
    want(
        value("ALLOWED_HOSTS").is_some(),
        "it has no name but localhost",
    );
    problems
}

/// Returns the service and its variables, for every service of ours in a configuration for production.
fn services() -> Result<Vec<(String, &'static str, Variables)>> {
    let mut services = Vec::new();
    let objects = objects("k8s/overlays/prod")?;
    for (kind, object, program) in [
        ("Deployment", "gateway", "gateway"),
        ("StatefulSet", "subtronics-ingest", "ingest"),
    ] {
        let template = pod_template(find(&objects, kind, object)?).context("it makes pods")?;
        let variables = variables(&objects, &template["spec"]["containers"][0])?;
        services.push((format!("k8s: {object}"), program, variables));
    }
    let settings = Settings::of_all()?;
    let compose = documents(&text("deploy/compose.yaml")?)?;
    let hosting = documents(&text("deploy/render.yaml")?)?;
    for program in ["gateway", "ingest"] {
        for (name, service) in compose[0]["services"].as_object().context("services")? {
            let own = settings.program_of(service);
            if own.is_some_and(|own| own.is(program)) {
                let variables = settings::of_map(&service["environment"])?;
                services.push((format!("compose: {name}"), program, variables));
            }
        }
        for service in list(&hosting[0]["services"]) {
            let command = service["dockerCommand"].as_str().unwrap_or_default();
            if settings.named(command).is_some_and(|own| own.is(program)) {
                let variables = settings::of_list(&service["envVars"])?;
                services.push((format!("hosting: {command}"), program, variables));
            }
        }
    }
    Ok(services)
}

#[test]
fn production_asks_for_tokens_uses_tls_and_contains_no_secret() -> Result<()> {
    let services = services()?;
    assert_eq!(services.len(), 8, "{services:?}");
    for (name, program, variables) in &services {
        let problems = problems(program, variables);
        ensure!(problems.is_empty(), "{name}: {problems:?}");
    }
    Ok(())
}

#[test]
fn the_check_of_production_finds_every_breach() -> Result<()> {
    let services = services()?;
    let set = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    for (program, without, with) in [
        ("gateway", Some("TOKEN_KEY_FILES"), None),
        ("gateway", Some("TOKEN_ISSUER"), None),
        ("gateway", Some("TOKEN_AUDIENCE"), None),
        ("gateway", Some("NO_DEFAULT_ORIGINS"), None),
        ("gateway", Some("ALLOWED_HOSTS"), None),
        ("gateway", Some("REDIS_URL_FILE"), None),
        (
            "gateway",
            None,
            Some(set("TOKEN_SECRET_FILE", Some("/run/secrets/secret"))),
        ),
        ("gateway", None, Some(set("TOKEN_IN_QUERY", Some("true")))),
        (
            "gateway",
            Some("ALLOW_ANONYMOUS"),
            Some(set("ALLOW_ANONYMOUS", Some("read"))),
        ),
        (
            "gateway",
            None,
            Some(set("REDIS_URL", Some("rediss://gateway:word@host"))),
        ),
        (
            "ingest",
            Some("MQTT_BROKER"),
            Some(set("MQTT_BROKER", Some("mqtt://host"))),
        ),
        ("ingest", Some("MQTT_PASSWORD_FILE"), None),
        ("ingest", None, Some(set("MQTT_PASSWORD", Some("word")))),
    ] {
        let good = services.iter().find(|(name, own, _)| {
            *own == program && (name.starts_with("k8s") || name.starts_with("compose"))
        });
        let (_, _, good) = good.context("a service")?;
        let mut bad = good.clone();
        bad.retain(|(name, _)| Some(name.as_str()) != without);
        bad.extend(with.clone());
        let found = problems(program, &bad);
        ensure!(
            found.len() == 1,
            "without {without:?}, with {with:?}: {found:?}"
        );
    }
    Ok(())
}

#[test]
fn production_in_kubernetes_is_reached_over_https_alone() -> Result<()> {
    let objects = objects("k8s/overlays/prod")?;
    ensure!(
        objects.iter().all(|object| object["kind"] != "Secret"),
        "a secret in the repository"
    );
    let ingress = find(&objects, "Ingress", "gateway")?;
    assert_eq!(
        ingress["spec"]["tls"][0]["hosts"][0],
        ingress["spec"]["rules"][0]["host"]
    );
    let annotations = &ingress["metadata"]["annotations"];
    ensure!(
        !annotations["cert-manager.io/cluster-issuer"].is_null(),
        "no issuer"
    );
    assert_eq!(annotations["haproxy.org/ssl-redirect"], "true");
    assert_eq!(annotations["haproxy.org/ssl-redirect-port"], "443");
    Ok(())
}

#[test]
fn every_service_has_a_user_of_its_own_in_redis() -> Result<()> {
    let objects = objects("k8s/overlays/prod")?;
    let mut secrets = Vec::new();
    for (kind, object) in [
        ("Deployment", "gateway"),
        ("StatefulSet", "subtronics-ingest"),
    ] {
        let template = pod_template(find(&objects, kind, object)?).context("it makes pods")?;
        let mut volumes = list(&template["spec"]["volumes"]);
        let redis = volumes.find(|volume| volume["name"] == "redis");
        secrets.push(redis.context("no Redis")?["secret"]["secretName"].clone());
    }
    ensure!(secrets[0] != secrets[1], "both have {}", secrets[0]);
    let compose = documents(&text("deploy/compose.yaml")?)?;
    let url = |service: &str| {
        let environment = &compose[0]["services"][service]["environment"];
        let url: &Value = &environment["REDIS_URL_FILE"];
        url.clone()
    };
    ensure!(url("ingest-1") != url("gateway-1"), "{}", url("ingest-1"));
    Ok(())
}

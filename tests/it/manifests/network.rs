//! Network policies, the Ingress, and the targets of Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::manifests::{
    self, FOLDERS, documents, find, list, objects, pod_template, secret, variables,
};
use tests::repository;

use super::settings::Settings;
use super::{containers, name, text};

/// The complete kustomizations. The base has no stores and no addresses.
const OVERLAYS: [&str; 2] = ["k8s/overlays/dev", "k8s/overlays/prod"];

fn labels(object: &Value) -> Option<&Value> {
    Some(&pod_template(object)?["metadata"]["labels"])
}

/// Returns whether a selector of a policy chooses a pod with these labels.
fn chooses(selector: &Value, labels: &Value) -> Result<bool> {
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        if labels[key] != *value {
            return Ok(false);
        }
    }
    for expression in list(&selector["matchExpressions"]) {
        ensure!(expression["operator"] == "In", "{expression}");
        let key = expression["key"].as_str().context("a key")?;
        if !list(&expression["values"]).any(|value| labels[key] == *value) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn policies(objects: &[Value]) -> impl Iterator<Item = &Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == "NetworkPolicy")
}

/// Returns the rules of one direction that apply to a pod with these labels.
fn rules<'a>(objects: &'a [Value], labels: &Value, direction: &str) -> Result<Vec<&'a Value>> {
    let mut rules = Vec::new();
    for policy in policies(objects) {
        if chooses(&policy["spec"]["podSelector"], labels)? {
            rules.extend(list(&policy["spec"][direction]));
        }
    }
    Ok(rules)
}

/// Returns the number of a port in a policy, which may be the name of a port of this pod.
fn number(port: &Value, pod: &Value) -> Result<u64> {
    if let Some(number) = port.as_u64() {
        return Ok(number);
    }
    let template = pod_template(pod).context("it makes pods")?;
    let mut ports = containers(template).flat_map(|container| list(&container["ports"]));
    let named = ports.find(|own| own["name"] == *port);
    named
        .and_then(|own| own["containerPort"].as_u64())
        .with_context(|| format!("{} has no port {port}", name(pod)))
}

/// Returns whether the policies let a pod with the labels `from` connect to this port of `to`.
fn lets_in(objects: &[Value], from: &Value, to: &Value, port: u64) -> Result<bool> {
    let own = labels(to).context("it makes pods")?;
    for rule in rules(objects, own, "ingress")? {
        for peer in list(&rule["from"]).filter(|peer| peer["namespaceSelector"].is_null()) {
            if !chooses(&peer["podSelector"], from)? {
                continue;
            }
            for own in list(&rule["ports"]) {
                if number(&own["port"], to)? == port {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

fn port_of(url: &str) -> Result<u64> {
    let (_, address) = url.split_once("://").context("no URL")?;
    let address = address.split('/').next().unwrap_or(address);
    let (_, port) = address.rsplit_once(':').context("no port")?;
    port.parse().with_context(|| format!("the port of {url}"))
}

/// Returns the ports to which this service connects, by its configuration.
fn connected(objects: &[Value], object: &Value, program: &str) -> Result<BTreeSet<u64>> {
    let template = pod_template(object).context("it makes pods")?;
    let container = &template["spec"]["containers"][0];
    let variables = variables(objects, container)?;
    let value = |name: &str| {
        let found = variables.iter().find(|(own, _)| own == name);
        found.and_then(|(_, value)| value.clone())
    };
    // That of production is created separately, like the example in the instructions.
    let mounted = list(&template["spec"]["volumes"]).find(|volume| volume["name"] == "redis");
    let named = &mounted.context("no Redis")?["secret"]["secretName"];
    let redis = secret(objects, named.as_str().context("no secret")?, "url").or_else(|_| {
        let readme = text("k8s/README.md")?;
        let example = readme
            .split('`')
            .find(|word| word.starts_with("rediss://"))
            .map(str::to_owned);
        example.context("no example of a URL of Redis")
    })?;
    let settings = Settings::of_all()?;
    let default = settings
        .named(program)
        .and_then(|program| program.default("--otel-exporter-otlp-endpoint"));
    let collector = value("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| default.map(str::to_owned));
    let mut urls = vec![redis, collector.context("no collector")?];
    if program == "ingest" {
        urls.push(value("MQTT_BROKER").context("no broker")?);
    }
    urls.iter().map(|url| port_of(url)).collect()
}

#[test]
fn policies_open_the_ports_of_the_settings_and_no_others() -> Result<()> {
    for kustomization in OVERLAYS {
        let objects = objects(kustomization)?;
        for (kind, object, program) in [
            ("Deployment", "gateway", "gateway"),
            ("StatefulSet", "subtronics-ingest", "ingest"),
        ] {
            let object = find(&objects, kind, object)?;
            let own = labels(object).context("it makes pods")?;
            let mut opened = BTreeSet::new();
            for rule in rules(&objects, own, "egress")? {
                for port in list(&rule["ports"]) {
                    opened.insert(port["port"].as_u64().context("a name is not enough")?);
                }
            }
            ensure!(opened.remove(&53), "{program} cannot look names up");
            let wanted = connected(&objects, object, program)?;
            assert_eq!(opened, wanted, "{kustomization}: {program}");
        }
    }
    Ok(())
}

#[test]
fn with_an_identity_provider_the_gateway_may_reach_it_and_nobody_else_may() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let source = repository::root().join("k8s");
    manifests::run(Command::new("cp").arg("-r").arg(&source).arg(folder.path()))?;
    let overlay = folder.path().join("k8s/overlays/prod");
    let file = overlay.join("kustomization.yaml");
    let before = fs::read_to_string(&file)?;
    // As the instructions say: the lines from the one with its name on are no comments any more.
    let mut is_patch = false;
    let lines = before.lines().map(|line| {
        is_patch = line.starts_with("  # - path: network-provider.yaml")
            || (is_patch && line.starts_with("  #   "));
        if is_patch {
            line.replacen("# ", "", 1)
        } else {
            line.to_owned()
        }
    });
    let after = lines.collect::<Vec<_>>().join("\n");
    ensure!(
        after.contains("\n  - path: network-provider.yaml\n    target:\n"),
        "{after}"
    );
    fs::write(&file, after)?;
    let overlay = overlay.to_str().context("a path")?;
    let (with, without) = (objects(overlay)?, objects("k8s/overlays/prod")?);
    for (kind, object, more) in [
        ("Deployment", "gateway", 1),
        ("StatefulSet", "subtronics-ingest", 0),
    ] {
        let own = labels(find(&with, kind, object)?).context("it makes pods")?;
        let before = rules(&without, own, "egress")?;
        let mut added = rules(&with, own, "egress")?;
        added.retain(|rule| !before.contains(rule));
        ensure!(added.len() == more, "{object}: {added:?}");
        for rule in added {
            let ports = json!([{"protocol": "TCP", "port": 443}]);
            ensure!(rule["ports"] == ports, "{rule}");
            ensure!(rule["to"][0]["ipBlock"]["cidr"].is_string(), "{rule}");
        }
    }
    Ok(())
}

#[test]
fn policies_choose_pods_and_agree_on_both_sides() -> Result<()> {
    // cert-manager creates its pods.
    let outside = ["acme"];
    for kustomization in OVERLAYS {
        let objects = objects(kustomization)?;
        let pods: Vec<&Value> = objects
            .iter()
            .filter(|object| labels(object).is_some())
            .collect();
        let chosen = |selector: &Value| -> Result<Vec<&Value>> {
            let mut chosen = Vec::new();
            for &pod in &pods {
                if chooses(selector, labels(pod).context("a pod")?)? {
                    chosen.push(pod);
                }
            }
            Ok(chosen)
        };
        let mut agreed = 0;
        for policy in policies(&objects) {
            let own = policy["metadata"]["name"].as_str().unwrap_or_default();
            assert_eq!(
                policy["metadata"]["namespace"],
                objects
                    .iter()
                    .find(|object| object["kind"] == "Namespace")
                    .context("no namespace")?["metadata"]["name"],
                "{own}"
            );
            let from = chosen(&policy["spec"]["podSelector"])?;
            ensure!(
                !from.is_empty() || outside.contains(&own),
                "{kustomization}: {own} chooses no pod"
            );
            // An ingress rule names a port of the pod.
            for rule in list(&policy["spec"]["ingress"]) {
                for (pod, port) in from
                    .iter()
                    .flat_map(|pod| list(&rule["ports"]).map(move |port| (pod, port)))
                {
                    number(&port["port"], pod)?;
                }
            }
            for rule in list(&policy["spec"]["egress"]) {
                for peer in list(&rule["to"]) {
                    if peer["podSelector"].is_null() || !peer["namespaceSelector"].is_null() {
                        continue;
                    }
                    let to = chosen(&peer["podSelector"])?;
                    ensure!(
                        !to.is_empty(),
                        "{kustomization}: {own} matches no pod: {peer}"
                    );
                    for (from, to) in from
                        .iter()
                        .flat_map(|from| to.iter().map(move |to| (from, to)))
                    {
                        for port in list(&rule["ports"]) {
                            agreed += 1;
                            let from_labels = labels(from).context("a pod")?;
                            ensure!(
                                lets_in(&objects, from_labels, to, number(&port["port"], to)?)?,
                                "{kustomization}: {} does not let {} in",
                                name(to),
                                name(from)
                            );
                        }
                    }
                }
            }
        }
        // Two services connect to Redis, ingest and the simulator to the broker.
        let expected = if kustomization.ends_with("dev") { 4 } else { 0 };
        assert_eq!(agreed, expected, "{kustomization}");
    }
    Ok(())
}

/// Where the `HAProxy` Kubernetes Ingress Controller reads the annotations used here. It ignores them elsewhere.
const READ: [(&str, &[&str]); 7] = [
    ("haproxy.org/ssl-redirect", &["Ingress"]),
    ("haproxy.org/ssl-redirect-port", &["Ingress"]),
    ("haproxy.org/cookie-persistence", &["Service"]),
    ("haproxy.org/load-balance", &["Ingress", "Service"]),
    (
        "haproxy.org/backend-config-snippet",
        &["Ingress", "Service"],
    ),
    ("haproxy.org/timeout-server", &["Ingress", "Service"]),
    ("cert-manager.io/cluster-issuer", &["Ingress"]),
];

#[test]
fn annotations_are_where_the_controller_reads_them() -> Result<()> {
    for kustomization in FOLDERS {
        let objects = objects(kustomization)?;
        for object in &objects {
            let annotations = object["metadata"]["annotations"].as_object();
            for key in annotations.into_iter().flatten().map(|(key, _)| key) {
                let kinds = READ.iter().find(|(own, _)| own == key);
                let (_, kinds) = kinds.with_context(|| format!("{key} is not looked up"))?;
                ensure!(
                    kinds.iter().any(|kind| object["kind"] == *kind),
                    "{kustomization}: {key} is not read from {}",
                    name(object)
                );
            }
        }
        let affinity = &find(&objects, "Service", "gateway")?["metadata"]["annotations"];
        ensure!(
            !affinity["haproxy.org/cookie-persistence"].is_null()
                && affinity["haproxy.org/load-balance"] == "source",
            "{kustomization}: polling has no affinity"
        );
    }
    Ok(())
}

#[test]
fn prometheus_finds_both_services_in_the_cluster() -> Result<()> {
    let mut configuration = documents(&text("k8s/prometheus.yaml")?)?.remove(0);
    let objects = objects("k8s/overlays/prod")?;
    let namespace = &find(&objects, "Deployment", "gateway")?["metadata"]["namespace"];
    let jobs = configuration["scrape_configs"]
        .as_array_mut()
        .context("no jobs")?;
    let mut names = Vec::new();
    for job in jobs {
        let found = &job["kubernetes_sd_configs"];
        assert_eq!(
            *found,
            json!([{"role": "pod", "namespaces": {"names": [namespace]}}])
        );
        let rules: Vec<&Value> = list(&job["relabel_configs"]).collect();
        let kept = |label: &str, value: &Value| {
            rules.iter().any(|rule| {
                rule["action"] == "keep"
                    && rule["source_labels"] == json!([format!("__meta_kubernetes_pod_{label}")])
                    && rule["regex"] == *value
            })
        };
        let labelled = |target: &str, source: &str| {
            rules.iter().any(|rule| {
                rule["target_label"] == target
                    && rule["source_labels"] == json!([format!("__meta_kubernetes_{source}")])
            })
        };
        let service = &job["job_name"];
        // The port that has `/metrics`.
        let port = if service == "gateway" { "ops" } else { "http" };
        ensure!(
            kept("label_app_kubernetes_io_name", service)
                && kept("container_port_name", &json!(port)),
            "{service} is not what is kept: {rules:?}"
        );
        // The adapter of the autoscalers selects by these labels.
        ensure!(
            labelled("namespace", "namespace") && labelled("pod", "pod_name"),
            "{service} has no pod: {rules:?}"
        );
        names.push(service.as_str().unwrap_or_default().to_owned());
        // The Prometheus of Debian does not support Kubernetes. It checks everything else.
        let job = job.as_object_mut().context("a job")?;
        job.remove("kubernetes_sd_configs");
    }
    assert_eq!(names, ["gateway", "ingest"]);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("prometheus.yaml");
    fs::write(&file, configuration.to_string())?;
    manifests::run(Command::new("promtool").args(["check", "config"]).arg(file))?;
    Ok(())
}

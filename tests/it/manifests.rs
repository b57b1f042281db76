//! Checks of the deployment files without running them: manifests, images, compose and hosting files.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::manifests::{self, FOLDERS, documents, find, list, objects, pod_template, variables};
use tests::repository;

mod compose;
mod files;
mod memory;
mod network;
mod production;
mod secrets;
mod settings;
mod times;

use secrets::Secrets;
use settings::Settings;

fn text(path: &str) -> Result<String> {
    fs::read_to_string(repository::root().join(path)).with_context(|| format!("reading {path}"))
}

fn name(object: &Value) -> String {
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {}",
        part(&object["kind"]),
        part(&object["metadata"]["name"])
    )
}

fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    let spec = &template["spec"];
    list(&spec["containers"]).chain(list(&spec["initContainers"]))
}

#[test]
fn every_rendered_object_passes_the_schemas_of_kubernetes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rendered.yaml");
    for kustomization in FOLDERS {
        let yaml = manifests::render(kustomization)?;
        fs::write(&file, &yaml)?;
        let report = manifests::validate(&file)?;
        let passed = report
            .lines()
            .filter(|line| line.contains(" passed "))
            .count();
        let count = documents(&yaml)?.len();
        ensure!(count > 15, "{kustomization} renders {count} objects");
        assert_eq!(passed, count, "{kustomization}: {report}");
    }
    // The check must also find an error.
    let yaml = manifests::render(FOLDERS[0])?.replace("maxSurge:", "maxSurges:");
    fs::write(&file, yaml)?;
    let err = manifests::validate(&file).err();
    let message = format!("{:?}", err.context("an unknown field passes")?);
    ensure!(message.contains("maxSurges"), "{message}");
    Ok(())
}

/// Lists the violations of the Pod Security Standard `restricted`, and of our own rules, in a template.
fn security_problems(template: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let spec = &template["spec"];
    for key in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
        if spec[key] == true {
            problems.push(format!("{key} is set"));
        }
    }
    let allowed = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in list(&spec["volumes"]) {
        let kinds = volume.as_object().into_iter().flatten().map(|(key, _)| key);
        for kind in kinds.filter(|key| *key != "name" && !allowed.contains(&key.as_str())) {
            problems.push(format!("a volume of the kind {kind}"));
        }
    }
    if spec["automountServiceAccountToken"] != false {
        problems.push("the token of the account is mounted".to_owned());
    }
    let pod = &spec["securityContext"];
    if !pod["sysctls"].is_null() {
        problems.push("sysctls".to_owned());
    }
    for container in containers(template) {
        let own = &container["securityContext"];
        let either = |key: &str| {
            if own[key].is_null() {
                &pod[key]
            } else {
                &own[key]
            }
        };
        let mut want = |is_so: bool, what: &str| {
            if !is_so {
                problems.push(format!("{}: {what}", container["name"]));
            }
        };
        want(either("runAsNonRoot") == true, "may run as root");
        want(
            either("runAsUser").as_u64() > Some(0),
            "has no user of its own",
        );
        want(
            either("seccompProfile")["type"] == "RuntimeDefault",
            "has no seccomp profile",
        );
        want(
            own["allowPrivilegeEscalation"] == false,
            "may gain privileges",
        );
        want(own["privileged"] != true, "is privileged");
        want(own["readOnlyRootFilesystem"] == true, "may write its root");
        want(
            own["capabilities"]["drop"] == json!(["ALL"]),
            "keeps capabilities",
        );
        want(own["capabilities"]["add"].is_null(), "adds capabilities");
        want(own["procMount"].is_null(), "has another /proc");
        want(
            list(&container["ports"]).all(|port| port["hostPort"].is_null()),
            "has a port of the host",
        );
        want(
            !container["resources"]["limits"]["memory"].is_null(),
            "has no limit of memory",
        );
        want(
            !container["resources"]["requests"]["cpu"].is_null(),
            "requests no CPU",
        );
    }
    problems
}

#[test]
fn every_pod_is_restricted() -> Result<()> {
    for kustomization in FOLDERS {
        let objects = objects(kustomization)?;
        let templates: Vec<&Value> = objects
            .iter()
            .filter(|object| pod_template(object).is_some())
            .collect();
        ensure!(templates.len() >= 2, "{kustomization} has no pods");
        for object in templates {
            let template = pod_template(object).context("it has one")?;
            let problems = security_problems(template);
            ensure!(
                problems.is_empty(),
                "{kustomization}, {}: {problems:?}",
                name(object)
            );
        }
        let namespaces: Vec<&Value> = objects
            .iter()
            .filter(|object| object["kind"] == "Namespace")
            .collect();
        ensure!(
            namespaces.len() == 1,
            "{kustomization} has {} namespaces",
            namespaces.len()
        );
        let label = &namespaces[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
        assert_eq!(label, "restricted", "{kustomization}");
        for account in objects
            .iter()
            .filter(|object| object["kind"] == "ServiceAccount")
        {
            assert_eq!(
                account["automountServiceAccountToken"],
                false,
                "{}",
                name(account)
            );
        }
    }
    Ok(())
}

#[test]
fn the_check_for_restricted_pods_finds_every_breach() -> Result<()> {
    let objects = objects("k8s/base")?;
    let good = pod_template(find(&objects, "Deployment", "gateway")?).context("it has pods")?;
    assert_eq!(security_problems(good), [""; 0]);
    for (pointer, value) in [
        ("/spec/hostNetwork", json!(true)),
        ("/spec/automountServiceAccountToken", json!(true)),
        (
            "/spec/volumes",
            json!([{"name": "v", "hostPath": {"path": "/"}}]),
        ),
        ("/spec/securityContext/runAsNonRoot", json!(false)),
        ("/spec/securityContext/runAsUser", json!(0)),
        (
            "/spec/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
        ),
        (
            "/spec/containers/0/securityContext/allowPrivilegeEscalation",
            json!(true),
        ),
        ("/spec/containers/0/securityContext/privileged", json!(true)),
        (
            "/spec/containers/0/securityContext/readOnlyRootFilesystem",
            json!(false),
        ),
        (
            "/spec/containers/0/securityContext/capabilities",
            json!({"drop": []}),
        ),
        (
            "/spec/containers/0/securityContext/capabilities/add",
            json!(["NET_ADMIN"]),
        ),
        ("/spec/containers/0/securityContext/runAsUser", json!(0)),
        ("/spec/containers/0/ports/0/hostPort", json!(80)),
        ("/spec/containers/0/resources/limits", json!({})),
    ] {
        let mut bad = good.clone();
        let (parent, key) = pointer.rsplit_once('/').context("a pointer")?;
        bad.pointer_mut(parent)
            .with_context(|| pointer.to_owned())?[key] = value;
        ensure!(
            security_problems(&bad).len() == 1,
            "{pointer}: {:?}",
            security_problems(&bad)
        );
    }
    Ok(())
}

#[test]
fn manifests_contain_only_settings_that_the_programs_accept() -> Result<()> {
    let settings = Settings::of_all()?;
    let secrets = Secrets::make()?;
    for kustomization in FOLDERS {
        let objects = objects(kustomization)?;
        let mut checked = 0;
        for object in &objects {
            for container in pod_template(object).into_iter().flat_map(containers) {
                let Some(program) = settings.program_of(container) else {
                    continue;
                };
                checked += 1;
                let variables = variables(&objects, container)?;
                let place = || format!("{kustomization}, {}", name(object));
                ensure!(container["command"].is_null(), "{}: a command", place());
                program
                    .check_names(&container["args"], &variables)
                    .with_context(place)?;
                // The base does not configure who may connect.
                if kustomization != "k8s/base" {
                    program
                        .check_values(&container["args"], &variables, &secrets)
                        .with_context(place)?;
                }
            }
        }
        ensure!(
            checked >= 2,
            "{kustomization}: {checked} containers of ours"
        );
    }
    Ok(())
}

#[test]
fn every_reference_exists() -> Result<()> {
    // Created separately, as k8s/README.md describes.
    let outside = ["redis-gateway", "redis-ingest", "broker", "tokens"];
    for kustomization in FOLDERS {
        let objects = objects(kustomization)?;
        for object in &objects {
            let Some(template) = pod_template(object) else {
                continue;
            };
            let labels = template["metadata"]["labels"]
                .as_object()
                .context("no labels")?;
            for (key, value) in object["spec"]["selector"]["matchLabels"]
                .as_object()
                .into_iter()
                .flatten()
            {
                assert_eq!(labels.get(key), Some(value), "{}", name(object));
            }
            if let Some(account) = template["spec"]["serviceAccountName"].as_str() {
                find(&objects, "ServiceAccount", account)?;
            }
            for volume in list(&template["spec"]["volumes"]) {
                for (kind, found) in [
                    ("ConfigMap", &volume["configMap"]["name"]),
                    ("Secret", &volume["secret"]["secretName"]),
                    (
                        "PersistentVolumeClaim",
                        &volume["persistentVolumeClaim"]["claimName"],
                    ),
                ] {
                    let Some(found) = found.as_str() else {
                        continue;
                    };
                    let is_outside = kind == "Secret"
                        && kustomization != "k8s/overlays/dev"
                        && outside.contains(&found);
                    if !is_outside {
                        find(&objects, kind, found).context(kustomization)?;
                    }
                }
            }
            for container in containers(template) {
                for mount in list(&container["volumeMounts"]) {
                    let mut volumes = list(&template["spec"]["volumes"]);
                    ensure!(
                        volumes.any(|volume| volume["name"] == mount["name"]),
                        "{}: no volume {}",
                        name(object),
                        mount["name"]
                    );
                }
            }
        }
        for service in objects.iter().filter(|object| object["kind"] == "Service") {
            let selector = &service["spec"]["selector"];
            let is_chosen = |object: &Value| {
                pod_template(object).is_some_and(|template| {
                    selector
                        .as_object()
                        .into_iter()
                        .flatten()
                        .all(|(key, value)| template["metadata"]["labels"][key] == *value)
                })
            };
            ensure!(
                objects.iter().any(is_chosen),
                "{} chooses no pod",
                name(service)
            );
        }
        let ingress = find(&objects, "Ingress", "gateway")?;
        for path in list(&ingress["spec"]["rules"][0]["http"]["paths"]) {
            let service = path["backend"]["service"]["name"]
                .as_str()
                .unwrap_or_default();
            find(&objects, "Service", service)?;
        }
    }
    Ok(())
}

#[test]
fn the_ingress_leads_to_every_public_route_and_to_no_other() -> Result<()> {
    let objects = objects("k8s/base")?;
    let ingress = find(&objects, "Ingress", "gateway")?;
    let paths_of_type = |path_type: &'static str| {
        list(&ingress["spec"]["rules"][0]["http"]["paths"])
            .filter(move |path| path["pathType"] == path_type)
            .filter_map(|path| path["path"].as_str())
            .collect::<Vec<_>>()
    };
    let paths = paths_of_type("Prefix");
    // It leads to the dashboard, which is below /ui.
    assert_eq!(paths_of_type("Exact"), ["/"]);
    let leads_to = |route: &str| {
        // Element by element, as the path type `Prefix` requires.
        let is_prefix = |path: &&str| {
            let path = path.trim_end_matches('/');
            route == path
                || route
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        paths.iter().any(is_prefix)
    };
    let document: Value = serde_json::from_str(&text("gateway/src/openapi.json")?)?;
    let routes = document["paths"].as_object().context("no paths")?;
    ensure!(routes.len() > 10, "only {} routes", routes.len());
    for route in routes
        .keys()
        .map(String::as_str)
        .chain(["/socket.io/", "/ui/alarms"])
    {
        let is_inner = ["/metrics", "/livez", "/readyz"].contains(&route);
        assert_eq!(leads_to(route), !is_inner, "{route}");
    }
    Ok(())
}

#[test]
fn the_gateway_accepts_the_host_of_the_ingress() -> Result<()> {
    for kustomization in FOLDERS {
        let objects = objects(kustomization)?;
        let gateway = pod_template(find(&objects, "Deployment", "gateway")?).context("pods")?;
        let variables = variables(&objects, &gateway["spec"]["containers"][0])?;
        let hosts = variables.iter().find(|(name, _)| name == "ALLOWED_HOSTS");
        let hosts = hosts
            .and_then(|(_, value)| value.as_deref())
            .context("no hosts")?;
        let ingress = find(&objects, "Ingress", "gateway")?;
        for rule in list(&ingress["spec"]["rules"]) {
            let host = rule["host"].as_str().context("no host")?;
            ensure!(
                hosts.split(',').any(|own| own == host),
                "{kustomization}: {host}"
            );
        }
    }
    Ok(())
}

#[test]
fn autoscalers_use_metrics_that_exist() -> Result<()> {
    let documented = text("deploy/METRICS.md")?;
    let objects = objects("k8s/base")?;
    for scaler in ["gateway", "ingest"] {
        let scaler = find(&objects, "HorizontalPodAutoscaler", scaler)?;
        let metrics = list(&scaler["spec"]["metrics"]);
        let mut of_pods = metrics.filter_map(|metric| metric["pods"]["metric"]["name"].as_str());
        let metric = of_pods.next().context("no metric of pods")?;
        let row = format!("| `{metric}` | gauge |");
        ensure!(documented.contains(&row), "{metric} is not documented");
        // The adapter must be configured with the same names.
        ensure!(
            text("k8s/README.md")?.contains(metric),
            "no rule for {metric}"
        );
    }
    Ok(())
}

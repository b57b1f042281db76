//! What is deployed, looked at without running it: manifests, images, compose and hosting files.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::manifests::{self, FOLDERS, documents, find, list, objects, pod_template, variables};
use tests::repository;

mod settings;

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
        let told = manifests::validate(&file)?;
        let passed = told
            .lines()
            .filter(|line| line.contains(" passed "))
            .count();
        let count = documents(&yaml)?.len();
        ensure!(count > 15, "{kustomization} renders {count} objects");
        assert_eq!(passed, count, "{kustomization}: {told}");
    }
    // A check that lets everything pass would look the same.
    let yaml = manifests::render(FOLDERS[0])?.replace("maxSurge:", "maxSurges:");
    fs::write(&file, yaml)?;
    let err = manifests::validate(&file).err();
    let told = format!("{:?}", err.context("an unknown field passes")?);
    ensure!(told.contains("maxSurges"), "{told}");
    Ok(())
}

/// What breaks the Pod Security Standard `restricted` in a template, and what we want beyond it.
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
fn manifests_name_only_settings_that_exist() -> Result<()> {
    let settings = Settings::of_all()?;
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
                program
                    .check(&container["args"], &variables)
                    .with_context(|| format!("{kustomization}, {}", name(object)))?;
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
fn compose_and_the_hosting_file_name_only_settings_that_exist() -> Result<()> {
    let settings = Settings::of_all()?;
    let compose = documents(&text("deploy/compose.yaml")?)?;
    let services = compose[0]["services"].as_object().context("no services")?;
    let mut checked = 0;
    for service in services.values() {
        if let Some(program) = settings.program_of(service) {
            checked += 1;
            program.check(
                &service["command"],
                &settings::of_map(&service["environment"])?,
            )?;
        }
    }
    assert_eq!(checked, 5, "two ingests, two gateways, the simulator");
    for mount in services
        .values()
        .flat_map(|service| list(&service["volumes"]))
    {
        let source = mount.as_str().and_then(|mount| mount.split(':').next());
        if let Some(file) = source.filter(|source| source.starts_with('.')) {
            let path = repository::root().join("deploy").join(file);
            ensure!(path.is_file(), "{file} is mounted and does not exist");
        }
    }

    let hosting = documents(&text("deploy/render.yaml")?)?;
    let services: Vec<&Value> = list(&hosting[0]["services"]).collect();
    let mut checked = 0;
    for service in services {
        let command = service["dockerCommand"].as_str().unwrap_or_default();
        let Some(program) = settings.named(command) else {
            continue;
        };
        checked += 1;
        let variables = list(&service["envVars"])
            .map(|variable| {
                let name = variable["key"]
                    .as_str()
                    .context("a variable without a name")?;
                Ok((
                    name.to_owned(),
                    variable["value"].as_str().map(str::to_owned),
                ))
            })
            .collect::<Result<Vec<_>>>()?;
        let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        program.check(&json!(arguments), &variables)?;
        if program.is("gateway") {
            assert_eq!(service["healthCheckPath"], "/health");
        }
    }
    assert_eq!(checked, 2, "one of each");
    Ok(())
}

#[test]
fn the_dockerfile_and_compose_pass_their_checkers() -> Result<()> {
    let root = repository::root();
    manifests::run(Command::new(manifests::tool("hadolint")?).arg(root.join("deploy/Dockerfile")))?;
    let mut compose = Command::new("docker-compose");
    compose
        .arg("-f")
        .arg(root.join("deploy/compose.yaml"))
        .args(["config", "-q"]);
    manifests::run(&mut compose)?;
    let version = text("rust-toolchain.toml")?;
    let version = version.split('"').nth(1).context("no version of Rust")?;
    ensure!(
        text("deploy/Dockerfile")?.contains(&format!("FROM rust:{version}-")),
        "not Rust {version}"
    );
    Ok(())
}

#[test]
fn the_dockerfile_builds_what_the_manifests_run() -> Result<()> {
    let dockerfile = text("deploy/Dockerfile")?;
    let settings = Settings::of_all()?;
    for program in ["ingest", "gateway", "simulator"] {
        for line in [
            format!("FROM common AS {program}"),
            format!("ENTRYPOINT [\"/usr/local/bin/{program}\"]"),
        ] {
            ensure!(dockerfile.contains(&line), "no line `{line}`");
        }
    }
    // Variables of an image would be settings nobody looks for.
    let finals = dockerfile
        .split("FROM scratch")
        .nth(1)
        .context("no final stage")?;
    ensure!(!finals.contains("ENV "), "the images set variables");
    ensure!(
        finals.contains("\nUSER 65532:65532\n"),
        "the images run as root"
    );
    ensure!(
        !finals.contains("\nRUN "),
        "nothing can run in an image from scratch"
    );
    for (program, port) in [("ingest", "3003"), ("gateway", "3002")] {
        ensure!(finals.contains(&format!("EXPOSE {port}")), "{port}");
        let program = settings.named(program).context("a service")?;
        assert_eq!(program.default("--http-port"), Some(port));
    }
    Ok(())
}

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

/// Beside what is configured, a stop lasts at most this long: tasks that do not end, and the last spans.
const LAST: f64 = 5.0 + 3.5;
/// What a gateway waits for clients and for requests that linger.
const LINGER: f64 = 2.0 * 2.0;

#[test]
fn grace_periods_hold_the_whole_stop() -> Result<()> {
    for kustomization in FOLDERS {
        let objects = objects(kustomization)?;
        for (kind, object, periods, rest) in [
            (
                "Deployment",
                "gateway",
                &["DRAIN_DELAY", "DRAIN_PERIOD"][..],
                LINGER + LAST,
            ),
            ("StatefulSet", "subtronics-ingest", &["DRAIN_PERIOD"], LAST),
        ] {
            let template = pod_template(find(&objects, kind, object)?).context("it has pods")?;
            let variables = variables(&objects, &template["spec"]["containers"][0])?;
            let mut longest = rest;
            for period in periods {
                let value = variables.iter().find(|(name, _)| name == period);
                let value = value.and_then(|(_, value)| value.as_deref());
                longest += seconds(value.with_context(|| format!("{object} has no {period}"))?)?;
            }
            let grace = template["spec"]["terminationGracePeriodSeconds"]
                .as_f64()
                .unwrap_or_default();
            ensure!(
                grace > longest,
                "{kustomization}, {object}: {grace} s of grace, a stop takes {longest} s"
            );
        }
    }
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
        for (object, scaler, port) in [(gateway, "gateway", 3002), (ingest, "ingest", 3003)] {
            let container = &pod_template(object).context("it has pods")?["spec"]["containers"][0];
            assert_eq!(
                container["ports"],
                json!([{"name": "http", "containerPort": port}])
            );
            for (probe, path) in [
                ("startupProbe", "/livez"),
                ("livenessProbe", "/livez"),
                ("readinessProbe", "/readyz"),
            ] {
                assert_eq!(
                    container[probe]["httpGet"],
                    json!({"path": path, "port": "http"}),
                    "{probe}"
                );
            }
            // Two writers of one number: every apply would undo what the autoscaler did.
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
fn everything_referred_to_exists() -> Result<()> {
    // Made outside, as k8s/README.md says.
    let outside = [
        ("k8s/base", ["redis", "broker"]),
        ("k8s/overlays/prod", ["redis", "broker"]),
    ];
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
            for variable in containers(template).flat_map(|container| list(&container["env"])) {
                let Some(secret) = variable["valueFrom"]["secretKeyRef"]["name"].as_str() else {
                    continue;
                };
                let is_outside = outside
                    .iter()
                    .any(|(folder, names)| *folder == kustomization && names.contains(&secret));
                ensure!(
                    is_outside || find(&objects, "Secret", secret).is_ok(),
                    "{kustomization}: no secret {secret}"
                );
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
    let paths: Vec<&str> = list(&ingress["spec"]["rules"][0]["http"]["paths"])
        .filter_map(|path| path["path"].as_str())
        .collect();
    let leads_to = |route: &str| {
        // Element by element, as the type Prefix is defined.
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
    for route in routes.keys().map(String::as_str).chain(["/socket.io/"]) {
        let is_inner = ["/metrics", "/livez", "/readyz"].contains(&route);
        assert_eq!(leads_to(route), !is_inner, "{route}");
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
        let annotations = &find(&objects, "Ingress", "gateway")?["metadata"]["annotations"];
        for key in ["haproxy.org/timeout-server", "haproxy.org/timeout-tunnel"] {
            let timeout = seconds(annotations[key].as_str().unwrap_or_default())?;
            ensure!(
                timeout > silence,
                "{kustomization}: {key} {timeout} s, {silence} s of silence"
            );
        }
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

#[test]
fn copies_of_configurations_are_copies() -> Result<()> {
    assert_eq!(
        text("k8s/overlays/dev/redis.conf")?,
        text("deploy/redis.conf")?
    );
    let shipped = text("deploy/mosquitto.conf")?;
    let copy = text("k8s/overlays/dev/mosquitto.conf")?;
    let own = copy
        .strip_prefix(&shipped)
        .context("another mosquitto.conf")?;
    assert_eq!(
        own,
        "\nlistener 1883\npersistence_location /mosquitto/data/\n"
    );
    Ok(())
}

#[test]
fn production_keeps_no_secret_and_speaks_tls() -> Result<()> {
    let objects = objects("k8s/overlays/prod")?;
    ensure!(
        objects.iter().all(|object| object["kind"] != "Secret"),
        "a secret in the repository"
    );
    let ingest =
        pod_template(find(&objects, "StatefulSet", "subtronics-ingest")?).context("pods")?;
    let variables = variables(&objects, &ingest["spec"]["containers"][0])?;
    let broker = variables.iter().find(|(name, _)| name == "MQTT_BROKER");
    let broker = broker
        .and_then(|(_, value)| value.as_deref())
        .unwrap_or_default();
    ensure!(broker.starts_with("mqtts://"), "{broker}");
    let ingress = find(&objects, "Ingress", "gateway")?;
    assert_eq!(
        ingress["spec"]["tls"][0]["hosts"][0],
        ingress["spec"]["rules"][0]["host"]
    );
    ensure!(
        !ingress["metadata"]["annotations"]["cert-manager.io/cluster-issuer"].is_null(),
        "no issuer"
    );
    Ok(())
}

#[test]
fn the_period_of_a_second_is_read_right() -> Result<()> {
    for (text, expected) in [("10s", 10.0), ("500ms", 0.5), ("1h", 3600.0), ("60", 60.0)] {
        let read = Duration::from_secs_f64(seconds(text)?);
        assert_eq!(read, Duration::from_secs_f64(expected), "{text}");
    }
    Ok(())
}

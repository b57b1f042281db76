//! The images and the rendered manifests, run by podman if this machine can run containers.

use std::process::Output;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::{Browser, Transport};
use tests::containers::{Podman, PublishedPort, pod, secrets_as_config_maps};
use tests::device::{Device, Publisher};
use tests::eventually::eventually;
use tests::http;
use tests::manifests::{find, objects, pod_template, run};
use tests::report;

/// Returns podman. If it cannot be used, adds the reason to the report and returns `None`.
fn podman() -> Result<Option<Podman>> {
    match Podman::try_start()? {
        Ok(podman) => Ok(Some(podman)),
        Err(reason) => {
            report::line(&format!(
                "NOT RUN: images and manifests, this machine cannot run containers: {reason}"
            ));
            Ok(None)
        }
    }
}

const SERVICES: [(&str, &str); 2] = [
    ("subtronics/gateway:local", "gateway"),
    ("subtronics/ingest:local", "ingest"),
];

const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

#[test]
fn the_images_contain_only_the_binary_the_pages_and_the_certificate_authorities() -> Result<()> {
    let Some(podman) = podman()? else {
        return Ok(());
    };
    for (image, name) in SERVICES {
        podman.build_shipped(Some(name))?;
        let binary = format!("usr/local/bin/{name}");
        let (pages, others) = contents(&podman, image)?;
        assert_eq!(others, [AUTHORITIES, binary.as_str()]);
        assert_eq!(pages.is_empty(), name != "gateway", "{pages:?}");
        let output = podman.output(&[], image, &["--version"])?;
        ensure!(output.starts_with(&format!("{name} 0.0.0")), "{output}");
        let output = podman.output(&["--entrypoint=/bin/sh"], image, &["-c", "true"])?;
        ensure!(output.contains("no such file"), "it has a shell: {output}");
    }
    // Without a target the image contains both services, for hosts that do not support targets.
    podman.build_shipped(None)?;
    let image = "subtronics/both:local";
    let both = ["usr/local/bin/gateway", "usr/local/bin/ingest"];
    let (pages, others) = contents(&podman, image)?;
    assert_eq!(others, [AUTHORITIES, both[0], both[1]]);
    ensure!(pages.contains(&"dashboard/index.html".to_owned()));
    for (_, name) in SERVICES {
        let command = format!("/usr/local/bin/{name}");
        let output = podman.output(&[], image, &[&command, "--version"])?;
        ensure!(output.starts_with(&format!("{name} 0.0.0")), "{output}");
    }
    Ok(())
}

/// Returns the files of the dashboard in an image, and all others.
fn contents(podman: &Podman, image: &str) -> Result<(Vec<String>, Vec<String>)> {
    let files = podman.files(image)?;
    let is_page = |file: &String| file.starts_with("dashboard/");
    Ok(files.into_iter().partition(is_page))
}

/// Creates a self-signed certificate for the name `redis` and its key in this folder.
fn make_certificate(folder: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=redis", "-addext", "subjectAltName=DNS:redis"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(folder);
    run(&mut openssl)?;
    for name in ["key.pem", "certificate.pem"] {
        // The user of the container reads it.
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

#[tokio::test]
async fn the_images_reach_redis_over_tls_and_trust_only_their_authorities() -> Result<()> {
    let Some(podman) = podman()? else {
        return Ok(());
    };
    podman.build_stand_in("redis:7.4-bookworm", "redis-server", "/data", 999)?;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    make_certificate(folder.path())?;
    let mounted = format!("--volume={}:/tls:ro", folder.path().display());
    let authority = format!(
        "--volume={}:/{AUTHORITIES}:ro",
        folder.path().join("certificate.pem").display()
    );
    let server = [
        "redis-server",
        "--port",
        "0",
        "--tls-port",
        "6379",
        "--tls-cert-file",
        "/tls/certificate.pem",
        "--tls-key-file",
        "/tls/key.pem",
        "--tls-auth-clients",
        "no",
        "--save",
        "",
        "--protected-mode",
        "no",
        "--maxmemory-policy",
        "noeviction",
    ];
    podman.start("redis", &[&mounted], "redis:7.4-bookworm", &server)?;
    // Each command ends by itself. It has reached Redis if its exit code is 0, or if it prints that no service wrote there.
    let url = "--redis-url=rediss://redis:6379";
    let gateway: &[&str] = &["check-config", "--connect", "--allow-anonymous", url];
    let ingest: &[&str] = &["export-log", url];
    let has_reached = |ended: &Output| {
        let output = String::from_utf8_lossy(&ended.stderr);
        ended.status.success() || output.contains("no service ever wrote to it")
    };
    for ((image, name), arguments) in SERVICES.into_iter().zip([gateway, ingest]) {
        podman.build_shipped(Some(name))?;
        // With the certificate of the server instead of the public authorities of the image.
        eventually(&format!("{name} reaches Redis"), async || {
            let ended = podman.run_to_end(&[&authority], image, arguments)?;
            ensure!(has_reached(&ended), "{ended:?}");
            Ok(())
        })
        .await?;
        // The public authorities do not know the certificate.
        let ended = podman.run_to_end(&[], image, arguments)?;
        assert_eq!(ended.status.code(), Some(1), "{name}: {ended:?}");
        ensure!(!has_reached(&ended), "{name}: {ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_images_find_certificate_authorities_and_resolve_names() -> Result<()> {
    let Some(podman) = podman()? else {
        return Ok(());
    };
    podman.build_shipped(Some("ingest"))?;
    podman.build_shipped(Some("gateway"))?;
    // A container whose name only the DNS server of the network knows. It runs although it cannot reach Redis.
    podman.start(
        "somebody",
        &[],
        SERVICES[0].0,
        &["--allow-anonymous", "--redis-url=redis://127.0.0.1:1"],
    )?;
    // Without authorities TLS would fail before any connection. Nothing listens on this port of the address, so the
    // connection is refused. A name that cannot be resolved has another error.
    let flags = [
        "--mqtt-broker=mqtts://somebody:1",
        "--redis-url=redis://127.0.0.1:1",
    ];
    podman.start("ingest", &[], SERVICES[1].0, &flags)?;
    eventually("a broker that refuses", async || {
        let logs = podman.logs("ingest")?;
        let is_refused = |line: &str| {
            line.contains("MQTT broker unavailable") && line.contains("Connection refused")
        };
        ensure!(logs.lines().any(is_refused), "{logs}");
        Ok(())
    })
    .await
}

/// The pods of one controller: their names and ports.
struct Replicas {
    container: String,
    pods: Vec<(String, Vec<PublishedPort>)>,
}

impl Replicas {
    /// Starts the minimum of the autoscaler, or one pod without an autoscaler.
    fn play(
        podman: &Podman,
        objects: &[Value],
        kind: &str,
        name: &str,
        names: &[(&str, Ipv4Addr)],
    ) -> Result<Self> {
        let object = find(objects, kind, name)?;
        let template = pod_template(object).context("it makes pods")?;
        let container = template["spec"]["containers"][0]["name"]
            .as_str()
            .context("a name")?
            .to_owned();
        let is_scaled = |other: &&Value| {
            other["kind"] == "HorizontalPodAutoscaler"
                && other["spec"]["scaleTargetRef"]["name"] == name
        };
        let scaler = objects.iter().find(is_scaled);
        let count = scaler
            .and_then(|scaler| scaler["spec"]["minReplicas"].as_u64())
            .unwrap_or(1);
        let mut pods = Vec::new();
        // podman needs them together with the pods.
        let mut played: Vec<Value> = objects
            .iter()
            .filter(|object| object["kind"] == "ConfigMap")
            .cloned()
            .collect();
        played.extend(secrets_as_config_maps(objects)?);
        for index in 0..count {
            let own = format!("{name}-{index}");
            let (object, published) = pod(&own, template, objects, names)?;
            played.push(object);
            pods.push((own, published));
        }
        podman.play(&played)?;
        Ok(Self { container, pods })
    }

    fn containers(&self) -> impl Iterator<Item = String> {
        self.pods
            .iter()
            .map(|(pod, _)| format!("{pod}-{}", self.container))
    }

    /// Returns the ports of this machine that are forwarded to a port of each pod.
    fn ports(&self, container_port: u16) -> Vec<u16> {
        let published = self.pods.iter().flat_map(|(_, published)| published);
        published
            .filter(|port| port.container_port == container_port)
            .map(|port| port.host_port.number())
            .collect()
    }

    /// Waits until every pod is ready, as the kubelet would find out with the readiness probe.
    async fn ready(&self, podman: &Podman, container_port: u16) -> Result<()> {
        for (port, container) in self
            .ports(container_port)
            .into_iter()
            .zip(self.containers())
        {
            let ready = eventually(&format!("{container} is ready"), async || {
                let answer = http::send(port, "GET", "/readyz", &[], b"").await?;
                ensure!(answer.status == 200, "{answer:?}");
                Ok(())
            })
            .await;
            ready.with_context(|| podman.logs(&container).unwrap_or_default())?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_rendered_manifests_run_and_a_reading_reaches_a_client() -> Result<()> {
    let Some(podman) = podman()? else {
        return Ok(());
    };
    for name in ["ingest", "gateway", "simulator"] {
        podman.build_shipped(Some(name))?;
    }
    // No image registry is needed: images with the names of the manifests are made from the servers of this machine.
    podman.build_stand_in("redis:7.4-bookworm", "redis-server", "/data", 999)?;
    podman.build_stand_in(
        "eclipse-mosquitto:2.0.22",
        "mosquitto",
        "/mosquitto/data",
        1883,
    )?;

    // The overlay `dev` has Redis, the broker and the simulator too.
    let objects = objects("k8s/overlays/dev")?;
    let volumes = |object: &&Value| object["kind"] == "PersistentVolumeClaim";
    let volumes: Vec<Value> = objects.iter().filter(volumes).cloned().collect();
    podman.play(&volumes)?;
    Replicas::play(&podman, &objects, "Deployment", "redis", &[])?;
    let broker = Replicas::play(&podman, &objects, "Deployment", "mosquitto", &[])?;
    let names = [
        ("redis", podman.address("redis-0")?),
        ("mosquitto", podman.address("mosquitto-0")?),
    ];
    let ingests = Replicas::play(
        &podman,
        &objects,
        "StatefulSet",
        "subtronics-ingest",
        &names,
    )?;
    let gateways = Replicas::play(&podman, &objects, "Deployment", "gateway", &names)?;
    let _simulator = Replicas::play(&podman, &objects, "Deployment", "simulator", &names)?;
    assert_eq!((ingests.pods.len(), gateways.pods.len()), (2, 2));
    ingests.ready(&podman, 3003).await?;
    gateways.ready(&podman, 3004).await?;

    let ports = gateways.ports(3002);
    let device = Device::new(
        "OTSM-9001",
        Arc::new(Publisher::connect(broker.ports(1883)[0])),
    );
    let browser = Browser::connect(ports[0], Transport::WebSocket).await?;
    browser.follow("OTSM-9001").await?;
    device.send(1500).await?;
    let reading = browser.event_after(0, "device:data", "OTSM-9001").await?;
    assert_eq!(reading["data"]["sensor_reading"], 1500);
    browser.event_after(0, "device:alerts", "OTSM-9001").await?;
    eventually("the simulated detectors at the other gateway", async || {
        let listed = http::send(ports[1], "GET", "/api/devices", &[], b"")
            .await?
            .expect(200)?;
        ensure!(listed["count"].as_u64() > Some(12), "{listed}");
        Ok(())
    })
    .await?;

    for container in ingests.containers().chain(gateways.containers()) {
        let secured = podman.inspect(
            &container,
            "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.EffectiveCaps}}",
        )?;
        ensure!(
            secured.starts_with("65532") && secured.ends_with(" true []"),
            "{container}: {secured}"
        );
    }
    // Both services end within their grace period. Exit code 137 would mean SIGKILL.
    for (kind, name, replicas) in [
        ("StatefulSet", "subtronics-ingest", &ingests),
        ("Deployment", "gateway", &gateways),
    ] {
        let template = pod_template(find(&objects, kind, name)?).context("it makes pods")?;
        let grace = template["spec"]["terminationGracePeriodSeconds"]
            .as_u64()
            .context("no grace")?;
        let container = replicas.containers().next().context("a replica")?;
        assert_eq!(podman.stop(&container, grace)?, 0, "{container}");
    }
    browser
        .wait_for("the notice of the replica that goes", |seen| {
            seen.is_event("server:drain")
        })
        .await?;
    Ok(())
}

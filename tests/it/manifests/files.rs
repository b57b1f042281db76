//! Files for deployments without Kubernetes: the Dockerfile, compose, the hosting blueprint, and copies of configurations.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::manifests::{self, documents, list};
use tests::repository;

use super::secrets::Secrets;
use super::settings::{self, Settings};
use super::text;

#[test]
fn compose_and_the_hosting_file_contain_only_settings_that_the_programs_accept() -> Result<()> {
    let settings = Settings::of_all()?;
    let secrets = Secrets::make()?;
    let compose = documents(&text("deploy/compose.yaml")?)?;
    let services = compose[0]["services"].as_object().context("no services")?;
    let mut checked = 0;
    for service in services.values() {
        if let Some(program) = settings.program_of(service) {
            checked += 1;
            let variables = settings::of_map(&service["environment"])?;
            program.check_names(&service["command"], &variables)?;
            program.check_values(&service["command"], &variables, &secrets)?;
        }
    }
    assert_eq!(
        checked, 5,
        "two ingest replicas, two gateways, the simulator"
    );
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
        let variables = settings::of_list(&service["envVars"])?;
        let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        program.check_names(&json!(arguments), &variables)?;
        program.check_values(&json!(arguments), &variables, &secrets)?;
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
    // Nobody would look for settings in the variables of an image.
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

#[test]
fn copied_configurations_are_identical() -> Result<()> {
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
        "\nlistener 1883\npersistence_location /mosquitto/data/\n# Nobody reaches it from outside of the cluster.\nallow_anonymous true\n"
    );
    Ok(())
}

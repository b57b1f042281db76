//! Runs podman with all its data in a temporary folder: builds images from the static binaries in `target/image`, and runs
//! the pods of rendered manifests. The test does the rest of the work of a cluster: it resolves service names, checks
//! readiness and creates the replicas.

use std::fs::{self, File, OpenOptions};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::manifests::{run, secret};
use crate::ports::Port;
use crate::repository;

/// Settings of podman for a machine without systemd, where podman may not raise resource limits.
const PODMAN_CONFIG: &str = r#"
[containers]
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"#;
const NETWORK: &str = "subtronics";
/// Flags for a container without a manifest. They restrict it as the manifests restrict their pods.
const RESTRICTED_FLAGS: [&str; 5] = [
    "--pull=never",
    "--read-only",
    "--cap-drop=all",
    "--memory=64m",
    "--network=subtronics",
];

/// The containers of one test. Dropping it removes them.
#[derive(Debug)]
pub struct Podman {
    folder: TempDir,
    driver: &'static str,
    // The last field, so that it is released last.
    _lock: File,
}

/// A container port of a pod that is published on the loopback interface.
#[derive(Debug)]
pub struct PublishedPort {
    /// The port of the container.
    pub container_port: u16,
    /// The port of the loopback interface.
    pub host_port: Port,
}

impl Podman {
    /// Prepares podman, and runs a trial container as the tests need it. The inner error is the reason why this machine
    /// cannot run it.
    pub fn try_start() -> Result<Result<Self, String>> {
        // Only one test at a time uses podman on this machine. Podman chooses bridges, address ranges and firewall chains
        // that do not exist yet, so two tests at once would choose the same ones.
        let lock = std::env::temp_dir().join("subtronics-test-podman");
        let lock = OpenOptions::new().create(true).append(true).open(lock);
        let lock = lock.context("a lock file")?;
        lock.lock().context("waiting for other containers")?;
        let mut reasons = Vec::new();
        for driver in ["overlay", "vfs"] {
            let folder = tempfile::Builder::new()
                .prefix("subtronics-podman-")
                .tempdir()
                .context("a folder for containers")?;
            let podman = Self {
                folder,
                driver,
                _lock: lock.try_clone().context("the lock")?,
            };
            fs::write(podman.path("containers.conf"), PODMAN_CONFIG)?;
            let trial = podman.run_trial().and_then(|()| {
                let restricted = podman.run_restricted_trial();
                restricted.context("containers run only without network and limits")
            });
            let Err(err) = trial else {
                return Ok(Ok(podman));
            };
            let output = format!("{err:#}");
            let last = output.lines().rfind(|line| !line.trim().is_empty());
            reasons.push(format!("{driver}: {}", last.unwrap_or_default()));
        }
        Ok(Err(reasons.join("; ")))
    }

    /// Runs a container that holds only `catatonit`, a static program that is installed with podman.
    fn run_trial(&self) -> Result<()> {
        let root = self.path("trial");
        fs::create_dir_all(&root)?;
        let places = ["/usr/libexec/podman/catatonit", "/usr/bin/catatonit"];
        let program = places.iter().find(|path| Path::new(path).exists());
        fs::copy(program.context("no catatonit")?, root.join("program"))?;
        let flags = ["run", "--rm", "--network=none", "--rootfs"];
        run(self
            .podman()
            .args(flags)
            .arg(&root)
            .args(["/program", "--version"]))?;
        Ok(())
    }

    /// Runs the same program from an image: on the network of the test, with limits and without capabilities.
    fn run_restricted_trial(&self) -> Result<()> {
        let context = self.path("trial");
        fs::write(
            context.join("Dockerfile"),
            "FROM scratch\nCOPY program /program\n",
        )?;
        self.build("trial", &context.join("Dockerfile"), &context, &[])?;
        run(self.podman().args(["network", "create", NETWORK]))?;
        run(self
            .podman()
            .args(["run", "--rm"])
            .args(RESTRICTED_FLAGS)
            .args(["localhost/trial", "/program", "--version"]))?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Builds a command of podman or buildah that keeps all its data in our folder.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("CONTAINERS_CONF", self.path("containers.conf"))
            .env("TMPDIR", self.folder.path())
            .arg("--root")
            .arg(self.path("storage"))
            .arg("--runroot")
            .arg(self.path("run"))
            .args(["--storage-driver", self.driver]);
        command
    }

    fn podman(&self) -> Command {
        let mut command = self.command("podman");
        command
            .arg("--network-config-dir")
            .arg(self.path("networks"))
            .arg("--tmpdir")
            .arg(self.path("tmp"))
            .arg("--volumepath")
            .arg(self.path("volumes"));
        command
    }

    fn build(&self, image: &str, file: &Path, context: &Path, options: &[&str]) -> Result<()> {
        let mut build = self.command("buildah");
        build
            .args(["bud", "--isolation", "chroot", "--pull-never", "-t", image])
            .args(options)
            .arg("-f")
            .arg(file)
            .arg(context);
        run(&mut build)?;
        Ok(())
    }

    /// Builds a target of the shipped Dockerfile; `None` is its last stage, with both services. The binaries in `target/image` replace its
    /// stage `build`, because compiling everything again would take minutes, and `target/dashboard` what its stage `dashboard` builds.
    pub fn build_shipped(&self, target: Option<&str>) -> Result<()> {
        let built = repository::target().join("image");
        ensure!(
            built.join("out/gateway").is_file(),
            "`{}` is missing: run `tests/run`",
            built.display()
        );
        repository::dashboard()?;
        let stages = [
            format!("build={}", built.display()),
            format!("dashboard={}", repository::target().display()),
        ];
        let mut options: Vec<&str> = stages
            .iter()
            .flat_map(|stage| ["--build-context", stage.as_str()])
            .collect();
        options.extend(target.iter().flat_map(|target| ["--target", target]));
        let file = repository::root().join("deploy/Dockerfile");
        let image = format!("subtronics/{}:local", target.unwrap_or("both"));
        self.build(&image, &file, &built, &options)
    }

    /// Builds an image from a program of this machine and the libraries it loads. `image` is the name of the public image
    /// that it replaces. `user` may write to `folder`.
    pub fn build_stand_in(
        &self,
        image: &str,
        program: &str,
        folder: &str,
        user: u32,
    ) -> Result<()> {
        let context = self.path("stand-in");
        let root = context.join(program);
        fs::create_dir_all(root.join("usr/bin"))?;
        let which = run(Command::new("which").arg(program))?.stdout;
        let file = PathBuf::from(String::from_utf8(which)?.trim());
        fs::copy(&file, root.join("usr/bin").join(program))?;
        let libraries = String::from_utf8(run(Command::new("ldd").arg(&file))?.stdout)?;
        for library in libraries
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            let place = root.join(library.trim_start_matches('/'));
            fs::create_dir_all(place.parent().context("a library lies in a folder")?)?;
            fs::copy(library, &place).with_context(|| format!("copying {library}"))?;
        }
        fs::create_dir_all(root.join("data"))?;
        fs::write(root.join("data/.keep"), "")?;
        let dockerfile = format!(
            "FROM scratch\nCOPY {program}/usr /usr\nCOPY {program}/lib /lib\nCOPY {program}/lib64 /lib64\n\
             COPY --chown={user}:{user} {program}/data {folder}\n"
        );
        let file = context.join("Dockerfile");
        fs::write(&file, dockerfile)?;
        self.build(image, &file, &context, &[])
    }

    /// Lists every file of an image, as a path without the leading slash.
    pub fn files(&self, image: &str) -> Result<Vec<String>> {
        let archive = self.path("image.tar");
        let created = run(self
            .podman()
            .args(["create", "--pull=never", image, "none"]))?;
        let container = String::from_utf8(created.stdout)?;
        run(self
            .podman()
            .args(["export", container.trim(), "-o"])
            .arg(&archive))?;
        let listed = run(Command::new("tar").arg("tf").arg(&archive))?;
        let listed = String::from_utf8(listed.stdout)?;
        let is_file = |path: &&str| !path.ends_with('/');
        Ok(listed.lines().filter(is_file).map(str::to_owned).collect())
    }

    /// Runs a container, restricted as a pod of the manifests, until it ends. Returns its stdout and stderr as one text.
    pub fn output(&self, flags: &[&str], image: &str, arguments: &[&str]) -> Result<String> {
        Ok(printed(&self.run_to_end(flags, image, arguments)?))
    }

    /// Runs a container, restricted as a pod of the manifests, until it ends. Returns its output and exit code.
    pub fn run_to_end(&self, flags: &[&str], image: &str, arguments: &[&str]) -> Result<Output> {
        let mut podman = self.podman();
        podman
            .args(["run", "--rm"])
            .args(RESTRICTED_FLAGS)
            .args(flags)
            .arg(image)
            .args(arguments);
        podman.output().context("running podman")
    }

    /// Starts a container with this name, restricted as a pod of the manifests.
    pub fn start(
        &self,
        container: &str,
        flags: &[&str],
        image: &str,
        arguments: &[&str],
    ) -> Result<()> {
        let mut podman = self.podman();
        podman
            .args(["run", "-d", "--name", container])
            .args(RESTRICTED_FLAGS)
            .args(flags)
            .arg(image)
            .args(arguments);
        run(&mut podman)?;
        Ok(())
    }

    /// Starts these objects with `podman play kube`.
    pub fn play(&self, objects: &[Value]) -> Result<()> {
        let file = self.path("play.yaml");
        // JSON is YAML.
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        fs::write(&file, documents.join("\n---\n"))?;
        let mut play = self.podman();
        play.args(["play", "kube", "--network", NETWORK]).arg(&file);
        let played = run(&mut play)?;
        let output = String::from_utf8_lossy(&played.stdout).into_owned();
        ensure!(!output.contains("cannot"), "{output}");
        Ok(())
    }

    /// Returns the address of a pod on the network.
    pub fn address(&self, pod: &str) -> Result<Ipv4Addr> {
        let mut inspect = self.podman();
        inspect.args(["pod", "inspect", pod, "--format", "{{.InfraContainerID}}"]);
        let infra = String::from_utf8(run(&mut inspect)?.stdout)?;
        let mut inspect = self.podman();
        inspect.args(["inspect", infra.trim(), "--format"]);
        inspect.arg("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
        let address = String::from_utf8(run(&mut inspect)?.stdout)?;
        let address = address.trim();
        address
            .parse()
            .with_context(|| format!("the address of {pod}: `{address}`"))
    }

    /// Reads the stdout and stderr of a container.
    pub fn logs(&self, container: &str) -> Result<String> {
        let output = run(self.podman().args(["logs", container]))?;
        Ok(printed(&output))
    }

    /// Sends SIGTERM to a container, and SIGKILL after the grace period. Returns its exit code.
    pub fn stop(&self, container: &str, grace_seconds: u64) -> Result<i32> {
        run(self
            .podman()
            .args(["stop", "-t", &grace_seconds.to_string(), container]))?;
        let output =
            run(self
                .podman()
                .args(["inspect", container, "--format", "{{.State.ExitCode}}"]))?;
        let code = String::from_utf8(output.stdout)?;
        code.trim()
            .parse()
            .with_context(|| format!("the exit code of {container}: `{code}`"))
    }

    /// Returns the output of `podman inspect` for a container. `template` is a Go template such as `{{.Config.User}}`.
    pub fn inspect(&self, container: &str, template: &str) -> Result<String> {
        let output = run(self
            .podman()
            .args(["inspect", container, "--format", template]))?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

fn printed(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Errors cannot be handled here. Dropping the fields removes the folder afterwards.
        for arguments in [
            &["pod", "rm", "-fa", "-t", "0"][..],
            &["rm", "-fa", "-t", "0"],
            &["network", "rm", "-f", NETWORK],
        ] {
            self.podman().args(arguments).output().ok();
        }
        Command::new("umount")
            .arg(self.path("storage/overlay"))
            .output()
            .ok();
    }
}

/// Returns the secrets among these objects as config maps.
pub fn secrets_as_config_maps(objects: &[Value]) -> Result<Vec<Value>> {
    let secrets = objects.iter().filter(|object| object["kind"] == "Secret");
    let mut maps = Vec::new();
    for object in secrets {
        let name = object["metadata"]["name"].as_str().context("a name")?;
        let keys = object["data"].as_object().context("no data")?.keys();
        let mut map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {}
        });
        for key in keys {
            map["data"][key] = secret(objects, name, key)?.into();
        }
        maps.push(map);
    }
    Ok(maps)
}

/// Renders the pod that a controller would create from this template, adapted to podman:
/// * Its ports are published on the loopback interface.
/// * Host aliases resolve the service names in `names`.
/// * It has no probes: podman would run them with a shell, which the images do not have.
/// * The values of secrets are inserted, and their volumes become those of [`secrets_as_config_maps`]: releases of podman expect
///   secrets in different forms.
pub fn pod(
    name: &str,
    template: &Value,
    objects: &[Value],
    names: &[(&str, Ipv4Addr)],
) -> Result<(Value, Vec<PublishedPort>)> {
    let mut spec = template["spec"].clone();
    let aliases = names
        .iter()
        .map(|(name, address)| json!({"ip": address.to_string(), "hostnames": [name]}));
    spec["hostAliases"] = aliases.collect();
    for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
        if let Some(secret) = volume["secret"]["secretName"].as_str() {
            *volume = json!({"name": volume["name"], "configMap": {"name": secret}});
        }
    }
    let mut published = Vec::new();
    let Some(containers) = spec["containers"].as_array_mut() else {
        bail!("{name} has no containers");
    };
    for container in containers {
        let Some(container) = container.as_object_mut() else {
            bail!("{name} has no containers");
        };
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            container.remove(probe);
        }
        for variable in container
            .get_mut("env")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let source = &variable["valueFrom"]["secretKeyRef"];
            let (Some(from), Some(key)) = (source["name"].as_str(), source["key"].as_str()) else {
                continue;
            };
            let value = secret(objects, from, key)?;
            *variable = json!({"name": variable["name"], "value": value});
        }
        let Some(ports) = container.get_mut("ports").and_then(Value::as_array_mut) else {
            continue;
        };
        for port in ports {
            let container_port = port["containerPort"]
                .as_u64()
                .context("a port without a number")?;
            let host_port = Port::reserve()?;
            port["hostPort"] = host_port.number().into();
            port["hostIP"] = "127.0.0.1".into();
            published.push(PublishedPort {
                container_port: u16::try_from(container_port)?,
                host_port,
            });
        }
    }
    let labels = &template["metadata"]["labels"];
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec});
    Ok((pod, published))
}

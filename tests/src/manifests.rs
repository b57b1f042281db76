//! The manifests of `k8s/` as a cluster would receive them, and the tools that read YAML. The tools are in `target/venv`,
//! which `tests/run` creates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::repository;

/// Every kustomization.
pub const FOLDERS: [&str; 3] = ["k8s/base", "k8s/overlays/dev", "k8s/overlays/prod"];

/// Renders the folder with kustomize, as YAML.
pub fn render(folder: &str) -> Result<String> {
    let mut kubectl = Command::new(tool("kubectl")?);
    kubectl
        .arg("kustomize")
        .arg(repository::root().join(folder));
    let output = run(&mut kubectl)?;
    String::from_utf8(output.stdout).with_context(|| format!("{folder} is not UTF-8"))
}

/// Renders the folder with kustomize, object by object.
pub fn objects(folder: &str) -> Result<Vec<Value>> {
    documents(&render(folder)?)
}

/// Parses the documents of a YAML text.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    const CONVERT: &str = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let folder = tempfile::tempdir().context("a folder for YAML")?;
    let file = folder.path().join("documents.yaml");
    fs::write(&file, yaml).context("writing YAML")?;
    let mut python = Command::new(tool("python")?);
    python.args(["-c", CONVERT]).arg(&file);
    serde_json::from_slice(&run(&mut python)?.stdout).context("YAML as JSON")
}

/// Returns the path of a program of `target/venv`.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = repository::target().join("venv/bin").join(name);
    ensure!(
        path.is_file(),
        "`{}` is missing: run `tests/run`",
        path.display()
    );
    Ok(path)
}

/// Checks objects strictly against the schemas of Kubernetes, which are part of the tool. The error is its output.
pub fn validate(yaml: &Path) -> Result<String> {
    let mut validate = Command::new(tool("kubernetes-validate")?);
    validate.args(["--strict", "-k", "1.33"]).arg(yaml);
    let output = run(&mut validate)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program that must succeed. The error contains everything it printed.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("{command:?}: run `tests/run`"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// Returns the value of a key in a secret among these objects.
pub fn secret(objects: &[Value], name: &str, key: &str) -> Result<String> {
    const DECODE: &str =
        "import base64, sys; sys.stdout.buffer.write(base64.b64decode(sys.argv[1]))";
    let encoded = find(objects, "Secret", name)?["data"][key].as_str();
    let mut python = Command::new(tool("python")?);
    python.args(["-c", DECODE, encoded.context("no such key")?]);
    String::from_utf8(run(&mut python)?.stdout).with_context(|| format!("{name}: {key}"))
}

/// Returns the template of the pods that an object creates, if it creates any.
pub fn pod_template(object: &Value) -> Option<&Value> {
    let template = &object["spec"]["template"];
    template["spec"].is_object().then_some(template)
}

/// Finds the one object of this kind and name.
pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects
        .iter()
        .find(is_it)
        .with_context(|| format!("no {kind} {name}"))
}

/// Returns the elements of a list; none if the value is not a list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Returns the environment variables of a container with their values, from the config maps among these objects and its own.
/// A value from a secret or the pod is `None`.
pub fn variables(objects: &[Value], container: &Value) -> Result<Vec<(String, Option<String>)>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut variables = Vec::new();
    for source in list(&container["envFrom"]) {
        let name = source["configMapRef"]["name"]
            .as_str()
            .with_context(|| format!("not from a config map: {source}"))?;
        let data = find(objects, "ConfigMap", name)?["data"]
            .as_object()
            .with_context(|| format!("the config map {name} is empty"))?;
        variables.extend(data.iter().map(|(name, value)| (name.clone(), text(value))));
    }
    for variable in list(&container["env"]) {
        let name = text(&variable["name"]).context("a variable without a name")?;
        // A later one replaces an earlier one.
        variables.retain(|(other, _)| *other != name);
        variables.push((name, text(&variable["value"])));
    }
    Ok(variables)
}

//! The secrets that `deploy/make-secrets` makes, for the programs that read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tests::manifests::run;
use tests::repository;

/// Where containers find secrets: compose and Kubernetes, and the hosting platform.
const MOUNTED: [&str; 2] = ["/run/secrets/", "/etc/secrets/"];

/// A folder of secrets.
#[derive(Debug)]
pub(super) struct Secrets(TempDir);

impl Secrets {
    pub(super) fn make() -> Result<Self> {
        let secrets = Self(tempfile::tempdir().context("a folder for secrets")?);
        make_secrets(secrets.folder())?;
        Ok(secrets)
    }

    pub(super) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Reads a secret.
    pub(super) fn text(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.file(name)).with_context(|| format!("the secret {name}"))
    }

    /// Replaces the path of a secret in a container by that of a file here. Kubernetes has a folder for each secret, in which the
    /// instructions put the same contents under other names.
    pub(super) fn mounted(&self, text: &str) -> Result<String> {
        let Some(path) = MOUNTED.iter().find_map(|folder| text.strip_prefix(folder)) else {
            return Ok(text.to_owned());
        };
        let name = match path {
            "redis/url" => "redis-url-gateway",
            "broker/password" => "mqtt-password-ingest",
            "broker/username" => {
                fs::write(self.file("mqtt-username"), "ingest")?;
                "mqtt-username"
            }
            "tokens/token.pub" => "token.pub",
            name => name,
        };
        Ok(self.file(name).display().to_string())
    }
}

/// Runs `deploy/make-secrets` for this folder. Returns what it printed.
pub(super) fn make_secrets(folder: &Path) -> Result<String> {
    let mut script = Command::new(repository::root().join("deploy/make-secrets"));
    script.arg(folder).args(["gas.example.com", "192.0.2.7"]);
    Ok(String::from_utf8(run(&mut script)?.stdout)?)
}

//! What the binaries take, read from their `--help`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::manifests;
use tests::repository;
use tests::server_process::kept_environment;

/// The flags and variables of one program.
#[derive(Debug)]
pub(super) struct Program {
    name: &'static str,
    // Flag, variable, default.
    settings: Vec<(String, Option<String>, Option<String>)>,
}

/// Those of all our programs.
#[derive(Debug)]
pub(super) struct Settings(Vec<Program>);

impl Settings {
    pub(super) fn of_all() -> Result<Self> {
        let programs = ["ingest", "gateway", "simulator"].map(Program::ask);
        Ok(Self(programs.into_iter().collect::<Result<_>>()?))
    }

    /// The program that a container or service runs, by its image: none if it is not ours.
    pub(super) fn program_of(&self, container: &Value) -> Option<&Program> {
        let image = container["image"].as_str()?;
        let (_, name) = image.rsplit_once("subtronics/")?;
        self.named(name.split(':').next()?)
    }

    /// The program at the beginning of a command line.
    pub(super) fn named(&self, command: &str) -> Option<&Program> {
        let name = command.split_whitespace().next()?.rsplit('/').next()?;
        self.0.iter().find(|program| program.name == name)
    }
}

impl Program {
    fn ask(name: &'static str) -> Result<Self> {
        let mut command = Command::new(repository::binary(name)?);
        command.arg("--help").env_clear().envs(kept_environment());
        let help = String::from_utf8(manifests::run(&mut command)?.stdout)?;
        let mut settings: Vec<(String, Option<String>, Option<String>)> = Vec::new();
        for line in help.lines().map(str::trim) {
            let line = line.strip_prefix("-h, ").unwrap_or(line);
            let line = line.strip_prefix("-V, ").unwrap_or(line);
            if line.starts_with("--") {
                let flag = line.split_whitespace().next().unwrap_or(line);
                settings.push((flag.to_owned(), None, None));
            }
            let Some(last) = settings.last_mut() else {
                continue;
            };
            if let Some((_, rest)) = line.split_once("[env: ") {
                let end = rest.find(['=', ']']).unwrap_or(rest.len());
                last.1 = Some(rest[..end].to_owned());
            }
            if let Some((_, rest)) = line.split_once("[default: ") {
                last.2 = Some(rest.trim_end_matches(']').to_owned());
            }
        }
        ensure!(settings.len() > 5, "{name} --help: {help}");
        Ok(Self { name, settings })
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    pub(super) fn default(&self, flag: &str) -> Option<&str> {
        let setting = self.settings.iter().find(|(own, ..)| own == flag)?;
        setting.2.as_deref()
    }

    /// Refuses flags and variables that it does not know.
    pub(super) fn check(
        &self,
        arguments: &Value,
        variables: &[(String, Option<String>)],
    ) -> Result<()> {
        for argument in manifests::list(arguments) {
            let argument = argument
                .as_str()
                .with_context(|| format!("not a text: {argument}"))?;
            let flag = argument.split('=').next().unwrap_or(argument);
            let is_known = self.settings.iter().any(|(own, ..)| own == flag);
            ensure!(
                is_known || !flag.starts_with('-'),
                "{} knows no {flag}",
                self.name
            );
        }
        for (variable, _) in variables {
            let is_known = self
                .settings
                .iter()
                .any(|(_, own, _)| own.as_ref() == Some(variable));
            ensure!(is_known, "{} reads no {variable}", self.name);
        }
        Ok(())
    }
}

/// Variables as compose has them.
pub(super) fn of_map(map: &Value) -> Result<Vec<(String, Option<String>)>> {
    if map.is_null() {
        return Ok(Vec::new());
    }
    let map = map.as_object().context("no map of variables")?;
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    Ok(map
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect())
}

//! The settings that the binaries accept, from their `--help`.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::manifests;
use tests::repository;
use tests::server_process::kept_environment;

use super::secrets::Secrets;

/// The flags and variables of one program.
#[derive(Debug)]
pub(super) struct Program {
    name: &'static str,
    // Flag, variable, default.
    settings: Vec<(String, Option<String>, Option<String>)>,
}

/// The settings of all our programs.
#[derive(Debug)]
pub(super) struct Settings(Vec<Program>);

impl Settings {
    pub(super) fn of_all() -> Result<Self> {
        let programs = ["ingest", "gateway", "simulator"].map(Program::ask);
        Ok(Self(programs.into_iter().collect::<Result<_>>()?))
    }

    /// Returns the program that a container or service runs, by its image. `None` if it is not ours.
    pub(super) fn program_of(&self, container: &Value) -> Option<&Program> {
        let image = container["image"].as_str()?;
        let (_, name) = image.rsplit_once("subtronics/")?;
        self.named(name.split(':').next()?)
    }

    /// Finds the program at the beginning of a command line.
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

    /// Returns the value of a setting with these variables, or its default.
    pub(super) fn value<'a>(
        &'a self,
        variables: &'a [(String, Option<String>)],
        name: &str,
    ) -> Result<&'a str> {
        let set = variables.iter().find(|(own, _)| own == name);
        let set = set.and_then(|(_, value)| value.as_deref());
        let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
        set.or(self.default(&flag))
            .with_context(|| format!("{} has no {name}", self.name))
    }

    /// Fails for flags and variables that the program does not know.
    pub(super) fn check_names(
        &self,
        arguments: &Value,
        variables: &[(String, Option<String>)],
    ) -> Result<()> {
        for argument in texts(arguments)? {
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
            let is_standard = STANDARD.contains(&variable.as_str());
            ensure!(is_known || is_standard, "{} reads no {variable}", self.name);
        }
        Ok(())
    }

    /// Runs `check-config` of the program with arguments and variables. Fails for values with which it would not start.
    pub(super) fn check_values(
        &self,
        arguments: &Value,
        variables: &[(String, Option<String>)],
        secrets: &Secrets,
    ) -> Result<()> {
        // The simulator has no such command.
        if self.is("simulator") {
            return Ok(());
        }
        let mut command = Command::new(repository::binary(self.name)?);
        command
            .arg("check-config")
            .args(texts(arguments)?)
            .env_clear()
            .envs(kept_environment());
        for (name, value) in variables {
            let value = match value {
                Some(value) => in_image(&secrets.mounted(value)?)?,
                None => stand_in(name)?.to_owned(),
            };
            command.env(name, value);
        }
        manifests::run(&mut command)?;
        Ok(())
    }
}

/// The variables that the OpenTelemetry library reads itself, see `deploy/README.md`.
const STANDARD: [&str; 4] = [
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_METRIC_EXPORT_INTERVAL",
];

/// Returns the elements of a list of arguments. A missing list is empty. A string is an error, because only a shell could
/// split it.
fn texts(arguments: &Value) -> Result<Vec<&str>> {
    ensure!(
        arguments.is_null() || arguments.is_array(),
        "not a list: {arguments}"
    );
    manifests::list(arguments)
        .map(|argument| {
            argument
                .as_str()
                .with_context(|| format!("not a text: {argument}"))
        })
        .collect()
}

/// Replaces the folder that the pages of the dashboard have in the image by the one that they have here.
pub(super) fn in_image(value: &str) -> Result<String> {
    Ok(match value {
        "/dashboard" => repository::dashboard()?.display().to_string(),
        value => value.to_owned(),
    })
}

/// Returns a placeholder for a value from a secret, the pod or the hosting platform.
fn stand_in(variable: &str) -> Result<&'static str> {
    Ok(match variable {
        "REDIS_URL" => "rediss://user:anything@redis.example.com:6380/0",
        "MQTT_BROKER" => "mqtts://broker.example.com:8883",
        "MQTT_CLIENT_ID" => "subtronics-ingest-0",
        "MQTT_USERNAME" | "MQTT_PASSWORD" => "anything",
        "REPLICA_NAME" => "gateway-0123456789-abcde",
        "TOKEN_ISSUER" => "https://login.example.com",
        "TOKEN_AUDIENCE" => "gas-detection",
        "ALLOWED_ORIGINS" => "https://dashboard.example.com",
        "ALLOWED_HOSTS" => "subtronics-gateway.onrender.com",
        other => bail!("nothing stands in for {other}"),
    })
}

/// Parses the variables in the form of the hosting file.
pub(super) fn of_list(list: &Value) -> Result<Vec<(String, Option<String>)>> {
    let variables = list.as_array().context("no list of variables")?;
    variables
        .iter()
        .map(|variable| {
            let text = |key: &str| variable[key].as_str().map(str::to_owned);
            Ok((
                text("key").context("a variable without a name")?,
                text("value"),
            ))
        })
        .collect()
}

/// Parses the variables in the form of compose.
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

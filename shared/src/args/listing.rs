//! The effective settings, for people to read; secrets are masked.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction};

use super::command_line::CommandLine;
use crate::secret::{MASK, without_user};
use crate::telemetry::collector::Endpoint;

/// How a setting is listed if the text that was given is not the effective value, or is secret.
#[derive(Clone, Debug)]
pub struct SettingDisplay {
    /// The flag without its dashes.
    pub flag: &'static str,
    /// The effective value, without secrets.
    pub value: String,
    /// Where the value came from, if not from the setting's own flag, variable or default.
    pub source: Option<&'static str>,
}

impl CommandLine {
    /// One line per setting that has a variable, in the order of `--help`: `--flag = value  (where it came from)`. Hidden
    /// settings are listed only if they are given. An entry of `displays` replaces the text that was given. Without one, a
    /// value that `--help` hides is masked.
    #[must_use]
    pub fn listing(&self, displays: &[SettingDisplay]) -> Vec<String> {
        let settings = self.command.get_arguments();
        let settings = settings.filter(|arg| arg.get_env().is_some());
        settings
            .filter_map(|arg| self.list(arg, displays))
            .collect()
    }

    fn list(&self, arg: &Arg, displays: &[SettingDisplay]) -> Option<String> {
        let long = arg.get_long()?;
        let flag = format!("--{long}");
        if self.invalid.contains(&flag) {
            return Some(format!("{flag}  (missing, or cannot be read)"));
        }
        let display = displays.iter().find(|display| display.flag == long);
        let source = self.matches.value_source(arg.get_id().as_str());
        let is_given = source.is_some_and(|source| source != ValueSource::DefaultValue);
        if arg.is_hide_set() && !is_given {
            return None;
        }
        let value = match display {
            Some(display) => display.value.clone(),
            None if source.is_none() => return Some(format!("{flag}  (not set)")),
            None => self.value(arg),
        };
        let source = match (display.and_then(|display| display.source), source) {
            (Some(source), _) => source.to_owned(),
            (None, Some(ValueSource::CommandLine)) => "flag".to_owned(),
            (None, Some(ValueSource::EnvVariable)) => {
                let name = arg.get_env().unwrap_or_default().to_string_lossy();
                format!("variable {name}")
            }
            (None, _) => "default".to_owned(),
        };
        Some(format!("{flag} = {}  ({source})", value.escape_debug()))
    }

    fn value(&self, arg: &Arg) -> String {
        let id = arg.get_id().as_str();
        if let Ok(Some(endpoint)) = self.matches.try_get_one::<Endpoint>(id) {
            return endpoint.to_string();
        }
        if arg.is_hide_env_values_set() {
            return MASK.to_owned();
        }
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            return self.matches.get_flag(id).to_string();
        }
        let values = self.matches.get_raw(id).unwrap_or_default();
        let values = values.map(|value| without_user(&value.to_string_lossy()));
        values.collect::<Vec<_>>().join(",")
    }
}

//! Lists the effective settings for an operator, with secrets masked.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction};

use super::command_line::CommandLine;
use crate::secret::{MASK, without_user};
use crate::telemetry::collector::Endpoint;

/// Replaces the given text of a setting in the listing, if that text is secret or is not the effective value.
#[derive(Clone, Debug)]
pub struct SettingDisplay {
    /// The flag without its dashes.
    pub flag: &'static str,
    /// The effective value, without secrets.
    pub value: String,
    /// The source to show. `None`: the flag, variable or default that set the value.
    pub source: Option<&'static str>,
}

impl CommandLine {
    /// Returns one line per setting that has an environment variable, in the order of `--help`: `--flag = value  (source)`. Hidden
    /// settings are listed only if they are given. A setting in `displays` is listed as its entry says. For all others, a
    /// value that `--help` hides is masked.
    #[must_use]
    pub fn listing(&self, displays: &[SettingDisplay]) -> Vec<String> {
        let settings = self.command.get_arguments();
        let settings = settings.filter(|arg| arg.get_env().is_some());
        settings
            .filter_map(|arg| self.line(arg, displays))
            .collect()
    }

    /// Returns the settings that differ from their defaults, as flags on one line: `--flag=value --switch`. A setting in `displays` is
    /// shown as its entry says. For all others, a value that `--help` hides is masked.
    #[must_use]
    pub fn changed_settings(&self, displays: &[SettingDisplay]) -> String {
        let settings = self.command.get_arguments();
        let changed: Vec<String> = settings
            .filter_map(|arg| self.changed_setting(arg, displays))
            .collect();
        changed.join(" ")
    }

    /// Returns a setting as a flag; `None` if it has its default.
    fn changed_setting(&self, arg: &Arg, displays: &[SettingDisplay]) -> Option<String> {
        let long = arg.get_long()?;
        let display = displays.iter().find(|display| display.flag == long);
        let has_other_source = display.is_some_and(|display| display.source.is_some());
        if !has_other_source && !self.differs_from_default(arg) {
            return None;
        }
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            return Some(format!("--{long}"));
        }
        let value = match display {
            Some(display) => display.value.clone(),
            None => self.given_value(arg),
        };
        let value = value.escape_debug().to_string();
        Some(if value.is_empty() || value.contains(' ') {
            format!("--{long}=\"{value}\"")
        } else {
            format!("--{long}={value}")
        })
    }

    /// Whether a setting was given, with another value than its default.
    fn differs_from_default(&self, arg: &Arg) -> bool {
        let id = arg.get_id().as_str();
        let source = self.matches.value_source(id);
        if source.is_none_or(|source| source == ValueSource::DefaultValue) {
            return false;
        }
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            return self.matches.get_flag(id);
        }
        let given = self.matches.get_raw(id).into_iter().flatten();
        let defaults = arg.get_default_values().iter();
        !given.eq(defaults.map(clap::builder::OsStr::as_os_str))
    }

    /// Returns the line of a setting; `None` for one that is not listed.
    fn line(&self, arg: &Arg, displays: &[SettingDisplay]) -> Option<String> {
        let long = arg.get_long()?;
        let flag = format!("--{long}");
        if self.invalid.contains(&flag) {
            return Some(format!("{flag}  (missing, or cannot be read)"));
        }
        let display = displays.iter().find(|display| display.flag == long);
        let value_source = self.matches.value_source(arg.get_id().as_str());
        let is_given = value_source.is_some_and(|source| source != ValueSource::DefaultValue);
        if arg.is_hide_set() && !is_given {
            return None;
        }
        let value = match display {
            Some(display) => display.value.clone(),
            None if value_source.is_none() => return Some(format!("{flag}  (not set)")),
            None => self.given_value(arg),
        };
        let source = match (display.and_then(|display| display.source), value_source) {
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

    /// Returns the given or default value of a setting, with secrets masked.
    fn given_value(&self, arg: &Arg) -> String {
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

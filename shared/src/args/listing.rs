//! The effective settings, for people to read; secrets are masked.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction};

use super::Line;
use crate::secret::{MASK, without_user};
use crate::telemetry::collector::Endpoint;

/// How a setting is listed where its text alone does not tell, or must not be told.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The flag without its dashes.
    pub flag: &'static str,
    /// What is effective.
    pub value: String,
    /// Where it came from, if not from where its own flag, variable or default would.
    pub source: Option<&'static str>,
}

impl Line {
    /// One line per setting that has a variable, in the order of `--help`: `--flag = value  (where it came from)`. Hidden
    /// settings are listed where they are given. `shown` wins over what was typed; what `--help` hides the value of is
    /// masked without it.
    #[must_use]
    pub fn listing(&self, shown: &[Shown]) -> Vec<String> {
        let settings = self.command.get_arguments();
        let settings = settings.filter(|arg| arg.get_env().is_some());
        settings.filter_map(|arg| self.listed(arg, shown)).collect()
    }

    fn listed(&self, arg: &Arg, shown: &[Shown]) -> Option<String> {
        let long = arg.get_long()?;
        let flag = format!("--{long}");
        if self.unread.contains(&flag) {
            return Some(format!("{flag}  (missing, or cannot be read)"));
        }
        let shown = shown.iter().find(|shown| shown.flag == long);
        let source = self.matches.value_source(arg.get_id().as_str());
        let is_given = source.is_some_and(|source| source != ValueSource::DefaultValue);
        if arg.is_hide_set() && !is_given {
            return None;
        }
        let value = match shown {
            Some(shown) => shown.value.clone(),
            None if source.is_none() => return Some(format!("{flag}  (not set)")),
            None => self.value(arg),
        };
        let source = match (shown.and_then(|shown| shown.source), source) {
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

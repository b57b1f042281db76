//! The settings line of a replay file. Its keys are the flags of ingest in snake case, read by the parser of the service. So
//! every flag is known here as soon as ingest has it.

use clap::CommandFactory;
use serde_json::{Map, Value};
use shared::args::{CommandLine, Usage};
use shared::check_config::ServiceConfig;
use shared::settings::SerialPatterns;

use super::simulation::SimulationSettings;
use crate::config::{Config, rule_settings};

/// Reads the settings line of a replay file. The environment is not read: a file means the same everywhere.
///
/// # Errors
/// Every problem, one sentence each: an unknown key, or a value that ingest would not accept.
pub fn from_json(object: &Map<String, Value>) -> Result<SimulationSettings, Vec<String>> {
    let mut words = vec!["ingest".to_owned()];
    for (flag, value) in Config::PLACEHOLDERS {
        words.push(format!("--{flag}={value}"));
    }
    let own = own_settings();
    for (key, value) in object {
        let name = key.replace('-', "_");
        let flag = name.replace('_', "-");
        if !own.contains(&name) && is_of_ingest(&name) {
            return Err(vec![format!(
                "`{key}` is a setting of ingest, but not of its rules. A replay has only: {}",
                own.join(", ")
            )]);
        }
        let text =
            text_of(value).ok_or_else(|| vec![format!("`{key}`: {value} is not a setting")])?;
        words.push(format!("--{flag}={text}"));
    }
    let command = Config::command().mut_args(|arg| arg.env(None::<&str>));
    let problems = |usage: Usage| match usage {
        Usage::Help(_) => vec!["help is not a setting".to_owned()],
        Usage::Problems(problems) => problems,
    };
    let line = CommandLine::parse(command, words, &[]).map_err(problems)?;
    let config: Config = line.config().map_err(problems)?;
    let problems = line.problems(config.validate());
    if problems.is_empty() {
        Ok(of_config(&config))
    } else {
        Err(problems)
    }
}

/// Returns the names of the settings that a replay has: those of the rules, and one that decides which redeliveries are
/// recognised.
fn own_settings() -> Vec<String> {
    let mut own = rule_settings();
    own.push("mqtt_receive_maximum".to_owned());
    own
}

fn is_of_ingest(name: &str) -> bool {
    let command = Config::command();
    let mut arguments = command.get_arguments();
    arguments.any(|argument| argument.get_id() == name)
}

/// Returns the settings of a running ingest that matter to the rules.
#[must_use]
pub fn of_config(config: &Config) -> SimulationSettings {
    SimulationSettings {
        alarms: config.settings(),
        format: config.format(),
        max_devices: usize::try_from(config.max_devices).unwrap_or(usize::MAX),
        alarm_reserve: usize::try_from(config.alarm_reserve).unwrap_or(usize::MAX),
        admit: SerialPatterns::new(&config.admit),
        receive_maximum: usize::from(config.mqtt.mqtt_receive_maximum),
    }
}

/// Returns the words of a setting; a list is joined by commas.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(text_of).collect();
            Some(items?.join(","))
        }
        Value::Null | Value::Object(_) => None,
    }
}

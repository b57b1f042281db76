//! The texts of problems with a command line. Each is one line, and names a setting by its flag and, where it was read from one, by its
//! variable. No text has a value that may be secret.

use std::ffi::OsString;
use std::num::ParseIntError;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::flag::{argument_of, flag_of};

/// Describes an error of clap. `command` has every setting with its variable, `args` are those that were parsed.
pub(super) fn describe(err: &clap::Error, command: &Command, args: &[OsString]) -> Vec<String> {
    let described = match err.kind() {
        ErrorKind::MissingRequiredArgument => missing(err, command),
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
            unknown(err, command, args).map(|problem| vec![problem])
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::TooManyValues => {
            wrong_value(err, command, args).map(|problem| vec![problem])
        }
        ErrorKind::ArgumentConflict => given_twice(err).map(|problem| vec![problem]),
        _ => None,
    };
    described.unwrap_or_else(|| vec![in_words_of_clap(err)])
}

fn text_of(err: &clap::Error, kind: ContextKind) -> Option<&str> {
    match err.get(kind)? {
        ContextValue::String(text) => Some(text),
        // The last suggestion is the most similar one.
        ContextValue::Strings(texts) => texts.last().map(String::as_str),
        _ => None,
    }
}

/// Describes each setting that must be given and is not.
fn missing(err: &clap::Error, command: &Command) -> Option<Vec<String>> {
    let Some(ContextValue::Strings(missing)) = err.get(ContextKind::InvalidArg) else {
        return None;
    };
    let describe = |arg: &String| {
        let flag = flag_of(arg);
        let variable = argument_of(command, flag).and_then(Arg::get_env);
        let Some(variable) = variable else {
            return format!("{flag} is missing");
        };
        let name = variable.to_string_lossy();
        if std::env::var_os(variable).is_some() {
            format!("{flag} is missing: the variable {name} is empty")
        } else {
            format!("{flag} is missing: give this flag or the variable {name}")
        }
    };
    Some(missing.iter().map(describe).collect())
}

/// Describes a flag or a word that is not known.
fn unknown(err: &clap::Error, command: &Command, args: &[OsString]) -> Option<String> {
    let is_command = err.kind() == ErrorKind::InvalidSubcommand;
    let unknown = if is_command {
        ContextKind::InvalidSubcommand
    } else {
        ContextKind::InvalidArg
    };
    let word = text_of(err, unknown)?;
    if word.starts_with('-') {
        let suggestion = flag_with_these_words(word, command);
        let suggestion = suggestion.or_else(|| {
            let similar = text_of(err, ContextKind::SuggestedArg)?;
            is_close(word, similar).then(|| similar.to_owned())
        });
        return Some(format!(
            "{word} is no setting: {}",
            hint(suggestion.as_deref())
        ));
    }
    if let Some(switch) = switch_before(word, command, args) {
        return Some(value_of_switch(word, &switch));
    }
    if is_command {
        let suggestion = text_of(err, ContextKind::SuggestedSubcommand);
        let hint = hint(suggestion.map(|name| format!("`{name}`")).as_deref());
        return Some(format!(
            "`{word}` is no command, and settings begin with --: {hint}"
        ));
    }
    Some(format!(
        "`{word}` belongs to no setting, and settings begin with --: try --help"
    ))
}

fn hint(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(suggestion) => format!("did you mean {suggestion}? If not, try --help"),
        None => "try --help".to_owned(),
    }
}

/// Whether a suggestion of clap has more in common with the unknown flag than a few letters.
fn is_close(unknown: &str, suggestion: &str) -> bool {
    let (unknown, suggestion) = (
        unknown.trim_start_matches('-'),
        suggestion.trim_start_matches('-'),
    );
    strsim::normalized_damerau_levenshtein(unknown, suggestion) > 0.5
}

/// Returns the flag that has all words of this unknown one, in singular or plural, and the fewest letters more.
fn flag_with_these_words(unknown: &str, command: &Command) -> Option<String> {
    let words = unknown.split(['-', '_']).filter(|word| !word.is_empty());
    let wanted: Vec<&str> = words.map(|word| word.trim_end_matches('s')).collect();
    let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let flags = flags.filter_map(Arg::get_long);
    let has = |flag: &str, word: &str| flag.split('-').any(|own| own.trim_end_matches('s') == word);
    let has_all = |flag: &&str| wanted.iter().all(|word| has(flag, word));
    let found = flags.filter(has_all).min_by_key(|flag| flag.len());
    let is_word = wanted.iter().any(|word| word.len() > 1);
    found.filter(|_| is_word).map(|flag| format!("--{flag}"))
}

/// Returns the switch directly before this word, if there is one.
fn switch_before(word: &str, command: &Command, args: &[OsString]) -> Option<String> {
    let before = args.windows(2).find(|pair| pair[1] == word)?;
    let before = before[0].to_string_lossy();
    let takes_no_value = !argument_of(command, &before)?.get_action().takes_values();
    takes_no_value.then(|| before.into_owned())
}

fn value_of_switch(value: &str, switch: &str) -> String {
    format!("`{value}`: {switch} takes no value, it is given or left out")
}

fn wrong_value(err: &clap::Error, command: &Command, args: &[OsString]) -> Option<String> {
    let flag = flag_of(text_of(err, ContextKind::InvalidArg)?);
    let value = text_of(err, ContextKind::InvalidValue).unwrap_or_default();
    if err.kind() == ErrorKind::TooManyValues {
        return Some(value_of_switch(value, flag));
    }
    let variable = variable_used(command, flag, args);
    let variable = variable.map_or_else(String::new, |name| format!(" ({name})"));
    let expected = expected(err);
    if value.is_empty() && err.kind() == ErrorKind::InvalidValue {
        let expected = expected.map_or_else(String::new, |expected| format!(": {expected}"));
        return Some(format!("{flag}{variable}: its value is missing{expected}"));
    }
    let expected = expected?;
    let is_secret = argument_of(command, flag).is_some_and(Arg::is_hide_env_values_set);
    Some(if is_secret {
        format!("{flag}{variable}: invalid value: {expected}")
    } else {
        format!("{flag}{variable}: invalid value `{value}`: {expected}")
    })
}

/// Returns what was expected instead of a value.
fn expected(err: &clap::Error) -> Option<String> {
    if let Some(source) = std::error::Error::source(err) {
        let text = source.to_string();
        return Some(if source.is::<ParseIntError>() {
            "expected a whole number".to_owned()
        } else if text == "value was not a boolean" {
            "expected true or false".to_owned()
        } else {
            text
        });
    }
    let Some(ContextValue::Strings(possible)) = err.get(ContextKind::ValidValue) else {
        return None;
    };
    let possible = match possible.split_last()? {
        (last, []) => last.clone(),
        (last, others) => format!("{} or {last}", others.join(", ")),
    };
    Some(match text_of(err, ContextKind::SuggestedValue) {
        Some(suggestion) => format!("did you mean {suggestion}? Expected is {possible}"),
        None => format!("expected {possible}"),
    })
}

fn given_twice(err: &clap::Error) -> Option<String> {
    let flag = flag_of(text_of(err, ContextKind::InvalidArg)?);
    let prior = text_of(err, ContextKind::PriorArg).map(flag_of);
    Some(match prior {
        Some(prior) if prior != flag => format!("{flag} and {prior} are both given: choose one"),
        _ => format!("{flag} is given more than once"),
    })
}

/// Returns the message of clap, without usage and hints.
fn in_words_of_clap(err: &clap::Error) -> String {
    let text = err.to_string();
    let message = text.split("\n\n").next().unwrap_or(&text);
    let message = message.strip_prefix("error: ").unwrap_or(message);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the environment variable that a setting was read from; `None` if it was given as a flag.
fn variable_used(command: &Command, flag: &str, args: &[OsString]) -> Option<String> {
    let is_given = |arg: &OsString| {
        let text = arg.to_string_lossy();
        text == flag || text.split_once('=').is_some_and(|(name, _)| name == flag)
    };
    let variable = argument_of(command, flag)?.get_env()?;
    let is_set = std::env::var_os(variable).is_some() && !args.iter().any(is_given);
    is_set.then(|| variable.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;

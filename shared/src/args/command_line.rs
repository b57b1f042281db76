//! Parses a command line and reports all its problems at once: a wrong argument is skipped, and the others are still parsed.

use std::ffi::{OsStr, OsString};
use std::num::ParseIntError;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use super::Usage;

/// A parsed command line with its environment variables, and the problems found in them.
#[derive(Clone, Debug)]
pub struct CommandLine {
    pub(super) command: Command,
    /// The parsed values. A setting that is missing or invalid has its default or its placeholder.
    pub matches: ArgMatches,
    problems: Vec<String>,
    /// Flags whose value is missing or could not be parsed.
    pub(super) invalid: Vec<String>,
}

impl CommandLine {
    /// Parses arguments (the first is the program's name) and environment variables. `placeholders` are pairs of a flag
    /// without dashes and a value for a required setting that is missing or invalid. With them, the other settings can still
    /// be checked.
    ///
    /// # Errors
    /// [`Usage::Help`] if help or the version was requested. [`Usage::Problems`] if parsing cannot continue even with the
    /// placeholders; it has the problems found so far.
    pub fn parse<I>(
        command: Command,
        args: I,
        placeholders: &[(&str, &'static str)],
    ) -> Result<Self, Usage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let command = command.mut_args(|arg| {
            let empty = arg
                .get_env()
                .is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
            let arg = if empty { arg.env(None::<&str>) } else { arg };
            // `--limit -1` is a wrong value of `--limit`, not two other mistakes.
            let takes_value = arg.get_action().takes_values();
            arg.allow_negative_numbers(takes_value)
        });
        let mut attempt = Attempt {
            command: command.clone(),
            args: args.into_iter().map(Into::into).collect(),
            invalid: Vec::new(),
        };
        let mut problems = Vec::new();
        loop {
            let err = match attempt.matches() {
                Ok(matches) => {
                    return Ok(Self {
                        command,
                        matches,
                        problems,
                        invalid: attempt.invalid,
                    });
                }
                Err(err) => err,
            };
            if matches!(
                err.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) {
                return Err(Usage::Help(err.to_string()));
            }
            problems.push(describe(&err, &command, &attempt.args));
            if !attempt.skip(&err, placeholders) {
                return Err(Usage::Problems(problems));
            }
        }
    }

    /// Returns the parsed settings.
    ///
    /// # Errors
    /// `C` needs an argument that the command does not define. That is a bug; it is returned as an error to avoid a panic.
    pub fn config<C: FromArgMatches>(&self) -> Result<C, Usage> {
        C::from_arg_matches(&self.matches)
            .map_err(|err| Usage::Problems(vec![describe(&err, &self.command, &[])]))
    }

    /// Returns all problems: those of parsing, then those found by validating the parsed settings. A validation problem that
    /// names an invalid setting is left out: it is about the default or placeholder.
    #[must_use]
    pub fn problems(&self, validation_problems: Vec<String>) -> Vec<String> {
        let is_real = |text: &String| !self.invalid.iter().any(|flag| mentions(text, flag));
        let real_problems = validation_problems.into_iter().filter(is_real);
        self.problems.iter().cloned().chain(real_problems).collect()
    }
}

/// The arguments that remain to be parsed.
struct Attempt {
    command: Command,
    args: Vec<OsString>,
    invalid: Vec<String>,
}

impl Attempt {
    fn matches(&self) -> Result<ArgMatches, clap::Error> {
        // Parse with a clone: a command that was used for parsing cannot be changed afterwards.
        self.command.clone().try_get_matches_from(&self.args)
    }

    /// Removes the argument that caused the error, or replaces it by its placeholder. Returns `false` if neither is possible.
    /// Each call leaves less to parse, so the loop of attempts ends.
    fn skip(&mut self, err: &clap::Error, placeholders: &[(&str, &'static str)]) -> bool {
        match (err.kind(), err.get(ContextKind::InvalidArg)) {
            (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) => missing
                .iter()
                .all(|arg| self.substitute(flag_of(arg), placeholders)),
            (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => {
                self.remove(unknown, true)
            }
            (_, Some(ContextValue::String(arg))) => {
                let flag = flag_of(arg).to_owned();
                let takes_value = self
                    .argument(&flag)
                    .is_some_and(|arg| arg.get_action().takes_values());
                self.remove(&flag, takes_value);
                self.substitute(&flag, placeholders)
            }
            (ErrorKind::InvalidSubcommand, _) => match err.get(ContextKind::InvalidSubcommand) {
                Some(ContextValue::String(unexpected)) => self.remove(&unexpected.clone(), false),
                _ => false,
            },
            _ => false,
        }
    }

    fn argument(&self, flag: &str) -> Option<&Arg> {
        argument_of(&self.command, flag)
    }

    /// Removes every occurrence of an argument, with its value. Returns `false` if there is none.
    fn remove(&mut self, name: &str, takes_value: bool) -> bool {
        let before = self.args.len();
        let mut remaining = Vec::with_capacity(before);
        let mut args = std::mem::take(&mut self.args).into_iter().peekable();
        // The program's name.
        remaining.extend(args.next());
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            if text == name {
                let is_value = |next: &OsString| !is_flag(next);
                if takes_value && name.starts_with('-') {
                    args.next_if(is_value);
                }
            } else if text.split_once('=').is_none_or(|(flag, _)| flag != name) {
                remaining.push(arg);
            }
        }
        self.args = remaining;
        self.args.len() < before
    }

    /// Makes a setting optional, with its placeholder as default. Returns `false` if that was done before, or if a required
    /// setting has no placeholder.
    fn substitute(&mut self, flag: &str, placeholders: &[(&str, &'static str)]) -> bool {
        if self.invalid.iter().any(|known| known == flag) {
            return false;
        }
        let Some(arg) = self.argument(flag) else {
            return false;
        };
        let id = arg.get_id().clone();
        let long = flag.trim_start_matches('-');
        let value = placeholders.iter().find(|(known, _)| *known == long);
        if arg.is_required_set() && value.is_none() {
            return false;
        }
        self.invalid.push(flag.to_owned());
        let command = std::mem::take(&mut self.command);
        self.command = command.mut_arg(id, |arg| {
            let arg = arg.env(None::<&str>).required(false);
            match value {
                Some((_, value)) => arg.default_value(*value),
                None => arg,
            }
        });
        true
    }
}

/// Returns the flag of an argument in clap's notation: `--redis-url` for `--redis-url <URL>`.
fn flag_of(arg: &str) -> &str {
    arg.split_whitespace().next().unwrap_or(arg)
}

fn is_flag(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"--")
}

/// Whether the text contains exactly this flag, not a longer one that begins with it.
fn mentions(text: &str, flag: &str) -> bool {
    text.match_indices(flag).any(|(at, _)| {
        let following = &text[at + flag.len()..];
        !following.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
    })
}

/// Formats clap's error on one line, without usage and hints, and without a value that may be secret. `args` are those that were
/// parsed.
fn describe(err: &clap::Error, command: &Command, args: &[OsString]) -> String {
    if err.kind() == ErrorKind::ValueValidation
        && let Some(ContextValue::String(arg)) = err.get(ContextKind::InvalidArg)
        && let Some(source) = std::error::Error::source(err)
    {
        let flag = flag_of(arg);
        let value = match err.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(value)) if !is_secret(command, flag) => format!(" `{value}`"),
            _ => String::new(),
        };
        let variable = variable_used(command, flag, args);
        let variable = variable.map_or_else(String::new, |name| format!(" ({name})"));
        return format!(
            "{flag}{variable}: invalid value{value}: {}",
            expected(source)
        );
    }
    if let Some(problem) = unexpected_word(err, command, args) {
        return problem;
    }
    let text = err.to_string();
    let message = text.split("\n\n").next().unwrap_or(&text);
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match err.kind() {
        ErrorKind::UnknownArgument => format!("{message}: --help lists all settings"),
        _ => message,
    }
}

/// Returns what was expected instead of a value.
fn expected(source: &(dyn std::error::Error + 'static)) -> String {
    let text = source.to_string();
    if source.is::<ParseIntError>() {
        "expected a whole number".to_owned()
    } else if text == "value was not a boolean" {
        "expected true or false".to_owned()
    } else {
        text
    }
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

/// Describes a word that is neither a setting nor a value.
fn unexpected_word(err: &clap::Error, command: &Command, args: &[OsString]) -> Option<String> {
    let context = match err.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return None,
    };
    let word = match err.get(context) {
        Some(ContextValue::String(word)) if !word.starts_with('-') => word,
        _ => return None,
    };
    let before = args.windows(2).find(|pair| pair[1] == word.as_str());
    let before = before.map(|pair| pair[0].to_string_lossy());
    let switch = before.filter(|before| {
        let arg = argument_of(command, before);
        arg.is_some_and(|arg| !arg.get_action().takes_values())
    });
    if let Some(switch) = switch {
        return Some(format!(
            "`{word}`: {switch} takes no value, it is given or left out"
        ));
    }
    let is_command = err.kind() == ErrorKind::InvalidSubcommand;
    is_command.then(|| format!("`{word}` is no command, and settings begin with --: see --help"))
}

fn argument_of<'a>(command: &'a Command, flag: &str) -> Option<&'a Arg> {
    let long = flag.strip_prefix("--")?;
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long))
}

fn is_secret(command: &Command, flag: &str) -> bool {
    argument_of(command, flag).is_some_and(Arg::is_hide_env_values_set)
}

//! A command line read to its end: what cannot be read is told, stepped over, and the rest is read all the same.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use super::Usage;

/// A command line with its environment, as far as it can be read.
#[derive(Clone, Debug)]
pub struct Line {
    pub(super) command: Command,
    /// What was read. In place of what could not be read stands the default, or a stand-in where there is none.
    pub matches: ArgMatches,
    problems: Vec<String>,
    /// Flags whose value is missing or could not be read.
    pub(super) unread: Vec<String>,
}

impl Line {
    /// Reads arguments (the first is the program's name) and environment. `stand_ins` are values, by flag without its
    /// dashes, for required settings that are missing or cannot be read: what depends on others can be checked all the same.
    ///
    /// # Errors
    /// Help was asked for, or not even the stand-ins make it a whole line; the problems up to there are told.
    pub fn read<I>(
        command: Command,
        args: I,
        stand_ins: &[(&str, &'static str)],
    ) -> Result<Self, Usage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let command = command.mut_args(|arg| {
            let empty = arg
                .get_env()
                .is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
            if empty { arg.env(None::<&str>) } else { arg }
        });
        let mut attempt = Attempt {
            command: command.clone(),
            args: args.into_iter().map(Into::into).collect(),
            unread: Vec::new(),
        };
        let mut problems = Vec::new();
        loop {
            let err = match attempt.matches() {
                Ok(matches) => {
                    return Ok(Self {
                        command,
                        matches,
                        problems,
                        unread: attempt.unread,
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
            problems.push(sentence(&err, &command));
            if !attempt.step_over(&err, stand_ins) {
                return Err(Usage::Problems(problems));
            }
        }
    }

    /// The settings that were read.
    ///
    /// # Errors
    /// The definition asks for more than its own command line: a mistake of ours, told instead of a panic.
    pub fn config<C: FromArgMatches>(&self) -> Result<C, Usage> {
        C::from_arg_matches(&self.matches)
            .map_err(|err| Usage::Problems(vec![sentence(&err, &self.command)]))
    }

    /// Every problem: those of reading, and `found` in what was read. A sentence about a setting that could not be read
    /// is left out: it would be about what stands in its place.
    #[must_use]
    pub fn problems(&self, found: Vec<String>) -> Vec<String> {
        let is_real = |text: &String| !self.unread.iter().any(|flag| names(text, flag));
        let found = found.into_iter().filter(is_real);
        self.problems.iter().cloned().chain(found).collect()
    }
}

/// What is left to read of a line.
struct Attempt {
    command: Command,
    args: Vec<OsString>,
    unread: Vec<String>,
}

impl Attempt {
    fn matches(&self) -> Result<ArgMatches, clap::Error> {
        // A command that was used cannot be changed any more.
        self.command.clone().try_get_matches_from(&self.args)
    }

    /// Takes out what the error is about. Each time there is less to read, so it ends; `false` if there is nothing to
    /// take out.
    fn step_over(&mut self, err: &clap::Error, stand_ins: &[(&str, &'static str)]) -> bool {
        match (err.kind(), err.get(ContextKind::InvalidArg)) {
            (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) => missing
                .iter()
                .all(|arg| self.stand_in(flag_of(arg), stand_ins)),
            (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => {
                self.take_out(unknown, true)
            }
            (_, Some(ContextValue::String(arg))) => {
                let flag = flag_of(arg).to_owned();
                let takes_value = self
                    .argument(&flag)
                    .is_some_and(|arg| arg.get_action().takes_values());
                self.take_out(&flag, takes_value);
                self.stand_in(&flag, stand_ins)
            }
            (ErrorKind::InvalidSubcommand, _) => match err.get(ContextKind::InvalidSubcommand) {
                Some(ContextValue::String(stray)) => self.take_out(&stray.clone(), false),
                _ => false,
            },
            _ => false,
        }
    }

    fn argument(&self, flag: &str) -> Option<&Arg> {
        let long = flag.strip_prefix("--")?;
        let mut arguments = self.command.get_arguments();
        arguments.find(|arg| arg.get_long() == Some(long))
    }

    /// Removes an argument with its value, wherever it stands.
    fn take_out(&mut self, name: &str, takes_value: bool) -> bool {
        let before = self.args.len();
        let mut kept = Vec::with_capacity(before);
        let mut args = std::mem::take(&mut self.args).into_iter().peekable();
        kept.extend(args.next());
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            if text == name {
                let is_value = |next: &OsString| !is_flag(next);
                if takes_value && name.starts_with('-') {
                    args.next_if(is_value);
                }
            } else if text.split_once('=').is_none_or(|(flag, _)| flag != name) {
                kept.push(arg);
            }
        }
        self.args = kept;
        self.args.len() < before
    }

    /// Makes the line do without this setting; `false` if it does already, or cannot.
    fn stand_in(&mut self, flag: &str, stand_ins: &[(&str, &'static str)]) -> bool {
        if self.unread.iter().any(|known| known == flag) {
            return false;
        }
        let Some(arg) = self.argument(flag) else {
            return false;
        };
        let id = arg.get_id().clone();
        let long = flag.trim_start_matches('-');
        let value = stand_ins.iter().find(|(known, _)| *known == long);
        if arg.is_required_set() && value.is_none() {
            return false;
        }
        self.unread.push(flag.to_owned());
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

/// Of `--redis-url <URL>`, as clap names it, the flag.
fn flag_of(arg: &str) -> &str {
    arg.split_whitespace().next().unwrap_or(arg)
}

fn is_flag(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"--")
}

/// Whether the text names this very flag, not only a longer one that begins like it.
fn names(text: &str, flag: &str) -> bool {
    text.match_indices(flag).any(|(at, _)| {
        let rest = &text[at + flag.len()..];
        !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
    })
}

/// clap's message without usage and hints, on one line, and without the value where that may be a secret.
fn sentence(err: &clap::Error, command: &Command) -> String {
    if err.kind() == ErrorKind::ValueValidation
        && let Some(ContextValue::String(arg)) = err.get(ContextKind::InvalidArg)
        && let Some(source) = std::error::Error::source(err)
    {
        let flag = flag_of(arg);
        let value = match err.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(value)) if !is_secret(command, flag) => format!(" `{value}`"),
            _ => String::new(),
        };
        return format!("{flag}: invalid value{value}: {source}");
    }
    let text = err.to_string();
    let first = text.split("\n\n").next().unwrap_or(&text);
    let first = first.strip_prefix("error: ").unwrap_or(first);
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_secret(command: &Command, flag: &str) -> bool {
    let named = |arg: &&Arg| arg.get_long() == Some(flag.trim_start_matches('-'));
    command
        .get_arguments()
        .find(named)
        .is_some_and(Arg::is_hide_env_values_set)
}

//! Parses a command line and reports all its problems at once: a wrong argument is skipped, and the others are still parsed.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use super::Usage;
use super::flag::{argument_of, flag_of, is_flag, mentions};
use super::problem_text::describe;
use super::unknown_variables;

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
        // With every variable, for the texts of problems.
        let described = command.clone();
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
            problems.extend(describe(&err, &described, &attempt.args));
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
            .map_err(|err| Usage::Problems(describe(&err, &self.command, &[])))
    }

    /// Returns all problems: those of parsing, then those found by validating the parsed settings. A validation problem that
    /// names an invalid setting is left out: it is about the default or placeholder.
    #[must_use]
    pub fn problems(&self, validation_problems: Vec<String>) -> Vec<String> {
        let is_real = |text: &String| !self.invalid.iter().any(|flag| mentions(text, flag));
        let real_problems = validation_problems.into_iter().filter(is_real);
        self.problems.iter().cloned().chain(real_problems).collect()
    }

    /// Returns one sentence per variable of the environment that looks like a mistyped setting of either service. It may belong to
    /// another program, so it is no problem.
    #[must_use]
    pub fn unknown_variables(&self) -> Vec<String> {
        let own = self.command.get_arguments().filter_map(Arg::get_env);
        let own: Vec<&str> = own.filter_map(OsStr::to_str).collect();
        // An empty one is treated as unset.
        let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
        let set: Vec<String> = set
            .filter_map(|(name, _)| name.into_string().ok())
            .collect();
        unknown_variables::warnings(&set, &own)
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

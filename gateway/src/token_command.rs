//! The command `token`: mints, inspects and revokes tokens, for development and operation.

mod inspect;
mod mint;
mod revoke;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Command;
use revoke::RevokeArgs;
use shared::args::{self, Usage};
use shared::error_chain::error_chain;
use shared::{process, telemetry};

/// Name of the command.
pub const NAME: &str = "token";
/// Description of the command.
pub const ABOUT: &str = "Mint, inspect and revoke tokens";

/// Its commands, each with its description.
const COMMANDS: [(&str, &str); 3] = [
    ("mint", "Print a new token"),
    (
        "inspect",
        "Read a token from standard input, and print what it says and whether it is accepted",
    ),
    (
        "revoke",
        "Revoke a token, or every token of a subject, at all replicas within a second",
    ),
];

/// Runs the command. Exits with 0 if it did what was asked, with 1 if not, and with 2 for wrong arguments. `args` begin with the name
/// of the program, without that of the command.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let args = process::with_help_flag(args);
    let [mint, inspect, revoke] = COMMANDS.map(|(name, _)| process::strip_command(name, &args));
    let done = if let Some(args) = mint {
        args::parse(args).map(|args| ("mint", mint::mint(&args)))
    } else if let Some(args) = inspect {
        telemetry::log_warnings_to_stderr();
        args::parse(args).map(|args| ("inspect", process::block_on(inspect::inspect(args))))
    } else if let Some(args) = revoke {
        telemetry::log_warnings_to_stderr();
        RevokeArgs::parse(args).map(|args| ("revoke", process::block_on(revoke::revoke(args))))
    } else {
        return process::print_usage(&usage(&args));
    };
    match done {
        Ok((_, Ok(()))) => ExitCode::SUCCESS,
        Ok((name, Err(err))) => {
            let text = format!("gateway {NAME} {name}: {}", error_chain(err.as_ref()));
            process::print_failure(&text)
        }
        Err(usage) => process::print_usage(&usage),
    }
}

fn usage(args: &[OsString]) -> Usage {
    let commands = COMMANDS.map(|(name, about)| Command::new(name).about(about));
    let mut command = Command::new(NAME)
        .bin_name("gateway token")
        .about(ABOUT)
        .disable_help_subcommand(true)
        .subcommand_value_name("COMMAND")
        .subcommands(commands);
    if args
        .get(1)
        .is_some_and(|first| first == "--help" || first == "-h")
    {
        return Usage::Help(command.render_help().to_string());
    }
    let names = COMMANDS.map(|(name, _)| name).join(", ");
    Usage::Problems(vec![match args.get(1) {
        Some(other) => format!(
            "`{}` is no command of `gateway {NAME}`, expected one of {names}: try --help",
            other.to_string_lossy()
        ),
        None => format!("expected one of {names}: try --help"),
    }])
}

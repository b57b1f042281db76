//! The command `check-config`: prints the effective settings and every problem with them, and checks the connections.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command, Parser};

use crate::args::{CommandLine, SettingDisplay, Usage};
use crate::error_chain::error_chain;
use crate::memory_need::{self, StoredBounds};
use crate::process;
use crate::redis::{self, RedisConfig, ServiceRole};
use crate::telemetry;
use crate::telemetry::collector::Endpoint;
use crate::telemetry::config::{Exporter, TelemetryConfig};

/// The name of the command.
pub const NAME: &str = "check-config";

const ABOUT: &str = "Print the effective settings and every problem with them, then exit";

/// What the log says about the given settings when the service starts.
#[derive(Clone, Debug, Default)]
pub struct StartReport {
    /// The settings that differ from their defaults, as flags on one line, without secrets.
    pub changed_settings: String,
    /// One sentence per variable of the environment that looks like a mistyped setting.
    pub unknown_variables: Vec<String>,
}

/// Settings of a service that can be checked without running it.
pub trait ServiceConfig: Parser {
    /// Values by flag, without its dashes, for required settings that are missing or invalid.
    const PLACEHOLDERS: &'static [(&'static str, &'static str)];
    /// Its other commands, each with its help text.
    const COMMANDS: &'static [(&'static str, &'static str)];

    /// Derives settings from others. Returns every inconsistency, one sentence each.
    fn complete(&mut self, matches: &ArgMatches) -> Vec<String>;

    /// Returns what the log says about the given settings.
    fn start_report(&self) -> &StartReport;

    /// Keeps what the log says about the given settings.
    fn set_start_report(&mut self, report: StartReport);

    /// Returns warnings for the operator about values of settings, one sentence each.
    fn warnings(&self) -> Vec<String>;

    /// Returns all warnings for the operator at start-up, one sentence each.
    fn all_warnings(&self) -> Vec<String> {
        let mut warnings = self.start_report().unknown_variables.clone();
        warnings.extend(self.warnings());
        warnings
    }

    /// Returns what the settings amount to, one line each. It is printed after them.
    fn consequences(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the settings that are not listed as they were given.
    fn setting_displays(&self) -> Vec<SettingDisplay>;

    /// Reads and checks the command line of the running service.
    ///
    /// # Errors
    /// Help was requested, or a setting is missing or wrong.
    fn from_args<I>(args: I) -> Result<Self, Usage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let mut checked = Checked::<Self>::read(with_commands::<Self>(), args)?;
        if let Some(word) = checked.line.matches.subcommand_name() {
            let problem = format!("`{word}` must come before all settings");
            checked.problems.push(problem);
        }
        if checked.problems.is_empty() {
            Ok(checked.config)
        } else {
            Err(Usage::Problems(checked.problems))
        }
    }
}

/// Returns the service's clap command with all of its subcommands, so that `--help` lists them. A subcommand that is given as
/// the first argument is handled before.
fn with_commands<C: ServiceConfig>() -> Command {
    let command = C::command();
    // Rendered from another instance: a command that rendered anything cannot be changed afterwards.
    let usage = C::command().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let usage = format!("{usage}\n       {} <COMMAND> [OPTIONS]", command.get_name());
    let own = [(NAME, ABOUT)];
    let commands = own.iter().chain(C::COMMANDS);
    command
        .override_usage(usage)
        .disable_help_subcommand(true)
        .subcommands(commands.map(|(name, about)| Command::new(*name).about(*about)))
}

/// Settings with every problem found in them.
struct Checked<C> {
    /// Contains placeholders if there are problems: then it must not be used.
    config: C,
    line: CommandLine,
    problems: Vec<String>,
}

impl<C: ServiceConfig> Checked<C> {
    fn read<I>(command: Command, args: I) -> Result<Self, Usage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let line = CommandLine::parse(command, args, C::PLACEHOLDERS)?;
        let mut config: C = line.config()?;
        let validation_problems = config.complete(&line.matches);
        let problems = line.problems(validation_problems);
        config.set_start_report(StartReport {
            changed_settings: line.changed_settings(&config.setting_displays()),
            unknown_variables: line.unknown_variables(),
        });
        Ok(Self {
            config,
            line,
            problems,
        })
    }
}

/// The check of one connection.
#[derive(Debug)]
pub struct ConnectionCheck {
    /// The server, named as in the settings and without secrets.
    pub target: String,
    /// The result of the check.
    pub outcome: anyhow::Result<String>,
}

/// Runs the command and returns its exit code: 0 if nothing is wrong, 2 if the settings cannot be used, 1 if `--connect` was
/// given and a connection failed. `args` begin with the program's name, without the command's name. `connect` checks every
/// connection of the service.
pub fn run<C: ServiceConfig>(
    args: Vec<OsString>,
    connect: impl AsyncFnOnce(&C) -> Vec<ConnectionCheck>,
) -> ExitCode {
    let service = C::command().get_name().to_owned();
    let command = C::command()
        .name(NAME)
        .bin_name(format!("{service} {NAME}"))
        .about(ABOUT)
        .long_about(None)
        .arg(
            Arg::new("connect")
                .long("connect")
                .action(ArgAction::SetTrue)
                .help("Also check each connection; nothing is changed on the servers"),
        );
    let checked = match Checked::<C>::read(command, args) {
        Ok(checked) => checked,
        Err(usage) => return process::print_usage(&usage),
    };
    // Standard output may be closed. The exit code still says whether the settings can be used.
    print_settings(&checked).ok();
    if !checked.problems.is_empty() {
        return process::print_usage(&Usage::Problems(checked.problems));
    }
    if !checked.line.matches.get_flag("connect") {
        return ExitCode::SUCCESS;
    }
    telemetry::log_warnings_to_stderr();
    let checks = process::block_on(async { anyhow::Ok(connect(&checked.config).await) });
    match checks {
        Ok(checks) => print_checks(&checks),
        Err(err) => process::print_failure(&format!("{service}: {}", error_chain(err.as_ref()))),
    }
}

fn print_settings<C: ServiceConfig>(checked: &Checked<C>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in checked.line.listing(&checked.config.setting_displays()) {
        writeln!(out, "{line}")?;
    }
    if checked.problems.is_empty() {
        for line in checked.config.consequences() {
            writeln!(out, "{line}")?;
        }
    }
    let mut errors = io::stderr().lock();
    for warning in checked.config.all_warnings() {
        writeln!(errors, "warning: {warning}")?;
    }
    Ok(())
}

fn print_checks(checks: &[ConnectionCheck]) -> ExitCode {
    let mut failed = false;
    let mut out = io::stdout().lock();
    for ConnectionCheck { target, outcome } in checks {
        let line = match outcome {
            Ok(found) => format!("connect {target}: ok, {found}"),
            Err(err) => format!("connect {target}: FAILED, {}", error_chain(err.as_ref())),
        };
        failed |= outcome.is_err();
        writeln!(out, "{line}").ok();
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Checks whether Redis answers, can be used by a service of this role, and has the configured number of partitions. Compares its memory
/// with the bounds of what is stored, if they are known. Writes nothing there.
pub async fn check_redis(
    config: &RedisConfig,
    role: ServiceRole,
    bounds: Option<&StoredBounds>,
) -> ConnectionCheck {
    let found = redis::inspect(config.clone(), role).await;
    ConnectionCheck {
        target: config.shown_url().to_owned(),
        outcome: found.map_err(Into::into).map(|found| {
            let partitions = found.partitions.map_or_else(
                || "empty".to_owned(),
                |number| format!("{number} partitions"),
            );
            let memory = bounds.map(|bounds| memory_need::compare(bounds, found.maxmemory));
            let memory = memory.map_or_else(String::new, |memory| format!("; {memory}"));
            format!("version {}, {partitions}{memory}", found.version)
        }),
    }
}

/// Checks the collector with an empty export, if telemetry is exported to one. Checks both collectors if metrics have their
/// own.
pub async fn check_collectors(config: &TelemetryConfig) -> Vec<ConnectionCheck> {
    let mut checks = Vec::new();
    if config.otel_exporter != Exporter::Otlp {
        return checks;
    }
    let (traces, metrics) = (
        config.collector.traces_endpoint(),
        config.collector.metrics_endpoint(),
    );
    checks.push(export_check(
        traces,
        telemetry::export_no_spans(&config.collector).await,
    ));
    if metrics != traces {
        checks.push(export_check(
            metrics,
            telemetry::export_no_metrics(&config.collector).await,
        ));
    }
    checks
}

fn export_check(endpoint: &Endpoint, outcome: anyhow::Result<()>) -> ConnectionCheck {
    ConnectionCheck {
        target: format!("collector {endpoint}"),
        outcome: outcome
            .map(|()| "it accepted an empty export".to_owned())
            .context("it accepted no export"),
    }
}

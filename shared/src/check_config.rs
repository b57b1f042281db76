//! `check-config`: what a service would run with, everything that is wrong with it, and whether what it needs can be reached.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command, Parser};

use crate::args::{Line, Shown, Usage};
use crate::error_chain::error_chain;
use crate::process;
use crate::redis::{self, RedisConfig};
use crate::telemetry;
use crate::telemetry::collector::Endpoint;
use crate::telemetry::config::{Exporter, TelemetryConfig};

/// The word on the command line.
pub const NAME: &str = "check-config";

const ABOUT: &str = "Print the effective settings and everything that is wrong with them, and end";

/// The settings of a service, which can be checked without running it.
pub trait ServiceConfig: Parser {
    /// Values by flag, without its dashes, in place of required settings that are missing or cannot be read.
    const STAND_INS: &'static [(&'static str, &'static str)];
    /// The other words it may be called with, and what they do.
    const COMMANDS: &'static [(&'static str, &'static str)];

    /// Fills in what follows from other settings; answers with everything that does not fit together, a sentence each.
    fn complete(&mut self, matches: &ArgMatches) -> Vec<String>;

    /// What the operator should know at the start, one sentence each.
    fn warnings(&self) -> Vec<&'static str>;

    /// How settings are listed whose text does not tell it.
    fn shown(&self) -> Vec<Shown>;

    /// Reads and checks the command line of the running service.
    ///
    /// # Errors
    /// Help was asked for, or anything is missing or wrong.
    fn from_line<I>(args: I) -> Result<Self, Usage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let mut checked = Checked::<Self>::read(with_commands::<Self>(), args)?;
        if let Some(word) = checked.line.matches.subcommand_name() {
            let problem = format!("`{word}` must stand before all settings");
            checked.problems.push(problem);
        }
        if checked.problems.is_empty() {
            Ok(checked.config)
        } else {
            Err(Usage::Problems(checked.problems))
        }
    }
}

/// For `--help` to list them; a command that is really given is looked up before.
fn with_commands<C: ServiceConfig>() -> Command {
    let command = C::command();
    // Of one of its own: a command that rendered anything cannot be changed any more.
    let usage = C::command().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let usage = format!("{usage}\n       {} <COMMAND> [OPTIONS]", command.get_name());
    let words = [(NAME, ABOUT)];
    let words = words.iter().chain(C::COMMANDS);
    command
        .override_usage(usage)
        .disable_help_subcommand(true)
        .subcommands(words.map(|(name, about)| Command::new(*name).about(*about)))
}

/// Settings with everything that is wrong with them.
struct Checked<C> {
    /// Not to be used where there are problems: stand-ins may be in it.
    config: C,
    line: Line,
    problems: Vec<String>,
}

impl<C: ServiceConfig> Checked<C> {
    fn read<I>(command: Command, args: I) -> Result<Self, Usage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let line = Line::read(command, args, C::STAND_INS)?;
        let mut config: C = line.config()?;
        let found = config.complete(&line.matches);
        let problems = line.problems(found);
        Ok(Self {
            config,
            line,
            problems,
        })
    }
}

/// One connection that was tried.
#[derive(Debug)]
pub struct Tried {
    /// To what.
    pub what: String,
    /// What was found there.
    pub outcome: anyhow::Result<String>,
}

/// Runs the command: 0 if all is well, 2 for settings that cannot be used, 1 if a connection failed that `--connect` tried.
/// `args` begin with the program's name, without the command's; `connect` tries every connection of the service.
pub fn run<C: ServiceConfig>(
    args: Vec<OsString>,
    connect: impl AsyncFnOnce(&C) -> Vec<Tried>,
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
                .help("Try each connection, too; nothing is changed where it leads"),
        );
    let checked = match Checked::<C>::read(command, args) {
        Ok(checked) => checked,
        Err(usage) => return process::explain(&usage),
    };
    // Nobody may be left to read what is printed: the exit code says it, too.
    report(&checked).ok();
    if !checked.problems.is_empty() {
        return process::explain(&Usage::Problems(checked.problems));
    }
    if !checked.line.matches.get_flag("connect") {
        return ExitCode::SUCCESS;
    }
    telemetry::log_warnings_to_stderr();
    let tried = process::block_on(async { anyhow::Ok(connect(&checked.config).await) });
    match tried {
        Ok(tried) => tell(&tried),
        Err(err) => process::fail(&format!("{service}: {}", error_chain(err.as_ref()))),
    }
}

fn report<C: ServiceConfig>(checked: &Checked<C>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in checked.line.listing(&checked.config.shown()) {
        writeln!(out, "{line}")?;
    }
    let mut errors = io::stderr().lock();
    for warning in checked.config.warnings() {
        writeln!(errors, "warning: {warning}")?;
    }
    Ok(())
}

fn tell(tried: &[Tried]) -> ExitCode {
    let mut failed = false;
    let mut out = io::stdout().lock();
    for Tried { what, outcome } in tried {
        let line = match outcome {
            Ok(found) => format!("connect {what}: ok, {found}"),
            Err(err) => format!("connect {what}: FAILED, {}", error_chain(err.as_ref())),
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

/// Tries Redis: whether it answers, may be used, and has as many partitions as is configured. Writes nothing there.
pub async fn try_redis(config: &RedisConfig) -> Tried {
    let found = redis::probe(config.clone()).await;
    Tried {
        what: config.redis_url.to_string(),
        outcome: found.map_err(Into::into).map(|found| {
            let partitions = found.partitions.map_or_else(
                || "empty".to_owned(),
                |number| format!("{number} partitions"),
            );
            format!("version {}, {partitions}", found.version)
        }),
    }
}

/// Tries the collector with an export of nothing, if anything would be sent there; both of them, if metrics have their own.
pub async fn try_collector(config: &TelemetryConfig) -> Vec<Tried> {
    let mut tried = Vec::new();
    if config.otel_exporter != Exporter::Otlp {
        return tried;
    }
    let (traces, metrics) = (
        config.collector.traces_endpoint(),
        config.collector.metrics_endpoint(),
    );
    tried.push(tried_export(
        traces,
        telemetry::export_no_spans(&config.collector).await,
    ));
    if metrics != traces {
        tried.push(tried_export(
            metrics,
            telemetry::export_no_metrics(&config.collector).await,
        ));
    }
    tried
}

fn tried_export(endpoint: &Endpoint, outcome: anyhow::Result<()>) -> Tried {
    Tried {
        what: format!("collector {endpoint}"),
        outcome: outcome
            .map(|()| "it took an empty export".to_owned())
            .context("it took no export"),
    }
}

//! A service as a process: settings, telemetry, the service itself, and its exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::args::Usage;
use crate::error_chain::error_chain;
use crate::lifecycle::Lifecycle;
use crate::telemetry;
use crate::telemetry::config::TelemetryConfig;

/// Runs a service until it ends and returns the exit code: 0 after a requested stop, 2 for settings that cannot be used, 1 for
/// any other end.
pub fn run<C, F>(
    service: &'static str,
    config: Result<C, Usage>,
    telemetry: impl FnOnce(&C) -> &TelemetryConfig,
    serve: impl FnOnce(C, Lifecycle) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let config = match config {
        Ok(config) => config,
        Err(usage) => return print_usage(&usage),
    };
    let outcome = block_on(async {
        let telemetry = telemetry::init(service, telemetry(&config))?;
        let lifecycle = Lifecycle::new();
        let outcome = match lifecycle.listen_for_signals() {
            Ok(()) => serve(config, lifecycle).await,
            Err(err) => Err(err).context("cannot listen for signals"),
        };
        if let Err(err) = &outcome {
            let error = error_chain(err.as_ref());
            tracing::error!(error, "{service} stopped because of an error");
        }
        telemetry.flush().await;
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => print_failure(&format!("{service}: {err:#}")),
    }
}

/// Runs a future to its end on a new runtime.
///
/// # Errors
/// The runtime cannot start, or the future fails.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // At least two workers: on one, the last flush of telemetry would wait for itself.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(future);
    // A flush that timed out still blocks its thread: do not wait for that thread.
    runtime.shutdown_background();
    outcome
}

/// Replaces the command `help` by the flag `--help`, of the service or of the command behind it.
#[must_use]
pub fn with_help_flag(args: Vec<OsString>) -> Vec<OsString> {
    match strip_command("help", &args) {
        Some(mut rest) => {
            rest.truncate(2);
            rest.push("--help".into());
            rest
        }
        None => args,
    }
}

/// Returns the arguments without the name of this command; `None` if the first argument after the program's name is not that name.
#[must_use]
pub fn strip_command(name: &str, args: &[OsString]) -> Option<Vec<OsString>> {
    let (program, rest) = args.split_first()?;
    let (first, rest) = rest.split_first()?;
    (first == name).then(|| std::iter::once(program).chain(rest).cloned().collect())
}

/// Prints the help to standard output, or the problems to standard error, and returns the exit code.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "output of the command line"
)]
pub fn print_usage(usage: &Usage) -> ExitCode {
    match usage {
        Usage::Help(text) => print!("{text}"),
        Usage::Problems(_) => eprintln!("{usage}"),
    }
    ExitCode::from(usage.exit_code())
}

/// Prints an error to standard error and returns exit code 1.
#[expect(clippy::print_stderr, reason = "for people who do not read the log")]
pub fn print_failure(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

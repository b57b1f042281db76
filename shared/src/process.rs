//! A service as a process: settings, telemetry, the service itself, and an exit code that tells how it went.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::args::Usage;
use crate::error_chain::error_chain;
use crate::lifecycle::Lifecycle;
use crate::telemetry;
use crate::telemetry::config::TelemetryConfig;

/// Runs a service until it ends: 0 after a stop that was asked for, 2 for a command line that cannot be used, 1 for
/// everything else.
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
        Err(usage) => return explain(&usage),
    };
    let ended = block_on(async {
        let telemetry = telemetry::init(service, telemetry(&config))?;
        let lifecycle = Lifecycle::new();
        let ended = match lifecycle.listen_for_signals() {
            Ok(()) => serve(config, lifecycle).await,
            Err(err) => Err(err).context("cannot listen for signals"),
        };
        if let Err(err) = &ended {
            let error = error_chain(err.as_ref());
            tracing::error!(error, "{service} ends with an error");
        }
        telemetry.flush().await;
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => fail(&format!("{service}: {err:#}")),
    }
}

/// Runs this to its end on a runtime of its own.
///
/// # Errors
/// There is no runtime, or the future's own.
pub fn block_on<T>(ending: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // Two workers at least: telemetry's last flush would otherwise wait for itself.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(ending);
    // A flush that was given up still blocks its thread: nobody waits for that.
    runtime.shutdown_background();
    ended
}

/// If the word behind the program's name is this one: the arguments without it.
#[must_use]
pub fn called(word: &str, args: &[OsString]) -> Option<Vec<OsString>> {
    let (program, rest) = args.split_first()?;
    let (first, rest) = rest.split_first()?;
    (first == word).then(|| std::iter::once(program).chain(rest).cloned().collect())
}

/// Prints why there is nothing to run.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line's own answers"
)]
pub fn explain(usage: &Usage) -> ExitCode {
    match usage {
        Usage::Help(text) => print!("{text}"),
        Usage::Problems(_) => eprintln!("{usage}"),
    }
    ExitCode::from(usage.exit_code())
}

/// Prints what went wrong, for exit code 1.
#[expect(
    clippy::print_stderr,
    reason = "also for whoever does not read the log"
)]
pub fn fail(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

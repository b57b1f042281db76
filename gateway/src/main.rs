//! The process: settings, telemetry, the service, and an exit code that tells how it went.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use gateway::config::Config;
use shared::args::Usage;
use shared::lifecycle::Lifecycle;
use shared::telemetry;

fn main() -> ExitCode {
    let config = match Config::try_from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(usage) => return explain(&usage),
    };
    // Two workers at least: telemetry's last flush would otherwise wait for itself.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .context("cannot start the runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => fail(&format!("gateway: {err:#}")),
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let telemetry = telemetry::init("gateway", &config.telemetry)?;
    let ended = live(config).await;
    if let Err(err) = &ended {
        let error: &(dyn std::error::Error + 'static) = err.as_ref();
        tracing::error!(error, "gateway ends with an error");
    }
    telemetry.flush().await;
    ended
}

async fn live(config: Config) -> anyhow::Result<()> {
    let lifecycle = Lifecycle::new();
    lifecycle
        .listen_for_signals()
        .context("cannot listen for signals")?;
    let address = SocketAddr::new(config.listen_address, config.http_port);
    let listener = gateway::listener::bind(address)
        .with_context(|| format!("cannot listen on `{address}`"))?;
    gateway::serve(listener, config, lifecycle).await
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line's own answers"
)]
fn explain(usage: &Usage) -> ExitCode {
    match usage {
        Usage::Help(text) => print!("{text}"),
        Usage::Problems(_) => eprintln!("{usage}"),
    }
    ExitCode::from(usage.exit_code())
}

#[expect(
    clippy::print_stderr,
    reason = "also for whoever does not read the log"
)]
fn fail(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

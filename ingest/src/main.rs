//! The process.

use std::process::ExitCode;

use ingest::config::Config;

fn main() -> ExitCode {
    let config = Config::try_from_args(std::env::args_os());
    shared::process::run("ingest", config, |config| &config.telemetry, ingest::run)
}

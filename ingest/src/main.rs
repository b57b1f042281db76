//! The entry point of the process: the service itself, `check-config`, `export-log`, `replay` and `record`.

use std::ffi::OsString;
use std::process::ExitCode;

use ingest::config::{self, Config};
use ingest::{commands, export_log, record, replay};
use mimalloc::MiMalloc;
use shared::{check_config, process};

/// A message takes some hundred small allocations, which are freed at once.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args: Vec<OsString> = process::with_help_flag(std::env::args_os().collect());
    if let Some(args) = process::strip_command(check_config::NAME, &args) {
        return check_config::run(args, config::connect);
    }
    if let Some(args) = process::strip_command(export_log::NAME, &args) {
        return export_log::run(args);
    }
    if let Some(args) = process::strip_command(commands::REPLAY, &args) {
        return replay::run(args);
    }
    if let Some(args) = process::strip_command(commands::RECORD, &args) {
        return record::run(args);
    }
    let config = Config::try_from_args(args);
    process::run("ingest", config, |config| &config.telemetry, ingest::run)
}

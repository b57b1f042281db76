//! The command `record`: writes the payloads that ingest keeps with `--record-raw` as a file that `replay` plays.

mod lines;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use shared::error_chain::error_chain;
use shared::process;
use shared::redis::RedisConfig;
use shared::store::RawPayloadReader;
use shared::telemetry;

use self::lines::Lines;
use crate::commands;
use crate::export_log::is_closed;

/// Write the recorded payloads as a file that `ingest replay` plays
///
/// The payloads are those that ingest keeps with --record-raw, oldest first, each with the time at which it arrived. Nothing is
/// written to Redis. What was stored of a detector before the first payload is not in the file.
#[derive(Debug, Parser)]
#[command(name = commands::RECORD, bin_name = "ingest record")]
struct Args {
    /// Only payloads that contain this serial
    #[arg(long, value_name = "SERIAL")]
    device: Option<String>,

    /// Write to this file, which must not exist, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    #[command(flatten)]
    redis: RedisConfig,
}

/// Runs the command. Exits with 0 if everything is written, with 1 if Redis cannot be read or nothing is recorded. `args` begin
/// with the name of the program, without that of the command.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let args = match commands::read_args(args, |args: &mut Args| &mut args.redis) {
        Ok(args) => args,
        Err(usage) => return process::print_usage(&usage),
    };
    telemetry::log_warnings_to_stderr();
    match process::block_on(record(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            let error = error_chain(err.as_ref());
            process::print_failure(&format!("ingest {}: {error}", commands::RECORD))
        }
    }
}

async fn record(args: Args) -> anyhow::Result<()> {
    let server = args.redis.shown_url().to_owned();
    let mut reader = RawPayloadReader::open(args.redis)
        .await
        .with_context(|| format!("cannot read the recorded payloads at `{server}`"))?;
    let mut page = reader.next_page().await?;
    if page.is_empty() {
        bail!("nothing is recorded at `{server}`: run ingest with --record-raw");
    }
    let mut out = open(args.out.as_deref())?;
    let mut lines = Lines::new(args.device, page[0].arrived);
    if is_closed(out.write_all(lines.head(reader.settings()).as_bytes()))? {
        return Ok(());
    }
    while !page.is_empty() {
        for payload in &page {
            let Some(line) = lines.of(payload) else {
                continue;
            };
            if is_closed(writeln!(out, "{line}"))? {
                return Ok(());
            }
        }
        page = reader.next_page().await?;
    }
    is_closed(out.flush())?;
    if lines.count() == 0 {
        bail!("no recorded payload contains this serial");
    }
    Ok(())
}

fn open(path: Option<&Path>) -> anyhow::Result<Box<dyn Write>> {
    let Some(path) = path else {
        return Ok(Box::new(BufWriter::new(io::stdout().lock())));
    };
    let file = File::create_new(path);
    let file = file.with_context(|| format!("cannot create `{}`", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

//! The command `replay`: plays a file of messages against the alarm rules on a virtual clock, without broker and Redis, and
//! prints every alarm change. `ingest/README.md` describes the file.
//!
//! Read in this order: `simulation` (the services in memory; tests drive it, too), `file` (lines to things that happen),
//! `template` (payloads), `player` (the file on the simulation), `expectation` (what a line expects), `report`.

pub mod expectation;
pub mod file;
mod messages;
pub mod player;
mod report;
pub mod settings;
pub mod simulation;
pub mod span;
pub mod template;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use shared::args;
use shared::process;

use self::file::Script;
use self::player::{Output, Player};
use crate::commands;

/// Play a file of messages against the alarm rules, and print every alarm change
///
/// The rules are those of the service, on a virtual clock: hours pass at once. Nothing is connected, neither broker nor Redis,
/// and no environment variable is read. ingest/README.md describes the file.
#[derive(Debug, Parser)]
#[command(name = commands::REPLAY, bin_name = "ingest replay")]
struct Args {
    /// The file, one JSON object per line
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Compare what happens with what the file expects, and exit with 1 if anything differs
    #[arg(long)]
    expect: bool,

    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// Runs the command. Exits with 0, with 1 if something is not as the file expects it or an alarm to be acknowledged does not
/// exist, and with 2 if the file cannot be read.
/// `args` begin with the name of the program, without that of the command.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let args: Args = match args::parse(args) {
        Ok(args) => args,
        Err(usage) => return process::print_usage(&usage),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let exit_code = play(&args, &mut out).and_then(|code| out.flush().map(|()| code));
    match exit_code {
        Ok(code) => ExitCode::from(code),
        // The reader closed our output (`| head`), which is not an error.
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(err) => {
            process::print_failure(&format!("ingest {}: cannot write: {err}", commands::REPLAY))
        }
    }
}

fn play(args: &Args, out: &mut impl Write) -> io::Result<u8> {
    const DIFFERS: u8 = 1;
    const UNREADABLE: u8 = 2;
    let file = args.file.display().to_string();
    let text = match std::fs::read(&args.file) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()),
        Err(err) => Err(err.to_string()),
    };
    let unreadable = |out: &mut dyn Write, line: Option<usize>, reason: &str| {
        let text = report::unreadable(&file, line, reason, args.json);
        if args.json {
            writeln!(out, "{text}")?;
        } else {
            process::print_failure(&text);
        }
        Ok(UNREADABLE)
    };
    let text = match text {
        Ok(text) => text,
        Err(reason) => return unreadable(out, None, &reason),
    };
    let script = match Script::parse(&text) {
        Ok(script) => script,
        Err(err) => return unreadable(out, Some(err.line), &err.reason),
    };
    let render = if args.json {
        report::json
    } else {
        report::text
    };
    let mut written = Ok(());
    let played = Player::new(&script, args.expect).play(|output: Output<'_>| {
        if written.is_ok() {
            written = writeln!(out, "{}", render(output, script.start, &file));
        }
    });
    written?;
    match played {
        Ok(differences) if differences.is_empty() => Ok(0),
        Ok(_) => Ok(DIFFERS),
        Err(err) => unreadable(out, Some(err.line), &err.reason),
    }
}

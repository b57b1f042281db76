//! `export-log`: the alarm log as one JSON object per line, for archives and spreadsheets.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{CommandFactory, Parser};
use serde::Serialize;
use shared::alarm::{AlarmState, ChangeKind, Condition, Severity};
use shared::alarm_log::AlarmLogEntry;
use shared::args::{self, CommandLine, Usage};
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::error_chain::error_chain;
use shared::event::{iso, iso_option};
use shared::process;
use shared::redis::RedisConfig;
use shared::store::{LogReader, LoggedEntry, Since};
use shared::telemetry;

/// The word on the command line.
pub const NAME: &str = "export-log";
/// What it does.
pub const ABOUT: &str = "Write the alarm log to standard output, oldest line first, and end";

/// Write the alarm log to standard output, one JSON object per line, oldest first
///
/// The lines of all detectors, in the order in which Redis took them, up to the moment of the call. Each has the fields of
/// `/alarm-logs` as they were when it was written, and: `change`, what happened; `by`, who acknowledged or retired;
/// `seen_seq`, up to where an acknowledgement had seen; `trace`. Redis is only read.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "ingest export-log")]
struct Args {
    /// From when on: a time such as 2026-01-28 or 2026-01-28T11:37:12Z, or an age such as 24h or 35d; without it,
    /// everything that is kept
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,

    #[command(flatten)]
    redis: RedisConfig,
}

fn since(text: &str) -> Result<Since, String> {
    let text = text.trim();
    if let Some(time) = Time::from_iso(text) {
        return Ok(Since::At(time));
    }
    let expected =
        "expected a time such as 2026-01-28 or 2026-01-28T11:37:12Z, or an age such as 24h";
    let age = args::duration(text).map_err(|_| expected)?;
    Ok(Since::Ago(age))
}

/// Runs the command: 0 when everything is written, 1 if Redis could not be read to the end or is not ours. `args` begin
/// with the program's name, without the command's.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let args = match read(args) {
        Ok(args) => args,
        Err(usage) => return process::print_usage(&usage),
    };
    telemetry::log_warnings_to_stderr();
    match process::block_on(export(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            process::print_failure(&format!("ingest {NAME}: {}", error_chain(err.as_ref())))
        }
    }
}

fn read(args: Vec<OsString>) -> Result<Args, Usage> {
    // Of no use here: how many partitions there are stands in Redis.
    let unused = ["partitions", "redis_watch"];
    let command = unused.into_iter().fold(Args::command(), |command, id| {
        command.mut_arg(id, |arg| arg.hide(true))
    });
    let line = CommandLine::parse(command, args, &[("redis-url", "redis://placeholder")])?;
    match line.problems(Vec::new()) {
        problems if problems.is_empty() => line.config(),
        problems => Err(Usage::Problems(problems)),
    }
}

async fn export(args: Args) -> anyhow::Result<()> {
    let server = args.redis.redis_url.to_string();
    let since = args.since.unwrap_or(Since::Beginning);
    let mut reader = LogReader::open(args.redis, since)
        .await
        .with_context(|| format!("cannot read the alarm log at `{server}`"))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut last = None;
    loop {
        let line = match reader.next().await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(err) => {
                out.flush().ok();
                let until = last.map_or_else(|| "nothing".to_owned(), Time::to_iso);
                return Err(err).with_context(|| format!("incomplete: written up to {until}"));
            }
        };
        last = Some(line.written);
        let written = serde_json::to_writer(&mut out, &Row::of(line))
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"));
        if ended(written)? {
            return Ok(());
        }
    }
    if ended(out.flush())? {
        return Ok(());
    }
    if !reader.refused().is_empty() {
        bail!("incomplete: {}", reader.refused().join(", "));
    }
    Ok(())
}

/// Whether the reader of what we write has had enough (`| head`), which is no error.
fn ended(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(false),
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(err) => Err(err).context("cannot write"),
    }
}

/// The fields of a row of REST in their order, then what only the log has. What a line has not is `null`.
#[derive(Debug, Serialize)]
struct Row {
    device_id: String,
    device_name: Option<String>,
    serial_number: String,
    alarm_type: Option<Condition>,
    severity: Option<Severity>,
    message: Option<String>,
    threshold: Option<Decimal>,
    current_value: Option<Decimal>,
    unit: Option<String>,
    gas_type: Option<String>,
    #[serde(serialize_with = "iso")]
    timestamp: Time,
    acknowledged: Option<bool>,
    #[serde(serialize_with = "iso_option")]
    acknowledged_at: Option<Time>,
    acknowledged_by: Option<String>,
    id: String,
    #[serde(rename = "_id")]
    stored_id: String,
    alarm_id: Option<String>,
    state: Option<AlarmState>,
    #[serde(serialize_with = "iso_option")]
    cleared_at: Option<Time>,
    change: What,
    by: Option<String>,
    seen_seq: Option<u64>,
    trace: Option<String>,
    /// The line as it is written, where it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What {
    Change(ChangeKind),
    /// `state_lost`, `unreadable`
    Other(&'static str),
}

impl Row {
    fn of(logged: LoggedEntry) -> Self {
        let change = match &logged.entry {
            Ok(AlarmLogEntry {
                change: Some(change),
                ..
            }) => What::Change(*change),
            Ok(_) => What::Other("state_lost"),
            Err(_) => What::Other("unreadable"),
        };
        let (entry, raw) = match logged.entry {
            Ok(entry) => (entry, None),
            Err(raw) => (AlarmLogEntry::state_lost(logged.written), Some(raw)),
        };
        let alarm = entry.alarm;
        let of = alarm.as_ref();
        let acknowledged = of.and_then(|alarm| alarm.acknowledged.clone());
        Self {
            device_name: of.map(|alarm| alarm.device_name.clone()),
            alarm_type: of.map(|alarm| alarm.condition),
            severity: of.map(|alarm| alarm.condition.severity()),
            message: of.map(|alarm| alarm.message.clone()),
            threshold: of.and_then(|alarm| alarm.threshold),
            current_value: of.and_then(|alarm| alarm.value),
            unit: of.map(|alarm| alarm.unit.clone()),
            gas_type: of.map(|alarm| alarm.gas_type.clone()),
            timestamp: entry.at,
            acknowledged: of.map(|alarm| alarm.acknowledged.is_some()),
            acknowledged_at: acknowledged.as_ref().map(|seen| seen.at),
            acknowledged_by: acknowledged.map(|seen| seen.by),
            state: of.map(shared::alarm::Alarm::state),
            cleared_at: of.and_then(|alarm| alarm.cleared_at),
            alarm_id: alarm.map(|alarm| alarm.id),
            serial_number: logged.device.clone(),
            device_id: logged.device,
            stored_id: logged.id.clone(),
            id: logged.id,
            change,
            by: entry.by,
            seen_seq: entry.seen,
            trace: entry.trace,
            raw,
        }
    }
}

#[cfg(test)]
mod tests;

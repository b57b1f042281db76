//! The command `export-log`: writes the alarm log, one JSON object per line, for archives and spreadsheets.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use serde::Serialize;
use shared::alarm::{AlarmState, ChangeKind, Condition, Severity};
use shared::alarm_log::{AlarmLogEntry, Folded};
use shared::args;
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::error_chain::error_chain;
use shared::event::{iso, iso_option};
use shared::process;
use shared::redis::RedisConfig;
use shared::store::{LogReader, LoggedEntry, Since};
use shared::telemetry;

use crate::commands;

/// Name of the command.
pub const NAME: &str = "export-log";
/// Description of the command.
pub const ABOUT: &str = "Write the alarm log to standard output, oldest line first";

/// Write the alarm log to standard output, one JSON object per line, oldest first
///
/// Writes the lines of all detectors up to the moment of the call, in the order in which they were stored. A line has the
/// fields of `/alarm-logs` as they were when it was stored, and: `change`, what happened; `by`, who acknowledged or retired;
/// `seen_seq`, the highest `seq` that an acknowledgement covers; `trace`; and, of a detector that had written its share of the log,
/// `folded`, the counts of a line that stands for several transitions, and `first_alarm_id`, the first of the alarms that are logged
/// together. Nothing is written to Redis.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "ingest export-log")]
struct Args {
    /// Time of the first line to write: a time such as 2026-01-28 or 2026-01-28T11:37:12Z, or an age such as 24h or 35d.
    /// Without it, all lines
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

/// Runs the command. Exits with 0 if everything is written, with 1 if Redis could not be read to the end or holds no data of
/// this system. `args` begin with the name of the program, without that of the command.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let args = match commands::read_args(args, |args: &mut Args| &mut args.redis) {
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

async fn export(args: Args) -> anyhow::Result<()> {
    let server = args.redis.shown_url().to_owned();
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
                let written_until = last.map_or_else(|| "nothing".to_owned(), Time::to_iso);
                return Err(err)
                    .with_context(|| format!("incomplete: written up to {written_until}"));
            }
        };
        last = Some(line.written);
        let write_result = serde_json::to_writer(&mut out, &ExportedLine::of(line))
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"));
        if is_closed(write_result)? {
            return Ok(());
        }
    }
    if is_closed(out.flush())? {
        return Ok(());
    }
    if !reader.refused().is_empty() {
        bail!("incomplete: {}", reader.refused().join(", "));
    }
    Ok(())
}

/// Whether writing failed because the reader closed our output (`| head`), which is not an error.
pub(crate) fn is_closed(write_result: io::Result<()>) -> anyhow::Result<bool> {
    match write_result {
        Ok(()) => Ok(false),
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(err) => Err(err).context("cannot write"),
    }
}

/// The fields of `/alarm-logs` in their order, then those that only the log has. Absent ones are `null`.
#[derive(Debug, Serialize)]
struct ExportedLine {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    first_alarm_id: Option<String>,
    state: Option<AlarmState>,
    #[serde(serialize_with = "iso_option")]
    cleared_at: Option<Time>,
    reading_timestamp: Option<String>,
    change: ExportedChange,
    by: Option<String>,
    /// What the person wrote beside an acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    seen_seq: Option<u64>,
    trace: Option<String>,
    /// The counts of a line that stands for several.
    #[serde(skip_serializing_if = "Option::is_none")]
    folded: Option<Box<Folded>>,
    /// The stored line, if it is unreadable.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ExportedChange {
    Change(ChangeKind),
    /// `state_lost` or `unreadable`.
    Other(&'static str),
}

impl ExportedLine {
    fn of(logged: LoggedEntry) -> Self {
        let change = match &logged.entry {
            Ok(AlarmLogEntry {
                change: Some(change),
                ..
            }) => ExportedChange::Change(*change),
            Ok(_) => ExportedChange::Other("state_lost"),
            Err(_) => ExportedChange::Other("unreadable"),
        };
        let (entry, raw) = match logged.entry {
            Ok(entry) => (entry, None),
            Err(raw) => (AlarmLogEntry::empty(logged.written), Some(raw)),
        };
        let alarm = entry.alarm;
        let of = alarm.as_ref();
        let acknowledged = of.and_then(|alarm| alarm.acknowledged.clone());
        Self {
            device_name: of.map(|alarm| alarm.device_name.clone()),
            alarm_type: of.map(|alarm| alarm.condition),
            severity: of.map(shared::alarm::Alarm::severity),
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
            reading_timestamp: of.and_then(|alarm| alarm.reading_timestamp.clone()),
            first_alarm_id: of.and_then(|alarm| alarm.log_group.clone()),
            alarm_id: alarm.map(|alarm| alarm.id),
            serial_number: logged.device.clone(),
            device_id: logged.device,
            stored_id: logged.id.clone(),
            id: logged.id,
            change,
            by: entry.by,
            note: entry.note,
            seen_seq: entry.seen,
            trace: entry.trace,
            folded: entry.folded,
            raw,
        }
    }
}

#[cfg(test)]
mod tests;

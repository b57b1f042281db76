//! How the outputs of a replay are printed. Pure.

use serde::Serialize;
use serde_json::Value;
use shared::alarm::{AlarmState, ChangeKind, Condition};
use shared::clock::Time;
use shared::decimal::Decimal;
use shared::device::DeviceId;
use shared::event::iso;

use super::player::Output;
use super::span;

/// An alarm change in JSON.
#[derive(Serialize)]
struct ChangeLine<'a> {
    at: String,
    #[serde(serialize_with = "iso")]
    time: Time,
    device: &'a DeviceId,
    change: ChangeKind,
    #[serde(rename = "type")]
    condition: Condition,
    state: AlarmState,
    threshold: Option<Decimal>,
    current_value: Option<Decimal>,
    unit: &'a str,
    alarm: usize,
    id: &'a str,
    seq: u64,
}

/// A dead letter in JSON.
#[derive(Serialize)]
struct DeadLetterLine<'a> {
    at: String,
    dead_letter: &'a str,
    detail: &'a str,
}

/// A difference in JSON.
#[derive(Serialize)]
struct DifferenceLine<'a> {
    at: String,
    file: &'a str,
    line: usize,
    difference: &'a str,
}

/// Renders one output as a line of text.
pub(super) fn text(output: Output<'_>, start: Time, file: &str) -> String {
    match output {
        Output::Change(found) => {
            let alarm = &found.change.alarm;
            let threshold = alarm.threshold.map(|level| format!("  level {level}"));
            let value = match alarm.value {
                Some(value) => format!("  value {value} {}", alarm.unit),
                None => "  no value".to_owned(),
            };
            format!(
                "{}  {}  {} {}{}{value}  alarm {}, {}",
                since(found.at, start),
                found.device.for_log(),
                found.change.kind.code(),
                alarm.condition.code(),
                threshold.unwrap_or_default(),
                found.number,
                word(alarm.state()),
            )
        }
        Output::DeadLetter(found) => format!(
            "{}  dead letter {}: {}",
            since(found.at, start),
            found.reason,
            found.detail
        ),
        Output::Difference(found) => format!(
            "{file}:{}: at {}: {}",
            found.line,
            since(found.at, start),
            found.text
        ),
    }
}

/// Renders one output as a line of JSON.
pub(super) fn json(output: Output<'_>, start: Time, file: &str) -> String {
    let line = match output {
        Output::Change(found) => {
            let alarm = &found.change.alarm;
            serde_json::to_string(&ChangeLine {
                at: since(found.at, start),
                time: found.at,
                device: &found.device,
                change: found.change.kind,
                condition: alarm.condition,
                state: alarm.state(),
                threshold: alarm.threshold,
                current_value: alarm.value,
                unit: &alarm.unit,
                alarm: found.number,
                id: &alarm.id,
                seq: found.position.seq,
            })
        }
        Output::DeadLetter(found) => serde_json::to_string(&DeadLetterLine {
            at: since(found.at, start),
            dead_letter: found.reason,
            detail: &found.detail,
        }),
        Output::Difference(found) => serde_json::to_string(&DifferenceLine {
            at: since(found.at, start),
            file,
            line: found.line,
            difference: &found.text,
        }),
    };
    line.unwrap_or_default()
}

fn since(at: Time, start: Time) -> String {
    span::format(at.millis_since(start))
}

fn word(state: AlarmState) -> String {
    let word = serde_json::to_value(state).unwrap_or_default();
    word.as_str().map(str::to_owned).unwrap_or_default()
}

/// Renders the error that makes a file unreadable. `line` is `None` if it concerns the whole file.
pub(super) fn unreadable(file: &str, line: Option<usize>, reason: &str, as_json: bool) -> String {
    if as_json {
        let fields = [
            ("file", Value::from(file)),
            ("line", Value::from(line)),
            ("unreadable", Value::from(reason)),
        ];
        let fields = fields.map(|(key, value)| (key.to_owned(), value));
        return Value::Object(fields.into_iter().collect()).to_string();
    }
    match line {
        Some(line) => format!("{file}:{line}: {reason}"),
        None => format!("{file}: {reason}"),
    }
}

//! Reads a replay file: JSON Lines, described in `ingest/README.md`. Pure.

mod line;
mod raw;

use std::collections::BTreeMap;

use shared::clock::Time;

use self::line::Line;
use super::expectation::Expectation;
use super::settings;
use super::simulation::SimulationSettings;
use super::template::Edits;

/// When a file starts that does not say it.
pub const DEFAULT_START: &str = "2026-01-28T06:07:12Z";

/// Some editors write it at the beginning of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A replay file.
#[derive(Clone, Debug)]
pub struct Script {
    /// Virtual time of `0s`.
    pub start: Time,
    /// The settings of ingest.
    pub settings: SimulationSettings,
    /// What happens, in the order of the lines. Repetitions of one entry may come after the next entry.
    pub entries: Vec<Entry>,
}

/// One thing that happens, once or several times.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Number of the line, from 1.
    pub line: usize,
    /// Milliseconds from the start to the first time.
    pub at_ms: i64,
    /// Milliseconds between two times.
    pub every_ms: i64,
    /// How often it happens.
    pub times: u32,
    /// What happens.
    pub action: Action,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Action {
    /// The broker delivers a message.
    Publish(Publish),
    /// A person acknowledges an alarm.
    Acknowledge(Acknowledge),
    /// Ingest begins or ends to listen.
    Listen(bool),
    /// Something must be true now.
    Expect(Box<Expectation>),
    /// Something must be true from now on, until this many milliseconds after the start.
    Always(Box<Expectation>, i64),
    /// Time passes.
    Nothing,
}

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The payload.
    pub payload: Payload,
    /// MQTT's RETAIN flag.
    pub retain: bool,
    /// MQTT's DUP flag.
    pub dup: bool,
}

/// A payload.
#[derive(Clone, Debug)]
pub enum Payload {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A text with placeholders.
    Text(Box<TextPayload>),
}

/// A text with placeholders, and what they stand for.
#[derive(Clone, Debug)]
pub struct TextPayload {
    /// The text.
    pub text: String,
    /// The values, taken in turn.
    pub values: Vec<String>,
    /// How far the device's clock is ahead, in milliseconds.
    pub clock_ms: i64,
    /// How much further it is with each repetition.
    pub clock_step_ms: i64,
    /// The text that the device writes as its time, if its clock stands still.
    pub time_text: Option<String>,
    /// Changes to the text after that.
    pub edits: Option<Edits>,
}

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledge {
    /// The alarm.
    pub alarm: AlarmName,
    /// Name of the person.
    pub by: String,
    /// What the person had seen; `None` is everything until now.
    pub seen: Option<Seen>,
    /// The expected answer.
    pub answer: Option<Answer>,
}

/// How a line names an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlarmName {
    /// Its number: 1 is the first alarm that was raised in this run.
    Number(usize),
    /// Its id.
    Id(String),
    /// The open alarm of this type, or the one that closed last.
    Type(String),
}

/// What a person had seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Everything up to this position of the present epoch.
    Seq(u64),
    /// What was shown this many milliseconds after the start.
    At(i64),
}

/// The answer to an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It covers the alarm.
    Acknowledged,
    /// The alarm has reached a level that had not been seen.
    Escalated,
    /// There is no such alarm.
    NotFound,
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct FileError {
    /// Number of the line, from 1.
    pub line: usize,
    /// The reason.
    pub reason: String,
}

impl Script {
    /// Reads a file.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let defaults = settings::from_json(&serde_json::Map::new());
        let mut reader = Reader {
            start: Time::from_iso(DEFAULT_START),
            settings: None,
            templates: BTreeMap::new(),
            entries: Vec::new(),
            last_ms: 0,
        };
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            let is_comment = trimmed.starts_with('#') || trimmed.starts_with("//");
            if trimmed.is_empty() || is_comment {
                continue;
            }
            let number = index + 1;
            let read = line::read(trimmed).and_then(|line| reader.add(number, line));
            read.map_err(|reason| FileError {
                line: number,
                reason,
            })?;
        }
        let settings = match reader.settings {
            Some(settings) => settings,
            None => defaults.map_err(|problems| FileError {
                line: 1,
                reason: problems.join("; "),
            })?,
        };
        Ok(Self {
            start: reader.start.unwrap_or_default(),
            settings,
            entries: reader.entries,
        })
    }

    /// Returns the file's expectations, with the numbers of their lines.
    pub fn expectations(&self) -> impl Iterator<Item = usize> {
        let checks = |entry: &&Entry| {
            matches!(entry.action, Action::Expect(_) | Action::Always(..))
                || matches!(&entry.action, Action::Acknowledge(ack) if ack.answer.is_some())
        };
        self.entries.iter().filter(checks).map(|entry| entry.line)
    }
}

/// What was read so far.
struct Reader {
    start: Option<Time>,
    settings: Option<SimulationSettings>,
    templates: BTreeMap<String, String>,
    entries: Vec<Entry>,
    last_ms: i64,
}

impl Reader {
    fn add(&mut self, number: usize, line: Line<'_>) -> Result<(), String> {
        match line {
            Line::Note => Ok(()),
            Line::Start(start) => {
                self.must_be_first("start")?;
                self.start = Some(start);
                Ok(())
            }
            Line::Settings(object) => {
                self.must_be_first("settings")?;
                if self.settings.is_some() {
                    return Err("the settings are given twice".to_owned());
                }
                let settings = settings::from_json(&object);
                self.settings = Some(settings.map_err(|problems| problems.join("; "))?);
                Ok(())
            }
            Line::Template { name, payload } => {
                self.templates.insert(name, payload.get().to_owned());
                Ok(())
            }
            Line::At { at_ms, steps } => {
                if at_ms < self.last_ms {
                    return Err("`at` goes back: lines are in the order of time".to_owned());
                }
                self.last_ms = at_ms;
                for step in steps {
                    let entry = step.entry(number, at_ms, &self.templates)?;
                    let until = match &entry.action {
                        Action::Always(_, until) => Some(*until),
                        _ => None,
                    };
                    self.entries.push(entry);
                    if let Some(at_ms) = until {
                        self.entries.push(Entry {
                            line: number,
                            at_ms,
                            every_ms: 0,
                            times: 1,
                            action: Action::Nothing,
                        });
                    }
                }
                Ok(())
            }
        }
    }

    fn must_be_first(&self, what: &str) -> Result<(), String> {
        if self.entries.is_empty() {
            Ok(())
        } else {
            Err(format!("`{what}` must come before the first `at`"))
        }
    }
}

#[cfg(test)]
mod tests;

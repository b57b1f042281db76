//! One line of a replay file.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::clock::Time;

use super::raw::{self, RawPayload};
use super::{Acknowledge, Action, AlarmName, Answer, Entry, Payload, Publish, Seen, TextPayload};
use crate::replay::expectation::Expectation;
use crate::replay::span;
use crate::replay::template::merge;

/// Maximum number of repetitions of one line.
const MAX_TIMES: u32 = 10_000_000;

/// A line, by what it says.
pub(super) enum Line<'a> {
    /// Nothing but a note.
    Note,
    /// Virtual time of `0s`.
    Start(Time),
    /// Settings of ingest.
    Settings(Map<String, Value>),
    /// A payload that later lines refer to.
    Template { name: String, payload: &'a RawValue },
    /// Something happens.
    At { at_ms: i64, steps: Vec<Step<'a>> },
}

/// A line as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLine<'a> {
    #[serde(default, rename = "note")]
    _note: Option<String>,
    /// Where the payload came from. Nothing depends on it.
    #[serde(default, rename = "topic")]
    _topic: Option<String>,
    start: Option<String>,
    settings: Option<Map<String, Value>>,
    template: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    at: Option<String>,
    every: Option<String>,
    times: Option<u32>,
    #[serde(borrow)]
    steps: Option<Vec<WrittenStep<'a>>>,
    // `flatten` cannot borrow the text of a payload, so the fields of a step are repeated here.
    #[serde(borrow, default, deserialize_with = "present")]
    publish: Option<&'a RawValue>,
    publish_like: Option<String>,
    publish_raw: Option<Value>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    values: Option<Vec<&'a RawValue>>,
    with: Option<Value>,
    clock: Option<String>,
    clock_step: Option<String>,
    time: Option<String>,
    retain: Option<bool>,
    dup: Option<bool>,
    acknowledge: Option<WrittenAcknowledge>,
    listening: Option<bool>,
    expect: Option<Expectation>,
    always: Option<Expectation>,
    until: Option<String>,
}

/// A publish within a line that has several.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep<'a> {
    after: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    publish: Option<&'a RawValue>,
    publish_like: Option<String>,
    publish_raw: Option<Value>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    values: Option<Vec<&'a RawValue>>,
    with: Option<Value>,
    clock: Option<String>,
    clock_step: Option<String>,
    time: Option<String>,
    retain: Option<bool>,
    dup: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAcknowledge {
    alarm: Value,
    #[serde(default = "anybody")]
    by: String,
    seen: Option<Value>,
    answer: Option<Answer>,
}

fn anybody() -> String {
    "unknown".to_owned()
}

/// Reads a value that may be `null`: only an absent one is `None`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// What happens at one moment of a line.
pub(super) struct Step<'a> {
    after_ms: i64,
    every_ms: i64,
    times: u32,
    what: What<'a>,
}

enum What<'a> {
    Publish(Box<WrittenStep<'a>>),
    Action(Action),
}

/// Reads one line.
pub(super) fn read(text: &str) -> Result<Line<'_>, String> {
    if text.starts_with('[') {
        return Err(
            "this is a JSON array, but the file must be JSON Lines: one object per line, without brackets around them and \
             without commas between them"
                .to_owned(),
        );
    }
    let line: WrittenLine<'_> = serde_json::from_str(text).map_err(|err| {
        if err.is_eof() {
            format!("{err}: each object stands on one line")
        } else {
            err.to_string()
        }
    })?;
    if line.at.is_some() {
        return read_at(line);
    }
    match (line.start, line.settings, line.template, line.payload) {
        (None, None, None, None) => Ok(Line::Note),
        (Some(start), None, None, None) => {
            let time = Time::from_iso(&start);
            let time = time.ok_or_else(|| format!("`{start}` is not a time"))?;
            Ok(Line::Start(time))
        }
        (None, Some(settings), None, None) => Ok(Line::Settings(settings)),
        (None, None, Some(name), Some(payload)) => Ok(Line::Template { name, payload }),
        (None, None, Some(_), None) => Err("a `template` needs its `payload`".to_owned()),
        _ => Err("one line says one thing".to_owned()),
    }
}

fn read_at(line: WrittenLine<'_>) -> Result<Line<'_>, String> {
    let at_ms = span::parse(line.at.as_deref().unwrap_or_default())?;
    let every_ms = line.every.as_deref().map(span::parse).transpose()?;
    let times = line.times.unwrap_or(1);
    if every_ms.is_some() != line.times.is_some() {
        return Err("`every` and `times` belong together".to_owned());
    }
    if times == 0 || times > MAX_TIMES {
        return Err(format!("`times` is a number from 1 to {MAX_TIMES}"));
    }
    let own = WrittenStep {
        after: None,
        publish: line.publish,
        publish_like: line.publish_like,
        publish_raw: line.publish_raw,
        value: line.value,
        values: line.values,
        with: line.with,
        clock: line.clock,
        clock_step: line.clock_step,
        time: line.time,
        retain: line.retain,
        dup: line.dup,
    };
    let mut whats = Vec::new();
    if own.is_publish() {
        whats.push(What::Publish(Box::new(own)));
    } else if own.has_details() {
        return Err("there is nothing to publish".to_owned());
    }
    for step in line.steps.into_iter().flatten() {
        if !step.is_publish() {
            return Err("a step publishes something".to_owned());
        }
        whats.push(What::Publish(Box::new(step)));
    }
    if let Some(acknowledge) = line.acknowledge {
        whats.push(What::Action(Action::Acknowledge(acknowledge.read()?)));
    }
    if let Some(listening) = line.listening {
        whats.push(What::Action(Action::Listen(listening)));
    }
    if let Some(expectation) = line.expect {
        whats.push(What::Action(Action::Expect(Box::new(expectation))));
    }
    match (line.always, line.until) {
        (None, None) => {}
        (Some(expectation), Some(until)) => {
            let until_ms = span::parse(&until)?;
            if until_ms < at_ms {
                return Err("`until` is before `at`".to_owned());
            }
            if expectation.consumes_changes() {
                return Err("`always` cannot compare changes".to_owned());
            }
            let action = Action::Always(Box::new(expectation), until_ms);
            whats.push(What::Action(action));
        }
        _ => return Err("`always` and `until` belong together".to_owned()),
    }
    let is_one = whats
        .iter()
        .filter(|what| matches!(what, What::Action(_)))
        .count()
        <= 1;
    let is_pure = whats.iter().all(|what| matches!(what, What::Publish(_))) || whats.len() == 1;
    if !is_one || !is_pure {
        return Err("one line says one thing".to_owned());
    }
    if whats.is_empty() {
        whats.push(What::Action(Action::Nothing));
    }
    let steps = whats.into_iter().map(|what| {
        let after = match &what {
            What::Publish(step) => step.after.as_deref().map(span::parse).transpose()?,
            What::Action(_) => None,
        };
        Ok(Step {
            after_ms: after.unwrap_or_default(),
            every_ms: every_ms.unwrap_or_default(),
            times,
            what,
        })
    });
    let steps: Result<Vec<Step<'_>>, String> = steps.collect();
    Ok(Line::At {
        at_ms,
        steps: steps?,
    })
}

impl Step<'_> {
    pub(super) fn entry(
        self,
        line: usize,
        at_ms: i64,
        templates: &BTreeMap<String, String>,
    ) -> Result<Entry, String> {
        Ok(Entry {
            line,
            at_ms: at_ms.saturating_add(self.after_ms),
            every_ms: self.every_ms,
            times: self.times,
            action: match self.what {
                What::Publish(step) => Action::Publish(step.publish(templates)?),
                What::Action(action) => action,
            },
        })
    }
}

impl WrittenStep<'_> {
    fn is_publish(&self) -> bool {
        self.publish.is_some() || self.publish_like.is_some() || self.publish_raw.is_some()
    }

    /// Whether something says how a payload is made.
    fn has_content(&self) -> bool {
        let texts = [&self.clock, &self.clock_step, &self.time];
        texts.iter().any(|text| text.is_some())
            || self.value.is_some()
            || self.values.is_some()
            || self.with.is_some()
    }

    fn has_details(&self) -> bool {
        self.has_content() || self.retain.is_some() || self.dup.is_some()
    }

    fn publish(self, templates: &BTreeMap<String, String>) -> Result<Publish, String> {
        let (retain, dup) = (
            self.retain.unwrap_or_default(),
            self.dup.unwrap_or_default(),
        );
        let template = |name: &str| {
            let template = templates.get(name);
            template.ok_or_else(|| format!("there is no template `{name}` above this line"))
        };
        let raw = match self.publish_raw.as_ref().map(raw::read).transpose()? {
            None => None,
            Some(RawPayload::Like(edited)) => Some(edited),
            Some(RawPayload::Bytes(_)) if self.has_content() => {
                return Err("these bytes have no placeholders".to_owned());
            }
            Some(RawPayload::Bytes(_)) if self.has_other_payload() => {
                return Err("one message has one payload".to_owned());
            }
            Some(RawPayload::Bytes(bytes)) => {
                let payload = Payload::Bytes(bytes);
                return Ok(Publish {
                    payload,
                    retain,
                    dup,
                });
            }
        };
        let (mut text, value_text, edits) = match (&self.publish, &self.publish_like, raw) {
            (Some(payload), None, None) => (payload.get().to_owned(), None, None),
            (None, Some(name), None) => (template(name)?.clone(), None, None),
            (None, None, Some(edited)) => (
                template(&edited.like)?.clone(),
                edited.value_text.clone(),
                Some(edited.edits()),
            ),
            _ => return Err("one message has one payload".to_owned()),
        };
        if let Some(patch) = self.with {
            let mut merged: Value = serde_json::from_str(&text).map_err(|err| err.to_string())?;
            merge(&mut merged, patch);
            text = merged.to_string();
        }
        let value = self.value.map(|value| value.get().to_owned());
        let values = match (value.or(value_text), self.values) {
            (Some(value), None) => vec![value],
            (None, Some(values)) => values.iter().map(|value| value.get().to_owned()).collect(),
            (None, None) => Vec::new(),
            (Some(_), Some(_)) => return Err("either `value` or `values`".to_owned()),
        };
        let signed = |text: Option<String>| match text {
            Some(text) => span::parse_signed(&text),
            None => Ok(0),
        };
        let payload = TextPayload {
            text,
            values,
            clock_ms: signed(self.clock)?,
            clock_step_ms: signed(self.clock_step)?,
            time_text: self.time,
            edits,
        };
        let payload = Payload::Text(Box::new(payload));
        Ok(Publish {
            payload,
            retain,
            dup,
        })
    }

    fn has_other_payload(&self) -> bool {
        self.publish.is_some() || self.publish_like.is_some()
    }
}

impl WrittenAcknowledge {
    fn read(self) -> Result<Acknowledge, String> {
        let wrong = || "`alarm` is a number, an id, or {\"type\": ...}".to_owned();
        let alarm = match &self.alarm {
            Value::Number(number) => {
                let number = number
                    .as_u64()
                    .and_then(|number| usize::try_from(number).ok());
                AlarmName::Number(number.ok_or_else(wrong)?)
            }
            Value::String(id) => AlarmName::Id(id.clone()),
            Value::Object(fields) if fields.len() == 1 => {
                let name = fields.get("type").and_then(Value::as_str);
                AlarmName::Type(name.ok_or_else(wrong)?.to_owned())
            }
            _ => return Err(wrong()),
        };
        let wrong = || "`seen` is a seq, or {\"at\": ...}".to_owned();
        let seen = match &self.seen {
            None => None,
            Some(Value::Number(seq)) => Some(Seen::Seq(seq.as_u64().ok_or_else(wrong)?)),
            Some(Value::Object(fields)) => {
                let at = fields.get("at").and_then(Value::as_str);
                Some(Seen::At(span::parse(at.ok_or_else(wrong)?)?))
            }
            Some(_) => return Err(wrong()),
        };
        Ok(Acknowledge {
            alarm,
            by: self.by,
            seen,
            answer: self.answer,
        })
    }
}

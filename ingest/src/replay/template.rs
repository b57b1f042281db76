//! Payloads of a replay file: templates, their placeholders, and faults that are put into the text.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use shared::clock::Time;

use super::span;

/// What the placeholders of a payload stand for in one publish.
#[derive(Clone, Copy, Debug)]
pub struct Placeholders<'a> {
    /// The device's own time.
    pub device_time: Time,
    /// Replaces the text of `${time}` and `${iso}`.
    pub time_text: Option<&'a str>,
    /// Offset of the device's time zone, in seconds east of UTC.
    pub utc_offset_seconds: i32,
    /// What `"${value}"` stands for: the text of a JSON value, or anything else in a payload that is no JSON.
    pub value: Option<&'a str>,
}

/// Changes to the text of a payload, for payloads that are no JSON. They are made in this order.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Texts to replace; each must be there.
    pub replace: BTreeMap<String, String>,
    /// The payload ends behind this text.
    pub cut_after: Option<String>,
    /// Added in front.
    pub prepend: String,
    /// Added behind.
    pub append: String,
    /// How characters become bytes.
    pub encoding: Encoding,
}

/// How characters become bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As JSON demands.
    #[default]
    Utf8,
    /// One byte per character, as old firmware writes them.
    Latin1,
}

/// Merges a patch into a value as RFC 7396 (JSON Merge Patch) says: objects are merged, `null` removes a key.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(fields) = target.as_object_mut() else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            fields.shift_remove(&key);
        } else {
            merge(fields.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Replaces the placeholders of a payload.
///
/// # Errors
/// A placeholder is unknown, or needs a value that the line does not have.
pub fn fill(text: &str, placeholders: Placeholders<'_>) -> Result<String, String> {
    const VALUE: &str = r#""${value}""#;
    let with_value;
    let text = if text.contains(VALUE) {
        let value = placeholders.value.ok_or("the payload needs a `value`")?;
        with_value = text.replace(VALUE, value);
        with_value.as_str()
    } else {
        text
    };
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("a `${` without its `}`")?;
        filled.push_str(before);
        filled.push_str(&time(name, placeholders)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Returns the text of `time`, `iso`, or one of them with an offset such as `time-1d`.
fn time(name: &str, placeholders: Placeholders<'_>) -> Result<String, String> {
    let unknown = || format!("`${{{name}}}` is not a placeholder");
    let (kind, offset) = match name.find(['+', '-']) {
        Some(at) => (&name[..at], span::parse_signed(&name[at..])?),
        None => (name, 0),
    };
    if !["time", "iso"].contains(&kind) {
        return Err(unknown());
    }
    if let Some(text) = placeholders.time_text {
        return Ok(text.to_owned());
    }
    let millis = placeholders.device_time.as_millis().saturating_add(offset);
    if kind == "iso" {
        return Ok(Time::from_millis(millis).to_iso());
    }
    let local = millis.saturating_add(i64::from(placeholders.utc_offset_seconds) * 1000);
    let text = Time::from_millis(local).to_iso();
    let seconds = text
        .get(..19)
        .ok_or("the time of the device is too far away")?;
    Ok(seconds.replace('T', " "))
}

/// Makes the changes to the text of a payload, and returns its bytes.
///
/// # Errors
/// A text to replace or to cut behind is not there, or a character has no byte in Latin-1.
pub fn edit(text: &str, edits: &Edits) -> Result<Vec<u8>, String> {
    let missing = |wanted: &str| format!("`{wanted}` is not in the payload");
    let mut text = text.to_owned();
    for (from, to) in &edits.replace {
        if !text.contains(from.as_str()) {
            return Err(missing(from));
        }
        text = text.replace(from.as_str(), to);
    }
    if let Some(last) = &edits.cut_after {
        let at = text.find(last.as_str()).ok_or_else(|| missing(last))?;
        text.truncate(at + last.len());
    }
    let text = [edits.prepend.as_str(), &text, &edits.append].concat();
    match edits.encoding {
        Encoding::Utf8 => Ok(text.into_bytes()),
        Encoding::Latin1 => {
            let bytes = text.chars().map(|c| u8::try_from(u32::from(c)));
            let bytes: Result<Vec<u8>, _> = bytes.collect();
            bytes.map_err(|_| "a character has no byte in Latin-1".to_owned())
        }
    }
}

#[cfg(test)]
mod tests;

//! `device:data:changed`: a reading without the fields that are as in the reading before. Computed once per event, from finished
//! payloads. Pure.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use shared::position::Position;

/// The field of `device:data` that holds the reading.
const DATA: &str = "data";
/// A payload with one of these fields is sent in full: clients replace what they show, or show it as it is.
const WHOLE: [&str; 2] = ["snapshot", "stale"];

/// The fields of a JSON object, in order, with unparsed values.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        let field = self.0.iter().find(|(own, _)| own == name);
        field.map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(32);
                while let Some(Name(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Visit)
    }
}

/// A name that is only copied if it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Renders what is different from the reading `before`, which clients have since the position `base`. `None` if clients need the
/// payload as it is, or it would not get shorter.
pub(super) fn render(before: &RawValue, base: Position, now: &RawValue) -> Option<Box<RawValue>> {
    let fields: Fields<'_> = serde_json::from_str(now.get()).ok()?;
    if WHOLE.iter().any(|name| fields.get(name).is_some()) {
        return None;
    }
    let before: Fields<'_> = serde_json::from_str(before.get()).ok()?;
    let before: Fields<'_> = serde_json::from_str(before.get(DATA)?.get()).ok()?;
    let data: Fields<'_> = serde_json::from_str(fields.get(DATA)?.get()).ok()?;

    let mut text = String::with_capacity(now.get().len());
    let mut separator = '{';
    for (name, value) in &fields.0 {
        text.push(separator);
        separator = ',';
        if name == DATA {
            push_changed(&mut text, &before, &data)?;
            let Position { epoch, seq } = base;
            write!(text, r#","base":{{"epoch":"{epoch}","seq":{seq}}}"#).ok()?;
        } else {
            push_field(&mut text, name, value.get())?;
        }
    }
    text.push('}');
    if text.len() >= now.get().len() {
        return None;
    }
    RawValue::from_string(text).ok()
}

/// Writes the fields that are new or have another value, and the names of those that are gone.
fn push_changed(text: &mut String, before: &Fields<'_>, data: &Fields<'_>) -> Option<()> {
    text.push_str(r#""changed":{"#);
    let mut is_first = true;
    for (name, value) in &data.0 {
        let is_same = before.get(name).is_some_and(|old| old.get() == value.get());
        if !is_same {
            if !std::mem::take(&mut is_first) {
                text.push(',');
            }
            push_field(text, name, value.get())?;
        }
    }
    text.push('}');
    let removed = before.0.iter().map(|(name, _)| name);
    let removed: Vec<_> = removed.filter(|name| data.get(name).is_none()).collect();
    if !removed.is_empty() {
        text.push_str(r#","removed":"#);
        text.push_str(&serde_json::to_string(&removed).ok()?);
    }
    Some(())
}

fn push_field(text: &mut String, name: &str, value: &str) -> Option<()> {
    text.push_str(&serde_json::to_string(name).ok()?);
    text.push(':');
    text.push_str(value);
    Some(())
}

#[cfg(test)]
mod tests;

//! Finds what can be found in bytes that are no object: cut off, or with a fault that leaves doubt about the rest. Also in an
//! object whose root names no detector.
//!
//! Up to the fault the keys are those of an object. Behind it the structure is unknown, so every known key counts wherever it
//! stands. If neither has a usable serial, one that stands anywhere counts. Values count only if they are complete.

use std::ops::Range;

use super::notes::is_white_space;
use super::object::{Object, read_object, read_value};
use super::string;
use crate::payload::field::{Field, Place};

/// No known key is longer, even with many blanks.
const MAX_KEY_BYTES: usize = 64;

/// Reads all complete values of known keys.
pub(in crate::payload) fn salvage(bytes: &[u8]) -> Object {
    let (mut found, from) = if bytes.first() == Some(&b'{') {
        match read_object(bytes, 0) {
            // Something behind the object casts doubt on it.
            Ok(object) => {
                let end = object.end;
                (object, end)
            }
            Err(broken) => (broken.object, broken.at),
        }
    } else {
        (Object::default(), 0)
    };
    search(bytes, from, |_| true, &mut found);
    if found.serials().is_empty() {
        // An inner object has the serial, or one that is never closed has taken the keys behind it for its own.
        search(bytes, 0, |field| field == Field::Serial, &mut found);
    }
    let rendered = render(&found);
    Object {
        json: rendered.json,
        known: rendered.known,
        ..found
    }
}

/// Reads the values of known keys behind `from`, whatever the structure around them.
fn search(bytes: &[u8], from: usize, is_wanted: impl Fn(Field) -> bool, found: &mut Object) {
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        let value = if *byte == b'"' {
            key_at(bytes, at).filter(|(field, _)| is_wanted(*field))
        } else {
            None
        };
        at = match value {
            Some((field, start)) => read_value(bytes, start, field, found).unwrap_or(at + 1),
            None => at + 1,
        };
    }
}

/// Reads a known key that begins at `at`. Returns where its value begins.
fn key_at(bytes: &[u8], at: usize) -> Option<(Field, usize)> {
    let beginning = &bytes[at..bytes.len().min(at + MAX_KEY_BYTES)];
    let key = string::read(beginning, 0)?;
    let field = Field::find_anywhere(&key.text()).filter(|field| *field != Field::Parameters)?;
    let rest = &bytes[at + key.end..];
    let colon = rest.iter().position(|byte| !is_white_space(*byte))?;
    (rest[colon] == b':').then_some((field, at + key.end + colon + 1))
}

/// Writes an object with the values that were found.
fn render(found: &Object) -> Rendered {
    let mut rendered = Rendered::default();
    rendered.json.push('{');
    rendered.add(found, Place::Root);
    if !rendered.known.is_empty() {
        rendered.json.push(',');
    }
    rendered.json.push_str("\"Parameters\":{");
    rendered.is_first = true;
    rendered.add(found, Place::Parameters);
    rendered.json.push_str("}}");
    rendered
}

#[derive(Default)]
struct Rendered {
    json: String,
    known: Vec<(Field, Range<usize>)>,
    is_first: bool,
}

impl Rendered {
    fn add(&mut self, found: &Object, place: Place) {
        self.is_first = true;
        for (field, range) in &found.known {
            if field.place() != place {
                continue;
            }
            if !std::mem::take(&mut self.is_first) {
                self.json.push(',');
            }
            self.json.push('"');
            self.json.push_str(field.name());
            self.json.push_str("\":");
            let start = self.json.len();
            self.json.push_str(&found.json[range.clone()]);
            self.known.push((*field, start..self.json.len()));
        }
    }
}

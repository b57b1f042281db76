//! The JSON of a payload. Known keys are looked up in two objects: the root and its `Parameters`.
//!
//! The JSON is checked completely, but values stay raw text until they are read. So numbers are never converted to floats,
//! and an unreadable value does not affect the others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::PayloadError;
use super::field::{Field, Match, Place, trim};

/// Maximum depth of nesting; known payloads have two levels. The limit protects later parsers of the payload from a stack
/// overflow.
pub(super) const MAX_DEPTH: usize = 32;

pub(super) struct Document<'a> {
    /// The value of each known key. If a key comes twice, the last one, as with `JSON.parse` in browsers.
    values: [Option<&'a str>; Field::COUNT],
    /// The other values of keys that come twice. Nearly always empty.
    repeats: Vec<(Field, &'a str)>,
    /// Values of keys that differ in case or blanks, until all keys are read.
    similar: Vec<(Field, &'a str)>,
    has_broken_parameters: bool,
}

/// A JSON value, in as much detail as detector payloads need.
pub(super) enum JsonValue<'a> {
    Null,
    Flag(bool),
    /// The number as it was written.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// An array or an object.
    Nested {
        /// It has no elements.
        is_empty: bool,
    },
}

impl<'a> Document<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, PayloadError> {
        let text = std::str::from_utf8(bytes).map_err(PayloadError::NotUtf8)?;
        let mut document = Self {
            values: [None; Field::COUNT],
            repeats: Vec::new(),
            similar: Vec::new(),
            has_broken_parameters: false,
        };
        document
            .read_object(text, Place::Root)
            .map_err(|err| explain(text, err))?;
        check_shape(text)?;
        document.sort_similar();
        Ok(document)
    }

    /// Whether `Parameters` has something, but is not an object.
    pub(super) fn has_broken_parameters(&self) -> bool {
        self.has_broken_parameters
    }

    pub(super) fn get(&self, field: Field) -> Option<JsonValue<'a>> {
        self.values[field as usize].map(JsonValue::of)
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.values[field as usize].is_some()
    }

    /// Whether any key comes twice.
    pub(super) fn has_repeats(&self) -> bool {
        !self.repeats.is_empty()
    }

    /// The other values of a key that comes twice.
    pub(super) fn repeats(&self, field: Field) -> impl Iterator<Item = JsonValue<'a>> {
        let repeats = self.repeats.iter();
        repeats
            .filter(move |(repeated, _)| *repeated == field)
            .map(|(_, raw)| JsonValue::of(raw))
    }

    /// The keys that come twice, with the JSON of the value that is used and of the other one.
    pub(super) fn repeated(&self) -> impl Iterator<Item = (Field, &'a str, &'a str)> {
        let used = |field: Field| self.values[field as usize].unwrap_or_default();
        self.repeats
            .iter()
            .map(move |(field, raw)| (*field, used(*field), *raw))
    }

    fn read_object(&mut self, json: &'a str, place: Place) -> serde_json::Result<()> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let entries = Entries {
            document: self,
            place,
        };
        deserializer.deserialize_map(entries)?;
        deserializer.end()
    }

    fn add(&mut self, found: Match, raw: &'a str) -> serde_json::Result<()> {
        let Match { field, is_exact } = found;
        if field == Field::Parameters {
            if raw.starts_with('{') {
                return self.read_object(raw, Place::Parameters);
            }
            self.has_broken_parameters |= !JsonValue::of(raw).is_empty();
        } else if is_exact {
            if let Some(before) = self.values[field as usize].replace(raw) {
                self.repeats.push((field, before));
            }
        } else {
            self.similar.push((field, raw));
        }
        Ok(())
    }

    /// A key that differs in case or blanks counts if there is no exact one. Else it is a repeated key.
    fn sort_similar(&mut self) {
        for (field, raw) in std::mem::take(&mut self.similar) {
            let other = field.with_other_blank().filter(|other| self.has(*other));
            let taken = if self.has(field) { Some(field) } else { other };
            match taken {
                Some(taken) => self.repeats.push((taken, raw)),
                None => self.values[field as usize] = Some(raw),
            }
        }
    }
}

/// Reads the entries of an object into a document.
struct Entries<'d, 'a> {
    document: &'d mut Document<'a>,
    place: Place,
}

impl<'a> Visitor<'a> for Entries<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(found) = map.next_key_seed(KeyIn(self.place))? {
            let Some(found) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw: &'a RawValue = map.next_value()?;
            self.document
                .add(found, raw.get())
                .map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}

/// Recognises a key of an object.
struct KeyIn(Place);

impl<'a> DeserializeSeed<'a> for KeyIn {
    type Value = Option<Match>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIn {
    type Value = Option<Match>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Field::find(self.0, key))
    }
}

impl<'a> JsonValue<'a> {
    pub(super) fn of(raw: &'a str) -> Self {
        match raw.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Flag(true),
            Some(b'f') => Self::Flag(false),
            Some(b'"') => text_of(raw).map_or(Self::Nested { is_empty: false }, Self::Text),
            Some(b'-' | b'0'..=b'9') => Self::Number(raw),
            _ => {
                let body = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                let is_empty = body.trim().is_empty();
                Self::Nested { is_empty }
            }
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value as a display name: a string, or a number as it was written.
    pub(super) fn as_name(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(digits) => Some(digits),
            Self::Null | Self::Flag(_) | Self::Nested { .. } => None,
        }
    }

    /// Whether it says nothing.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Nested { is_empty: true }) || self.is_null_or_blank()
    }

    pub(super) fn is_null_or_blank(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => trim(text).is_empty(),
            Self::Flag(_) | Self::Number(_) | Self::Nested { .. } => false,
        }
    }
}

/// Returns the text of a JSON string. The document is valid JSON, so this cannot fail.
fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    let body = raw.strip_prefix('"')?.strip_suffix('"')?;
    if body.contains('\\') {
        serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(body))
    }
}

/// Finds out why a text cannot be read. A text that is JSON has another fault.
fn explain(text: &str, err: serde_json::Error) -> PayloadError {
    let json: &RawValue = match serde_json::from_str(text) {
        Ok(json) => json,
        Err(err) => return PayloadError::NotJson(err),
    };
    if !json.get().starts_with('{') {
        return PayloadError::NotAnObject;
    }
    check_shape(json.get())
        .err()
        .unwrap_or(PayloadError::NotJson(err))
}

/// Refuses valid JSON that later readers could not parse: JSON that is nested too deeply, or that has the escape of an
/// unpaired surrogate, such as `\ud83d` alone. UTF-8 cannot encode an unpaired surrogate.
fn check_shape(json: &str) -> Result<(), PayloadError> {
    let mut depth: usize = 0;
    let mut in_string = false;
    let mut bytes = json.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' => {
                if is_unpaired_surrogate(json, at) {
                    return Err(PayloadError::UnpairedSurrogate);
                }
                // Skips one byte: an escaped quote does not end the string. Both escapes of a surrogate pair are skipped.
                let last_skipped = if escaped_unit(json, at).is_some_and(is_surrogate) {
                    r"uD83D\uDE00".len() - 1
                } else {
                    0
                };
                bytes.nth(last_skipped);
            }
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(PayloadError::TooDeep { max: MAX_DEPTH });
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn is_surrogate(unit: u16) -> bool {
    (0xD800..=0xDFFF).contains(&unit)
}

fn is_unpaired_surrogate(json: &str, at: usize) -> bool {
    let Some(first) = escaped_unit(json, at) else {
        return false;
    };
    let second = escaped_unit(json, at + 6).unwrap_or_default();
    is_surrogate(first)
        && char::decode_utf16([first, second])
            .next()
            .is_none_or(|c| c.is_err())
}

/// Returns the UTF-16 code unit of the escape that begins at `at`, such as `\u20ac`; `None` if there is none.
fn escaped_unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

//! The JSON of a payload. Keys are looked up in two objects: the root and its `Parameters`.
//!
//! The JSON is checked completely, but values stay raw text until they are read. So numbers are never converted to floats,
//! and an unreadable value does not affect the others.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::error::PayloadError;

/// Maximum depth of nesting; known payloads have two levels. The limit protects later parsers of the payload from a stack
/// overflow.
const MAX_DEPTH: usize = 32;

/// If a key is repeated, the last value is used, as with `JSON.parse` in browsers.
type Object<'a> = BTreeMap<String, &'a RawValue>;

pub(super) struct Document<'a> {
    root: Object<'a>,
    /// Empty if `Parameters` is missing; `None` if it is not an object.
    parameters: Option<Object<'a>>,
}

/// A key and the object that contains it. Case and spaces must match exactly.
#[derive(Clone, Copy)]
pub(super) enum KeyPath {
    Root(&'static str),
    Parameter(&'static str),
}

/// A JSON value, in as much detail as detector payloads need.
pub(super) enum JsonValue<'a> {
    Null,
    Flag(bool),
    /// The number as it was written.
    Number(&'a str),
    Text(String),
    /// An array or an object.
    Nested,
}

impl<'a> Document<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, PayloadError> {
        let text = std::str::from_utf8(bytes).map_err(PayloadError::NotUtf8)?;
        let json: &RawValue = serde_json::from_str(text).map_err(PayloadError::NotJson)?;
        if !json.get().starts_with('{') {
            return Err(PayloadError::NotAnObject);
        }
        check_shape(json.get())?;
        let root: Object<'_> = serde_json::from_str(json.get()).map_err(PayloadError::NotJson)?;
        let parameters = match root.get("Parameters") {
            None => Some(Object::new()),
            Some(raw) if raw.get().starts_with('{') => {
                Some(serde_json::from_str(raw.get()).map_err(PayloadError::NotJson)?)
            }
            Some(_) => None,
        };
        Ok(Self { root, parameters })
    }

    /// Whether `Parameters` is present but not an object.
    pub(super) fn has_broken_parameters(&self) -> bool {
        self.parameters.is_none()
    }

    pub(super) fn get(&self, key: KeyPath) -> Option<JsonValue<'a>> {
        let raw = match key {
            KeyPath::Root(name) => self.root.get(name),
            KeyPath::Parameter(name) => self.parameters.as_ref()?.get(name),
        };
        raw.map(|raw| JsonValue::of(raw.get()))
    }
}

impl KeyPath {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Root(name) | Self::Parameter(name) => name,
        }
    }
}

impl<'a> JsonValue<'a> {
    fn of(raw: &'a str) -> Self {
        match raw.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Flag(true),
            Some(b'f') => Self::Flag(false),
            // The document is valid JSON, so this cannot fail.
            Some(b'"') => serde_json::from_str::<String>(raw).map_or(Self::Nested, Self::Text),
            Some(b'-' | b'0'..=b'9') => Self::Number(raw),
            _ => Self::Nested,
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
            Self::Null | Self::Flag(_) | Self::Nested => None,
        }
    }

    pub(super) fn is_null_or_blank(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::Flag(_) | Self::Number(_) | Self::Nested => false,
        }
    }
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

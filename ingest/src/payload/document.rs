//! The JSON of a payload: checked completely, with its two levels of keys, the root and `Parameters`.
//!
//! Values stay raw text until they are read. So no number is converted to a float, and an unreadable value affects no other.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::error::PayloadError;

/// Deepest nesting accepted. Known payloads have two levels. The bound keeps every later parser of the payload from running
/// out of stack.
const MAX_DEPTH: usize = 32;

/// The last of repeated keys wins, as in `JSON.parse` of browsers.
type Object<'a> = BTreeMap<String, &'a RawValue>;

pub(super) struct Document<'a> {
    root: Object<'a>,
    /// `None` if `Parameters` is present and not an object.
    parameters: Option<Object<'a>>,
}

/// A key and the object it belongs to. Case and blanks must match exactly.
#[derive(Clone, Copy)]
pub(super) enum KeyPath {
    Root(&'static str),
    Parameter(&'static str),
}

/// A JSON value, as far as payloads of detectors need it.
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

    /// Whether `Parameters` is present and not an object.
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

    /// A name for people: a string, or a number as it was written.
    pub(super) fn as_name(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(digits) => Some(digits),
            Self::Null | Self::Flag(_) | Self::Nested => None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::Flag(_) | Self::Number(_) | Self::Nested => false,
        }
    }
}

/// Refuses valid JSON that later readers could not parse: nested too deeply, or with an escape for half of a surrogate pair,
/// which cannot be written in UTF-8.
fn check_shape(json: &str) -> Result<(), PayloadError> {
    let mut depth: usize = 0;
    let mut in_string = false;
    let mut bytes = json.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' => {
                if is_half_pair(json, at) {
                    return Err(PayloadError::HalfSurrogate);
                }
                // Skips the escaped character, which cannot end the string; both halves of a surrogate pair.
                let skipped = if escaped_unit(json, at).is_some_and(is_surrogate) {
                    10
                } else {
                    0
                };
                bytes.nth(skipped);
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

fn is_half_pair(json: &str, at: usize) -> bool {
    let Some(first) = escaped_unit(json, at) else {
        return false;
    };
    let second = escaped_unit(json, at + 6).unwrap_or_default();
    is_surrogate(first)
        && char::decode_utf16([first, second])
            .next()
            .is_none_or(|c| c.is_err())
}

/// The UTF-16 unit of an escape like `\u20ac` that begins at `at`.
fn escaped_unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

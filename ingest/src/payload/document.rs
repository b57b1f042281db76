//! The JSON of a payload: checked as a whole, its two levels of keys looked up, values kept as they were written.
//!
//! Values stay raw text until they are asked for, so that no number passes through a float and one broken value
//! costs nothing but itself.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::error::PayloadError;

/// Known payloads nest two deep; whoever reads the payload again later must not run out of stack.
const MAX_DEPTH: usize = 32;

/// Of repeated keys the last wins, as in the browser's own parser.
type Keys<'a> = BTreeMap<String, &'a RawValue>;

pub(super) struct Document<'a> {
    root: Keys<'a>,
    parameters: Option<Keys<'a>>,
}

/// A key and where it stands. Case and blanks are exact.
#[derive(Clone, Copy)]
pub(super) enum Key {
    Root(&'static str),
    Parameter(&'static str),
}

/// A value as far as a detector's payload has use for it.
pub(super) enum Value<'a> {
    Null,
    Flag(bool),
    /// The digits as they were written.
    Number(&'a str),
    Text(String),
    /// An array or an object.
    Nested,
}

impl<'a> Document<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, PayloadError> {
        let text = std::str::from_utf8(bytes).map_err(PayloadError::NotUtf8)?;
        let whole: &RawValue = serde_json::from_str(text).map_err(PayloadError::NotJson)?;
        if !whole.get().starts_with('{') {
            return Err(PayloadError::NotAnObject);
        }
        check_shape(whole.get())?;
        let root: Keys<'_> = serde_json::from_str(whole.get()).map_err(PayloadError::NotJson)?;
        let parameters = match root.get("Parameters") {
            None => Some(Keys::new()),
            Some(raw) if raw.get().starts_with('{') => {
                Some(serde_json::from_str(raw.get()).map_err(PayloadError::NotJson)?)
            }
            Some(_) => None,
        };
        Ok(Self { root, parameters })
    }

    /// Whether there is a `Parameters` that is not an object.
    pub(super) fn has_broken_parameters(&self) -> bool {
        self.parameters.is_none()
    }

    pub(super) fn get(&self, key: Key) -> Option<Value<'a>> {
        let raw = match key {
            Key::Root(name) => self.root.get(name),
            Key::Parameter(name) => self.parameters.as_ref()?.get(name),
        };
        raw.map(|raw| Value::of(raw.get()))
    }
}

impl Key {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Root(name) | Self::Parameter(name) => name,
        }
    }
}

impl<'a> Value<'a> {
    fn of(raw: &'a str) -> Self {
        match raw.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Flag(true),
            Some(b'f') => Self::Flag(false),
            // The text was checked with the whole document; if it were unreadable all the same it would be no text.
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

    /// What a person is shown of a name: a text, or a number as it was written.
    pub(super) fn shown(&self) -> Option<&str> {
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

/// Refuses valid JSON that others could not read again: too deep, or with half a surrogate pair as a character, which
/// has no UTF-8.
fn check_shape(json: &str) -> Result<(), PayloadError> {
    let mut depth: usize = 0;
    let mut in_text = false;
    let mut bytes = json.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => in_text = !in_text,
            b'\\' => {
                if is_half_pair(json, at) {
                    return Err(PayloadError::HalfCharacter);
                }
                // The escaped character cannot end the text; a whole pair is stepped over at once.
                let skipped = if escaped_unit(json, at).is_some_and(is_surrogate) {
                    10
                } else {
                    0
                };
                bytes.nth(skipped);
            }
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(PayloadError::TooDeep { max: MAX_DEPTH });
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
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

//! Forward compatibility: stored fields and words of a newer release, which this release does not know, are kept and written
//! back unchanged. So different releases can run at the same time while services are updated one by one.

use std::collections::HashSet;
use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Fields of a stored object that this release does not know. Meant for `#[serde(flatten)]`.
///
/// A number with more digits than an `f64` holds is rounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownFields(Option<Box<Map<String, Value>>>);

impl Serialize for UnknownFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().flat_map(|fields| fields.iter()))
    }
}

impl<'de> Deserialize<'de> for UnknownFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = UnknownFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UnknownFields, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = map.next_entry()? {
                    fields.insert(name, value);
                }
                // There are almost never unknown fields. `None` allocates nothing.
                let fields = (!fields.is_empty()).then(|| Box::new(fields));
                Ok(UnknownFields(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// A value of an enumeration that this release does not know, such as the condition of an alarm.
///
/// Words are interned and never freed. Bound: [`UnknownWord::MAX_WORDS`] different words of at most
/// [`UnknownWord::MAX_BYTES`]. A state with another unknown word cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct UnknownWord(&'static str);

static WORDS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

impl UnknownWord {
    /// Maximum number of different words.
    pub const MAX_WORDS: usize = 256;
    /// Maximum length of a word in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Returns the word as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Returns a word that this process has read from Redis; `None` for any other. Interns nothing, so it may be asked for any
    /// text of a client.
    #[must_use]
    pub fn existing(word: &str) -> Option<Self> {
        let words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
        words.get(word).copied().map(Self)
    }

    /// Interns a word. Returns `None` if it is empty, too long or not made of lower-case letters, digits and `_`, or if too
    /// many words are interned already.
    fn intern(word: &str) -> Option<Self> {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if word.is_empty() || word.len() > Self::MAX_BYTES || !word.bytes().all(is_plain) {
            return None;
        }
        let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = words.get(word) {
            return Some(Self(known));
        }
        if words.len() >= Self::MAX_WORDS {
            return None;
        }
        let word: &'static str = Box::leak(word.into());
        words.insert(word);
        Some(Self(word))
    }
}

impl<'de> Deserialize<'de> for UnknownWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::intern(&word).ok_or_else(|| D::Error::custom("not a word of this release"))
    }
}

#[cfg(test)]
mod tests;

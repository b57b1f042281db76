//! Why a payload is no reading, told so that the maker of the device can act on it.

use std::fmt;

use shared::device::DeviceIdError;

/// A payload that names no detector or cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Refused by its size alone.
    #[error("the payload has {size_bytes} bytes, more than {max_bytes}")]
    TooLarge {
        /// Of the payload.
        size_bytes: usize,
        /// That are accepted.
        max_bytes: usize,
    },
    /// Bytes that are no text.
    #[error("the payload is not UTF-8 from byte {} on", .0.valid_up_to())]
    NotUtf8(#[source] std::str::Utf8Error),
    /// Text that is not JSON, `NaN` literals and trailing characters included.
    #[error("the payload is not JSON at line {} column {}", .0.line(), .0.column())]
    NotJson(#[source] serde_json::Error),
    /// JSON that spells a character which does not exist.
    #[error("a text of the payload has half of a surrogate pair as a character")]
    HalfCharacter,
    /// JSON nested deeper than any payload needs.
    #[error("the payload is nested deeper than {max}")]
    TooDeep {
        /// Levels that are accepted.
        max: usize,
    },
    /// JSON, but an array, a text, a number …
    #[error("the payload is not a JSON object")]
    NotAnObject,
    /// No serial, or a `null`.
    #[error("`OTSM-2 Serial Number` is missing{others}")]
    MissingSerial {
        /// What else is wrong.
        others: Faults,
    },
    /// A serial that is not a text.
    #[error("`OTSM-2 Serial Number` is not a text{others}")]
    SerialNotText {
        /// What else is wrong.
        others: Faults,
    },
    /// A text that cannot be a serial.
    #[error("`OTSM-2 Serial Number` is not usable{others}")]
    BadSerial {
        /// Why not.
        source: DeviceIdError,
        /// What else is wrong.
        others: Faults,
    },
}

impl PayloadError {
    /// The kind of error as a word of a bounded set: reason of a dead letter and label of a counter.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::NotUtf8(_) => "not_utf8",
            Self::NotJson(_) | Self::HalfCharacter => "not_json",
            Self::TooDeep { .. } => "too_deep",
            Self::NotAnObject => "not_an_object",
            Self::MissingSerial { .. } => "missing_serial",
            Self::SerialNotText { .. } | Self::BadSerial { .. } => "bad_serial",
        }
    }
}

/// One key that is there and cannot be read, or cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None of the keys that can hold the value is there.
    NoReading,
    /// Neither a number nor a text that is one as a whole, or not one that can be kept.
    NotANumber(&'static str),
    /// Neither 0, nor 1 or more, nor `true` or `false`.
    NotAFlag(&'static str),
    /// Not a text with something in it.
    NotAText(&'static str),
    /// Not a date and time.
    NotATime(&'static str),
    /// Not a JSON object.
    NotAnObject(&'static str),
    /// A unit code that no setting explains.
    UnknownUnitCode(&'static str),
    /// Neither `High` nor `Low`.
    UnknownSide(&'static str),
    /// A number of decimal places that cannot be meant.
    UnknownScale(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReading => write!(f, "there is no reading"),
            Self::NotANumber(key) => write!(f, "`{key}` is not a number"),
            Self::NotAFlag(key) => write!(f, "`{key}` is neither on nor off"),
            Self::NotAText(key) => write!(f, "`{key}` is not a text"),
            Self::NotATime(key) => write!(f, "`{key}` is not a date and time"),
            Self::NotAnObject(key) => write!(f, "`{key}` is not an object"),
            Self::UnknownUnitCode(key) => write!(f, "`{key}` is an unknown code"),
            Self::UnknownSide(key) => write!(f, "`{key}` is neither `High` nor `Low`"),
            Self::UnknownScale(key) => write!(f, "`{key}` is not a number of places"),
        }
    }
}

/// Everything found wrong with one payload besides its serial; at most a few per known key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    found: Vec<Fault>,
    is_doubtful: bool,
}

impl Faults {
    /// The reading itself tells it: a missing value or level is `None`.
    pub(super) fn note(&mut self, fault: Fault) {
        self.found.push(fault);
    }

    /// The reading looks complete, so it has to be marked.
    pub(super) fn doubt(&mut self, fault: Fault) {
        self.note(fault);
        self.is_doubtful = true;
    }

    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }
}

/// Written behind the fault of the serial.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.found
            .iter()
            .try_for_each(|fault| write!(f, "; {fault}"))
    }
}

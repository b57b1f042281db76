//! The errors and faults of a payload, worded for the manufacturer of the device.

use std::fmt;

use shared::device::{DeviceId, DeviceIdError};

use crate::dead_letter_reason::DeadLetterReason;

/// The reason why a payload is not a reading: it cannot be parsed at all, or it names no detector.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Too many bytes.
    #[error("the payload has {size_bytes} bytes, more than {max_bytes}{}", naming(.serials))]
    TooLarge {
        /// Size of the payload.
        size_bytes: usize,
        /// Maximum size.
        max_bytes: usize,
        /// Detectors that are named in bytes of which it is not certain that they are about one detector.
        serials: Vec<DeviceId>,
    },
    /// Not UTF-8.
    #[error("the payload is not UTF-8 from byte {} on", .0.valid_up_to())]
    NotUtf8(#[source] std::str::Utf8Error),
    /// Not JSON. `NaN` and characters after the JSON are not JSON either.
    #[error("the payload is not JSON at line {} column {}", .0.line(), .0.column())]
    NotJson(#[source] serde_json::Error),
    /// JSON with the escape of an unpaired surrogate, which is not a character.
    #[error("a string of the payload has an unpaired surrogate")]
    UnpairedSurrogate,
    /// JSON nested too deeply.
    #[error("the payload is nested deeper than {max}")]
    TooDeep {
        /// Maximum depth.
        max: usize,
    },
    /// JSON, but not an object.
    #[error("the payload is not a JSON object")]
    NotAnObject,
    /// The serial is absent or `null`.
    #[error("`OTSM-2 Serial Number` is missing{others}")]
    MissingSerial {
        /// The other faults of the payload.
        others: Faults,
    },
    /// The serial is not a string.
    #[error("`OTSM-2 Serial Number` is not a string{others}")]
    SerialNotText {
        /// The other faults of the payload.
        others: Faults,
    },
    /// The serial is a string that cannot identify a device.
    #[error("`OTSM-2 Serial Number` is not usable{others}")]
    BadSerial {
        /// The reason.
        source: DeviceIdError,
        /// The other faults of the payload.
        others: Faults,
    },
    /// The payload is an object that names several detectors.
    #[error("`OTSM-2 Serial Number` comes more than once with different values: {}", listed(.serials))]
    AmbiguousSerial {
        /// All of its serials that are usable.
        serials: Vec<DeviceId>,
    },
    /// The payload had to be repaired, and its serial is cut off or has a damaged character. It may be that of another device.
    #[error("{0}; its `OTSM-2 Serial Number` is damaged")]
    DoubtfulSerial(Box<Self>),
    /// The payload had to be repaired, and names several detectors.
    #[error("{cause}; it has different values of `OTSM-2 Serial Number`: {}", listed(.serials))]
    SeveralSerials {
        /// Why it had to be repaired.
        cause: Box<Self>,
        /// All of its serials that are usable.
        serials: Vec<DeviceId>,
    },
    /// More objects than one payload may have.
    #[error("the payload has more than {max} objects{}", naming(.serials))]
    TooManyObjects {
        /// Maximum number of objects.
        max: usize,
        /// Detectors that are named in bytes of which it is not certain that they are about one detector.
        serials: Vec<DeviceId>,
    },
}

impl PayloadError {
    /// Describes the fault for the dead letter, and names the detector if it is known.
    #[must_use]
    pub fn detail(&self, device: Option<&DeviceId>) -> String {
        let Some(device) = device.map(DeviceId::for_log) else {
            return self.to_string();
        };
        match self {
            Self::MissingSerial { .. } | Self::BadSerial { .. } => {
                format!("{self}; it names {device} elsewhere than in its root")
            }
            _ => format!("{self}; it is from {device}"),
        }
    }

    /// Returns the reason for the dead letter.
    #[must_use]
    pub fn reason(&self) -> DeadLetterReason {
        match self {
            Self::TooLarge { .. } | Self::TooManyObjects { .. } => DeadLetterReason::TooLarge,
            Self::NotUtf8(_) => DeadLetterReason::NotUtf8,
            Self::NotJson(_) | Self::UnpairedSurrogate => DeadLetterReason::NotJson,
            Self::TooDeep { .. } => DeadLetterReason::TooDeep,
            Self::NotAnObject => DeadLetterReason::NotAnObject,
            Self::MissingSerial { .. } => DeadLetterReason::MissingSerial,
            Self::SerialNotText { .. } | Self::BadSerial { .. } | Self::AmbiguousSerial { .. } => {
                DeadLetterReason::BadSerial
            }
            Self::DoubtfulSerial(cause) | Self::SeveralSerials { cause, .. } => cause.reason(),
        }
    }
}

fn naming(serials: &[DeviceId]) -> String {
    if serials.is_empty() {
        String::new()
    } else {
        format!("; it names {}", listed(serials))
    }
}

/// Lists the first serials.
fn listed(serials: &[DeviceId]) -> String {
    const MAX_LISTED: usize = 8;
    let first = serials.iter().take(MAX_LISTED);
    let mut list: Vec<String> = first.map(|serial| serial.for_log().to_string()).collect();
    if serials.len() > MAX_LISTED {
        list.push(format!("{} more", serials.len() - MAX_LISTED));
    }
    if list.is_empty() {
        return "none is usable".to_owned();
    }
    list.join(", ")
}

/// One fault of a payload, beside those of its serial. The text of a variant is the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None of the keys for the reading is present.
    NoReading,
    /// Neither a number nor a string that is a number, or a number that is too large.
    NotANumber(&'static str),
    /// Neither on nor off.
    NotAFlag(&'static str),
    /// Not a string, or only white space.
    NotAText(&'static str),
    /// Not a date and time.
    NotATime(&'static str),
    /// Comes twice, with different values.
    Repeated(&'static str),
    /// Not a JSON object.
    NotAnObject(&'static str),
    /// A unit code that is not in `--unit-codes`.
    UnknownUnitCode(&'static str),
    /// Neither `High` nor `Low`.
    UnknownSide(&'static str),
    /// Not a number of decimal places from 0 to 9.
    UnknownScale(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReading => write!(f, "there is no reading"),
            Self::NotANumber(key) => write!(f, "`{key}` is not a number"),
            Self::NotAFlag(key) => write!(f, "`{key}` is neither on nor off"),
            Self::NotAText(key) => write!(f, "`{key}` is not a string"),
            Self::NotATime(key) => write!(f, "`{key}` is not a date and time"),
            Self::Repeated(key) => write!(f, "`{key}` comes twice with different values"),
            Self::NotAnObject(key) => write!(f, "`{key}` is not an object"),
            Self::UnknownUnitCode(key) => write!(f, "`{key}` is an unknown code"),
            Self::UnknownSide(key) => write!(f, "`{key}` is neither `High` nor `Low`"),
            Self::UnknownScale(key) => write!(f, "`{key}` is not a number of places"),
        }
    }
}

/// All faults of one payload, beside those of its serial; at most a few faults per known key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    found: Vec<Fault>,
    is_doubtful: bool,
}

impl Faults {
    /// Adds a fault that the reading shows by itself: an unreadable value or level is `None`.
    pub(super) fn note(&mut self, fault: Fault) {
        self.found.push(fault);
    }

    /// Adds a fault that the reading does not show, so that it has to be marked as doubtful.
    pub(super) fn doubt(&mut self, fault: Fault) {
        self.note(fault);
        self.is_doubtful = true;
    }

    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }
}

/// The text is worded to follow the error about the serial.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.found
            .iter()
            .try_for_each(|fault| write!(f, "; {fault}"))
    }
}

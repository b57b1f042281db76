//! Parses the payload of a detector into [`Reading`]s, or into errors with all faults of the payload. Pure.
//!
//! Both payload formats are read by the same rules; `ingest/README.md` lists the keys. The value and its unit come from the
//! first of their keys that is *present*, even if it is unreadable: an old `Offset` must not replace an unreadable live
//! reading. Names, times and coordinates come from the first of their keys that is present and not empty.
//!
//! No number is guessed. An unreadable field makes the reading doubtful, or is `None`.
//!
//! A payload that is one JSON object with a serial in its root takes the short way, through `document` and `fields`. Only if that
//! fails, `repair` finds the objects of the payload and makes JSON of them, which then takes the same way.

mod device_time;
mod document;
mod error;
mod field;
mod fields;
mod flag;
mod kind;
mod named;
mod number;
mod repair;
mod repeats;
mod tolerant;

use std::borrow::Cow;

use shared::args::UnitCodes;
use shared::reading::{PayloadFacts, Reading, Repair};

pub use error::{Fault, Faults, PayloadError};
pub use flag::NormalWords;
pub use kind::{RepairKind, RepairKinds};

use document::Document;

/// Default of `--max-payload-bytes`.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = 65_536;

/// `Message Type` of a payload that has none, and of all ordinary readings.
pub const DEFAULT_MESSAGE_TYPE: &str = "LOG DATA";

/// Maximum length of a text taken from a payload. A longer text is cut between two characters.
pub const MAX_TEXT_BYTES: usize = 256;

/// The operator's settings for facts that are missing in payloads.
#[derive(Clone, Debug)]
pub struct Format {
    /// Offset of device times without a zone, in seconds east of UTC.
    pub utc_offset_seconds: i32,
    /// Units of the numeric codes.
    pub unit_codes: UnitCodes,
    /// Meaning of `Decimal Point`.
    pub decimal_point: DecimalPoint,
    /// Words that mean "not set".
    pub normal_words: NormalWords,
    /// Longer payloads are refused before they are parsed.
    pub max_payload_bytes: usize,
}

/// Meaning of `Decimal Point` n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum DecimalPoint {
    /// Numbers are sent as they are; the key is only shown
    #[default]
    Ignore,
    /// Value, alarm levels, hysteresis and span are integers, to be divided by ten to the power of n
    Scale,
}

/// A reading of a payload, and what the payload says beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The reading.
    pub reading: Reading,
    /// What the payload says beside it.
    pub facts: PayloadFacts,
}

/// One object of a payload. Nearly every payload is one.
#[derive(Debug)]
pub struct Item<'a> {
    /// Its bytes as received, or a text that stands for them. Its fingerprint is that of these bytes.
    pub bytes: Cow<'a, [u8]>,
    /// What it is.
    pub content: ItemContent,
    /// How it was repaired.
    pub repairs: RepairKinds,
    /// The object as JSON, if the bytes are no JSON.
    pub repaired: Option<String>,
}

impl Item<'_> {
    /// The object as JSON. Meaningless for a refused one.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        self.repaired.as_ref().map_or(&self.bytes, String::as_bytes)
    }
}

/// What an object of a payload is.
#[derive(Debug)]
pub enum ItemContent {
    /// A reading, after a repair if need be.
    Reading(Parsed),
    /// An object that cannot be read as a whole, or names its detector elsewhere than in its root. The serial is certain. It is a
    /// dead letter, too.
    Unreadable(Parsed, PayloadError),
    /// A detector that the dead letter before it names, beside others. As unreadable, and no dead letter of its own.
    Named(Parsed),
    /// A dead letter.
    Refused(PayloadError),
}

/// Reads a payload. Returns at least one item: its first 64 objects in their order, and of the rest one item for each detector
/// and one for all bytes that name none. So there are no more items than serials fit into the payload, and one.
#[must_use]
pub fn read<'a>(bytes: &'a [u8], format: &Format) -> Vec<Item<'a>> {
    read_received(bytes, bytes.len(), format)
}

/// Reads a payload that had `size_bytes` when it was received. If that is more than [`Format::max_payload_bytes`], `bytes` may
/// be only its beginning.
#[must_use]
pub fn read_received<'a>(bytes: &'a [u8], size_bytes: usize, format: &Format) -> Vec<Item<'a>> {
    let max_bytes = format.max_payload_bytes;
    if size_bytes > max_bytes {
        let err = |serials| PayloadError::TooLarge {
            size_bytes,
            max_bytes,
            serials,
        };
        return named::with_named(tolerant::read_beginning(bytes, err, format), format);
    }
    match parse_strictly(bytes, format) {
        // Its detector may be named elsewhere than in its root.
        Ok(ItemContent::Refused(err)) => {
            named::with_named(tolerant::read(bytes, err, format), format)
        }
        Ok(content) => {
            let item = Item {
                repairs: kinds_of(&content),
                bytes: Cow::Borrowed(bytes),
                content,
                repaired: None,
            };
            named::with_named(vec![item], format)
        }
        Err(err) => named::with_named(tolerant::read(bytes, err, format), format),
    }
}

/// Parses a payload that is one object, and that leaves no doubt about its detector.
///
/// # Errors
/// The payload becomes a dead letter, or is not one object.
pub fn parse(bytes: &[u8], format: &Format) -> Result<Parsed, PayloadError> {
    let mut items = read(bytes, format).into_iter().map(|item| item.content);
    let first = items.next();
    let is_only = items.all(|content| matches!(content, ItemContent::Named(_)));
    match first {
        Some(ItemContent::Reading(parsed)) if is_only => Ok(parsed),
        Some(ItemContent::Unreadable(_, err) | ItemContent::Refused(err)) if is_only => Err(err),
        _ => Err(PayloadError::NotAnObject),
    }
}

/// Parses one JSON object in UTF-8.
///
/// # Errors
/// The bytes are not one. An object without a usable serial is no error here, but a refusal.
fn parse_strictly(bytes: &[u8], format: &Format) -> Result<ItemContent, PayloadError> {
    let document = Document::read(bytes)?;
    Ok(match fields::read(&document, format) {
        Ok(parsed) => ItemContent::Reading(parsed),
        Err(err) => ItemContent::Refused(err),
    })
}

fn kinds_of(content: &ItemContent) -> RepairKinds {
    let mut kinds = RepairKinds::default();
    if let ItemContent::Reading(parsed) = content
        && parsed.facts.repair != Repair::None
    {
        kinds.insert(RepairKind::RepeatedKey);
    }
    kinds
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
pub(crate) mod tests;

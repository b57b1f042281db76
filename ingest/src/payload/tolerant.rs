//! Makes items of a payload that is not one JSON object in UTF-8.

use std::borrow::Cow;
use std::ops::Range;

use shared::reading::{PayloadFacts, Repair};

use super::document::Document;
use super::error::PayloadError;
use super::kind::RepairKind;
use super::repair::{self, Content, Notes, Object, Piece, SerialState};
use super::repeats::lowest_and_highest;
use super::{Format, Item, ItemContent, Parsed, kinds_of, parse_strictly};

/// Reads the objects of a payload. `err` is the reason why it is not one JSON object.
pub(super) fn read<'a>(bytes: &'a [u8], err: PayloadError, format: &Format) -> Vec<Item<'a>> {
    let mut encoding = Notes::default();
    let text = if let Some(text) = repair::decode_utf16(bytes) {
        encoding.framing(RepairKind::Utf16);
        Cow::Owned(text.into_bytes())
    } else if let Some(text) = repair::without_mark(bytes) {
        encoding.framing(RepairKind::ByteOrderMark);
        Cow::Borrowed(text)
    } else {
        Cow::Borrowed(bytes)
    };
    let mut pieces = repair::split(&text);
    for piece in &mut pieces {
        piece.notes.add_all(encoding);
    }
    match (pieces.pop(), pieces.is_empty()) {
        (None, _) => vec![refusal(Cow::Borrowed(bytes), err)],
        (Some(piece), true) => {
            let raw = &text[piece.range.clone()];
            // All bytes count for the fingerprint, whatever is understood of them.
            vec![item(piece, raw, Cow::Borrowed(bytes), err, format)]
        }
        (Some(last), false) => {
            let items = pieces.into_iter().chain([last]).map(|piece| {
                let bytes = part(&text, piece.range.clone());
                let raw = &text[piece.range.clone()];
                let err = fault_of(&piece.content, raw);
                item(piece, raw, bytes, err, format)
            });
            items.collect()
        }
    }
}

/// Reads the beginning of a payload that is too large.
pub(super) fn read_beginning<'a>(bytes: &'a [u8], err: PayloadError, format: &Format) -> Item<'a> {
    let object = repair::read_beginning(bytes);
    let mut notes = object.notes;
    notes.content(RepairKind::Unreadable, Repair::Unreadable);
    let piece = Piece {
        range: 0..bytes.len(),
        content: Content::Broken(object),
        notes,
    };
    item(piece, bytes, Cow::Borrowed(bytes), err, format)
}

/// Returns a part of a text: borrowed, if the text is.
fn part<'a>(text: &Cow<'a, [u8]>, range: Range<usize>) -> Cow<'a, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[range]),
        Cow::Owned(text) => Cow::Owned(text[range].to_vec()),
    }
}

/// The reason why one of several pieces is not a JSON object in UTF-8.
fn fault_of(content: &Content, raw: &[u8]) -> PayloadError {
    match content {
        Content::Whole(_) | Content::Broken(_) => {
            let fault = Document::read(raw).err();
            fault.unwrap_or(PayloadError::NotAnObject)
        }
        Content::NotAnObject => PayloadError::NotAnObject,
        Content::TooMany => PayloadError::TooManyObjects {
            max: repair::MAX_OBJECTS,
        },
    }
}

fn item<'a>(
    piece: Piece,
    raw: &[u8],
    bytes: Cow<'a, [u8]>,
    err: PayloadError,
    format: &Format,
) -> Item<'a> {
    let notes = piece.notes;
    let (content, repaired) = match piece.content {
        Content::Whole(object) => match parse_strictly(raw, format) {
            Ok(ItemContent::Refused(_)) if notes.repair != Repair::None => {
                (ItemContent::Refused(err), None)
            }
            Ok(content) => {
                let is_part = raw.len() < bytes.len();
                let json = is_part.then(|| String::from_utf8_lossy(raw).into_owned());
                (content, json)
            }
            Err(_) => parse_object(object, format, notes.repair, err),
        },
        Content::Broken(object) => parse_object(object, format, Repair::Unreadable, err),
        Content::NotAnObject | Content::TooMany => (ItemContent::Refused(err), None),
    };
    let mut repairs = kinds_of(&content);
    repairs.insert_all(notes.kinds);
    Item {
        bytes,
        content: mark(content, notes.repair),
        repairs,
        repaired,
    }
}

fn refusal(bytes: Cow<'_, [u8]>, err: PayloadError) -> Item<'_> {
    Item {
        bytes,
        content: ItemContent::Refused(err),
        repairs: super::RepairKinds::default(),
        repaired: None,
    }
}

/// Parses an object that was repaired, if its serial is beyond doubt.
fn parse_object(
    object: Object,
    format: &Format,
    repair: Repair,
    err: PayloadError,
) -> (ItemContent, Option<String>) {
    match object.serial() {
        SerialState::Certain => {}
        // Only the framing was repaired: the payload just has no serial.
        SerialState::Missing if repair == Repair::None => {}
        SerialState::Missing => return (ItemContent::Refused(err), None),
        SerialState::Damaged => {
            let err = PayloadError::DoubtfulSerial(Box::new(err));
            return (ItemContent::Refused(err), None);
        }
        SerialState::Several => {
            let err = PayloadError::SeveralSerials(Box::new(err));
            return (ItemContent::Refused(err), None);
        }
    }
    let content = match parse_strictly(object.json.as_bytes(), format) {
        Ok(ItemContent::Reading(parsed)) if repair == Repair::Unreadable => {
            ItemContent::Unreadable(without_value(parsed), err)
        }
        Ok(content) => content,
        Err(_) => ItemContent::Refused(err),
    };
    (content, Some(object.json))
}

/// Takes the value out of a reading: it may raise an alarm, and is not shown.
fn without_value(mut parsed: Parsed) -> Parsed {
    let value = parsed.reading.value.take();
    let others = std::mem::take(&mut parsed.facts.other_values);
    parsed.facts.other_values = lowest_and_highest(others.iter().copied().chain(value));
    if let Some(sent) = &mut parsed.facts.as_sent {
        let value = sent.value.take();
        let others = std::mem::take(&mut sent.other_values);
        sent.other_values = lowest_and_highest(others.iter().copied().chain(value));
    }
    parsed
}

/// Marks a reading that had to be repaired.
fn mark(mut content: ItemContent, repair: Repair) -> ItemContent {
    if let ItemContent::Reading(parsed) | ItemContent::Unreadable(parsed, _) = &mut content {
        let Parsed { reading, facts } = parsed;
        let PayloadFacts { repair: known, .. } = facts;
        *known = repair.max(*known);
        reading.doubtful |= *known >= Repair::Unimportant;
        reading.unclear |= *known >= Repair::Important;
    }
    content
}

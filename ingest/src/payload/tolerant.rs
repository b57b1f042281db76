//! Makes items of a payload that is not one JSON object in UTF-8 with a usable serial in its root.

use std::borrow::Cow;
use std::ops::Range;

use shared::device::DeviceId;
use shared::reading::{PayloadFacts, Repair};

use super::error::PayloadError;
use super::kind::RepairKind;
use super::repair::{self, Content, Notes, Object, Piece, Rest, SerialState};
use super::repeats::lowest_and_highest;
use super::{Format, Item, ItemContent, Parsed, RepairKinds, kinds_of, parse_strictly};

/// Reads the objects of a payload. `err` is the reason why it is not one JSON object, or why its root names no detector.
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
    let (mut pieces, rest) = repair::split(&text, repair::MAX_OBJECTS);
    for piece in &mut pieces {
        piece.notes.add_all(encoding);
    }
    let too_many = |serials| PayloadError::TooManyObjects {
        max: repair::MAX_OBJECTS,
        serials,
    };
    let rest = items_of_rest(&text, &rest, encoding, too_many, format);
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
                let err = fault_of(&piece.content, raw, format);
                item(piece, raw, bytes, err, format)
            });
            items.chain(rest).collect()
        }
    }
}

/// Makes items of what a payload has behind the objects that are taken one by one: one for each detector, and one for all bytes
/// that are about none.
fn items_of_rest<'a>(
    text: &Cow<'a, [u8]>,
    rest: &Rest,
    encoding: Notes,
    err: impl Fn(Vec<DeviceId>) -> PayloadError,
    format: &Format,
) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    for (_, ranges) in &rest.certain {
        let bytes = parts(text, ranges);
        let object = repair::salvage(&bytes);
        let mut notes = object.notes;
        notes.add_all(encoding);
        notes.content(RepairKind::Unreadable, Repair::Unreadable);
        let piece = Piece {
            range: 0..bytes.len(),
            content: Content::Broken(object),
            notes,
        };
        let raw = bytes.clone();
        items.push(item(piece, &raw, bytes, err(Vec::new()), format));
    }
    if !rest.others.is_empty() {
        items.push(refusal(parts(text, &rest.others), err(rest.named())));
    }
    items
}

/// Returns several parts of a text: borrowed, if there is only one and the text is.
fn parts<'a>(text: &Cow<'a, [u8]>, ranges: &[Range<usize>]) -> Cow<'a, [u8]> {
    match ranges {
        [only] => part(text, only.clone()),
        several => {
            let all: Vec<&[u8]> = several.iter().map(|range| &text[range.clone()]).collect();
            Cow::Owned(all.join(&b'\n'))
        }
    }
}

/// Reads the beginning of a payload that is too large. If it is not certainly about one detector, each one that it names has an
/// item.
pub(super) fn read_beginning<'a>(
    bytes: &'a [u8],
    err: impl Fn(Vec<DeviceId>) -> PayloadError,
    format: &Format,
) -> Vec<Item<'a>> {
    let object = repair::salvage(bytes);
    if object.serial() != SerialState::Certain {
        let (_, rest) = repair::split(bytes, 0);
        return items_of_rest(&Cow::Borrowed(bytes), &rest, Notes::default(), err, format);
    }
    let mut notes = object.notes;
    notes.content(RepairKind::Unreadable, Repair::Unreadable);
    let piece = Piece {
        range: 0..bytes.len(),
        content: Content::Broken(object),
        notes,
    };
    vec![item(
        piece,
        bytes,
        Cow::Borrowed(bytes),
        err(Vec::new()),
        format,
    )]
}

/// Returns a part of a text: borrowed, if the text is.
fn part<'a>(text: &Cow<'a, [u8]>, range: Range<usize>) -> Cow<'a, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[range]),
        Cow::Owned(text) => Cow::Owned(text[range].to_vec()),
    }
}

/// The reason why one of several pieces is not a JSON object in UTF-8, or why its root names no detector.
fn fault_of(content: &Content, raw: &[u8], format: &Format) -> PayloadError {
    match content {
        Content::Whole(_) | Content::Broken(_) => match parse_strictly(raw, format) {
            Err(err) | Ok(ItemContent::Refused(err)) => err,
            Ok(_) => PayloadError::NotAnObject,
        },
        Content::NotAnObject => PayloadError::NotAnObject,
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
            Ok(ItemContent::Refused(own)) if notes.repair != Repair::None => {
                let is_ambiguous = matches!(own, PayloadError::AmbiguousSerial { .. });
                let err = if is_ambiguous { own } else { err };
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
        Content::NotAnObject => (ItemContent::Refused(err), None),
    };
    let mut repairs = kinds_of(&content);
    repairs.insert_all(notes.kinds);
    Item {
        bytes,
        content: mark(content, (notes.repair, repairs)),
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
        // The serials of a complete object are certain, and each of their detectors is reported.
        SerialState::Several if repair < Repair::Unreadable => {}
        SerialState::Several => {
            let err = PayloadError::SeveralSerials {
                cause: Box::new(err),
                serials: object.serials(),
            };
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
pub(super) fn mark(
    mut content: ItemContent,
    (repair, kinds): (Repair, RepairKinds),
) -> ItemContent {
    if let ItemContent::Reading(parsed)
    | ItemContent::Unreadable(parsed, _)
    | ItemContent::Named(parsed) = &mut content
    {
        let Parsed { reading, facts } = parsed;
        facts.repair_kinds = kinds.uncertain_bits();
        let PayloadFacts { repair: known, .. } = facts;
        *known = repair.max(*known);
        reading.doubtful |= *known >= Repair::Unimportant;
        reading.unclear |= *known >= Repair::Important;
    }
    content
}

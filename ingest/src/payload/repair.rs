//! Reads payloads that are not one JSON object in UTF-8. Firmware writes what JSON forbids exactly when a sensor breaks.
//!
//! [`split`] finds the objects of a payload, and gives each one a text that is valid JSON:
//! * an object whose faults leave no doubt about what it says: the repaired text, and what was repaired;
//! * any other object: a text with those known keys whose values are complete. So is one that is complete and names a detector,
//!   but not in its root: whose values it has is not certain.
//!
//! The work is linear in the size of the payload: [`MAX_ATTEMPTS`] bounds how often bytes are read again. The depth of nesting
//! and the number of objects are bounded, too.

mod encoding;
mod notes;
mod object;
mod rest;
mod salvage;
mod string;
mod token;

use std::ops::Range;

use shared::reading::Repair;

use self::notes::is_blank;
use self::object::read_object;
use super::kind::RepairKind;

pub(super) use self::encoding::{decode_utf16, without_mark};
pub(super) use self::notes::Notes;
pub(super) use self::object::{Object, SerialState};
pub(super) use self::rest::Rest;
pub(super) use self::salvage::salvage;

/// Maximum number of objects that are taken from one payload one by one. Of the rest, there is one piece for each detector.
pub(super) const MAX_OBJECTS: usize = 64;

/// How often a payload is searched for the next object behind one that cannot be read.
const MAX_ATTEMPTS: usize = 64;

/// A part of a payload.
#[derive(Debug)]
pub(super) struct Piece {
    /// Where it is in the payload.
    pub(super) range: Range<usize>,
    pub(super) content: Content,
    /// Repairs of the piece and around it.
    pub(super) notes: Notes,
}

#[derive(Debug)]
pub(super) enum Content {
    /// An object that is complete.
    Whole(Object),
    /// Bytes that cannot be read as a whole, or that name a detector elsewhere than in their root. The object has what could be
    /// found.
    Broken(Object),
    /// Neither an object nor a part of one.
    NotAnObject,
}

/// Splits a payload into its first objects, `max_objects` at most, and what is left behind them. There are no objects if it has nothing but blanks.
pub(super) fn split(bytes: &[u8], max_objects: usize) -> (Vec<Piece>, Rest) {
    let mut splitter = Splitter {
        bytes,
        max_objects,
        pieces: Vec::new(),
        rest: Rest::default(),
        around: Notes::default(),
        attempts_left: MAX_ATTEMPTS,
    };
    splitter.run();
    let Splitter {
        mut pieces,
        rest,
        around,
        ..
    } = splitter;
    for piece in &mut pieces {
        find_serials_elsewhere(bytes, piece);
        piece.notes.add_all(around);
    }
    (pieces, rest)
}

/// Finds the detectors of a complete object whose root names none.
fn find_serials_elsewhere(bytes: &[u8], piece: &mut Piece) {
    let names_none =
        matches!(&piece.content, Content::Whole(object) if object.serials().is_empty());
    if !names_none {
        return;
    }
    let object = salvage(&bytes[piece.range.clone()]);
    if !object.serials().is_empty() {
        piece.content = Content::Broken(object);
        piece
            .notes
            .content(RepairKind::Unreadable, Repair::Unreadable);
    }
}

struct Splitter<'a> {
    bytes: &'a [u8],
    max_objects: usize,
    pieces: Vec<Piece>,
    rest: Rest,
    /// Repairs that belong to no object. Each object gets them.
    around: Notes,
    attempts_left: usize,
}

impl Splitter<'_> {
    fn run(&mut self) {
        let mut at = self.skip_blanks(0);
        let is_array = self.byte(at) == Some(b'[');
        if is_array {
            self.around.framing(RepairKind::SeveralObjects);
            at += 1;
        }
        let mut is_closed = !is_array;
        loop {
            at = self.skip_blanks(at);
            let Some(byte) = self.byte(at) else { break };
            at = match byte {
                b'{' => self.object(at),
                b',' => self.commas(at, is_array),
                b']' if !is_closed => {
                    is_closed = true;
                    // A comma before it, or none at all: only a comma is a fault.
                    at + 1
                }
                _ => self.other_bytes(at, is_array && !is_closed),
            };
        }
        if !is_closed {
            self.around
                .content(RepairKind::Unreadable, Repair::Important);
        }
        let objects = |piece: &&Piece| !matches!(piece.content, Content::NotAnObject);
        if self.pieces.iter().filter(objects).count() > 1 {
            self.around.framing(RepairKind::SeveralObjects);
        }
    }

    /// Reads the object that begins here, and returns its end.
    fn object(&mut self, start: usize) -> usize {
        match read_object(self.bytes, start) {
            Ok(object) => {
                let notes = object.notes;
                let end = object.end;
                self.push(start..end, Content::Whole(object), notes);
                end
            }
            Err(_) => self.broken(start),
        }
    }

    /// Takes bytes that cannot be read as a whole, up to the next object that can.
    fn broken(&mut self, start: usize) -> usize {
        let end = self.next_object(start + 1);
        // The commas before the next object may separate the two. Then they do not show that a number before them is complete.
        let own = start..self.end_of_own(start, end);
        let object = salvage(&self.bytes[own.clone()]);
        let mut notes = object.notes;
        notes.content(RepairKind::Unreadable, Repair::Unreadable);
        if end < self.bytes.len() {
            // Where an object begins behind broken bytes is a guess.
            self.around
                .content(RepairKind::OtherBytes, Repair::Important);
        }
        self.push(own, Content::Broken(object), notes);
        end
    }

    /// Returns the end of bytes that begin at `start`, without what may separate them from an object at `end`.
    fn end_of_own(&self, start: usize, end: usize) -> usize {
        if end == self.bytes.len() {
            return end;
        }
        let is_own = |byte: &u8| *byte != b',' && !is_blank(*byte);
        let last = self.bytes[start..end].iter().rposition(is_own);
        last.map_or(end, |last| start + last + 1)
    }

    /// Finds the next complete object with a serial.
    fn next_object(&mut self, from: usize) -> usize {
        for at in from..self.bytes.len() {
            if self.bytes[at] != b'{' || self.attempts_left == 0 {
                continue;
            }
            let before = self.bytes[..at].iter().rev().find(|byte| !is_blank(**byte));
            if before == Some(&b':') {
                // The value of a key.
                continue;
            }
            self.attempts_left -= 1;
            if read_object(self.bytes, at).is_ok_and(|object| object.has_serial()) {
                return at;
            }
        }
        self.bytes.len()
    }

    /// Takes commas between objects, and returns their end. An array has one between two objects.
    fn commas(&mut self, start: usize, is_array: bool) -> usize {
        let mut count = 0;
        let mut end = start;
        while let Some(byte) = self
            .byte(end)
            .filter(|byte| *byte == b',' || is_blank(*byte))
        {
            count += usize::from(byte == b',');
            end += 1;
        }
        let is_between = !self.pieces.is_empty() && self.byte(end) == Some(b'{');
        if count > 1 || !is_array || !is_between {
            self.around.content(RepairKind::Comma, Repair::Unimportant);
        }
        end
    }

    /// Takes bytes that begin no object, and returns their end.
    fn other_bytes(&mut self, start: usize, is_element: bool) -> usize {
        let rest = &self.bytes[start..];
        let length = rest
            .iter()
            .position(|byte| *byte == b'{')
            .unwrap_or(rest.len());
        let end = start + length;
        let other = &self.bytes[start..end];
        if is_element && !other.iter().any(|byte| b":}".contains(byte)) {
            self.push(start..end, Content::NotAnObject, Notes::default());
            return end;
        }
        let before = self.pieces.last().filter(|_| self.rest.is_empty());
        let is_start = self.pieces.is_empty() && self.rest.is_empty();
        let is_rest_of_object = before.is_some_and(|piece| match &piece.content {
            Content::Whole(object) => !object.has_serial(),
            _ => false,
        });
        if other.contains(&b'"') && (is_start || is_rest_of_object) {
            // An object that lost its beginning, or that was closed too early.
            let start = match self.pieces.pop() {
                Some(piece) => piece.range.start,
                None => start,
            };
            return self.broken(start);
        }
        if other.contains(&b'"') && self.pieces.len() == self.max_objects {
            // Nothing there is read one by one, and every detector it names must be reported.
            return self.broken(start);
        }
        if is_start && end == self.bytes.len() {
            self.push(start..end, Content::NotAnObject, Notes::default());
            return end;
        }
        let has_structure = other.iter().any(|byte| br#""{}[]:,"#.contains(byte));
        let repair = if has_structure {
            Repair::Important
        } else {
            Repair::Unimportant
        };
        self.around.content(RepairKind::OtherBytes, repair);
        end
    }

    fn skip_blanks(&mut self, from: usize) -> usize {
        let rest = self.bytes.get(from..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| is_blank(**byte)).count();
        let is_json = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if !rest[..length].iter().all(is_json) {
            self.around.framing(RepairKind::Padding);
        }
        from + length
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn push(&mut self, range: Range<usize>, content: Content, notes: Notes) {
        let mut piece = Piece {
            range,
            content,
            notes,
        };
        if self.pieces.len() == self.max_objects {
            find_serials_elsewhere(self.bytes, &mut piece);
            self.rest.add(piece.range, &piece.content);
            return;
        }
        self.pieces.push(piece);
    }
}

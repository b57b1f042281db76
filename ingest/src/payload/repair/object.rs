//! Reads one object, and repairs faults that leave no doubt about what it says.

use std::collections::BTreeSet;
use std::ops::Range;

use shared::device::DeviceId;
use shared::reading::Repair;

use super::notes::{Notes, is_blank, is_white_space};
use super::string::{self, JsonString};
use super::token::{self, Token};
use crate::payload::document::{JsonValue, MAX_DEPTH};
use crate::payload::field::{Field, Place};
use crate::payload::kind::RepairKind;
use crate::payload::repeats::say_the_same;

/// An object, or what was read of it.
#[derive(Debug, Default)]
pub(in crate::payload) struct Object {
    /// The object as JSON.
    pub(in crate::payload) json: String,
    /// Index behind its closing brace.
    pub(super) end: usize,
    pub(in crate::payload) notes: Notes,
    /// Every known key with the place of its complete value in `json`, in order. `Parameters` itself is left out.
    pub(super) known: Vec<(Field, Range<usize>)>,
    /// A serial was found that is cut off, or has characters that are wrong.
    pub(in crate::payload) has_damaged_serial: bool,
}

impl Object {
    /// The JSON of every value of a known key.
    pub(in crate::payload) fn values(&self, wanted: Field) -> impl Iterator<Item = &str> {
        let known = self.known.iter();
        known
            .filter(move |(field, _)| *field == wanted)
            .map(|(_, range)| &self.json[range.clone()])
    }

    pub(super) fn has_serial(&self) -> bool {
        self.values(Field::Serial).next().is_some()
    }

    /// Returns its usable serials, each once; none if one of them is damaged.
    pub(in crate::payload) fn serials(&self) -> Vec<DeviceId> {
        if self.has_damaged_serial {
            return Vec::new();
        }
        let texts = self.values(Field::Serial);
        let texts = texts.filter_map(|json| serde_json::from_str::<String>(json).ok());
        let serials: BTreeSet<DeviceId> = texts.filter_map(|text| text.parse().ok()).collect();
        serials.into_iter().collect()
    }

    /// Whether the object certainly names one detector, or none. A damaged serial may be that of another detector.
    pub(in crate::payload) fn serial(&self) -> SerialState {
        if self.has_damaged_serial {
            return SerialState::Damaged;
        }
        let names_any = |json: &&str| match JsonValue::of(json) {
            JsonValue::Null => false,
            JsonValue::Text(text) => !text.trim().is_empty(),
            _ => true,
        };
        let mut named = self.values(Field::Serial).filter(names_any);
        match named.next() {
            None if !self.has_serial() => SerialState::Missing,
            // What is empty names no other detector.
            None => SerialState::Certain,
            Some(first) if named.all(|other| say_the_same(first, other)) => SerialState::Certain,
            Some(_) => SerialState::Several,
        }
    }
}

/// How certain the serial of a repaired object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::payload) enum SerialState {
    Missing,
    Damaged,
    Several,
    Certain,
}

/// An object that cannot be read as a whole.
#[derive(Debug)]
pub(super) struct Broken {
    /// What was read before the fault. Its JSON is not complete.
    pub(super) object: Object,
    /// Where the value begins that could not be read, or the key.
    pub(super) at: usize,
}

/// Reads the object that begins with the brace at `start`.
pub(super) fn read_object(bytes: &[u8], start: usize) -> Result<Object, Box<Broken>> {
    let mut reader = Reader {
        bytes,
        at: start,
        suspect: start,
        object: Object::default(),
    };
    let result = reader.object(Scope::Root, Repair::Unimportant, 1);
    let Reader {
        at,
        suspect,
        mut object,
        ..
    } = reader;
    match result {
        Ok(()) => {
            object.end = at;
            Ok(object)
        }
        Err(Fault) => Err(Box::new(Broken {
            object,
            at: suspect,
        })),
    }
}

/// Reads a string, a number or a word that is complete, as the value of a known key, into `object`. A string may also end with
/// the bytes. Returns the index behind the value.
pub(super) fn read_value(
    bytes: &[u8],
    at: usize,
    field: Field,
    object: &mut Object,
) -> Option<usize> {
    let mut reader = Reader {
        bytes,
        at,
        suspect: at,
        object: std::mem::take(object),
    };
    reader.skip_white_space();
    let start = reader.object.json.len();
    let is_string = reader.byte() == Some(b'"');
    // An object or an array is no serial: none is cut off there.
    let is_nested = matches!(reader.byte(), Some(b'{' | b'['));
    let is_read = reader.scalar(Some(field), field.repair()).is_ok();
    let ends_the_bytes = || is_string && bytes[reader.at..].iter().all(|byte| is_blank(*byte));
    let is_complete = is_read && (ends_the_bytes() || reader.check_end_of_value().is_ok());
    let end = reader.at;
    *object = reader.object;
    if !is_complete {
        object.has_damaged_serial |= field == Field::Serial && !is_nested;
        return None;
    }
    object.known.push((field, start..object.json.len()));
    Some(end)
}

/// What the keys of an object mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Root,
    Parameters,
    Unknown,
}

/// The bytes cannot be read here.
struct Fault;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the entry begins that is read: everything before it is certain.
    suspect: usize,
    object: Object,
}

impl Reader<'_> {
    /// Reads an object. `outer` is what a repair in its structure amounts to.
    fn object(&mut self, scope: Scope, outer: Repair, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault);
        }
        self.at += 1;
        self.object.json.push('{');
        let mut before: Option<Repair> = None;
        loop {
            let gap = self.gap();
            match self.byte() {
                Some(b'}') => {
                    self.note_end(gap, before.unwrap_or(outer));
                    self.at += 1;
                    self.object.json.push('}');
                    return Ok(());
                }
                Some(b'"') => {}
                _ => return Err(Fault),
            }
            let expected = usize::from(before.is_some());
            if gap.commas < expected {
                return Err(Fault);
            }
            if before.is_some() {
                self.object.json.push(',');
            }
            let repair = self.entry(scope, outer, depth)?;
            self.note_gap(
                gap,
                expected,
                before.map_or(repair, |before| before.max(repair)),
            );
            before = Some(repair);
        }
    }

    /// Reads a key and its value. Returns what a repair beside it amounts to.
    fn entry(&mut self, scope: Scope, outer: Repair, depth: usize) -> Result<Repair, Fault> {
        self.suspect = self.at;
        let key = string::read(self.bytes, self.at).ok_or(Fault)?;
        let text = key.text();
        let found = match scope {
            Scope::Root => Field::find(Place::Root, &text),
            Scope::Parameters => Field::find(Place::Parameters, &text),
            Scope::Unknown => None,
        };
        let field = found.map(|found| found.field);
        let repair = match (field, scope) {
            (Some(field), _) => field.repair(),
            (None, Scope::Unknown) => outer,
            (None, Scope::Root | Scope::Parameters) => Repair::Unimportant,
        };
        self.note_string(&key, repair);
        if key.has_control_character && repair == Repair::Unimportant {
            // It may be a known key with a damaged character.
            self.object
                .notes
                .content(RepairKind::ControlCharacter, repair);
        }
        self.at = key.end;
        self.skip_white_space();
        if self.byte() != Some(b':') {
            return Err(Fault);
        }
        self.at += 1;
        self.skip_white_space();
        self.object.json.push_str(&key.json);
        self.object.json.push(':');
        let start = self.object.json.len();
        self.value(scope, field, repair, depth)?;
        self.check_end_of_value()?;
        if let Some(field) = field.filter(|field| *field != Field::Parameters) {
            let range = start..self.object.json.len();
            self.object.known.push((field, range));
        }
        Ok(repair)
    }

    fn value(
        &mut self,
        scope: Scope,
        field: Option<Field>,
        repair: Repair,
        depth: usize,
    ) -> Result<(), Fault> {
        match self.byte().ok_or(Fault)? {
            b'{' if scope == Scope::Root && field == Some(Field::Parameters) => {
                self.object(Scope::Parameters, repair, depth + 1)
            }
            b'{' => self.object(Scope::Unknown, repair, depth + 1),
            b'[' => self.array(repair, depth + 1),
            b',' | b'}' => {
                self.object.json.push_str("null");
                self.object.notes.content(RepairKind::EmptyValue, repair);
                Ok(())
            }
            _ => self.scalar(field, repair),
        }
    }

    /// Reads a string, a number or a word.
    fn scalar(&mut self, field: Option<Field>, repair: Repair) -> Result<(), Fault> {
        match self.byte().ok_or(Fault)? {
            b'"' => {
                let string = string::read(self.bytes, self.at).ok_or(Fault);
                let is_serial = field == Some(Field::Serial);
                let is_damaged = string.as_ref().map_or(true, JsonString::is_repaired);
                self.object.has_damaged_serial |= is_serial && is_damaged;
                let string = string?;
                self.note_string(&string, repair);
                self.at = string.end;
                self.object.json.push_str(&string.json);
                Ok(())
            }
            byte if token::is_part(byte) => {
                self.token(field, repair);
                Ok(())
            }
            _ => Err(Fault),
        }
    }

    fn token(&mut self, field: Option<Field>, repair: Repair) {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .take_while(|byte| token::is_part(**byte))
            .count();
        let word = &rest[..length];
        self.at += length;
        let Object { json, notes, .. } = &mut self.object;
        match token::read(word) {
            Token::Value(value, framing, content) => {
                json.push_str(&value);
                if let Some(kind) = framing {
                    notes.framing(kind);
                }
                if let Some(kind) = content {
                    notes.content(kind, repair);
                }
            }
            Token::Word => {
                notes.content(RepairKind::BareWord, repair);
                if field.is_some_and(Field::takes_words) && !word.eq_ignore_ascii_case(b"null") {
                    // A lamp or fault that is `ON` must not be taken for one that is off.
                    let word = String::from_utf8_lossy(word);
                    let quoted = serde_json::to_string(&word).unwrap_or_default();
                    json.push_str(&quoted);
                } else {
                    json.push_str("null");
                }
            }
        }
    }

    fn array(&mut self, repair: Repair, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault);
        }
        self.at += 1;
        self.object.json.push('[');
        let mut is_first = true;
        loop {
            let gap = self.gap();
            let byte = self.byte().ok_or(Fault)?;
            if byte == b']' {
                self.note_gap(gap, 0, repair);
                self.at += 1;
                self.object.json.push(']');
                return Ok(());
            }
            let expected = usize::from(!is_first);
            if gap.commas < expected {
                return Err(Fault);
            }
            self.note_gap(gap, expected, repair);
            if !is_first {
                self.object.json.push(',');
            }
            is_first = false;
            match byte {
                b'{' => self.object(Scope::Unknown, repair, depth + 1)?,
                b'[' => self.array(repair, depth + 1)?,
                _ => self.scalar(None, repair)?,
            }
        }
    }

    /// A value must end with a comma or a brace. Otherwise it may be only the beginning of the value that was meant: `120` of
    /// `1200`, or `1` of `1,200`.
    fn check_end_of_value(&self) -> Result<(), Fault> {
        let mut rest = self.bytes[self.at..]
            .iter()
            .skip_while(|byte| is_blank(**byte));
        match rest.next() {
            Some(b'}') => Ok(()),
            Some(b',') => match rest.find(|byte| !is_blank(**byte) && **byte != b',') {
                None | Some(b'"' | b'}') => Ok(()),
                Some(_) => Err(Fault),
            },
            _ => Err(Fault),
        }
    }

    /// Skips everything between two entries.
    fn gap(&mut self) -> Gap {
        let mut gap = Gap::default();
        while let Some(byte) = self.byte().filter(|byte| is_blank(*byte) || *byte == b',') {
            gap.commas += usize::from(byte == b',');
            gap.has_other_bytes |= byte != b',' && !is_white_space(byte);
            self.at += 1;
        }
        gap
    }

    fn note_gap(&mut self, gap: Gap, expected_commas: usize, repair: Repair) {
        if gap.commas > expected_commas {
            self.object.notes.content(RepairKind::Comma, repair);
        }
        if gap.has_other_bytes {
            self.object.notes.content(RepairKind::OtherBytes, repair);
        }
    }

    /// Notes what stands between the last entry and the closing brace. One comma there belongs to no key, and a firmware that always
    /// writes it has it as a habit.
    fn note_end(&mut self, gap: Gap, repair: Repair) {
        if gap.commas == 1 {
            let notes = &mut self.object.notes;
            notes.content(RepairKind::Comma, Repair::Unimportant);
        }
        self.note_gap(gap, 1, repair);
    }

    fn note_string(&mut self, string: &JsonString<'_>, repair: Repair) {
        if string.has_control_character {
            self.object.notes.framing(RepairKind::ControlCharacter);
        }
        if string.has_single_bytes {
            self.object.notes.framing(RepairKind::SingleByteText);
        }
        if string.has_bad_character {
            self.object.notes.content(RepairKind::Escape, repair);
        }
    }

    fn skip_white_space(&mut self) {
        while self.byte().is_some_and(is_white_space) {
            self.at += 1;
        }
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

/// What stands between two entries.
#[derive(Clone, Copy, Default)]
struct Gap {
    commas: usize,
    has_other_bytes: bool,
}

//! What must hold for any payload, judged by a reader that is as simple as possible.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use shared::decimal::Decimal;
use shared::reading::Repair;

use super::*;

/// Repairs that leave the quality as it is.
const FRAMING: [RepairKind; 7] = [
    RepairKind::ByteOrderMark,
    RepairKind::Utf16,
    RepairKind::Padding,
    RepairKind::ControlCharacter,
    RepairKind::SingleByteText,
    RepairKind::LeadingZero,
    RepairKind::SeveralObjects,
];

/// An object with the JSON of its values.
type Object = BTreeMap<String, Box<RawValue>>;

/// The settings with which payloads are read here.
pub(super) fn format() -> Format {
    Format {
        utc_offset_seconds: 19_800,
        unit_codes: shared::args::unit_codes("1=ppm,2=%LEL").expect("unit codes"),
        decimal_point: DecimalPoint::Ignore,
        normal_words: NormalWords::new("0,OFF,NORMAL"),
        max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
    }
}

fn items_of(bytes: &[u8]) -> Vec<Item<'_>> {
    read(bytes, &format())
}

/// Input: a payload.
pub(crate) fn check_input(input: &[u8]) {
    if let Err(fault) = check(input) {
        panic!("{fault}");
    }
}

/// Returns the kind of the result for these bytes. An input whose result is of a new kind is worth further mutations.
#[cfg(test)]
pub(super) fn signature(bytes: &[u8]) -> String {
    let of = |item: &Item<'_>| {
        let (kind, parsed) = match &item.content {
            ItemContent::Reading(parsed) => ("reading", Some(parsed)),
            ItemContent::Unreadable(parsed, _) => ("unreadable", Some(parsed)),
            ItemContent::Named(parsed) => ("named", Some(parsed)),
            ItemContent::Refused(err) => (err.reason().code(), None),
        };
        let facts = parsed.map(|parsed| &parsed.facts);
        let repair = facts.map(|facts| facts.repair);
        let others = facts.map(|facts| facts.other_values.len());
        let value = parsed.map(|parsed| parsed.reading.value.is_some());
        let doubtful = parsed.map(|parsed| parsed.reading.doubtful);
        (kind, item.repairs, repair, others, value, doubtful)
    };
    let kinds: Vec<_> = items_of(bytes).iter().take(4).map(of).collect();
    format!("{kinds:?}")
}

/// Checks the result for these bytes.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let items = items_of(bytes);
    // Beside the first 64 objects and the bytes that name nobody, each item has a serial with its key, at least.
    let max = 65 + bytes.len() / r#""OTSM-2 Serial Number":"""#.len();
    require("items are bounded", (1..=max).contains(&items.len()))?;
    let is_json = serde_json::from_slice::<&RawValue>(bytes).is_ok();
    let braces = bytes.iter().filter(|byte| b"[{".contains(byte)).count();
    for item in &items {
        match &item.content {
            ItemContent::Reading(parsed) => {
                check_item(item, parsed, bytes)?;
                check_reading(item, parsed, is_json)?;
            }
            ItemContent::Unreadable(parsed, _) => {
                check_item(item, parsed, bytes)?;
                require(
                    "JSON is readable, unless it is deep or its root names no detector",
                    !is_json || braces > 32 || !names_detector(bytes),
                )?;
                require("it has no value", parsed.reading.value.is_none())?;
                require("it is marked", parsed.facts.repair == Repair::Unreadable)?;
            }
            ItemContent::Named(parsed) => {
                check_item(item, parsed, bytes)?;
                require("it has no value", parsed.reading.value.is_none())?;
                require("it is marked", parsed.facts.repair == Repair::Unreadable)?;
            }
            ItemContent::Refused(_) => {}
        }
    }
    Ok(())
}

fn require(what: &str, holds: bool) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("this does not hold: {what}"))
    }
}

/// Checks what holds for every item of a known detector.
fn check_item(item: &Item<'_>, parsed: &Parsed, bytes: &[u8]) -> Result<(), String> {
    let Parsed { reading, facts } = parsed;
    let is_object = serde_json::from_slice::<Object>(item.json()).is_ok();
    require("what is stored is a JSON object", is_object)?;
    require("other values are bounded", facts.other_values.len() <= 2)?;
    let is_marked = facts.repair == Repair::None || reading.doubtful;
    require("a repair is shown", is_marked)?;
    let is_unclear = facts.repair < Repair::Important || reading.unclear;
    require("an important repair lowers nothing", is_unclear)?;
    // The serial stands in the payload as it is, unless it may have escapes, or two bytes for each character.
    let text = String::from_utf8_lossy(bytes);
    let is_named = matches!(item.content, ItemContent::Named(_));
    let is_wide = item.repairs.contains(RepairKind::Utf16) || (is_named && bytes.contains(&0));
    let is_plain = !text.contains('\\') && !is_wide;
    let is_there = text.contains(reading.device.as_str());
    require("the serial is in the payload", !is_plain || is_there)
}

/// Checks a reading whose payload was read as a whole.
fn check_reading(item: &Item<'_>, parsed: &Parsed, is_json: bool) -> Result<(), String> {
    if parsed.facts.repair != Repair::None {
        return Ok(());
    }
    let is_framing = |code| FRAMING.iter().any(|kind| kind.code() == code);
    let is_only_framing = item.repairs.codes().all(is_framing);
    require("only the framing was repaired", is_only_framing)?;
    let is_counted = is_json || !item.repairs.is_empty();
    require("a payload that is no JSON was repaired", is_counted)?;
    let json: Object = serde_json::from_slice(item.json()).map_err(|err| err.to_string())?;
    let is_same = parsed.reading.value == simple_value(&json);
    require("the value is that of the payload", is_same)?;
    let is_one = parsed.facts.other_values.is_empty();
    require("a clean reading has one value", is_one)
}

/// Reads the value as simply as possible: the first of its keys that is present.
fn simple_value(root: &Object) -> Option<Decimal> {
    let mut parameters = Object::new();
    for (_, raw) in root.iter().filter(|(key, _)| same(key, "Parameters")) {
        let entries: Object = serde_json::from_str(raw.get()).unwrap_or_default();
        parameters.extend(entries);
    }
    let keys = [
        (&parameters, "Live Sensor Readings"),
        (root, "Sensor Reading"),
        (&parameters, "Offset"),
    ];
    let found = keys.iter().find_map(|(object, wanted)| {
        let mut entries = object.iter();
        entries.find(|(key, _)| same(key, wanted))
    });
    let (_, raw) = found?;
    number::number(&document::JsonValue::of(raw.get()))
}

/// Whether the root of the JSON names a detector, or the root of each object of an array does.
fn names_detector(json: &[u8]) -> bool {
    let of_array = serde_json::from_slice::<Vec<Object>>(json).ok();
    let of_object = || Some(vec![serde_json::from_slice::<Object>(json).ok()?]);
    let names = |object: &Object| {
        let mut entries = object.iter();
        entries.any(|(key, raw)| {
            let text: Option<String> = serde_json::from_str(raw.get()).ok();
            let device = text.and_then(|text| text.parse::<shared::device::DeviceId>().ok());
            same(key, "OTSM-2 Serial Number") && device.is_some()
        })
    };
    let objects = of_array.or_else(of_object);
    objects.is_some_and(|objects| objects.iter().all(names))
}

/// Whether two keys are the same without case and blanks around them.
fn same(key: &str, wanted: &str) -> bool {
    field::trim(key).eq_ignore_ascii_case(wanted)
}

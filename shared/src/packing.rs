//! How numbers, texts, units and qualities are written in few bytes. Pure.
//!
//! A number is zigzag-encoded and has 7 bits a byte, the lowest first. A text has its length before it. A unit is a code, which the caller
//! writes, and a text behind it if it has none.

use crate::reading::Quality;

/// Units by their code. The list may only grow at its end.
pub(crate) const UNITS: [&str; 13] = [
    "ppm", "%LEL", "%VOL", "ppb", "%", "mg/m3", "mg/m³", "% LEL", "% VOL", "%lel", "%vol", "PPM",
    "",
];
/// Code of a unit that is written as a text.
const UNIT_TEXT: u8 = 15;

pub(crate) fn put_number(bytes: &mut Vec<u8>, number: i128) {
    put_unsigned(bytes, ((number << 1) ^ (number >> 127)).cast_unsigned());
}

/// Writes a number without the zigzag.
pub(crate) fn put_unsigned(bytes: &mut Vec<u8>, number: u128) {
    let mut left = number;
    loop {
        let [low, ..] = left.to_le_bytes();
        left >>= 7;
        if left == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<i128> {
    let zigzag = take_unsigned(bytes)?;
    Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
}

/// Reads a number without the zigzag, of 126 bits at most.
pub(crate) fn take_unsigned(bytes: &mut &[u8]) -> Option<u128> {
    let mut number = 0_u128;
    for shift in (0..126).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u128::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, i128::try_from(text.len()).unwrap_or_default());
    bytes.extend(text.as_bytes());
}

pub(crate) fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(take_number(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

/// Adds the text of a unit that has no code, and returns the code of the unit, which has 4 bits. 14 is never one.
pub(crate) fn put_unit(bytes: &mut Vec<u8>, unit: &str) -> u8 {
    let mut units = (0..).zip(UNITS);
    let known = units.find(|(_, known)| *known == unit);
    let Some((code, _)) = known else {
        put_text(bytes, unit);
        return UNIT_TEXT;
    };
    code
}

pub(crate) fn take_unit(bytes: &mut &[u8], code: u8) -> Option<String> {
    match code {
        UNIT_TEXT => take_text(bytes),
        code => Some((*UNITS.get(usize::from(code))?).to_owned()),
    }
}

/// Returns the code of a quality, which has 2 bits.
pub(crate) fn quality_code(quality: Quality) -> u8 {
    match quality {
        Quality::Offline => 0,
        Quality::Bad => 1,
        Quality::Uncertain => 2,
        Quality::Good => 3,
    }
}

pub(crate) fn quality_of(code: u8) -> Quality {
    match code {
        0 => Quality::Offline,
        1 => Quality::Bad,
        2 => Quality::Uncertain,
        _ => Quality::Good,
    }
}

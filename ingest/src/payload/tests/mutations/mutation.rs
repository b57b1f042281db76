//! Mutations of payloads.

use fastrand::Rng;

/// Longer inputs are cut: they take time and show nothing new.
const MAX_BYTES: usize = 2_000;

/// Pieces that payloads, faulty firmware and hostile senders write.
const TOKENS: [&[u8]; 62] = [
    b"\"OTSM-2 Serial Number\":",
    b"\"OTSM-2 Serial Number\":\"OTSM-0115\"",
    b"\"otsm-2 serial number \":",
    b"\"Parameters\":{",
    b"\"Parameters\":",
    b"\"Live Sensor Readings \":",
    b"\"Live Sensor Readings\":",
    b"\"Sensor Reading\":",
    b"\"Offset\":",
    b"\"Unit of Measurement \":",
    b"\"Alarm Level A1\":",
    b"\"A1Type\":\"Low\"",
    b"\"A1Hysterysis\":",
    b"\"Decimal Point\":",
    b"\"Alarm Status\":\"ALARM\"",
    b"\"Alarm 3 LED Status\":",
    b"\"Sensor Fault \":",
    b"\"SensorFault\":",
    b"\"Gas\":",
    b"\"lat\":",
    b"null",
    b"true",
    b"false",
    b"nan",
    b"-Infinity",
    b"ovf",
    b"\"ON\"",
    b"\"ERR\"",
    b"0",
    b"1",
    b"-9999",
    b"1200",
    b"01200",
    b"1200.",
    b".5",
    b"+5",
    b"1e400",
    b"19,5",
    b"\"350\"",
    b"\"\"",
    b"{}",
    b"[]",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b",,",
    b":",
    b"\"",
    b"\\\"",
    b"\\",
    b"\\ud83d",
    b"\\u0000",
    b"\0",
    b"\t",
    b"\r\n",
    b"\xEF\xBB\xBF",
    b"\xFF\xFE",
    b"\xB3",
    b"\xC2",
    b"\xEF\xBF\xBD",
];

/// Makes a payload out of one or two others.
pub(crate) fn mutated(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = pick(seeds, rng).clone();
    for _ in 0..rng.usize(1..=4) {
        mutate(&mut bytes, seeds, rng);
    }
    bytes.truncate(MAX_BYTES);
    bytes
}

fn pick<'a, T>(items: &'a [T], rng: &mut Rng) -> &'a T {
    &items[rng.usize(..items.len())]
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.usize(..=bytes.len());
    let end = (at + rng.usize(1..=20)).min(bytes.len());
    let token = pick(&TOKENS, rng).to_vec();
    match rng.u8(..14) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(..at)),
        2 => drop(bytes.drain(at..end)),
        3 => insert(bytes, at, &[rng.u8(..)]),
        4 => insert(bytes, at, &token),
        5 if at < bytes.len() => bytes[at] = rng.u8(..),
        6 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
        7 => {
            let copy = bytes[at..end].to_vec();
            let to = rng.usize(..=bytes.len());
            insert(bytes, to, &copy);
        }
        8 => {
            // The beginning of one payload and the end of another.
            let other = pick(seeds, rng);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.usize(..=other.len())..]);
        }
        9 => bytes.extend_from_slice(pick(seeds, rng).as_slice()),
        10 => *bytes = [b"[", &**bytes, b"]"].concat(),
        11 => replace_value(bytes, &token, rng),
        12 => add_entry(bytes, &token, rng),
        _ => repeat_entry(bytes, rng),
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// Returns the places behind this byte.
fn behind(bytes: &[u8], wanted: u8) -> Vec<usize> {
    let places = bytes.iter().enumerate();
    places
        .filter(|(_, byte)| **byte == wanted)
        .map(|(at, _)| at + 1)
        .collect()
}

/// Returns the end of what stands between two commas or braces.
fn end_of_value(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start..];
    let length = rest.iter().position(|byte| b",}]".contains(byte));
    start + length.unwrap_or(rest.len())
}

fn replace_value(bytes: &mut Vec<u8>, value: &[u8], rng: &mut Rng) {
    let places = behind(bytes, b':');
    if !places.is_empty() {
        let start = *pick(&places, rng);
        let end = end_of_value(bytes, start);
        bytes.splice(start..end, value.iter().copied());
    }
}

fn add_entry(bytes: &mut Vec<u8>, key: &[u8], rng: &mut Rng) {
    let places = behind(bytes, b',');
    if !places.is_empty() {
        let value = pick(&TOKENS, rng);
        let at = *pick(&places, rng);
        insert(bytes, at, &[key, *value, &b","[..]].concat());
    }
}

fn repeat_entry(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let places = behind(bytes, b',');
    if !places.is_empty() {
        let start = *pick(&places, rng);
        let end = end_of_value(bytes, start);
        let entry = [&bytes[start..end], b","].concat();
        let at = *pick(&places, rng);
        insert(bytes, at, &entry);
    }
}

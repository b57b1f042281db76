//! The short form of an event in Redis: how it differs from a whole event of the same device. Pure.
//!
//! Nearly all of an event repeats the one before it. So most entries of the events stream have only the difference from a whole
//! event, at most [`MAX_DISTANCE`] positions before it.
//!
//! | bytes | contents |
//! |---|---|
//! | 1 | distance: how many positions before this event the whole one is, 1 to [`MAX_DISTANCE`] |
//! | 4 | checksum of the event: the low 32 bits of its XXH3, little endian |
//! | … | pieces, up to the end: three numbers, then text. Copy so many bytes of the whole event, leave out so many of them, and insert a text of so many bytes |
//!
//! A number has 7 bits a byte, the lowest first. With another whole event than the one it was made with, the checksum is wrong,
//! and nothing is read.

use xxhash_rust::xxh3::xxh3_64;

/// The whole event is at most so many positions before the one that needs it.
pub(super) const MAX_DISTANCE: u64 = 15;

const HEADER: usize = 5;
/// So many equal bytes show that two texts go on alike.
const ALIKE: usize = 6;
/// A field that only one of the texts has is no longer than this. Otherwise the texts have little in common.
const WINDOW: usize = 96;

/// Returns the difference of an event from a whole one `distance` positions before it. `None` if it would not be much shorter than the
/// event.
pub(super) fn encode(event: &[u8], whole: &[u8], distance: u64) -> Option<Vec<u8>> {
    let distance = u8::try_from(distance).ok()?;
    if distance == 0 || u64::from(distance) > MAX_DISTANCE {
        return None;
    }
    let max = event.len() / 2;
    let mut bytes = Vec::with_capacity(256);
    bytes.push(distance);
    bytes.extend(checksum(event));
    let (mut event, mut whole) = (event, whole);
    while !event.is_empty() {
        let copied = common(event, whole);
        (event, whole) = (&event[copied..], &whole[copied..]);
        let (inserted, left_out) = until_alike(event, whole);
        put_number(&mut bytes, copied);
        put_number(&mut bytes, left_out);
        put_number(&mut bytes, inserted);
        bytes.extend(&event[..inserted]);
        if bytes.len() > max {
            return None;
        }
        (event, whole) = (&event[inserted..], &whole[left_out..]);
    }
    Some(bytes)
}

/// Returns how many positions before its event the whole one is.
pub(super) fn distance(diff: &[u8]) -> Option<u64> {
    diff.first().copied().map(u64::from)
}

/// Returns the event. `None` if this is not the whole event with which the difference was made.
pub(super) fn decode(diff: &[u8], whole: &[u8]) -> Option<Vec<u8>> {
    let (header, mut pieces) = diff.split_at_checked(HEADER)?;
    let mut whole = whole;
    let mut event = Vec::with_capacity(whole.len() + pieces.len());
    while !pieces.is_empty() {
        let copied = take_number(&mut pieces)?;
        let left_out = take_number(&mut pieces)?;
        let inserted = take_number(&mut pieces)?;
        event.extend(take(&mut whole, copied)?);
        take(&mut whole, left_out)?;
        event.extend(take(&mut pieces, inserted)?);
    }
    (checksum(&event)[..] == header[1..]).then_some(event)
}

fn checksum(event: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = xxh3_64(event).to_le_bytes();
    [a, b, c, d]
}

/// Returns how many bytes at the beginning are the same.
fn common(one: &[u8], other: &[u8]) -> usize {
    const STEP: usize = 16;
    let equal_steps = one
        .chunks_exact(STEP)
        .zip(other.chunks_exact(STEP))
        .take_while(|(one, other)| one == other);
    let start = equal_steps.count() * STEP;
    let rest = one[start..].iter().zip(&other[start..]);
    start + rest.take_while(|(one, other)| one == other).count()
}

/// Returns after how many bytes of each the two texts go on alike. They differ at their first byte, or one of them ends.
fn until_alike(event: &[u8], whole: &[u8]) -> (usize, usize) {
    if event.is_empty() || whole.is_empty() {
        return (event.len(), whole.len());
    }
    // Another value of the same field.
    let (value, other_value) = (value_end(event), value_end(whole));
    let same_end = common(&event[value..], &whole[other_value..]);
    if same_end >= ALIKE.min(event.len() - value) {
        return (value, other_value);
    }
    // A field that only the event has, or only the whole one.
    if let Some(found) = find(event, whole) {
        return (found, 0);
    }
    if let Some(found) = find(whole, event) {
        return (0, found);
    }
    (value.max(1), other_value.max(1))
}

/// Returns where a value of JSON ends, from within it.
fn value_end(text: &[u8]) -> usize {
    let is_end = |byte: &u8| matches!(byte, b',' | b'"' | b'}' | b']');
    text.iter().position(is_end).unwrap_or(text.len())
}

/// Returns where, near its beginning, a text has the beginning of the other.
fn find(text: &[u8], other: &[u8]) -> Option<usize> {
    let start = other.get(..ALIKE)?;
    let near = &text[..text.len().min(WINDOW)];
    near.windows(ALIKE).position(|part| part == start)
}

fn put_number(bytes: &mut Vec<u8>, number: usize) {
    let mut left = number;
    while left > 0x7f {
        bytes.push(u8::try_from(left & 0x7f).unwrap_or_default() | 0x80);
        left >>= 7;
    }
    bytes.push(u8::try_from(left).unwrap_or_default());
}

fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..28).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests;

//! What must hold for whatever bytes arrive instead of Redis.

use super::*;

/// A value, as it was read: its kind, and the texts in it.
type Read = (u8, Vec<u8>, Vec<u8>);

fn owned(value: Value<'_>) -> Read {
    match value {
        Value::Message { channel, payload } => (0, channel.into(), payload.into()),
        Value::Subscribed(channel) => (1, channel.into(), Vec::new()),
        Value::Unsubscribed(channel) => (2, channel.into(), Vec::new()),
        Value::OtherPush => (3, Vec::new(), Vec::new()),
        Value::Refused(text) => (4, text.into(), Vec::new()),
        Value::Answer => (5, Vec::new(), Vec::new()),
    }
}

/// Reads bytes that arrive in pieces. Returns the values, and why nothing can be read behind them.
fn read(bytes: &[u8], piece: usize) -> (Vec<Read>, Option<Malformed>) {
    let mut reader = ValueReader::default();
    let mut values = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        reader.room().extend_from_slice(piece);
        loop {
            match reader.next_value() {
                Ok(Some(value)) => values.push(owned(value)),
                Ok(None) => break,
                Err(malformed) => return (values, Some(malformed)),
            }
        }
    }
    (values, None)
}

/// Input: the length of the pieces, then what arrives.
pub(crate) fn check(input: &[u8]) {
    let Some((&piece, bytes)) = input.split_first() else {
        return;
    };
    let whole = read(bytes, bytes.len());
    assert_eq!(read(bytes, piece.into()), whole, "it depends on the pieces");

    // The values stand one behind the other, each with exactly its own bytes.
    let mut reader = ValueReader::default();
    reader.room().extend_from_slice(bytes);
    let mut read = Vec::new();
    while let Ok(Some(value)) = reader.next_bytes() {
        read.push(value.to_vec());
    }
    assert_eq!(read.len(), whole.0.len());
    let read = read.concat();
    assert!(bytes.starts_with(&read), "bytes were lost or invented");
    assert_eq!(&reader.room()[..], &bytes[read.len()..]);
}

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A value as Redis encodes it, and what must be read.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Message(Vec<u8>, Vec<u8>),
    Subscribed(Vec<u8>),
    Unsubscribed(Vec<u8>),
    OtherPush,
    Refused(Vec<u8>),
    Answer,
}

impl From<Value<'_>> for Owned {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Message { channel, payload } => Self::Message(channel.into(), payload.into()),
            Value::Subscribed(channel) => Self::Subscribed(channel.into()),
            Value::Unsubscribed(channel) => Self::Unsubscribed(channel.into()),
            Value::OtherPush => Self::OtherPush,
            Value::Refused(text) => Self::Refused(text.into()),
            Value::Answer => Self::Answer,
        }
    }
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn push(parts: &[&[u8]]) -> Vec<u8> {
    let mut encoded = format!(">{}\r\n", parts.len()).into_bytes();
    for part in parts {
        encoded.extend(bulk(part));
    }
    encoded
}

/// Encoded answers of every type, nested and with attributes.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(|bytes| bulk(&bytes)),
        "[ -~]{0,20}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        Just(b"_\r\n".to_vec()),
        Just(b"#t\r\n".to_vec()),
        Just(b",1.5\r\n".to_vec()),
        Just(b"(12345678901234567890\r\n".to_vec()),
        Just(b"=7\r\ntxt:abc\r\n".to_vec()),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| {
                [
                    format!("*{}\r\n", values.len()).into_bytes(),
                    values.concat(),
                ]
                .concat()
            }),
            vec((inner.clone(), inner.clone()), 0..3).prop_map(|pairs| {
                let mut encoded = format!("%{}\r\n", pairs.len()).into_bytes();
                for (key, value) in pairs {
                    encoded.extend(key);
                    encoded.extend(value);
                }
                encoded
            }),
            (inner.clone(), inner.clone(), inner).prop_map(|(key, value, of)| [
                b"|1\r\n".to_vec(),
                key,
                value,
                of
            ]
            .concat()),
        ]
    })
}

fn value() -> impl Strategy<Value = (Vec<u8>, Owned)> {
    let bytes = || vec(any::<u8>(), 0..60);
    prop_oneof![
        (bytes(), vec(any::<u8>(), 0..300)).prop_map(|(channel, payload)| {
            let encoded = push(&[b"smessage", &channel, &payload]);
            (encoded, Owned::Message(channel, payload))
        }),
        bytes().prop_map(|channel| {
            let encoded = [
                push(&[b"ssubscribe", &channel])[4..].to_vec(),
                b":1\r\n".to_vec(),
            ];
            let encoded = [b">3\r\n".to_vec(), encoded.concat()].concat();
            (encoded, Owned::Subscribed(channel))
        }),
        bytes().prop_map(|channel| {
            (
                push(&[b"sunsubscribe", &channel]),
                Owned::Unsubscribed(channel),
            )
        }),
        Just((push(&[b"invalidate", b"key"]), Owned::OtherPush)),
        Just((push(&[b"smessage", b"channel"]), Owned::OtherPush)),
        Just((b">0\r\n".to_vec(), Owned::OtherPush)),
        "[ -~]{0,30}".prop_map(|text| {
            (
                format!("-{text}\r\n").into_bytes(),
                Owned::Refused(text.into_bytes()),
            )
        }),
        "[ -~]{0,30}".prop_map(|text| {
            let encoded = format!("!{}\r\n{text}\r\n", text.len());
            (encoded.into_bytes(), Owned::Refused(text.into_bytes()))
        }),
        answer().prop_map(|encoded| (encoded, Owned::Answer)),
    ]
}

proptest! {
    #[test]
    fn values_are_read_however_they_arrive(
        values in vec(value(), 1..8),
        pieces in vec(1_usize..50, 1..20),
    ) {
        let (encoded, expected): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let encoded = encoded.concat();
        let mut reader = ValueReader::default();
        let mut found: Vec<Owned> = Vec::new();
        let mut rest = &encoded[..];
        for length in pieces.iter().cycle() {
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            reader.room().extend_from_slice(piece);
            while let Some(value) = reader.next_value().unwrap() {
                found.push(value.into());
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert!(reader.room().is_empty());
    }

    #[test]
    fn the_bytes_of_a_value_are_exactly_its_own((encoded, _) in value(), after in vec(any::<u8>(), 0..5)) {
        let mut reader = ValueReader::default();
        reader.room().extend_from_slice(&encoded);
        reader.room().extend_from_slice(&after);
        prop_assert_eq!(reader.next_bytes().unwrap(), Some(&encoded[..]));
    }

    #[test]
    fn any_bytes_are_read_refused_or_awaited(bytes in vec(any::<u8>(), 0..200)) {
        let mut reader = ValueReader::default();
        reader.room().extend_from_slice(&bytes);
        while let Ok(Some(_)) = reader.next_value() {}
    }

    #[test]
    fn text_that_looks_like_values_is_read_refused_or_awaited(text in "[-$*>%|+:!=~#_,(0-9\r\n]{0,60}") {
        let mut reader = ValueReader::default();
        reader.room().extend_from_slice(text.as_bytes());
        while let Ok(Some(_)) = reader.next_value() {}
    }
}

fn read(bytes: &[u8]) -> Result<Option<Owned>, Malformed> {
    let mut reader = ValueReader::default();
    reader.room().extend_from_slice(bytes);
    Ok(reader.next_value()?.map(Owned::from))
}

#[test]
fn what_is_not_a_value_is_refused() {
    for (bytes, malformed) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], Malformed::Type(b'H')),
        (b">3\r\nx", Malformed::Type(b'x')),
        (b"$x\r\n", Malformed::Length),
        (b"$-2\r\n", Malformed::Length),
        (b"$\r\n", Malformed::Length),
        (b"$?\r\n", Malformed::Length),
        (b"+a\rb", Malformed::Length),
        (b"$2\r\nabc\r\n", Malformed::Length),
        (b"$99999999999\r\n", Malformed::TooLarge),
        (b"$18446744073709551616\r\n", Malformed::Length),
        (b"*9999999\r\n", Malformed::TooLarge),
        (b"%9223372036854775807\r\n", Malformed::TooLarge),
        (b"|9223372036854775807\r\n", Malformed::TooLarge),
    ] {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(read(bytes), Err(malformed), "{shown:?}");
    }
    assert_eq!(read(&vec![b'+'; MAX_LINE + 2]), Err(Malformed::TooLarge));
}

#[test]
fn a_value_with_too_many_elements_is_refused_however_deep_they_are() {
    let deep = b"*1\r\n".repeat(5000);
    assert_eq!(read(&deep), Err(Malformed::TooLarge));
    let wide = b"*3000\r\n".repeat(2);
    assert_eq!(read(&wide), Err(Malformed::TooLarge));
}

#[test]
fn a_long_value_is_read_and_its_memory_is_given_back() {
    let payload = vec![7; 3_000_000];
    let encoded = push(&[b"smessage", b"channel", &payload]);
    let mut reader = ValueReader::default();
    for piece in encoded.chunks(10_000) {
        assert_eq!(reader.next_value(), Ok(None));
        reader.room().extend_from_slice(piece);
    }
    let message = Value::Message {
        channel: b"channel",
        payload: &payload,
    };
    assert_eq!(reader.next_value(), Ok(Some(message)));
    reader.room().extend_from_slice(b"+OK\r\n");
    assert_eq!(reader.next_value(), Ok(Some(Value::Answer)));
    assert!(reader.room().capacity() <= MAX_KEPT);
}

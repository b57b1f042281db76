//! Whatever a client sends is read as tungstenite reads it, however its bytes arrive.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use test_support::frames::{FINAL, masked};
use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::*;

/// Longest message of these tests.
const MAX: usize = 300;
const COMPRESSED: u8 = 0x40;
const TEXT: u8 = 0x1;
const GO_ON: u8 = 0x0;

/// Takes out everything, until more bytes are needed, the client closes, or it breaks the protocol.
fn take_all(decoder: &mut Decoder, taken: &mut Vec<Decoded>) -> Result<(), Violation> {
    while let Some(decoded) = decoder.next()? {
        let is_end = matches!(decoded, Decoded::Close(_));
        taken.push(decoded);
        if is_end {
            break;
        }
    }
    Ok(())
}

fn decode(bytes: &[u8], step: usize, compressed: bool) -> (Vec<Decoded>, Result<(), Violation>) {
    let mut decoder = Decoder::new(MAX, compressed);
    let mut taken = Vec::new();
    for part in bytes.chunks(step) {
        decoder.receive(part);
        let result = take_all(&mut decoder, &mut taken);
        if result.is_err() || matches!(taken.last(), Some(Decoded::Close(_))) {
            return (taken, result);
        }
    }
    (taken, Ok(()))
}

/// The received bytes as a stream that has nothing more for now.
struct Received<'a>(&'a [u8]);

impl Read for Received<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Received<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite reads.
fn expected(bytes: &[u8]) -> (Vec<Decoded>, Result<(), Violation>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX))
        .max_frame_size(Some(MAX));
    let mut stream = Received(bytes);
    let mut protocol = WebSocketContext::new(Role::Server, Some(config));
    let mut taken = Vec::new();
    loop {
        let decoded = match protocol.read(&mut stream) {
            Ok(Message::Text(text)) => Decoded::Text(text.to_string()),
            Ok(Message::Binary(_)) => Decoded::Binary,
            Ok(Message::Ping(content)) => Decoded::Ping(content.to_vec()),
            Ok(Message::Pong(_)) => Decoded::Pong,
            Ok(Message::Close(close)) => {
                let code = close.map_or(CloseCode::Normal, |close| close.code);
                taken.push(Decoded::Close(code));
                return (taken, Ok(()));
            }
            Ok(Message::Frame(_)) => unreachable!(),
            Err(Error::Io(_)) => return (taken, Ok(())),
            Err(Error::Capacity(_)) => return (taken, Err(TOO_LONG)),
            Err(Error::Utf8(_)) => return (taken, Err(NOT_TEXT)),
            Err(_) => return (taken, Err(PROTOCOL)),
        };
        taken.push(decoded);
    }
}

/// A frame that may break any rule.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x00, 0x01, 0x80, 0x81, 0x82, 0x89, 0x8a]),
        1 => Just(0x88),
        1 => any::<u8>(),
    ];
    let content = prop_oneof![
        4 => "[a-zü]{0,20}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..8),
        1 => (100_usize..320).prop_map(|length| vec![b'x'; length]),
    ];
    (first, content, 0..40_u8).prop_map(|(first, content, unmasked)| {
        let mut frame = masked(first, &content);
        if unmasked == 0 {
            frame[1] &= 0x7f;
        }
        frame
    })
}

proptest! {
    #[test]
    fn frames_are_read_as_tungstenite_reads_them(
        frames in prop::collection::vec(frame(), 0..12),
        cut in prop_oneof![Just(0), 1_usize..20],
        step in 1_usize..600,
    ) {
        let mut bytes = frames.concat();
        bytes.truncate(bytes.len().saturating_sub(cut));
        let (taken, result) = decode(&bytes, step, false);
        let (expected, expected_result) = expected(&bytes);
        if expected_result == Err(NOT_TEXT) {
            // tungstenite refuses the first fragment that is not UTF-8, this decoder the whole message. Control frames may come before.
            prop_assert!(taken.starts_with(&expected));
            let is_control = |decoded: &Decoded| !matches!(decoded, Decoded::Text(_) | Decoded::Binary);
            prop_assert!(taken[expected.len()..].iter().all(is_control));
            return Ok(());
        }
        prop_assert_eq!(taken, expected);
        // Of several broken rules the two may name another first, and this decoder does not wait for the content of a frame that it
        // will refuse.
        if cut == 0 {
            prop_assert_eq!(result.is_err(), expected_result.is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_the_same_however_they_arrive(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        step in 1_usize..100,
        compressed: bool,
    ) {
        prop_assert_eq!(decode(&bytes, step, compressed), decode(&bytes, 400, compressed));
    }

    #[test]
    fn a_compressed_message_is_inflated_however_it_is_cut(
        text in "[a-zü ]{130,150}",
        cut in 1_usize..60,
        step in 1_usize..600,
    ) {
        let Some(compressed) = deflate::compress(text.as_bytes()) else {
            return Ok(());
        };
        let cut = cut.min(compressed.len());
        let mut bytes = masked(COMPRESSED | TEXT, &compressed[..cut]);
        bytes.extend(masked(0x8a, b""));
        bytes.extend(masked(FINAL | GO_ON, &compressed[cut..]));
        bytes.extend(masked(FINAL | TEXT, b"plain"));
        let (taken, result) = decode(&bytes, step, true);
        let plain = Decoded::Text("plain".to_owned());
        prop_assert_eq!(taken, [Decoded::Pong, Decoded::Text(text), plain]);
        prop_assert_eq!(result, Ok(()));
    }
}

#[test]
fn the_mark_of_compression_is_refused_where_it_has_no_meaning() {
    let begun = masked(COMPRESSED | TEXT, b"");
    let with = |frame: Vec<u8>| [begun.clone(), frame].concat();
    for (bytes, was_agreed) in [
        (masked(FINAL | COMPRESSED | TEXT, b"x"), false),
        (with(masked(FINAL | COMPRESSED | GO_ON, b"x")), true),
        (masked(FINAL | COMPRESSED | 0x9, b"x"), true),
        (masked(FINAL | 0x20 | TEXT, b"x"), true),
    ] {
        assert_eq!(decode(&bytes, 100, was_agreed).1, Err(PROTOCOL));
    }
}

#[test]
fn a_compressed_message_has_the_same_bound() {
    let fits = "x".repeat(MAX);
    for (text, expected) in [(fits.clone(), Ok(())), (fits + "x", Err(TOO_LONG))] {
        let compressed = deflate::compress(text.as_bytes()).unwrap();
        assert!(compressed.len() < 20);
        let frame = masked(FINAL | COMPRESSED | TEXT, &compressed);
        assert_eq!(decode(&frame, 1000, true).1, expected);
    }
    let no_deflate = masked(FINAL | COMPRESSED | TEXT, &[0xff; 10]);
    assert_eq!(decode(&no_deflate, 100, true).1, Err(NOT_TEXT));
}

#[test]
fn nothing_is_kept_between_messages() {
    let mut decoder = Decoder::new(MAX, false);
    decoder.receive(&masked(FINAL | TEXT, &[b'x'; MAX]));
    assert!(matches!(decoder.next(), Ok(Some(Decoded::Text(_)))));
    assert!(!decoder.is_within_message());
    assert_eq!(decoder.next(), Ok(None));
    assert_eq!(decoder.received.capacity(), 0);
}

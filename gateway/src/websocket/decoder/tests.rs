//! Whatever a client sends is read as tungstenite reads it, however its bytes arrive.

use proptest::prelude::*;
use test_support::frames::{FINAL, masked};

use super::fuzz::{MAX, as_expected, decode};
use super::*;

const COMPRESSED: u8 = 0x40;
const TEXT: u8 = 0x1;
const GO_ON: u8 = 0x0;

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
        as_expected(&bytes, step, cut == 0);
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

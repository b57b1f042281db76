use super::*;

#[track_caller]
fn check(kept: &[u8], size: usize, expected: &str, is_cut: bool) {
    let expected = Payload::Text(expected.to_owned());
    assert_eq!(payload_of(kept, size), (expected, is_cut));
}

#[test]
fn hidden_characters_of_a_payload_are_escaped() {
    check(b"", 0, "", false);
    check(br#"{"a":1"#, 6, r#"{"a":1"#, false);
    check(b"\x1b[2J\0\r\n", 7, r"\u001b[2J\u0000\u000d\u000a", false);
    check("a\u{202e}b\u{feff}".as_bytes(), 8, r"a\u202eb\ufeff", false);
    check("5 µg/m³".as_bytes(), 9, "5 µg/m³", false);
}

#[test]
fn a_payload_that_is_no_text_is_base64() {
    let payload = Payload::Bytes("/wA=".to_owned());
    assert_eq!(payload_of(&[0xff, 0], 2), (payload, false));
    // The end is missing, and it was not cut.
    let payload = Payload::Bytes("w7w=".replace("w7w", "YcM"));
    assert_eq!(payload_of(&[b'a', 0xc3], 2), (payload, false));
}

#[test]
fn it_says_when_there_is_more_of_a_payload() {
    check(b"abc", 20_000, "abc", true);
    // Half of a character.
    check(&"aü".as_bytes()[..2], 20_000, "a", true);
    let nothing = vec![0; DeadLetter::MAX_BYTES];
    let (payload, is_cut) = payload_of(&nothing, nothing.len());
    let Payload::Text(text) = payload else {
        panic!("{payload:?}");
    };
    assert!(is_cut && text.len() <= DeadLetter::MAX_BYTES);
    assert!(text.starts_with(r"\u0000\u0000"));
}

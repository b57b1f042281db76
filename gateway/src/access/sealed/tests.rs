use super::*;

fn secret(bytes: &[u8]) -> Result<SealSecret, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    std::fs::write(&path, bytes).expect("a file");
    SealSecret::read(&path)
}

#[test]
fn replicas_with_the_same_secret_open_each_others_values() {
    let (one, other) = (
        secret(&[b'x'; 32]),
        secret(b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"),
    );
    let (one, other) = (one.expect("a secret"), other.expect("a secret"));
    let text = one.seal_for("a").seal(&("Ada", 7)).expect("short enough");
    let open = |secret: &SealSecret, purpose| secret.seal_for(purpose).open::<(String, u8)>(&text);
    assert_eq!(open(&other, "a"), Some(("Ada".to_owned(), 7)));
    assert_eq!(open(&other, "b"), None, "another purpose");
    let stranger = secret(&[b'y'; 32]).expect("a secret");
    assert_eq!(open(&stranger, "a"), None, "another secret");
    let again = one.seal_for("a").seal(&("Ada", 7)).expect("short enough");
    assert_ne!(text, again, "nobody sees that two values are equal");
}

#[test]
fn a_value_that_was_changed_is_none() {
    let seal = secret(&[b'x'; 32]).expect("a secret").seal_for("a");
    let text = seal.seal(&"value").expect("short enough");
    let bytes = URL_SAFE_NO_PAD.decode(&text).expect("base64");
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let changed = URL_SAFE_NO_PAD.encode(changed);
        assert_eq!(seal.open::<String>(&changed), None, "byte {at}");
        assert_eq!(seal.open::<String>(&text[..at]), None, "up to {at}");
    }
    for other in ["", "x", "ä", &"A".repeat(MAX_SEALED + 1)] {
        assert_eq!(seal.open::<String>(other), None, "{other}");
    }
    assert_eq!(seal.open::<u8>(&text), None, "another type");
}

#[test]
fn values_fit_into_a_cookie_and_secrets_are_long_enough() {
    let seal = secret(&[b'x'; 32]).expect("a secret").seal_for("a");
    let longest = "x".repeat(MAX_SEALED / 4 * 3 - NONCE_LEN - 16 - 2);
    let text = seal.seal(&longest).expect("just short enough");
    assert_eq!(seal.open(&text), Some(longest.clone()));
    assert_eq!(seal.seal(&(longest + "x")), Err(TooLong));
    let short = secret(b"0123456789012345678901234567890 \n").err();
    assert_eq!(short.as_deref(), Some("a secret has at least 32 bytes"));
}

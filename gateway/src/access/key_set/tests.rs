//! Which published keys count.

use serde_json::{Value, json};

use super::*;

/// From RFC 7515, appendix A.3, and RFC 8037, appendix A.2.
fn p256() -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
}

fn ed25519() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

fn rsa(bits: usize) -> Value {
    let mut modulus = vec![0xff; bits / 8];
    // An exact number of bits, and a zero in front, which some libraries write.
    modulus.insert(0, 0);
    json!({"kty": "RSA", "kid": "rsa", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"})
}

fn with(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

/// Returns algorithm and name of each key.
fn read(keys: &[Value]) -> Result<Vec<(Algorithm, Option<String>)>, KeySetError> {
    let text = json!({"keys": keys}).to_string();
    let keys = parse(text.as_bytes())?.into_iter();
    Ok(keys
        .map(|key| (key.algorithm, key.id.map(String::from)))
        .collect())
}

#[test]
fn each_key_counts_for_one_algorithm() {
    let named = |name: &str| Some(name.to_owned());
    let expected = vec![
        (Algorithm::ES256, named("ec")),
        (Algorithm::EdDSA, named("ed")),
        (Algorithm::RS256, named("rsa")),
    ];
    assert_eq!(read(&[p256(), ed25519(), rsa(2048)]), Ok(expected));
    assert_eq!(
        read(&[with(p256(), "kid", json!(null))]),
        Ok(vec![(Algorithm::ES256, None)])
    );
}

#[test]
fn keys_for_something_else_are_left_out() {
    for key in [
        json!({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"}),
        with(p256(), "use", json!("enc")),
        with(p256(), "key_ops", json!(["sign"])),
        with(p256(), "crv", json!("P-384")),
        with(p256(), "alg", json!("ES384")),
        with(p256(), "x", json!("AAAA")),
        with(p256(), "y", json!(null)),
        with(rsa(2048), "alg", json!("RS512")),
        with(rsa(2048), "alg", json!("RSA-OAEP")),
        with(rsa(2048), "n", json!("not base64!")),
        with(rsa(2048), "n", json!("")),
        rsa(1024),
        rsa(8192),
        with(ed25519(), "crv", json!("X25519")),
        with(ed25519(), "x", json!("AAAA")),
        json!("text"),
    ] {
        assert_eq!(
            read(std::slice::from_ref(&key)),
            Err(KeySetError::NoKey),
            "{key}"
        );
        // Beside a good one.
        let read = read(&[key.clone(), ed25519()]).expect("one key");
        assert_eq!(read.len(), 1, "{key}");
    }
    for key in [
        with(p256(), "use", json!("sig")),
        with(p256(), "key_ops", json!(["verify"])),
        with(p256(), "alg", json!("ES256")),
        with(p256(), "unknown", json!({})),
        with(ed25519(), "alg", json!("EdDSA")),
        with(ed25519(), "alg", json!("Ed25519")),
        rsa(4096),
    ] {
        assert!(read(std::slice::from_ref(&key)).is_ok(), "{key}");
    }
}

#[test]
fn other_documents_are_refused() {
    for text in ["", "null", "[]", "{}", r#"{"keys": 1}"#, "<html>"] {
        assert_eq!(
            parse(text.as_bytes()).err(),
            Some(KeySetError::Unreadable),
            "{text}"
        );
    }
    assert_eq!(read(&[]), Err(KeySetError::NoKey));
    assert_eq!(
        read(&vec![p256(); MAX_KEYS])
            .expect("as many as allowed")
            .len(),
        MAX_KEYS
    );
    assert_eq!(read(&vec![p256(); MAX_KEYS + 1]), Err(KeySetError::TooMany));
}

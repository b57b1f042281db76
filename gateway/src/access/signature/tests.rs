use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use test_support::tokens::{Signed, TokenIssuer};

use super::*;

/// Each algorithm with the keys that it has as files and as published.
fn keys(issuer: &TokenIssuer, signed: Signed) -> (Algorithm, Vec<DecodingKey>) {
    let file = std::fs::read(issuer.public_key(signed)).unwrap();
    let published = || {
        let key = issuer.published_key(signed, "k").unwrap();
        let key = serde_json::from_value(key).unwrap();
        DecodingKey::from_jwk(&key).unwrap()
    };
    match signed {
        Signed::Hs256 => {
            let secret = DecodingKey::from_secret(file.trim_ascii_end());
            (Algorithm::HS256, vec![secret])
        }
        Signed::Rs256 => (
            Algorithm::RS256,
            vec![DecodingKey::from_rsa_pem(&file).unwrap(), published()],
        ),
        Signed::Es256 => (
            Algorithm::ES256,
            vec![DecodingKey::from_ec_pem(&file).unwrap(), published()],
        ),
        Signed::EdDsa => (
            Algorithm::EdDSA,
            vec![DecodingKey::from_ed_pem(&file).unwrap(), published()],
        ),
    }
}

/// The library for tokens has signed, so both agree.
#[test]
fn a_signature_is_that_of_its_message_key_and_algorithm_alone() {
    let (issuer, stranger) = (TokenIssuer::new().unwrap(), TokenIssuer::new().unwrap());
    let all = [Signed::Hs256, Signed::Rs256, Signed::Es256, Signed::EdDsa];
    for signed in all {
        let token = issuer.token(signed, json!({})).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let (algorithm, own) = keys(&issuer, signed);
        for key in &own {
            let is_signed = |message: &[u8], signature: &[u8]| {
                super::is_signed(message, signature, algorithm, key)
            };
            assert!(is_signed(message.as_bytes(), &signature), "{signed:?}");
            for position in [0, signature.len() / 2, signature.len() - 1] {
                let mut changed = signature.clone();
                changed[position] ^= 1;
                assert!(!is_signed(message.as_bytes(), &changed), "{signed:?}");
            }
            let changed = format!("{message}x");
            assert!(!is_signed(changed.as_bytes(), &signature), "{signed:?}");
            for other in [&signature[1..], &[], &[0; 64], &[0; 256]] {
                assert!(!is_signed(message.as_bytes(), other), "{signed:?}");
            }
        }
        // The same key of somebody else, and any key with another algorithm.
        let others = all.into_iter().filter(|other| *other != signed);
        let others = others.map(|other| keys(&issuer, other));
        for (algorithm, keys) in others.chain([keys(&stranger, signed)]) {
            for key in keys {
                let found = is_signed(message.as_bytes(), &signature, algorithm, &key);
                assert!(!found, "{signed:?} {algorithm:?}");
            }
        }
        for (other, _) in all.map(|other| keys(&issuer, other)) {
            let found = is_signed(message.as_bytes(), &signature, other, &own[0]);
            assert_eq!(found, other == algorithm, "{signed:?} {other:?}");
        }
    }
}

#[test]
fn zeros_in_front_of_a_number_do_not_count() {
    assert_eq!(without_zeros(&[0, 0, 1, 0]), &[1, 0]);
    assert_eq!(without_zeros(&[0]), &[] as &[u8]);
}

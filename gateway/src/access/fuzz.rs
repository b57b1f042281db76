//! What must hold for whatever comes as a token, or as the keys of an identity provider.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::{Algorithm, DecodingKey, decode_header};
use ring::hmac;
use serde_json::Value;
use shared::visible_text::is_hidden;

use super::*;
use crate::access::permission::{MAX_PATTERNS, Verb};

const NOW: Time = Time::from_millis(1_795_466_059_773);
const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "gas-monitor";
const LEEWAY: Duration = Duration::from_secs(10);
const SECRET: &[u8] = b"a secret that is known to this target alone";
const OTHER_SECRET: &[u8] = b"a secret that is known to somebody else alone";

/// The public keys of the examples of RFC 7515 (A.2 and A.3) and RFC 8037 (A.2). Nobody signs tokens for [`AUDIENCE`] with them.
const PUBLIC_KEYS: &str = r#"{"keys":[
{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"},
{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let mut keys = key_set::parse(PUBLIC_KEYS.as_bytes()).expect("keys");
    keys.push(Key {
        algorithm: Algorithm::HS256,
        id: None,
        verifier: DecodingKey::from_secret(SECRET),
    });
    Tokens {
        keys,
        published: None,
        rules: ClaimRules {
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            leeway: LEEWAY,
        },
    }
});

/// Input: a digit, then a token (0), or a line with its header and then its claims, to be signed with our secret (1), with another one
/// (2), or with a public key as if it were one (3).
pub(crate) fn token(input: &[u8]) {
    let Some((&how, rest)) = input.split_first() else {
        return;
    };
    let tokens = &*TOKENS;
    let (token, may_count) = match how & 3 {
        0 => (String::from_utf8_lossy(rest).into_owned(), true),
        1 => (signed(rest, SECRET), true),
        2 => (signed(rest, OTHER_SECRET), false),
        _ => {
            let public = tokens.keys[0].verifier.try_get_as_bytes();
            (signed(rest, public.unwrap_or_default()), false)
        }
    };
    check_explained(&token);
    let Some(Ok(claims)) = tokens.verify(&token, &[], None) else {
        return;
    };
    assert!(may_count, "signed by somebody else: {token}");
    assert!(is_signed(&token), "not signed: {token}");
    let [header, sent] = [0, 1].map(|part| part_of(&token, part));
    assert_eq!(header["alg"], "HS256");
    assert!(
        header["crit"].is_null(),
        "it must be understood, and is not"
    );
    assert!(names(&sent["iss"], ISSUER) && names(&sent["aud"], AUDIENCE));
    if let Ok(identity) = claims.into_identity(&tokens.rules, NOW) {
        check_identity(&identity, &sent);
    }
}

/// What an operator reads about a token clears no terminal.
fn check_explained(token: &str) {
    let (Ok(header), Ok(decoded)) = (decode_header(token), insecure_decode::<Value>(token)) else {
        return;
    };
    let Tokens { keys, rules, .. } = &*TOKENS;
    let mut problems = explanation::key_problems(token, &header, keys, rules);
    problems.extend(explanation::claim_problems(&decoded.claims, rules, NOW));
    for problem in problems {
        assert!(!problem.chars().any(is_hidden), "{problem:?}");
    }
}

/// A token allows nothing that it does not say.
fn check_identity(identity: &Identity, sent: &Value) {
    let expires = identity.expires().expect("a token expires");
    assert!(expires + LEEWAY > NOW);
    let subject = identity.subject().expect("a token has a subject");
    assert_eq!(sent["sub"], subject);
    assert!(!subject.is_empty() && subject.chars().count() <= 128);
    assert!(!subject.chars().any(char::is_control));

    let permission = identity.permission();
    for (verb, name) in [
        (Verb::Read, "read"),
        (Verb::Ack, "ack"),
        (Verb::Operate, "operate"),
        (Verb::Admin, "admin"),
    ] {
        let verbs = sent["verbs"].as_array();
        let is_sent = verbs.is_some_and(|verbs| verbs.iter().any(|verb| verb == name));
        assert_eq!(permission.has(verb), is_sent);
    }
    let patterns: Vec<&str> = permission.devices().collect();
    assert!(patterns.len() <= MAX_PATTERNS);
    let is_limited = !sent["sites"].is_null() || !sent["zones"].is_null();
    assert!(!is_limited || patterns.is_empty(), "more than it says");
    let devices = sent["devices"].as_array();
    let is_sent =
        |pattern: &&str| devices.is_some_and(|sent| sent.iter().any(|sent| sent == pattern));
    assert!(patterns.iter().all(is_sent));
    let device = "OTSM-0114";
    if permission.allows(Verb::Ack, device) {
        assert!(permission.has(Verb::Read) && permission.has(Verb::Ack));
        assert!(
            patterns
                .iter()
                .any(|pattern| *pattern == device || pattern.contains('*'))
        );
    }
}

/// Signs these claims with this header.
fn signed(header_and_claims: &[u8], secret: &[u8]) -> String {
    let mut parts = header_and_claims.splitn(2, |byte| *byte == b'\n');
    let mut part = || URL_SAFE_NO_PAD.encode(parts.next().unwrap_or_default());
    let input = format!("{}.{}", part(), part());
    let signature = hmac::sign(&hmac_key(secret), input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn hmac_key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

/// Whether our secret has signed it: everything before the last point, whatever the token says of itself.
fn is_signed(token: &str) -> bool {
    let Some((input, signature)) = token.rsplit_once('.') else {
        return false;
    };
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    hmac::verify(&hmac_key(SECRET), input.as_bytes(), &signature).is_ok()
}

fn part_of(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap_or_default();
    let part = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    // A claim that nobody reads need not be UTF-8.
    serde_json::from_str(&String::from_utf8_lossy(&part)).unwrap_or_default()
}

/// Whether a claim is this text, or a list with it.
fn names(claim: &Value, expected: &str) -> bool {
    let list = claim.as_array();
    claim == expected || list.is_some_and(|list| list.iter().any(|entry| entry == expected))
}

/// Input: what an identity provider publishes.
pub(crate) fn key_set(input: &[u8]) {
    let Ok(keys) = key_set::parse(input) else {
        return;
    };
    assert!((1..=32).contains(&keys.len()));
    for key in keys {
        let algorithms = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
        assert!(algorithms.contains(&key.algorithm), "{:?}", key.algorithm);
    }
}

//! Whatever text is sent as a token: only what was signed is believed, and only as far as it says.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// A character of a token, or another one.
fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        4 => proptest::char::range('A', 'z'),
        1 => Just('.'),
        1 => Just('='),
        1 => any::<char>(),
    ]
}

/// The claims that a token may have: those of the rules, and any others.
fn claim() -> impl Strategy<Value = (String, Value)> {
    let name = prop_oneof![
        Just("sub"),
        Just("name"),
        Just("jti"),
        Just("exp"),
        Just("nbf"),
        Just("devices"),
        Just("verbs"),
        Just("sites"),
        Just("zones"),
    ];
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,140}".prop_map(Value::from),
        proptest::collection::vec("[A-Z*0-9-]{0,6}", 0..4).prop_map(Value::from),
        proptest::collection::vec("read|ack|operate|admin", 0..4).prop_map(Value::from),
    ];
    (name.prop_map(str::to_owned), value)
}

/// The keys are made once: that takes longer than a case.
static DOOR: LazyLock<(TokenIssuer, Access)> = LazyLock::new(|| {
    let issuer = issuer();
    let access = access(&issuer, &[]);
    (issuer, access)
});

proptest! {
    #[test]
    fn a_token_of_which_anything_was_changed_is_refused(
        at in any::<prop::sample::Index>(),
        new in character(),
        cut in any::<bool>(),
    ) {
        let (issuer, access) = &*DOOR;
        for signed in [Signed::Hs256, Signed::Es256] {
            let good: Vec<char> = issuer.token(signed, json!({})).expect("a token").chars().collect();
            let mut bad = good.clone();
            let index = at.index(bad.len());
            if cut {
                bad.truncate(index);
            } else {
                bad[index] = new;
            }
            prop_assume!(bad != good);
            let bad: String = bad.into_iter().collect();
            prop_assert!(access.admit_now(&of_token(&bad), None).is_err(), "{}", bad);
        }
    }

    #[test]
    fn any_text_is_refused(text in proptest::collection::vec(character(), 0..200)) {
        let (_, access) = &*DOOR;
        let text: String = text.into_iter().collect();
        prop_assert!(access.admit_now(&of_token(&text), None).is_err());
    }

    #[test]
    fn signed_claims_allow_no_more_than_they_say(claims in proptest::collection::vec(claim(), 0..4)) {
        let (issuer, access) = &*DOOR;
        let claims = Value::Object(claims.into_iter().collect());
        let token = issuer.token(Signed::Hs256, claims).expect("a token");
        // What was left out is as the issuer of these tests has it: all devices, and all verbs but `admin`.
        let said = insecure_claims(&token);
        if let Ok(identity) = access.admit_now(&of_token(&token), None) {
            let permission = identity.permission();
            prop_assert_eq!(identity.subject().map(str::len).unwrap_or_default() > 0, true);
            let verbs = said["verbs"].as_array().cloned().unwrap_or_default();
            for (verb, name) in [(Verb::Read, "read"), (Verb::Ack, "ack"), (Verb::Admin, "admin")] {
                prop_assert_eq!(permission.has(verb), verbs.contains(&json!(name)));
            }
            let devices = said["devices"].as_array().cloned().unwrap_or_default();
            let is_limited = !said["sites"].is_null() || !said["zones"].is_null();
            if devices.is_empty() || is_limited {
                prop_assert!(!permission.allows(Verb::Read, "OTSM-0114"));
            }
        }
    }
}

fn insecure_claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode_claims(token).expect("claims")
}

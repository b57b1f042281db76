//! Which tokens are accepted. The keys are made by `openssl`, the tokens signed by the library.

mod properties;

use std::io::Write as _;
use std::time::Duration;

use jsonwebtoken::dangerous::insecure_decode;
use serde_json::{Value, json};
use shared::clock::SystemClock;
use shared::store::Revoked;
use test_support::tokens::{Signed, TokenIssuer, seconds_from_now};

use super::identity::TokenFacts;
use super::permission::{Permission, Verb};
use super::*;
use crate::test_setup;

const ALL: [Signed; 4] = [Signed::Hs256, Signed::Rs256, Signed::Es256, Signed::EdDsa];

fn access(issuer: &TokenIssuer, flags: &[&str]) -> Access {
    let of_issuer = issuer.flags();
    let mut all: Vec<&str> = of_issuer.iter().map(String::as_str).collect();
    all.extend(flags);
    let config = test_setup::config("127.0.0.1:1", &all);
    test_setup::access(&config)
}

fn of_token(token: &str) -> Credential {
    Credential::Token(token.into())
}

fn issuer() -> TokenIssuer {
    TokenIssuer::new().expect("keys")
}

fn token(issuer: &TokenIssuer, changes: Value) -> String {
    issuer.token(Signed::Es256, changes).expect("a token")
}

#[test]
fn each_algorithm_is_accepted_with_its_own_key() {
    let issuer = issuer();
    let access = access(&issuer, &[]);
    for signed in ALL {
        let token = issuer.token(signed, json!({})).expect("a token");
        let identity = access.admit_now(&of_token(&token), None).expect("admitted");
        assert_eq!(identity.subject(), Some("user-1"), "{signed:?}");
        assert_eq!(identity.shown_name(), Some("Ada Example"));
        assert!(identity.permission().allows(Verb::Ack, "OTSM-0114"));
        assert!(!identity.permission().has(Verb::Admin));
    }
}

#[test]
fn keys_of_somebody_else_are_refused() {
    let (ours, theirs) = (issuer(), issuer());
    let access = access(&ours, &[]);
    for signed in ALL {
        let token = theirs.token(signed, json!({})).expect("a token");
        assert_eq!(
            access.admit_now(&of_token(&token), None),
            Err(NotAdmitted::Invalid),
            "{signed:?}"
        );
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let issuer = issuer();
    let access = access(&issuer, &[]);
    for signed in [Signed::Rs256, Signed::Es256, Signed::EdDsa] {
        let token = issuer.confused_token(signed, json!({})).expect("a token");
        assert_eq!(
            access.admit_now(&of_token(&token), None),
            Err(NotAdmitted::Invalid),
            "{signed:?}"
        );
    }
}

#[test]
fn what_must_be_understood_is_not() {
    let issuer = issuer();
    let access = access(&issuer, &[]);
    for extensions in [&["b64"][..], &["exp"], &[]] {
        for signed in ALL {
            let token = issuer.critical_token(signed, extensions);
            assert_eq!(
                access.admit_now(&of_token(&token.expect("a token")), None),
                Err(NotAdmitted::Invalid),
                "{signed:?} {extensions:?}"
            );
        }
    }
}

#[test]
fn without_a_signature_nothing_is_believed() {
    let issuer = issuer();
    let access = access(&issuer, &[]);
    let good = token(&issuer, json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("three parts");
    };
    // {"alg":"none","typ":"JWT"} and variants of its spelling.
    for header_of_none in [
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0",
        "eyJhbGciOiJOb25lIn0",
        "eyJhbGciOiIifQ",
    ] {
        for rest in [
            format!("{claims}."),
            format!("{claims}.{signature}"),
            claims.to_owned(),
        ] {
            let token = format!("{header_of_none}.{rest}");
            assert_eq!(
                access.admit_now(&of_token(&token), None),
                Err(NotAdmitted::Invalid),
                "{token}"
            );
        }
    }
    let other = token(&issuer, json!({"sub": "user-2"}));
    let other_claims = other.split('.').nth(1).expect("claims");
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}.{other_claims}.{signature}"),
        format!("{good}."),
        format!("{good}A"),
        format!(" {good}"),
        "x".repeat(9000),
    ] {
        assert_eq!(
            access.admit_now(&of_token(&bad), None),
            Err(NotAdmitted::Invalid),
            "{bad}"
        );
    }
}

#[test]
fn claims_decide() {
    let issuer = issuer();
    let access = access(&issuer, &[]);
    let invalid = Err(NotAdmitted::Invalid);
    let long = "x".repeat(129);
    for (changes, expected) in [
        (
            json!({"exp": seconds_from_now(-3600)}),
            Err(NotAdmitted::Expired),
        ),
        // The leeway is ten seconds.
        (json!({"exp": seconds_from_now(-5)}), Ok(())),
        (json!({"exp": null}), invalid),
        (json!({"exp": "tomorrow"}), invalid),
        (json!({"exp": -1}), invalid),
        (json!({"exp": 1e300}), invalid),
        (json!({"nbf": seconds_from_now(3600)}), invalid),
        (json!({"nbf": seconds_from_now(5)}), Ok(())),
        (json!({"nbf": "now"}), invalid),
        (json!({"iss": "https://login.example"}), invalid),
        (json!({"iss": null}), invalid),
        (json!({"aud": "other"}), invalid),
        (json!({"aud": ["other", "gas"]}), Ok(())),
        (json!({"aud": []}), invalid),
        (json!({"aud": null}), invalid),
        (json!({"sub": null}), invalid),
        (json!({"sub": " "}), invalid),
        (json!({"sub": long}), invalid),
        (json!({"sub": "two\nlines"}), invalid),
        (json!({"sub": "bob\u{200b}"}), invalid),
        (json!({"sub": "bob "}), invalid),
        (json!({"jti": " 1"}), invalid),
        (json!({"name": long}), Ok(())),
        (json!({"verbs": ["read", "fly"]}), invalid),
        (json!({"verbs": "read"}), invalid),
        (json!({"devices": [""]}), invalid),
        (json!({"devices": vec!["x"; 257]}), invalid),
    ] {
        let token = token(&issuer, changes.clone());
        let admitted = access.admit_now(&of_token(&token), None).map(drop);
        assert_eq!(admitted, expected, "{changes}");
    }
}

#[test]
fn a_token_allows_no_more_than_it_says() {
    let issuer = issuer();
    let access = access(&issuer, &[]);
    for (changes, reads) in [
        (json!({"devices": ["OTSM-01*"]}), true),
        (json!({"devices": ["OTSM-02*"]}), false),
        (json!({"devices": null}), false),
        (json!({"devices": []}), false),
        (json!({"verbs": null}), false),
        (json!({"verbs": ["ack"]}), false),
        // Devices have no sites and zones yet.
        (json!({"sites": ["Harbour"]}), false),
        (json!({"zones": []}), false),
    ] {
        let token = token(&issuer, changes.clone());
        let identity = access.admit_now(&of_token(&token), None).expect("admitted");
        let permission = identity.permission();
        assert_eq!(
            permission.allows(Verb::Read, "OTSM-0114"),
            reads,
            "{changes}"
        );
        assert!(!permission.reads_all(), "{changes}");
    }
}

#[test]
fn without_a_token_the_setting_decides() {
    let issuer = issuer();
    let verbs = |setting: &str| {
        let admitted = access(&issuer, &[setting]).admit_now(&Credential::None, None);
        admitted.map(|identity| {
            let verbs = [Verb::Read, Verb::Ack, Verb::Operate, Verb::Admin];
            verbs.map(|verb| identity.permission().allows(verb, "OTSM-0114"))
        })
    };
    let none = verbs("--allow-anonymous=none");
    assert_eq!(none, Err(NotAdmitted::TokenRequired));
    assert_eq!(
        verbs("--allow-anonymous=read"),
        Ok([true, false, false, false])
    );
    assert_eq!(
        verbs("--allow-anonymous=all"),
        Ok([true, true, false, false])
    );
    assert_eq!(verbs("--allow-anonymous"), Ok([true, true, false, false]));
}

#[test]
fn a_refused_token_does_not_make_its_user_anonymous() {
    let issuer = issuer();
    let expired = token(&issuer, json!({"exp": seconds_from_now(-3600)}));
    let with_keys = access(&issuer, &["--allow-anonymous=all"]);
    assert_eq!(
        with_keys.admit_now(&of_token(&expired), None),
        Err(NotAdmitted::Expired)
    );
    assert_eq!(
        with_keys.admit_now(&of_token(""), None),
        Err(NotAdmitted::Invalid)
    );
}

#[test]
fn where_no_token_can_be_checked_none_counts() {
    let without_keys = test_setup::access(&test_setup::config("127.0.0.1:1", &[]));
    let identity = without_keys
        .admit_now(&of_token("123"), None)
        .expect("admitted");
    assert_eq!(identity.subject(), None);
}

#[test]
fn until_it_is_known_what_is_revoked_no_token_counts() {
    let issuer = issuer();
    let of_issuer = issuer.flags();
    let flags: Vec<&str> = of_issuer.iter().map(String::as_str).collect();
    let config = test_setup::config("127.0.0.1:1", &flags);
    let clock = Arc::new(SystemClock::default());
    let access = config.access(clock).expect("keys");
    let token = of_token(&token(&issuer, json!({})));
    assert_eq!(access.admit_now(&token, None), Err(NotAdmitted::KeysAway));
    access.revocations().set(Vec::new());
    assert!(access.admit_now(&token, None).is_ok());
}

#[test]
fn a_session_counts_as_a_token_does() {
    let mut key = tempfile::NamedTempFile::new().expect("a file");
    key.write_all(&[b'k'; 32]).expect("written");
    let flags = [
        "--oidc-issuer=https://login.example.com",
        "--oidc-client-id=dashboard",
        "--public-url=https://gas.example.com",
        &format!("--session-key-file={}", key.path().display()),
    ];
    let config = test_setup::config("127.0.0.1:1", &flags);
    let access = config
        .access(Arc::new(SystemClock::default()))
        .expect("keys");
    let session = |expires| {
        let facts = TokenFacts {
            id: Some("session-1".into()),
            subject: "user-1".into(),
            name: None,
            expires,
        };
        let permission = Permission::with_all_devices(vec![Verb::Read]);
        Credential::WebSession(Arc::new(Identity::of_web_session(facts, permission)))
    };
    let now = access.now();
    let later = now + Duration::from_hours(1);
    let refused = |expires| access.admit_now(&session(expires), None).err();
    assert_eq!(refused(later), Some(NotAdmitted::KeysAway));
    access.revocations().set(Vec::new());
    assert_eq!(refused(later), None);
    assert_eq!(refused(now), Some(NotAdmitted::Expired));
    for revoked in [
        Revoked::Token("session-1".to_owned()),
        Revoked::Subject("user-1".to_owned()),
    ] {
        access.revocations().set(vec![(revoked.clone(), later)]);
        assert_eq!(refused(later), Some(NotAdmitted::Revoked), "{revoked:?}");
    }
}

/// The explanation is made without the decision. It must not say that nothing is wrong with a token that is refused.
#[test]
fn each_refused_token_is_explained() {
    let (ours, theirs) = (issuer(), issuer());
    let access = access(&ours, &[]);
    let with = |changes| token(&ours, changes);
    let explain = |token: &str| {
        let decoded = insecure_decode::<Value>(token).expect("a token");
        access.explain(token, &decoded.header, &decoded.claims)
    };
    for (token, named) in [
        (with(json!({"iss": "https://other.test"})), "`iss`"),
        (with(json!({"aud": "other"})), "`aud`"),
        (with(json!({"exp": 1})), "it has expired"),
        (with(json!({"exp": null})), "`exp`"),
        (with(json!({"sub": null})), "`sub`"),
        (
            with(json!({"nbf": seconds_from_now(3600)})),
            "it is not valid before",
        ),
        (with(json!({"devices": [""]})), "`devices`"),
        (with(json!({"verbs": ["everything"]})), "`verbs`"),
        (with(json!({"padding": "x".repeat(9000)})), "bytes"),
        (
            ours.critical_token(Signed::Es256, &["b64"])
                .expect("a token"),
            "`crit`",
        ),
        (
            token(&theirs, json!({})),
            "none of the keys for ES256 (1) has signed it",
        ),
        (
            ours.confused_token(Signed::Es256, json!({}))
                .expect("a token"),
            "none of the keys for HS256",
        ),
    ] {
        assert!(
            access.admit_now(&of_token(&token), None).is_err(),
            "{named}"
        );
        let reasons = explain(&token);
        assert!(
            reasons.iter().any(|reason| reason.contains(named)),
            "{named}: {reasons:?}"
        );
    }
    assert_eq!(explain(&token(&ours, json!({}))), Vec::<String>::new());
}

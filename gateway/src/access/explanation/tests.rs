use std::time::Duration;

use serde_json::json;

use super::*;

const NOW: Time = Time::from_millis(1_000_000_000);

fn rules() -> ClaimRules {
    ClaimRules {
        issuer: "https://login.test".to_owned(),
        audience: "gas".to_owned(),
        leeway: Duration::from_secs(10),
    }
}

/// Good claims with these instead. `null` leaves one out.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://login.test", "aud": ["other", "gas"], "sub": "user-1", "exp": 1_000_001,
        "devices": ["OTSM-01*"], "verbs": ["read"],
    });
    for (claim, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value.clone();
        }
    }
    claims
}

#[test]
fn each_claim_that_is_not_accepted_is_named() {
    for (changes, named) in [
        (
            json!({"iss": "https://other.test"}),
            "`iss` is `https://other.test`, expected `https://login.test`",
        ),
        (json!({"iss": null}), "`iss` is missing"),
        (
            json!({"aud": ["a", "b"]}),
            "`aud` is `[\"a\",\"b\"]`, expected `gas`",
        ),
        (json!({"exp": null}), "`exp` is missing"),
        (
            json!({"exp": "tomorrow"}),
            "`exp` is `tomorrow`: expected seconds since 1970",
        ),
        (
            json!({"exp": 999_990}),
            "it has expired at 1970-01-12T13:46:30.000Z",
        ),
        (
            json!({"nbf": 1_000_011}),
            "it is not valid before 1970-01-12T13:46:51.000Z",
        ),
        (json!({"nbf": "x"}), "`nbf` is no time"),
        (json!({"sub": null}), "`sub` is missing"),
        (
            json!({"sub": " x"}),
            "`sub` is ` x`: expected 1 to 128 characters",
        ),
        (
            json!({"jti": ""}),
            "`jti` is ``: expected 1 to 128 characters",
        ),
        (json!({"name": 7}), "`name` is no text"),
        (json!({"devices": "*"}), "`devices` is no list"),
        (json!({"devices": [""]}), "`devices` is no list"),
        (
            json!({"devices": vec!["a"; 257]}),
            "`devices` is no list of up to 256",
        ),
        (
            json!({"verbs": ["write"]}),
            "`verbs` is no list of read, ack, operate and admin",
        ),
        (json!({"zones": "Harbour"}), "`zones` is no list of texts"),
    ] {
        let problems = claim_problems(&claims(&changes), &rules(), NOW);
        let [problem] = &problems[..] else {
            panic!("{changes}: {problems:?}");
        };
        assert!(problem.starts_with(named), "{changes}: {problem}");
    }
    assert_eq!(claim_problems(&json!([]), &rules(), NOW).len(), 1);
    // All of them at once.
    let all = claim_problems(
        &claims(&json!({"iss": null, "aud": null, "sub": null})),
        &rules(),
        NOW,
    );
    assert_eq!(all.len(), 3, "{all:?}");
}

#[test]
fn what_is_accepted_has_no_problem() {
    for changes in [
        json!({}),
        json!({"aud": "gas"}),
        json!({"exp": 999_991}),
        json!({"nbf": 1_000_010}),
        json!({"name": "Ada", "jti": "1"}),
        json!({"devices": null, "verbs": null}),
        // Their patterns do not count.
        json!({"devices": [""], "sites": ["Harbour"]}),
    ] {
        let problems = claim_problems(&claims(&changes), &rules(), NOW);
        assert_eq!(problems, Vec::<String>::new(), "{changes}");
    }
}

#[test]
fn a_token_that_allows_nothing_is_explained() {
    for (changes, notes) in [
        (json!({}), 0),
        (json!({"devices": null}), 1),
        (json!({"devices": [], "verbs": []}), 2),
        (json!({"sites": ["Harbour"], "zones": ["1"]}), 2),
    ] {
        let found = claim_notes(&claims(&changes));
        assert_eq!(found.len(), notes, "{changes}: {found:?}");
    }
}

#[test]
fn the_signature_shows_the_length_of_the_key() {
    for (bits, fits) in [
        (1024, false),
        (2048, true),
        (3072, true),
        (4096, true),
        (8192, false),
    ] {
        let signature = "A".repeat((bits / 8 * 4_usize).div_ceil(3));
        let token = format!("head.claims.{signature}");
        let problem = rsa_problem(&token, Algorithm::RS256);
        assert_eq!(problem.is_none(), fits, "{bits}");
        assert!(problem.is_none_or(|problem| problem.ends_with(&bits.to_string())));
        assert_eq!(rsa_problem(&token, Algorithm::ES256), None);
    }
}

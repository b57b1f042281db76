use super::*;

fn back(text: &str) -> Option<String> {
    let public_url = "https://gas.example.com".parse().expect("a URL");
    ReturnPath::parse(text, &public_url).map(|path| path.0)
}

#[test]
fn a_browser_returns_to_a_page_of_this_service_and_nowhere_else() {
    for (text, expected) in [
        ("/", "/"),
        (
            "/devices/OTSM-0114?tab=1#alarms",
            "/devices/OTSM-0114?tab=1#alarms",
        ),
        ("/a b", "/a%20b"),
        ("/a/../b", "/b"),
        ("/?next=https://evil.example", "/?next=https://evil.example"),
        ("/ä", "/%C3%A4"),
    ] {
        assert_eq!(back(text).as_deref(), Some(expected), "{text}");
    }
    let long = format!("/{}", "x".repeat(MAX_RETURN));
    for text in [
        "",
        "devices",
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "/\t/evil.example/",
        "/\n/evil.example/",
        "/.//evil.example/",
        "/a/..//evil.example/",
        "/./\\evil.example/",
        "javascript:alert(1)",
        &long,
    ] {
        assert_eq!(back(text), None, "{text}");
    }
}

#[test]
fn an_attempt_is_answered_with_its_state_and_in_time() {
    let ends = Time::from_millis(1000);
    let path = || ReturnPath("/".to_owned());
    let (attempt, other) = (Attempt::new(path(), ends), Attempt::new(path(), ends));
    let before = Time::from_millis(999);
    assert!(attempt.is_of(Some(attempt.state()), before));
    assert!(!attempt.is_of(Some(attempt.state()), ends));
    assert!(!attempt.is_of(Some(other.state()), before));
    assert!(!attempt.is_of(None, before));
    assert!(attempt.is_nonce(Some(attempt.nonce())));
    assert!(!attempt.is_nonce(Some(other.nonce())));
    assert!(!attempt.is_nonce(None));
    assert_ne!(attempt.verifier(), other.verifier());
}

#[test]
fn the_challenge_is_the_one_of_the_standard() {
    // RFC 7636, appendix B.
    let attempt = Attempt {
        verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned(),
        ..Attempt::new(ReturnPath("/".to_owned()), Time::from_millis(0))
    };
    assert_eq!(
        attempt.challenge(),
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    );
}

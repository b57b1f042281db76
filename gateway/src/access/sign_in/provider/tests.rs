use super::*;

fn metadata(methods: Option<&[&str]>) -> Metadata {
    let document = serde_json::json!({
        "issuer": "https://login.test",
        "authorization_endpoint": "https://login.test/authorize?tenant=1",
        "token_endpoint": "https://login.test/token",
        "jwks_uri": "https://login.test/keys",
        "token_endpoint_auth_methods_supported": methods,
    });
    serde_json::from_value(document).expect("a description")
}

#[test]
fn the_secret_is_shown_as_the_provider_wants_it() {
    for (methods, in_form) in [
        (None, false),
        (Some(&[][..]), false),
        (Some(&["client_secret_basic", "client_secret_post"]), false),
        (Some(&["client_secret_post"]), true),
        (Some(&["none"]), false),
    ] {
        assert_eq!(
            metadata(methods).takes_secret_in_form(),
            in_form,
            "{methods:?}"
        );
    }
    // RFC 6749, section 2.3.1: both are encoded as in a form.
    let value = basic("gas alarm", "a:b%").expect("a value");
    let expected = STANDARD.encode("gas+alarm:a%3Ab%25");
    assert_eq!(value, format!("Basic {expected}"));
    assert!(value.is_sensitive());
}

#[test]
fn addresses_that_somebody_on_the_way_could_change_are_refused() {
    for field in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
        let mut document = serde_json::json!({
            "issuer": "https://login.test",
            "authorization_endpoint": "https://login.test/authorize",
            "token_endpoint": "https://login.test/token",
            "jwks_uri": "https://login.test/keys",
        });
        assert!(serde_json::from_value::<Metadata>(document.clone()).is_ok());
        document[field] = serde_json::json!("http://login.test/");
        assert!(
            serde_json::from_value::<Metadata>(document).is_err(),
            "{field}"
        );
    }
}

use super::*;

fn body(text: &str) -> ProfileBody {
    serde_json::from_str(text).unwrap()
}

#[test]
fn absent_and_null_are_two_things() {
    let body = body(r#"{"zone":null,"site":"Harbour"}"#);
    assert_eq!(body.name, None);
    assert_eq!(body.zone, Some(None));
    assert_eq!(body.site, Some(Some("Harbour".to_owned())));
}

#[test]
fn a_text_is_fit_for_a_screen() {
    assert_eq!(
        text("zone", "  Boiler room ", 64).unwrap(),
        Some("Boiler room".to_owned())
    );
    for nothing in ["", "  ", "\u{200b}"] {
        assert_eq!(text("zone", nothing, 64).unwrap(), None, "{nothing:?}");
    }
    assert!(text("zone", &"x".repeat(65), 64).is_err());
    assert!(text("zone", "a\u{7}b", 64).is_err());
}

#[test]
fn tags_are_compared_as_texts() {
    assert!(is_named(r#""a", W/"b""#, r#""b""#));
    assert!(is_named("*", r#""b""#));
    assert!(!is_named(r#""a""#, r#""b""#));
}

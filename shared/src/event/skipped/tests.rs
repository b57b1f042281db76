use super::*;

#[test]
fn the_number_is_the_last_field_but_more_and_grows() {
    for (payload, skipped, expected) in [
        (r#"{"seq":7}"#, 0, None),
        (r#"{"seq":7}"#, 2, Some(r#"{"seq":7,"skipped":2}"#)),
        (
            r#"{"seq":7,"skipped":2}"#,
            3,
            Some(r#"{"seq":7,"skipped":5}"#),
        ),
        (
            r#"{"seq":7,"skipped":2,"more":true}"#,
            3,
            Some(r#"{"seq":7,"skipped":5,"more":true}"#),
        ),
        (
            r#"{"seq":7,"more":true}"#,
            3,
            Some(r#"{"seq":7,"skipped":3,"more":true}"#),
        ),
        ("{}", 1, Some(r#"{"skipped":1}"#)),
        (
            r#"{"name":"\",\"skipped\":2"}"#,
            1,
            Some(r#"{"name":"\",\"skipped\":2","skipped":1}"#),
        ),
        ("7", 1, None),
    ] {
        let given = RawValue::from_string(payload.to_owned()).expect("JSON");
        let marked = with_skipped(&given, skipped);
        assert_eq!(marked.as_ref().map(|raw| raw.get()), expected, "{payload}");
        if let Some(marked) = marked {
            let total = skipped_before(&given) + skipped;
            assert_eq!(skipped_before(&marked), total, "{payload}");
        }
    }
}

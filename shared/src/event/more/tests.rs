use super::*;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

#[track_caller]
fn check(payload: &str, expected: &str) {
    let marked = with_more(raw(payload));
    assert_eq!(marked.get(), expected);
    assert_eq!(with_more(marked).get(), expected, "marked twice");
}

#[test]
fn more_becomes_the_last_field_and_other_bytes_stay() {
    check(
        r#"{ "b":1.50, "a" : {"ü":[]}}"#,
        r#"{ "b":1.50, "a" : {"ü":[]},"more":true}"#,
    );
    check(r#"{"a":1}"#, r#"{"a":1,"more":true}"#);
}

#[test]
fn a_text_that_looks_like_the_field_is_not_mistaken_for_it() {
    check(
        r#"{"a":",\"more\":true}"}"#,
        r#"{"a":",\"more\":true}","more":true}"#,
    );
    check(
        r#"{"a":{"b":1,"more":true}}"#,
        r#"{"a":{"b":1,"more":true},"more":true}"#,
    );
    check(
        r#"{"a":1,"b\",\"more":true}"#,
        r#"{"a":1,"b\",\"more":true,"more":true}"#,
    );
}

#[test]
fn what_has_no_fields_stays_as_it_is() {
    check("{}", "{}");
    check("{ }", "{ }");
    check("5", "5");
    check(r#"["}"]"#, r#"["}"]"#);
}

#[test]
fn every_payload_but_the_last_one_is_marked() {
    for present in 0..8 {
        let payloads = [0, 1, 2].map(|index| {
            let is_present = present & (1 << index) != 0;
            is_present.then(|| raw(&format!(r#"{{"a":{index}}}"#)))
        });
        let marked: Vec<String> = mark_all_but_last(payloads)
            .into_iter()
            .flatten()
            .map(|payload| payload.get().to_owned())
            .collect();
        assert_eq!(
            marked.len(),
            usize::try_from(i32::count_ones(present)).expect("a few")
        );
        for (index, payload) in marked.iter().enumerate() {
            let is_last = index + 1 == marked.len();
            assert_eq!(payload.contains("more"), !is_last, "{marked:?}");
        }
    }
}

#[test]
fn further_fields_replace_the_mark() {
    assert_eq!(
        fields_without_more(r#"{"a":1,"more":true}"#),
        Some(r#"{"a":1"#)
    );
    assert_eq!(fields_without_more(r#"{"a":1}"#), Some(r#"{"a":1"#));
    assert_eq!(fields_without_more("5"), None);
}

use serde_json::json;

use super::*;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Known {
    level: u32,
    #[serde(flatten)]
    unknown: UnknownFields,
}

#[test]
fn unknown_fields_are_written_back_as_they_were() {
    let stored =
        json!({"level": 1, "peak": 12.5, "nested": {"list": [1, null, "x"]}, "flag": true});
    let mut known: Known = serde_json::from_value(stored.clone()).expect("readable");
    assert_eq!(known.level, 1);
    known.level = 2;
    let mut expected = stored;
    expected["level"] = json!(2);
    assert_eq!(serde_json::to_value(&known).expect("serialises"), expected);
}

#[test]
fn without_unknown_fields_nothing_is_added() {
    let known: Known = serde_json::from_str(r#"{"level":1}"#).expect("readable");
    assert_eq!(known.unknown, UnknownFields::default());
    let text = serde_json::to_string(&known).expect("serialises");
    assert_eq!(text, r#"{"level":1}"#);
}

#[test]
fn equal_words_are_equal_and_printed_as_stored() {
    let word: UnknownWord = serde_json::from_str(r#""led_mismatch""#).expect("a word");
    let again: UnknownWord = serde_json::from_str(r#""led_mismatch""#).expect("a word");
    assert_eq!(word, again);
    assert_eq!(word.as_str(), "led_mismatch");
    assert_eq!(
        serde_json::to_string(&word).expect("serialises"),
        r#""led_mismatch""#
    );
}

#[test]
fn text_that_is_no_word_is_refused() {
    for text in [
        "",
        "Gas",
        "a b",
        "é",
        "?",
        &"a".repeat(UnknownWord::MAX_BYTES + 1),
    ] {
        let json = serde_json::to_string(text).expect("serialises");
        assert!(
            serde_json::from_str::<UnknownWord>(&json).is_err(),
            "{text}"
        );
    }
}

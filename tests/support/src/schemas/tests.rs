use serde_json::json;

use super::*;

fn schemas() -> Schemas {
    let position = json!({
        "type": "object",
        "required": ["epoch", "seq"],
        "properties": {"epoch": {"type": "string"}, "seq": {"type": "integer", "minimum": 0}}
    });
    let event = json!({
        "allOf": [
            {"$ref": "#/components/schemas/Position"},
            {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}, "more": {"const": true}}}
        ],
        "required": ["at"]
    });
    let answer = json!({
        "type": "object",
        "required": ["body"],
        "properties": {"body": {"anyOf": [{"$ref": "#/components/schemas/Event"}, {"type": "null"}]}}
    });
    let schemas =
        json!({"Position": position, "Event": event, "Answer": answer, "Odd": {"multipleOf": 2}});
    Schemas::of(&json!({"components": {"schemas": schemas}}).to_string())
}

const AT: &str = "2026-11-26T10:00:00.000Z";

#[test]
fn what_is_described_is_seen() {
    let event = json!({"epoch": "e", "seq": 1, "at": AT});
    let seen = schemas().check("Event", &event).expect("it is described");
    let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["Event.at", "Position.epoch", "Position.seq"]);
    let possible = schemas().properties_of("Answer");
    let unseen: Vec<&str> = possible
        .iter()
        .map(String::as_str)
        .filter(|name| !seen.contains(name))
        .collect();
    assert_eq!(unseen, ["Answer.body", "Event.more"]);
    let answer = json!({"body": event});
    let seen = schemas().check_property("Answer", "body", &answer["body"]);
    assert!(seen.is_ok_and(|seen| seen.contains("Event.at") && seen.contains("Answer.body")));
}

#[test]
fn whatever_is_different_is_an_error() {
    for (event, reason) in [
        (json!({"epoch": "e", "seq": 1, "at": AT, "new": 1}), "has ["),
        (json!({"epoch": "e", "seq": 1}), "described are"),
        (json!({"seq": 1, "epoch": "e", "at": AT}), "has ["),
        (json!({"epoch": "e", "seq": 1.5, "at": AT}), "not a"),
        (json!({"epoch": "e", "seq": -1, "at": AT}), "minimum"),
        (json!({"epoch": null, "seq": 1, "at": AT}), "not a"),
        (
            json!({"epoch": "e", "seq": 1, "at": "yesterday"}),
            "not a time",
        ),
        (
            json!({"epoch": "e", "seq": 1, "at": AT, "more": false}),
            "const",
        ),
    ] {
        let found = schemas().check("Event", &event);
        assert!(
            found.as_ref().is_err_and(|found| found.contains(reason)),
            "{event}: {found:?}"
        );
        let found = schemas().check("Answer", &json!({"body": event}));
        assert!(
            found.as_ref().is_err_and(|found| found.contains("none of")),
            "{event}: {found:?}"
        );
    }
    let unknown = schemas().check_property("Answer", "head", &Value::Null);
    assert_eq!(unknown, Err("Answer does not describe head".to_owned()));
    let odd = schemas().check("Odd", &json!(3));
    assert_eq!(odd, Err("Odd: `multipleOf` is not understood".to_owned()));
}

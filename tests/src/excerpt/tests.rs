use super::excerpt;

#[test]
fn a_flood_of_similar_lines_does_not_hide_the_others() {
    let flood = (0..500).map(|number| format!("Client {number} closed its connection."));
    let logged = (0..500).map(|number| {
        format!(r#"{{"level":"INFO","message":"client disconnected","client":"{number}"}}"#)
    });
    let mut lines = vec!["starting".to_owned()];
    lines.extend(flood.chain(logged));
    lines.push("the reason".to_owned());
    let shown = excerpt(&lines.join("\n"));
    assert_eq!(
        shown,
        [
            "(994 lines left out)",
            "starting",
            "Client 497 closed its connection.",
            "Client 498 closed its connection.",
            "Client 499 closed its connection.",
            r#"{"level":"INFO","message":"client disconnected","client":"497"}"#,
            r#"{"level":"INFO","message":"client disconnected","client":"498"}"#,
            r#"{"level":"INFO","message":"client disconnected","client":"499"}"#,
            "the reason",
        ]
    );
}

#[test]
fn only_the_last_lines_are_shown() {
    let lines: Vec<String> = (0..100).map(|number| "x".repeat(number + 1)).collect();
    let shown = excerpt(&lines.join("\n"));
    assert_eq!(shown.len(), 41);
    assert_eq!(shown[0], "(60 lines left out)");
    assert_eq!(shown.last(), lines.last());
}

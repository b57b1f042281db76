use super::*;

#[track_caller]
fn check(body: &str, expected: Result<(&str, Option<u64>), &str>) {
    let read = AcknowledgeBody::parse(body.as_bytes()).and_then(|body| {
        let name = body.name(None)?.into_owned();
        Ok((name, body.seen.map(|seen| seen.seq)))
    });
    match (read, expected) {
        (Ok((name, seq)), Ok(expected)) => assert_eq!((name.as_str(), seq), expected, "{body}"),
        (Err(error), Err(start)) => {
            assert!(error.to_string().starts_with(start), "{body}: {error}");
        }
        (read, expected) => panic!("{body}: {read:?} instead of {expected:?}"),
    }
}

#[test]
fn the_body_of_an_acknowledgement_is_optional() {
    check("", Ok(("unknown", None)));
    check(" \r\n", Ok(("unknown", None)));
    check("null", Ok(("unknown", None)));
    check("{}", Ok(("unknown", None)));
    check(r#"{"acknowledged_by":"User"}"#, Ok(("User", None)));
    check(r#"{"acknowledged_by":" Ann "}"#, Ok(("Ann", None)));
    check(r#"{"acknowledged_by":""}"#, Ok(("unknown", None)));
    check(
        r#"{"acknowledged_by":null,"seen":null}"#,
        Ok(("unknown", None)),
    );
    check(
        r#"{"seen":{"epoch":"0123456789ab","seq":7}}"#,
        Ok(("unknown", Some(7))),
    );
    check(r#"{"comment":"seen on site"}"#, Ok(("unknown", None)));
}

#[test]
fn an_unreadable_body_is_refused() {
    const START: &str = "the body cannot be read";
    check("{", Err(START));
    check("{}{}", Err(START));
    check("5", Err(START));
    check(r#"["Ann",null]"#, Err(START));
    check(r#"{"acknowledged_by":5}"#, Err(START));
    check(r#"{"seen":7}"#, Err(START));
    check(r#"{"seen":{"epoch":"0123456789AB","seq":7}}"#, Err(START));
    check(r#"{"seen":{"epoch":"0123456789ab","seq":-1}}"#, Err(START));
    check(r#"{"seen":{"epoch":"0123456789ab"}}"#, Err(START));
    check(
        r#"{"acknowledged_by":"a\u0000b"}"#,
        Err("`acknowledged_by` is longer"),
    );
    let long = format!(r#"{{"acknowledged_by":"{}"}}"#, "ä".repeat(129));
    check(&long, Err("`acknowledged_by` is longer"));
}

#[test]
fn a_note_is_fit_for_a_screen_and_short() {
    let note = |body: &str| AcknowledgeBody::parse(body.as_bytes()).and_then(|body| body.note());
    let text = |note: Result<Option<String>, ApiError>| note.expect("a note");
    for none in [
        "",
        "{}",
        r#"{"note":null}"#,
        r#"{"note":" "}"#,
        r#"{"note":"\u200b"}"#,
    ] {
        assert_eq!(text(note(none)), None, "{none}");
    }
    let body = r#"{"note":" Pump 3\nis leaking\u202e. "}"#;
    assert_eq!(text(note(body)).as_deref(), Some("Pump 3 is leaking."));
    let longest = "म".repeat(280);
    let body = |text: &str| format!(r#"{{"note":"{text}"}}"#);
    assert_eq!(text(note(&body(&longest))), Some(longest.clone()));
    let error = note(&body(&format!("{longest}x"))).expect_err("too long");
    assert!(
        error.to_string().starts_with("`note` is longer than 280"),
        "{error}"
    );
    for no_text in [r#"{"note":5}"#, r#"{"note":["a"]}"#, r#"{"note":true}"#] {
        let error = note(no_text).expect_err("no text");
        assert!(
            error.to_string().starts_with("the body cannot be read"),
            "{error}"
        );
    }
}

#[test]
fn the_oldest_closed_alarms_are_left_out() {
    let alerts = |open: &[usize]| -> Vec<Rendered> {
        (0..10)
            .map(|number| Rendered {
                is_open: open.contains(&number),
                // 10 bytes each.
                alert: RawValue::from_string(format!("\"alert  {number}\"")).expect("JSON"),
            })
            .collect()
    };
    let kept = |open: &[usize], max_bytes| -> String {
        let kept = within_bytes(alerts(open), max_bytes);
        kept.iter()
            .filter_map(|alert| alert.get().chars().nth(8))
            .collect()
    };
    assert_eq!(kept(&[], 100), "0123456789");
    assert_eq!(kept(&[], 99), "123456789");
    assert_eq!(kept(&[0, 4], 50), "04789");
    assert_eq!(kept(&[0, 1, 2, 4], 20), "0124");
    assert_eq!(kept(&[], 0), "");
}

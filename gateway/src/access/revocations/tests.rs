use super::*;

fn token(id: Option<&str>, subject: &str) -> TokenFacts {
    TokenFacts {
        id: id.map(Into::into),
        subject: subject.into(),
        name: None,
        expires: second(1000),
    }
}

fn second(seconds: i64) -> Time {
    Time::from_millis(seconds * 1000)
}

#[test]
fn a_token_is_revoked_by_its_id_or_its_subject_until_the_entry_ends() {
    let revocations = Revocations::default();
    let all = [
        (Some("1"), "ada"),
        (Some("2"), "ada"),
        (Some("3"), "bob"),
        (None, "bob"),
        // An id is not a subject.
        (Some("bob"), "1"),
    ];
    let revoked =
        |now| all.map(|(id, subject)| revocations.contain(&token(id, subject), second(now)));
    assert_eq!(revoked(0), [false; 5]);
    revocations.set(vec![
        (Revoked::Token("1".to_owned()), second(100)),
        (Revoked::Subject("bob".to_owned()), second(200)),
    ]);
    assert_eq!(revoked(99), [true, false, true, true, false]);
    assert_eq!(revoked(100), [false, false, true, true, false]);
    assert_eq!(revoked(200), [false; 5]);
    revocations.set(Vec::new());
    assert_eq!(revoked(0), [false; 5]);
}

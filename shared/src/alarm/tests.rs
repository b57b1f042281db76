use super::*;

#[test]
fn a_code_equals_the_serialised_form() {
    use ChangeKind::{
        Acknowledged, Cleared, DeEscalated, Escalated, Latched, Raised, Retired, Returned,
        Unlatched,
    };
    for kind in [
        Raised,
        Escalated,
        DeEscalated,
        Latched,
        Unlatched,
        Acknowledged,
        Returned,
        Cleared,
        Retired,
    ] {
        let wire = serde_json::to_value(kind).unwrap();
        assert_eq!(wire, kind.code());
    }
}

#[test]
fn active_levels_are_stored_under_their_old_names() {
    let level = ActiveLevel {
        latching: true,
        off_delay_ends: Some(Time::from_millis(7)),
        returned: true,
        ..ActiveLevel::default()
    };
    let stored = r#"{"latching":true,"due":7,"returned":true}"#;
    assert_eq!(serde_json::to_string(&level).unwrap(), stored);
    assert_eq!(serde_json::from_str::<ActiveLevel>(stored).unwrap(), level);
}

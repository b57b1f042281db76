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

#[test]
fn a_condition_is_found_by_its_code_and_no_other_word_is_kept() {
    for condition in Condition::KNOWN {
        // A new condition belongs into `Condition::KNOWN`.
        match condition {
            Condition::SensorFault
            | Condition::ReadingInvalid
            | Condition::AlarmLevel1
            | Condition::AlarmLevel2
            | Condition::AlarmLevel3
            | Condition::OverRange
            | Condition::UnderRange
            | Condition::DeviceOffline
            | Condition::LedMismatch
            | Condition::ReadingFrozen
            | Condition::SettingChanged
            | Condition::LevelsUnknown
            | Condition::Babbling
            | Condition::Unknown(_) => {}
        }
        assert_eq!(Condition::existing(condition.code()), Some(condition));
    }
    assert_eq!(Condition::existing("of_a_client"), None);
    assert_eq!(Condition::existing("of_a_client"), None, "it was interned");
    let newer: Condition = serde_json::from_str("\"of_a_newer_release\"").expect("a word");
    assert_eq!(Condition::existing("of_a_newer_release"), Some(newer));
}

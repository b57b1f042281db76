use super::*;

#[test]
fn a_code_is_the_word_of_the_wire() {
    use ChangeKind::{
        Acknowledged, Cleared, DeEscalated, Escalated, Latched, Raised, Retired, Unlatched,
    };
    for kind in [
        Raised,
        Escalated,
        DeEscalated,
        Latched,
        Unlatched,
        Acknowledged,
        Cleared,
        Retired,
    ] {
        let wire = serde_json::to_value(kind).unwrap();
        assert_eq!(wire, kind.code());
    }
}

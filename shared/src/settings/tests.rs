use super::*;

#[test]
fn patterns_fit_whole_serials() {
    let fits = |list: &str, serial: &str| {
        SerialPatterns::new(list).matches(&serial.parse().expect("a serial"))
    };
    for (list, serial, expected) in [
        ("", "OTSM-1", false),
        ("OTSM-1", "OTSM-1", true),
        ("OTSM-1", "OTSM-11", false),
        ("OTSM-1*", "OTSM-11", true),
        ("OTSM-1*", "OTSM-1", true),
        ("*-O2", "A-O2-O2", true),
        ("*-O2", "A-O2-CO", false),
        ("A*B*C", "A1B2B3C", true),
        ("A*B*C", "A1C2B", false),
        ("X, O2-* ", "O2-7", true),
        ("*", "器材", true),
    ] {
        assert_eq!(fits(list, serial), expected, "{list} and {serial}");
    }
}

#[test]
fn message_types_are_compared_without_case_and_blanks() {
    let types = MessageTypes::new("CALIBRATION, bump test,");
    assert!(types.contains(" Calibration "));
    assert!(types.contains("BUMP TEST"));
    assert!(!types.contains("BUMP"));
    assert!(!types.contains(""));
}

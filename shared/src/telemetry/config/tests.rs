use super::*;

#[test]
fn log_levels_and_ratios_are_checked() {
    for good in [
        "info",
        "WARN",
        "off",
        "warn,ingest=debug",
        "ingest::mqtt=trace",
    ] {
        assert!(log_level(good).is_ok(), "{good}");
    }
    for bad in ["info,ingest=loud", "warning", "info,verbose", ""] {
        assert!(log_level(bad).is_err(), "{bad}");
    }
    assert_eq!(ratio("0.25"), Ok(0.25));
    for bad in ["", "2", "-0.1", "NaN"] {
        assert!(ratio(bad).is_err(), "{bad}");
    }
}

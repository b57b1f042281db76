use super::*;

fn fleet(argument: &str) -> Option<FleetFilter> {
    FleetFilter::of(serde_json::from_str(argument).ok()?)
}

fn alarms(argument: &str) -> Option<AlarmFilter> {
    AlarmFilter::of(serde_json::from_str(argument).ok()?)
}

#[test]
fn a_filter_names_one_word_or_several() {
    let device = "OTSM-0114".parse().unwrap();
    let all = fleet("{}").unwrap();
    let one = fleet(r#"{"status":"critical","prefix":"OTSM-01"}"#).unwrap();
    let several = fleet(r#"{"status":["offline","warning","offline"]}"#).unwrap();
    assert_eq!(several.statuses.len(), 2);
    for (filter, status, expected) in [
        (&all, DeviceStatus::Online, true),
        (&one, DeviceStatus::Critical, true),
        (&one, DeviceStatus::Warning, false),
        (&several, DeviceStatus::Warning, true),
        (&several, DeviceStatus::Online, false),
    ] {
        assert_eq!(
            filter.matches(&device, status, &Place::default()),
            expected,
            "{filter:?}"
        );
    }
    assert!(!one.matches(
        &"OTSM-0200".parse().unwrap(),
        DeviceStatus::Critical,
        &Place::default()
    ));
    let filter = alarms(r#"{"severity":["critical","high"]}"#).unwrap();
    assert!(filter.matches_severity(Severity::High));
    assert!(!filter.matches_severity(Severity::Warning));
}

#[test]
fn a_filter_with_unknown_words_or_a_long_prefix_is_refused() {
    let long = format!(r#"{{"prefix":"{}"}}"#, "x".repeat(MAX_PREFIX + 1));
    for argument in [
        r#"{"status":"red"}"#,
        r#"{"status":["online",7]}"#,
        r#"{"status":{}}"#,
        &long,
    ] {
        assert_eq!(fleet(argument), None, "{argument}");
    }
    for argument in [r#"{"severity":"urgent"}"#, &long] {
        assert_eq!(alarms(argument), None, "{argument}");
    }
}

#[test]
fn a_filter_may_name_a_zone_and_a_site() {
    let here = Place::new(Some("Boiler room".to_owned()), Some("Harbour".to_owned()));
    for (filter, expected) in [
        (r#"{"zone":"Boiler room"}"#, true),
        (r#"{"site":"Harbour","zone":"Boiler room"}"#, true),
        (r#"{"site":"Mill"}"#, false),
        (r#"{"zone":" Boiler room ","site":" "}"#, true),
    ] {
        let filter = alarms(filter).unwrap();
        assert_eq!(filter.matches_place(&here), expected, "{filter:?}");
        assert!(!filter.matches_place(&Place::default()), "{filter:?}");
    }
    let any = alarms(r#"{"zone":"","site":" "}"#).unwrap();
    assert_eq!(any, AlarmFilter::default());
}

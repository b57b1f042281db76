use super::*;

fn fleet(argument: &str) -> Option<Feed> {
    serde_json::from_str::<FleetArgument>(argument)
        .unwrap()
        .feed()
}

#[test]
fn an_argument_may_be_missing_and_has_bounds() {
    let every_second = |argument| match fleet(argument) {
        Some(Feed::Fleet { interval, .. }) => interval == Duration::from_secs(1),
        _ => false,
    };
    for argument in [
        "null",
        "{}",
        r#"{"interval":1000,"other":1}"#,
        r#"{"filter":{}}"#,
    ] {
        assert!(every_second(argument), "{argument}");
    }
    for argument in [
        r#"{"interval":249}"#,
        r#"{"interval":60001}"#,
        r#"{"interval":"1s"}"#,
        r#"{"interval":-1}"#,
        r#"{"filter":{"status":"red"}}"#,
        r#""OTSM-0114""#,
        "7",
    ] {
        assert_eq!(fleet(argument), None, "{argument}");
    }
    let alarms = serde_json::from_str::<AlarmsArgument>(r#"{"filter":{"severity":"low"}}"#);
    assert_eq!(alarms.unwrap().feed(), None);
}

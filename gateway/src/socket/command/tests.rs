mod properties;

use super::*;

fn target(argument: &str) -> Option<Target> {
    let argument: Argument = serde_json::from_str(argument).unwrap();
    argument.target()
}

#[test]
fn a_command_names_its_device_alone_or_with_a_position() {
    let device: DeviceId = "OTSM-0114".parse().unwrap();
    let expected = Some(Target {
        device,
        since: None,
        changes: false,
    });
    assert_eq!(target(r#""OTSM-0114""#), expected);
    for object in [
        r#"{"deviceId":"OTSM-0114"}"#,
        r#"{"deviceId":"OTSM-0114","changes":false}"#,
        r#"{"deviceId":"OTSM-0114","changes":null}"#,
    ] {
        assert_eq!(target(object), expected);
    }
    let wanted = target(r#"{"deviceId":"OTSM-0114","changes":true}"#);
    assert!(wanted.is_some_and(|target| target.changes));
    assert_eq!(target(r#"{"deviceId":"OTSM-0114","changes":"yes"}"#), None);
}

#[test]
fn a_command_that_cannot_be_read_keeps_nothing_of_what_the_client_sent() {
    let long = "x".repeat(16_000);
    for argument in [
        format!("\"{long}\""),
        format!(r#"{{"deviceId":"{long}"}}"#),
        format!(r#"[["{long}"]]"#),
        "\"\"".to_owned(),
    ] {
        assert_eq!(target(&argument), None);
    }
}

#[test]
fn a_token_may_be_replaced_ten_times_at_once_and_then_every_ten_seconds() {
    let mut refreshes = Refreshes { used_until: None };
    let start = Instant::now();
    let admitted = |refreshes: &mut Refreshes, seconds, tries| {
        let now = start + Duration::from_secs(seconds);
        (0..tries).filter(|_| refreshes.admit(now)).count()
    };
    assert_eq!(admitted(&mut refreshes, 0, 20), 10);
    assert_eq!(admitted(&mut refreshes, 9, 20), 0);
    assert_eq!(admitted(&mut refreshes, 10, 20), 1);
    assert_eq!(admitted(&mut refreshes, 45, 20), 3);
    assert_eq!(admitted(&mut refreshes, 1000, 20), 10);
}

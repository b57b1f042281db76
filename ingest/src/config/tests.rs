use clap::CommandFactory;

use super::*;
use crate::mqtt::broker_url::BrokerUrl;

const NEEDED: [&str; 5] = [
    "ingest",
    "--mqtt-broker",
    "mqtt://h",
    "--redis-url",
    "redis://h",
];

fn parse(more: &[&str]) -> Result<Config, Usage> {
    Config::try_from_args(NEEDED.iter().chain(more))
}

#[test]
fn clap_accepts_the_definition() {
    Config::command().debug_assert();
}

#[test]
fn defaults_are_as_documented() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.mqtt.mqtt_broker.to_string(), "mqtt://h:1883");
    assert_eq!(config.mqtt.client_id(), "subtronics-ingest");
    assert_eq!(config.mqtt.filters(), ["SubTronics/data"]);
    assert_eq!(config.offline_after, Duration::from_mins(3));
    assert_eq!(config.alarm_deadband, Decimal::from_int(2));
    assert_eq!(config.alarm_off_delay, Duration::ZERO);
    assert_eq!(config.device_utc_offset, 19800);
    assert_eq!(config.unit_codes.lookup("1"), Some("ppm"));
    assert_eq!(config.http_port, 3003);
    assert_eq!(config.zero_level, ZeroLevel::Value);
    assert!(config.warnings().is_empty());
}

#[test]
fn topics_are_repeatable_a_comma_list_trimmed_and_shared() {
    let topics = ["--mqtt-topic", "a, b/+", "--mqtt-topic", "c/#"];
    assert_eq!(parse(&topics).unwrap().mqtt.filters(), ["a", "b/+", "c/#"]);
    let shared = [
        "--mqtt-topic",
        "a,b",
        "--mqtt-share-group",
        "g",
        "--mqtt-client-id",
        "i-0",
    ];
    assert_eq!(
        parse(&shared).unwrap().mqtt.filters(),
        ["$share/g/a", "$share/g/b"]
    );
}

#[test]
fn an_offset_may_be_negative() {
    assert_eq!(
        parse(&["--device-utc-offset", "-03:00"])
            .unwrap()
            .device_utc_offset,
        -10800
    );
}

#[test]
fn a_bad_flag_exits_with_2_and_one_sentence() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--offline-after", "3"],
            "--offline-after: invalid value `3`: expected a whole number and a unit, such as 500ms, 90s, 3m, 24h",
        ),
        (
            &["--offline-after", "0s"],
            "--offline-after: must be at least 1s",
        ),
        (
            &["--alarm-deadband", "200"],
            "--alarm-deadband: invalid value `200`: expected percent from 0 to 100",
        ),
        (
            &["--device-utc-offset", "5"],
            "--device-utc-offset: invalid value `5`: expected an offset such as +05:30, -03:00 or Z",
        ),
        (
            &["--unit-codes", "ppm"],
            "--unit-codes: invalid value `ppm`: `ppm` is not a pair such as 1=ppm",
        ),
        (&["--mqtt-topic", "a,,b"], "--mqtt-topic: `` is empty"),
        (
            &["--mqtt-topic", "a/#/b"],
            "--mqtt-topic: `a/#/b` has a # before its end",
        ),
        (
            &["--mqtt-topic", "a+"],
            "--mqtt-topic: `a+` has a wildcard beside other characters of a level",
        ),
        (
            &["--mqtt-topic", "$share/g/a"],
            "--mqtt-topic: `$share/g/a` names a share group: use --mqtt-share-group",
        ),
        (
            &["--mqtt-share-group", "g"],
            "--mqtt-share-group: needs --mqtt-client-id, stable and different in every replica",
        ),
        (
            &["--mqtt-keep-alive", "1s"],
            "--mqtt-keep-alive: must be from 5s to 65535s",
        ),
        (
            &["--mqtt-password", "x"],
            "--mqtt-password: needs --mqtt-username",
        ),
        (
            &["--max-payload-bytes", "2097152"],
            "--mqtt-max-packet-size: must be at least 1024 above --max-payload-bytes",
        ),
        (
            &["--http-port", "70000"],
            "--http-port: invalid value `70000`: 70000 is not in 0..=65535",
        ),
        (
            &["--zero-level", "maybe"],
            "--zero-level: invalid value `maybe`: expected value or unused",
        ),
        (
            &["--no-such-flag"],
            "--no-such-flag is no setting: try --help",
        ),
        (
            &["--log-level", "a=loud"],
            "--log-level: invalid value `a=loud`: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
        ),
    ];
    for (args, expected) in cases {
        let usage = parse(args).unwrap_err();
        assert_eq!(
            (usage.to_string().as_str(), usage.exit_code()),
            (*expected, 2),
            "{args:?}"
        );
    }
}

#[test]
fn missing_settings_are_named() {
    let usage = Config::try_from_args(["ingest"]).unwrap_err();
    assert_eq!(
        usage.to_string(),
        "--mqtt-broker is missing: give this flag or the variable MQTT_BROKER\n\
         --redis-url (variable REDIS_URL) or --redis-url-file (variable REDIS_URL_FILE) is required"
    );
}

#[test]
fn all_problems_are_returned_at_once() {
    let bad = [
        "--mqtt-topic",
        "a+",
        "--mqtt-share-group",
        "g/h",
        "--offline-after",
        "0s",
    ];
    let Usage::Problems(problems) = parse(&bad).unwrap_err() else {
        panic!("no problems")
    };
    assert_eq!(problems.len(), 4, "{problems:?}");
}

#[test]
fn broker_urls_are_mqtt_or_mqtts_and_contain_no_password() {
    let port = |url: &str| {
        url.parse::<BrokerUrl>()
            .map(|url| (url.host, url.port, url.tls))
    };
    assert_eq!(port("mqtt://h"), Ok(("h".to_owned(), 1883, false)));
    assert_eq!(port("mqtts://h"), Ok(("h".to_owned(), 8883, true)));
    assert_eq!(
        port("mqtt://[::1]:99/"),
        Ok(("[::1]".to_owned(), 99, false))
    );
    for bad in [
        "",
        "h:1883",
        "http://h",
        "mqtt://",
        "mqtt://h/topic",
        "mqtt://h?x=1",
        "mqtt://u:pw@h",
    ] {
        let args = ["ingest", "--mqtt-broker", bad, "--redis-url", "redis://h"];
        let text = Config::try_from_args(args).unwrap_err().to_string();
        assert!(text.starts_with("--mqtt-broker: invalid value: "), "{text}");
        assert!(!text.contains("pw"), "{text}");
    }
}

#[test]
fn secrets_are_read_from_files_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let (user, password) = (folder.path().join("user"), folder.path().join("password"));
    std::fs::write(&user, "u\n").unwrap();
    std::fs::write(&password, "hunter2\n").unwrap();
    let (user, password) = (user.to_str().unwrap(), password.to_str().unwrap());
    let config = parse(&[
        "--mqtt-username-file",
        user,
        "--mqtt-password-file",
        password,
    ])
    .unwrap();
    assert_eq!(
        config.mqtt.mqtt_password.as_ref().unwrap().expose(),
        "hunter2"
    );
    assert!(!format!("{config:?}").contains("hunter2"));
    let both = [
        "--mqtt-username",
        "u",
        "--mqtt-password",
        "x",
        "--mqtt-password-file",
        password,
    ];
    assert!(parse(&both).unwrap_err().to_string().contains("choose one"));
}

#[test]
fn a_mongodb_uri_is_ignored_with_a_warning() {
    let config = parse(&["--mongodb-uri", "mongodb://u:pw@h"]).unwrap();
    assert_eq!(
        config.warnings(),
        ["MONGODB_URI is ignored: Redis holds the alarm log"]
    );
    assert!(!format!("{config:?}").contains("pw"));
}

#[test]
fn lists_that_hide_dangers_are_warned_about() {
    for word in [
        "alarm", "FAULT", " On ", "1", "TRUE", "yes", "Error", "-1", "0.5",
    ] {
        let list = format!("0,OFF,{word}");
        let warnings = parse(&["--normal-words", &list]).unwrap().warnings();
        let word = word.trim();
        let text = format!(
            "--normal-words has `{word}`: a fault flag, an LED or `Alarm Status` with this text is never an alarm"
        );
        assert_eq!(warnings, [text]);
    }
    let harmless = "0,0.0,OFF,FALSE,NO,NONE,OK,NORMAL,NO ALARM,KEIN FEHLER,,";
    let config = parse(&["--normal-words", harmless]).unwrap();
    assert!(config.warnings().is_empty());
    let several = parse(&["--normal-words", "ON,FAULT"]).unwrap();
    assert_eq!(several.warnings().len(), 2);
    for flag in ["--maintenance-message-types", "--alive-message-types"] {
        let warnings = parse(&[flag, "TEST, log data"]).unwrap().warnings();
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        let start = format!("{flag} has `LOG DATA`, the type of ordinary readings: ");
        assert!(warning.starts_with(&start), "{warning}");
        assert!(parse(&[flag, "LOG"]).unwrap().warnings().is_empty());
    }
}

#[test]
fn flag_and_variable_have_the_same_name() {
    for arg in Config::command().get_arguments() {
        let (Some(long), Some(env)) = (arg.get_long(), arg.get_env()) else {
            continue;
        };
        let expected = match long {
            "mqtt-topic" => "MQTT_TOPIC_SUBTRONICS".to_owned(),
            long => long.to_uppercase().replace('-', "_"),
        };
        assert_eq!(env.to_str(), Some(expected.as_str()));
    }
}

#[test]
fn the_start_line_has_what_differs_from_the_defaults() {
    let config = parse(&[
        "--mqtt-password=hunter2",
        "--mqtt-username=user",
        "--offline-after=90s",
        "--log-burst=200",
    ]);
    assert_eq!(
        config.unwrap().start_report.changed_settings,
        "--mqtt-broker=mqtt://h:1883 --mqtt-username=*** --mqtt-password=*** --redis-url=redis://h:6379 --offline-after=90s"
    );
}

#[test]
fn the_env_example_has_every_setting_with_its_default() {
    let example = include_str!("../../../.env.example");
    let differences = args::compare_example(example, "ingest", &Config::command());
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn the_given_rules_are_a_settings_line_without_connections() {
    let given = [
        "--offline-after=90s",
        "--unit-codes=1=ppm,2=%LEL",
        "--mqtt-username=user",
        "--history-max=5",
        "--record-raw=10",
        "--otel-exporter=none",
    ];
    let config = parse(&given).unwrap();
    let rules = serde_json::Value::Object(config.given_rules.clone());
    let expected = serde_json::json!({"offline_after": "90s", "unit_codes": "1=ppm,2=%LEL"});
    assert_eq!(rules, expected);
    let settings = crate::replay::settings::from_json(&config.given_rules).unwrap();
    assert_eq!(settings.alarms, config.settings());
}

#[test]
fn a_history_that_holds_nothing_is_a_warning() {
    let warnings = parse(&["--history-bytes=1"]).unwrap().warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("--history-bytes is 1 bytes"));
    assert!(
        parse(&["--history-bytes=1gb"])
            .unwrap()
            .warnings()
            .is_empty()
    );
}

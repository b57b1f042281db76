use clap::CommandFactory;

use super::*;

#[track_caller]
fn check<T: PartialEq + fmt::Debug>(
    parser: impl Fn(&str) -> Result<T, String>,
    good: &[(&str, T)],
    bad: &[&str],
) {
    for (text, expected) in good {
        assert_eq!(parser(text).as_ref(), Ok(expected), "{text}");
    }
    for text in bad {
        assert!(
            parser(text).is_err(),
            "{text} was parsed as {:?}",
            parser(text)
        );
    }
}

#[test]
fn durations_need_a_whole_number_and_a_unit() {
    let ms = Duration::from_millis;
    check(
        duration,
        &[
            ("500ms", ms(500)),
            ("0s", ms(0)),
            ("3m", ms(180_000)),
            (" 24h ", ms(86_400_000)),
            ("35d", ms(35 * 86_400_000)),
        ],
        &[
            "",
            "3",
            "m",
            "1.5s",
            "-1s",
            "3 m",
            "3M",
            "1h30m",
            "99999999999999999d",
            "9999999999999999999999s",
        ],
    );
}

#[test]
fn offsets_need_a_sign_and_two_digits_each() {
    check(
        utc_offset,
        &[
            ("+05:30", 19800),
            ("-03:00", -10800),
            ("Z", 0),
            ("+00:00", 0),
            ("-00:30", -1800),
        ],
        &[
            "", "+", "05:30", "+5:30", "+05:60", "+19:00", "+0530", "+05:3x", "+-5:30", "é05:30",
        ],
    );
}

#[test]
fn percent_is_from_0_to_100() {
    let number = |text: &str| text.parse::<Decimal>().unwrap();
    check(
        percent,
        &[
            ("2", number("2")),
            ("0.5%", number("0.5")),
            ("100", number("100")),
            ("0", number("0")),
        ],
        &["", "%", "-1", "101", "two", "NaN"],
    );
}

#[test]
fn unit_codes_are_pairs_of_a_whole_number_and_a_unit() {
    let codes = unit_codes("1=ppm, 02=%LEL").unwrap();
    assert_eq!(
        (codes.lookup("1"), codes.lookup("2")),
        (Some("ppm"), Some("%LEL"))
    );
    assert_eq!(codes.lookup("3"), None);
    assert_eq!(codes.to_string(), "1=ppm,2=%LEL");
    for bad in ["", "1", "1=", "x=ppm", "1.5=ppm", "1=ppm,", "1=ppm,01=x"] {
        assert!(unit_codes(bad).is_err(), "{bad}");
    }
}

#[derive(Debug, Parser)]
struct Sample {
    #[arg(long, env = "SHARED_ARGS_TEST_HOST")]
    host: String,
    #[arg(long, default_value = "3m", value_parser = duration)]
    limit: Duration,
    #[arg(long, hide_env_values = true, value_parser = |_: &str| Err::<u8, _>("no scheme"))]
    url: Option<u8>,
}

fn problem(args: &[&str]) -> String {
    let args = std::iter::once("sample").chain(args.iter().copied());
    parse::<Sample, _>(args).unwrap_err().to_string()
}

#[test]
fn a_problem_is_one_sentence_that_names_the_flag_and_hides_secrets() {
    assert_eq!(
        problem(&["--host", "a", "--limit", "3"]),
        "--limit: invalid value `3`: expected a whole number and a unit, such as 500ms, 90s, 3m, 24h"
    );
    assert_eq!(
        problem(&["--host", "a", "--url", "x://:pw@y"]),
        "--url: invalid value: no scheme"
    );
    assert_eq!(
        problem(&[]),
        "--host is missing: give this flag or the variable SHARED_ARGS_TEST_HOST"
    );
    assert_eq!(
        problem(&["--host", "a", "--hots", "a"]),
        "--hots is no setting: did you mean --host? If not, try --help"
    );
}

#[test]
fn help_exits_with_code_0() {
    let usage = parse::<Sample, _>(["sample", "--help"]).unwrap_err();
    assert_eq!(usage.exit_code(), 0);
    let sample: Sample = parse(["sample", "--host", "a"]).unwrap();
    assert_eq!(
        (sample.host.as_str(), sample.limit, sample.url),
        ("a", Duration::from_mins(3), None)
    );
}

#[test]
fn a_secret_comes_from_the_flag_or_from_the_first_line_of_a_file() {
    let path = std::env::temp_dir().join(format!("shared-args-{}", std::process::id()));
    std::fs::write(&path, "from file\nmore\n").unwrap();
    let given = || Some(Secret::new("given".to_owned()));
    assert_eq!(secret_or_file("--p", given(), None), Ok(given()));
    let read = secret_or_file("--p", None, Some(&path)).unwrap().unwrap();
    assert_eq!(read.expose(), "from file");
    assert!(secret_or_file("--p", given(), Some(&path)).is_err());
    std::fs::write(&path, "\n").unwrap();
    assert!(secret_or_file("--p", None, Some(&path)).is_err());
    std::fs::remove_file(&path).unwrap();
    assert!(
        secret_or_file("--p", None, Some(&path))
            .unwrap_err()
            .contains("cannot read")
    );
}

#[test]
fn a_line_break_behind_a_secret_is_left_out_and_one_inside_is_an_error() {
    let read = |text: &str| {
        let secret = secret_or_file("--p", Some(Secret::new(text.to_owned())), None);
        secret.map(|secret| secret.map(|secret| secret.expose().clone()))
    };
    for text in ["hunter2", "hunter2\n", "hunter2\r\n", "hunter2\n\n"] {
        assert_eq!(read(text), Ok(Some("hunter2".to_owned())), "{text:?}");
    }
    // Blanks may belong to a password.
    assert_eq!(read(" hunter 2 \n"), Ok(Some(" hunter 2 ".to_owned())));
    let inside = Err("--p: has a line break inside".to_owned());
    assert_eq!(read("hunter\n2"), inside);
    assert_eq!(read("hunter\r2\n"), inside);
    let only = Err("--p: holds nothing but a line break".to_owned());
    assert_eq!(read("\n"), only);
    let path = std::env::temp_dir().join(format!("shared-line-{}", std::process::id()));
    std::fs::write(&path, "hunter2\r\n").unwrap();
    let read = secret_or_file("--p", None, Some(&path)).unwrap().unwrap();
    assert_eq!(read.expose(), "hunter2");
    std::fs::write(&path, "hunter\r2\n").unwrap();
    let err = secret_or_file("--p", None, Some(&path)).unwrap_err();
    assert_eq!(err, "--p-file: has a line break inside");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_variable_missing_in_the_example_or_in_the_settings_is_reported() {
    let example =
        "# == other\n#SHARED_ARGS_TEST_HOST=a\n# == sample\n# a comment\n#SHARED_ARGS_OTHER=1\n";
    assert_eq!(
        compare_example(example, "sample", &Sample::command()),
        [
            "SHARED_ARGS_TEST_HOST is a setting that the example does not have",
            "SHARED_ARGS_OTHER is in the example, but is not a setting",
        ]
    );
    let example = "# == both\nSHARED_ARGS_TEST_HOST=x";
    assert!(compare_example(example, "sample", &Sample::command()).is_empty());
}

#[derive(Debug, Parser)]
#[command(name = "listed")]
struct Listed {
    #[arg(long, env = "SHARED_ARGS_TEST_URL", hide_env_values = true)]
    url: String,
    #[arg(long, env = "SHARED_ARGS_TEST_LIMIT", default_value = "3m", value_parser = duration)]
    limit: Duration,
    #[arg(long, env = "SHARED_ARGS_TEST_PORT", default_value = "80")]
    port: u16,
    #[arg(long, env = "SHARED_ARGS_TEST_NAME")]
    name: Option<String>,
    #[arg(long, env = "SHARED_ARGS_TEST_OPEN")]
    open: bool,
    #[arg(
        long,
        env = "SHARED_ARGS_TEST_OLD",
        hide = true,
        hide_env_values = true
    )]
    old: Option<String>,
}

fn line(args: &[&str]) -> Result<CommandLine, Usage> {
    let args = std::iter::once(&"listed").chain(args);
    CommandLine::parse(Listed::command(), args, &[("url", "placeholder")])
}

#[test]
fn every_problem_is_reported_once_and_the_rest_is_parsed() {
    let line = line(&[
        "--limit=3",
        "--port",
        "x",
        "--quux",
        "hunter2",
        "--port=y",
        "--name",
        "n",
        "stray",
        "--open",
    ])
    .unwrap();
    assert_eq!(
        line.problems(Vec::new()),
        [
            "--limit: invalid value `3`: expected a whole number and a unit, such as 500ms, 90s, 3m, 24h",
            "--quux is no setting: try --help",
            "--port: invalid value `x`: expected a whole number",
            "`stray` belongs to no setting, and settings begin with --: try --help",
            "--url is missing: give this flag or the variable SHARED_ARGS_TEST_URL",
        ]
    );
    let parsed: Listed = line.config().unwrap();
    assert_eq!((parsed.name.as_deref(), parsed.open), (Some("n"), true));
    assert_eq!((parsed.port, parsed.url.as_str()), (80, "placeholder"));
}

#[test]
fn problems_that_mention_an_invalid_setting_are_left_out() {
    let line = line(&["--port=x"]).unwrap();
    let added = |text: &str| line.problems(vec![text.to_owned()]).len() - 2;
    assert_eq!(added("--port: must be odd"), 0);
    assert_eq!(added("--limit: must be below --url"), 0);
    assert_eq!(added("--port-range: must be odd"), 1);
    assert_eq!(added("--limit: must be odd"), 1);
}

#[test]
fn without_a_placeholder_the_problems_found_so_far_are_returned() {
    let usage = CommandLine::parse(Listed::command(), ["listed", "--port=x"], &[]).unwrap_err();
    let Usage::Problems(problems) = usage else {
        panic!("{usage:?}")
    };
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn a_listing_shows_where_a_value_came_from_and_masks_secrets() {
    let line = line(&[
        "--url",
        "x://u:hunter2@h",
        "--name",
        "s://u:hunter2@h/p?x=a@b",
        "--old=hunter2",
        "--limit=1",
    ])
    .unwrap();
    assert_eq!(
        line.listing(&[]),
        [
            "--url = ***  (flag)",
            "--limit  (missing, or cannot be read)",
            "--port = 80  (default)",
            "--name = s://***@h/p?x=a@b  (flag)",
            "--open = false  (default)",
            "--old = ***  (flag)",
        ]
    );
    let displays = [
        SettingDisplay {
            flag: "url",
            value: "x://h\n".to_owned(),
            source: None,
        },
        SettingDisplay {
            flag: "port",
            value: "8080".to_owned(),
            source: Some("--old"),
        },
    ];
    let listing = line.listing(&displays);
    assert_eq!(listing[0], "--url = x://h\\n  (flag)");
    assert_eq!(listing[2], "--port = 8080  (--old)");
}

#[test]
fn the_settings_that_differ_from_their_defaults_are_one_line_of_flags() {
    let changed =
        |args: &[&str], displays: &[SettingDisplay]| line(args).unwrap().changed_settings(displays);
    assert_eq!(
        changed(
            &[
                "--url",
                "x://u:hunter2@h",
                "--limit=3m",
                "--port=81",
                "--name",
                "a \"b\"\n",
                "--open",
                "--old=hunter2",
            ],
            &[]
        ),
        r#"--url=*** --port=81 --name="a \"b\"\n" --open --old=***"#
    );
    let displays = [
        SettingDisplay {
            flag: "url",
            value: "x://h".to_owned(),
            source: None,
        },
        SettingDisplay {
            flag: "port",
            value: "8080".to_owned(),
            source: Some("--old"),
        },
        // As it is by default.
        SettingDisplay {
            flag: "limit",
            value: "3m".to_owned(),
            source: None,
        },
    ];
    assert_eq!(
        changed(&["--url=x://u:hunter2@h", "--name="], &displays),
        r#"--url=x://h --port=8080 --name="""#
    );
}

#[test]
fn bytes_are_written_as_redis_writes_them() {
    for (text, expected) in [
        ("0", 0),
        ("1500", 1_500),
        ("2kb", 2_048),
        (" 16MB ", 16 << 20),
        ("2gb", 2 << 30),
    ] {
        assert_eq!(bytes(text), Ok(expected), "{text}");
    }
    for text in ["", "mb", "1.5gb", "-1", "5 mb", "1tb", "9999999999gb"] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

#[test]
fn a_negative_number_and_a_value_of_a_switch_are_named_with_their_flag() {
    let problems = |args: &[&str]| {
        let args = [&["--url=u"], args].concat();
        line(&args).unwrap().problems(Vec::new())
    };
    assert_eq!(
        problems(&["--port", "-1"]),
        ["--port: invalid value `-1`: -1 is not in 0..=65535"]
    );
    assert_eq!(
        problems(&["--open", "true"]),
        ["`true`: --open takes no value, it is given or left out"]
    );
    let unknown = "--quux is no setting: try --help";
    assert_eq!(problems(&["--open", "--quux"]), [unknown]);
}

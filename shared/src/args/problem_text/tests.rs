use clap::{CommandFactory, Parser};

use super::super::CommandLine;

#[derive(Debug, Parser)]
#[command(name = "program")]
struct Settings {
    #[arg(long, env = "SHARED_PROBLEM_TEST_URL", hide_env_values = true)]
    redis_url: String,
    #[arg(long, env = "SHARED_PROBLEM_TEST_BROKER")]
    mqtt_broker: String,
    #[arg(long, default_value = "80")]
    http_port: u16,
    #[arg(long, default_value = "value", value_parser = ["value", "unused"])]
    zero_level: String,
    #[arg(long)]
    compress: bool,
    #[arg(long)]
    plain: Option<String>,
}

/// Returns the problems of a command line on which nothing is missing but what `args` leave out.
fn problems(args: &[&str]) -> Vec<String> {
    let command = Settings::command()
        .disable_help_subcommand(true)
        .subcommand(clap::Command::new("check-config"))
        .subcommand(clap::Command::new("record"));
    let args = std::iter::once(&"program").chain(args);
    let placeholders = [("redis-url", "u"), ("mqtt-broker", "b")];
    let line = CommandLine::parse(command, args, &placeholders).unwrap();
    line.problems(Vec::new())
}

#[test]
fn every_kind_of_mistake_has_its_sentence() {
    for (args, expected) in [
        // Unknown flags
        (
            &["--redis-uri", "x"][..],
            "--redis-uri is no setting: did you mean --redis-url? If not, try --help",
        ),
        (
            &["--redis-uri=x"],
            "--redis-uri is no setting: did you mean --redis-url? If not, try --help",
        ),
        (
            &["--broker=x"],
            "--broker is no setting: did you mean --mqtt-broker? If not, try --help",
        ),
        (
            &["--port", "81"],
            "--port is no setting: did you mean --http-port? If not, try --help",
        ),
        (
            &["--levels=x"],
            "--levels is no setting: did you mean --zero-level? If not, try --help",
        ),
        // clap would suggest --compress.
        (&["--cors"], "--cors is no setting: try --help"),
        (&["--quux"], "--quux is no setting: try --help"),
        (&["-q"], "-q is no setting: try --help"),
        // Words
        (
            &["chek-config"],
            "`chek-config` is no command, and settings begin with --: did you mean `check-config`? If not, try --help",
        ),
        (
            &["serve"],
            "`serve` is no command, and settings begin with --: try --help",
        ),
        (
            &["--compress", "yes"],
            "`yes`: --compress takes no value, it is given or left out",
        ),
        (
            &["--compress=yes"],
            "`yes`: --compress takes no value, it is given or left out",
        ),
        // Values
        (
            &["--http-port", "web"],
            "--http-port: invalid value `web`: expected a whole number",
        ),
        (&["--http-port"], "--http-port: its value is missing"),
        (
            &["--zero-level"],
            "--zero-level: its value is missing: expected value or unused",
        ),
        (
            &["--zero-level=unsed"],
            "--zero-level: invalid value `unsed`: did you mean unused? Expected is value or unused",
        ),
        (
            &["--zero-level=x"],
            "--zero-level: invalid value `x`: expected value or unused",
        ),
        (
            &["--plain=a", "--plain=b"],
            "--plain is given more than once",
        ),
    ] {
        let given = [&["--redis-url=u", "--mqtt-broker=b"], args].concat();
        assert_eq!(problems(&given), [expected], "{args:?}");
    }
}

#[test]
fn each_missing_setting_is_named_with_its_variable() {
    assert_eq!(
        problems(&[]),
        [
            "--redis-url is missing: give this flag or the variable SHARED_PROBLEM_TEST_URL",
            "--mqtt-broker is missing: give this flag or the variable SHARED_PROBLEM_TEST_BROKER",
        ]
    );
}

//! The command lines of the services.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::args::VARIABLES;
use tests::eventually::eventually;
use tests::ports::Port;
use tests::repository;
use tests::server_process::kept_environment;
use tests::stack::{Plan, Service};

const REDIS: &str = "--redis-url=redis://127.0.0.1:1";
const BROKER: &str = "--mqtt-broker=mqtt://127.0.0.1:1";

fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    Command::new(repository::binary(program)?)
        .args(arguments)
        .env_clear()
        .envs(kept_environment())
        .envs(variables.iter().copied())
        .output()
        .with_context(|| format!("running {program}"))
}

/// Expects exit code 2 and one line on stderr that names the error.
#[track_caller]
fn check_refused(program: &str, arguments: &[&str], named: &str) -> Result<()> {
    let output = run(program, arguments, &[])?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown = format!("{program} {arguments:?}: {text}");
    ensure!(output.status.code() == Some(2), "{shown}");
    ensure!(text.contains(named), "it does not name `{named}`: {shown}");
    ensure!(output.stdout.is_empty(), "something on stdout: {shown}");
    ensure!(!text.contains("panicked"), "{shown}");
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    ensure!(lines == 1, "{lines} lines instead of one sentence: {shown}");
    Ok(())
}

#[test]
fn bad_flags_exit_2_with_one_clear_sentence() -> Result<()> {
    check_refused(
        "ingest",
        &[BROKER],
        "--redis-url (variable REDIS_URL) or --redis-url-file (variable REDIS_URL_FILE) is required",
    )?;
    check_refused(
        "ingest",
        &[REDIS],
        "--mqtt-broker is missing: give this flag or the variable MQTT_BROKER",
    )?;
    for (flag, named) in [
        ("--offline-after=3", "--offline-after"),
        ("--offline-after=soon", "--offline-after"),
        ("--redis-timeout=0s", "--redis-timeout"),
        ("--redis-watch=1ms", "--redis-watch"),
        ("--alarm-deadband=-1", "--alarm-deadband"),
        ("--alarm-off-delay=1 fortnight", "--alarm-off-delay"),
        ("--device-utc-offset=+25:00", "--device-utc-offset"),
        ("--unit-codes=ppm", "--unit-codes"),
        ("--http-port=70000", "--http-port"),
        ("--mqtt-topic=", "--mqtt-topic"),
        ("--mqtt-topic=a/#/b", "--mqtt-topic"),
        ("--mqtt-share-group=g", "--mqtt-client-id"),
        ("--no-such-flag", "--help"),
        ("--redis-uri=x", "did you mean --redis-url?"),
        ("--zero-level=unsed", "did you mean unused?"),
        ("chek-config", "did you mean `check-config`?"),
    ] {
        check_refused("ingest", &[BROKER, REDIS, flag], named)?;
    }
    let negative = [BROKER, REDIS, "--log-burst", "-1"];
    check_refused("ingest", &negative, "--log-burst: invalid value `-1`")?;
    let switch = [REDIS, "--allow-anonymous", "true"];
    check_refused("gateway", &switch, "`true` is no command")?;
    check_refused(
        "ingest",
        &["--mqtt-broker=127.0.0.1:1883", REDIS],
        "--mqtt-broker",
    )?;
    check_refused(
        "ingest",
        &["--mqtt-broker=http://x", REDIS],
        "--mqtt-broker",
    )?;
    for (flag, named) in [
        ("--allowed-origins=*", "--allowed-origins"),
        ("--allowed-origins=https://*.*.example", "--allowed-origins"),
        ("--allowed-origins=capacitor://*", "--allowed-origins"),
        (
            "--allowed-origins=wss://dashboard.example",
            "--allowed-origins",
        ),
        ("--http-port=web", "--http-port"),
        ("--drain-period=10", "--drain-period"),
        ("stray", "stray"),
    ] {
        check_refused("gateway", &[REDIS, "--allow-anonymous", flag], named)?;
    }
    check_refused(
        "gateway",
        &["--redis-url=http://x", "--allow-anonymous"],
        "--redis-url",
    )
}

#[test]
fn a_gateway_without_authentication_refuses_to_start() -> Result<()> {
    check_refused("gateway", &[REDIS], "--allow-anonymous")
}

#[test]
fn a_password_is_never_printed() -> Result<()> {
    let secret = "hunter2secret";
    let url = format!("http://user:{secret}@127.0.0.1");
    let variables = [
        ("MQTT_PASSWORD", secret),
        ("MQTT_BROKER", url.as_str()),
        ("REDIS_URL", url.as_str()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url.as_str()),
    ];
    for arguments in [&["--help"][..], &[][..]] {
        for program in ["ingest", "gateway"] {
            let output = run(program, arguments, &variables)?;
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            ensure!(!text.contains(secret), "{program} {arguments:?}: {text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_password_is_not_in_the_log_of_a_running_service() -> Result<()> {
    let secret = "hunter2secret";
    // Nothing listens there: failures are logged too.
    let unused_port = Port::reserve()?;
    let collector = format!("http://user:{secret}@127.0.0.1:{}", unused_port.number());
    let metrics = format!("https://user:{secret}@127.0.0.1:{}", unused_port.number());
    let mut stack = Plan::default()
        .ingest_flags("--mqtt-username=user")
        .variable("MQTT_PASSWORD", secret)
        .variable("OTEL_EXPORTER", "otlp")
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &collector)
        .variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &metrics)
        .variable("OTEL_METRIC_EXPORT_INTERVAL", "50")
        .variable("OTEL_TRACES_SAMPLER_ARG", "1")
        .variable("LOG_LEVEL", "trace")
        .start()
        .await?;
    stack.device("OTSM-0001").send(350).await?;
    stack.shows("OTSM-0001", 350).await?;
    for service in stack.ingests.iter_mut().chain(&mut stack.gateways) {
        eventually("an export fails", async || {
            let output = service.process.output();
            ensure!(
                output.contains("the collector does not accept metrics"),
                "not yet"
            );
            Ok(())
        })
        .await?;
        let status = service.process.terminate().await?;
        ensure!(status.success(), "{status}");
        let output = service.process.output();
        let leak = output.lines().find(|line| line.contains(secret));
        ensure!(leak.is_none(), "{leak:?}");
    }
    let output = stack.gateways[0].process.output();
    let shown = format!("http://***@127.0.0.1:{}", unused_port.number());
    ensure!(output.contains(&shown), "the settings are not logged");
    Ok(())
}

#[test]
fn help_lists_the_variables_of_the_example_and_no_others() -> Result<()> {
    let mut described: Vec<String> = Vec::new();
    for program in ["ingest", "gateway"] {
        let output = run(program, &["--help"], &[])?;
        ensure!(
            output.status.code() == Some(0),
            "{program} --help: {output:?}"
        );
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        for (at, _) in help.match_indices("[env: ") {
            let rest = &help[at + "[env: ".len()..];
            let name: String = rest
                .chars()
                .take_while(|c| !matches!(c, '=' | ']'))
                .collect();
            described.push(name);
        }
    }
    described.sort();
    described.dedup();
    ensure!(
        described.len() > 20,
        "--help names few variables: {described:?}"
    );

    let path = repository::root().join(".env.example");
    let text = fs::read_to_string(&path).context("reading `.env.example`")?;
    let mut example: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let name = line.trim_start_matches(['#', ' ']).split_once('=')?.0;
            let is_name =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            is_name.then(|| name.to_owned())
        })
        .collect();
    example.sort();
    example.dedup();
    assert_eq!(example, described, "`.env.example` and --help differ");
    assert_eq!(
        VARIABLES, described,
        "`shared::args::VARIABLES` and --help differ"
    );
    Ok(())
}

#[test]
fn the_variables_have_their_documented_names() -> Result<()> {
    let help = |program: &str| -> Result<String> {
        let output = run(program, &["--help"], &[])?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (ingest, gateway) = (help("ingest")?, help("gateway")?);
    for (flag, variable) in [
        ("--mqtt-broker", "MQTT_BROKER"),
        ("--mqtt-username", "MQTT_USERNAME"),
        ("--mqtt-password", "MQTT_PASSWORD"),
        ("--mqtt-password-file", "MQTT_PASSWORD_FILE"),
        ("--mqtt-topic", "MQTT_TOPIC_SUBTRONICS"),
        ("--mqtt-client-id", "MQTT_CLIENT_ID"),
        ("--mqtt-share-group", "MQTT_SHARE_GROUP"),
        ("--redis-url", "REDIS_URL"),
        ("--http-port", "HTTP_PORT"),
        ("--offline-after", "OFFLINE_AFTER"),
        ("--alarm-deadband", "ALARM_DEADBAND"),
        ("--alarm-off-delay", "ALARM_OFF_DELAY"),
        ("--device-utc-offset", "DEVICE_UTC_OFFSET"),
        ("--unit-codes", "UNIT_CODES"),
    ] {
        ensure!(ingest.contains(flag), "{flag} is not in `ingest --help`");
        ensure!(
            ingest.contains(&format!("[env: {variable}")),
            "{variable} is not in `ingest --help`"
        );
    }
    for (flag, variable) in [
        ("--redis-url", "REDIS_URL"),
        ("--http-port", "HTTP_PORT"),
        ("--allowed-origins", "ALLOWED_ORIGINS"),
        ("--allow-anonymous", "ALLOW_ANONYMOUS"),
    ] {
        ensure!(gateway.contains(flag), "{flag} is not in `gateway --help`");
        ensure!(
            gateway.contains(&format!("[env: {variable}")),
            "{variable} is not in `gateway --help`"
        );
    }
    Ok(())
}

#[test]
fn help_is_a_command_too() -> Result<()> {
    for program in ["ingest", "gateway"] {
        for (command, flag) in [
            (&["help"][..], &["--help"][..]),
            (&["help", "check-config"], &["check-config", "--help"]),
        ] {
            let [command, flag] = [run(program, command, &[])?, run(program, flag, &[])?];
            ensure!(command.status.success(), "{program}: {command:?}");
            ensure!(command.stdout == flag.stdout, "{program}: {command:?}");
        }
    }
    Ok(())
}

#[test]
fn a_wrong_variable_is_named() -> Result<()> {
    let output = run("ingest", &[BROKER, REDIS], &[("LOG_BURST", "abc")])?;
    let text = String::from_utf8_lossy(&output.stderr);
    let expected = "--log-burst (LOG_BURST): invalid value `abc`: expected a whole number";
    ensure!(text.trim() == expected, "{text}");
    Ok(())
}

#[test]
fn a_mistyped_variable_is_named_by_check_config_and_is_no_error() -> Result<()> {
    let variables = [
        ("ALOWED_ORIGINS", "https://dashboard.example"),
        ("MQTT_BROKER_URL", "mqtt://broker.example"),
        ("REDIS_URI", "redis://redis.example"),
        // Those of the other service, of Kubernetes and of nobody.
        ("ALLOWED_HOSTS", "gas.example"),
        ("DEVICE_RATE", "10"),
        ("REDIS_SERVICE_HOST", "10.0.0.1"),
        ("REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("OFFLINE_AFTR", ""),
    ];
    for (program, needed) in [
        ("ingest", [BROKER, REDIS]),
        ("gateway", ["--allow-anonymous=read", REDIS]),
    ] {
        let arguments = [&["check-config"], &needed[..]].concat();
        let output = run(program, &arguments, &variables)?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(0), "{program}: {text}");
        let warnings: Vec<&str> = text.lines().collect();
        let expected = [
            ("ALOWED_ORIGINS", "ALLOWED_ORIGINS"),
            ("MQTT_BROKER_URL", "MQTT_BROKER"),
            ("REDIS_URI", "REDIS_URL"),
        ];
        let expected = expected.map(|(name, meant)| {
            format!("warning: the variable {name} is no setting and has no effect: did you mean {meant}?")
        });
        assert_eq!(warnings, expected, "{program}");
    }
    Ok(())
}

#[tokio::test]
async fn the_start_is_one_readable_line_with_the_mistyped_variables_before_it() -> Result<()> {
    let plan = Plan::default()
        .operator_port()
        .variable("ALOWED_ORIGINS", "https://dashboard.example")
        .variable("MQTT_PASSWORD", "hunter2secret")
        .ingest_flags("--mqtt-username=user");
    let stack = plan.start().await?;
    let line = |service: &Service, message: &str| -> Result<(Value, usize)> {
        let output = service.process.output();
        let mut lines = output.lines().enumerate();
        let found = lines.find_map(|(number, line)| {
            let line: Value = serde_json::from_str(line).ok()?;
            let text = line["message"].as_str()?;
            text.starts_with(message).then(|| (line.clone(), number))
        });
        found.with_context(|| format!("no line `{message}`: {output}"))
    };
    let (gateway, ingest) = (&stack.gateways[0], &stack.ingests[0]);
    for (service, message) in [(gateway, "gateway running"), (ingest, "ingest running")] {
        let started = format!("`{message}` is logged");
        let found = eventually(&started, async || line(service, message));
        let (start, place) = found.await?;
        assert_eq!(
            start["address"],
            format!("127.0.0.1:{}", service.port()),
            "{start}"
        );
        let settings = start["settings"].as_str().context("no settings")?;
        ensure!(
            settings.contains("--redis-url=redis://127.0.0.1:"),
            "{start}"
        );
        ensure!(
            settings.contains(&format!("--http-port={}", service.port())),
            "{start}"
        );
        // Its default.
        ensure!(!settings.contains("--redis-timeout"), "{start}");
        ensure!(!settings.contains("hunter2"), "{start}");
        let (_, warning) = line(service, "the variable ALOWED_ORIGINS is no setting")?;
        ensure!(warning < place, "the warning comes late");
    }
    let (start, _) = line(gateway, "gateway running")?;
    let operators = format!("127.0.0.1:{}", gateway.operator_port());
    assert_eq!(start["operators_address"], operators, "{start}");
    let (start, _) = line(ingest, "ingest running")?;
    let settings = start["settings"].as_str().unwrap_or_default();
    ensure!(settings.contains("--mqtt-username=***"), "{start}");
    ensure!(settings.contains("--mqtt-password=***"), "{start}");
    stack.pass()
}

//! The commands beside the services: `check-config`, as an operator meets them.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use tests::repository;
use tests::server_process::kept_environment;
use tests::stack::{Plan, Stack};
use tokio::process::Command;

async fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    Command::new(repository::binary(program)?)
        .args(arguments)
        .env_clear()
        .envs(kept_environment())
        .envs(variables.iter().copied())
        .output()
        .await
        .with_context(|| format!("running {program}"))
}

#[track_caller]
fn check_exit(output: &Output, code: i32) -> Result<(Vec<String>, Vec<String>)> {
    ensure!(output.status.code() == Some(code), "{output:?}");
    let lines = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().map(str::to_owned).collect()
    };
    Ok((lines(&output.stdout), lines(&output.stderr)))
}

fn has(lines: &[String], wanted: &str) -> Result<()> {
    ensure!(
        lines.iter().any(|line| line.contains(wanted)),
        "no `{wanted}` in {lines:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn check_config_lists_what_is_effective_and_masks_secrets() -> Result<()> {
    let variables = [
        ("REDIS_URL", "redis://user:hunter2@127.0.0.1:1/0"),
        ("MQTT_BROKER", "mqtt://127.0.0.1:1"),
        ("MQTT_USERNAME", "hunter2"),
        ("MQTT_PASSWORD", "hunter2"),
        ("MONGODB_URI", "mongodb://user:hunter2@h"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@h:4317"),
        ("OFFLINE_AFTER", "90s"),
        ("ALLOW_ANONYMOUS", "yes"),
        ("PORT", "8080"),
    ];
    for (program, lines) in [
        (
            "ingest",
            [
                "--redis-url = redis://127.0.0.1:1  (variable REDIS_URL)",
                "--mqtt-password = ***  (variable MQTT_PASSWORD)",
                "--offline-after = 90s  (variable OFFLINE_AFTER)",
                "--mqtt-client-id = subtronics-ingest  (default)",
                "--log-level = debug  (flag)",
            ],
        ),
        (
            "gateway",
            [
                "--redis-url = redis://127.0.0.1:1  (variable REDIS_URL)",
                "--http-port = 8080  (--port)",
                "--allow-anonymous = true  (variable ALLOW_ANONYMOUS)",
                "--otel-exporter-otlp-endpoint = http://***@h:4317",
                "--log-level = debug  (flag)",
            ],
        ),
    ] {
        let output = run(program, &["check-config", "--log-level=debug"], &variables).await?;
        let (settings, warnings) = check_exit(&output, 0)?;
        for line in lines {
            has(&settings, line)?;
        }
        ensure!(
            !settings
                .iter()
                .chain(&warnings)
                .any(|line| line.contains("hunter2")),
            "{settings:#?} {warnings:#?}"
        );
        ensure!(
            warnings.len() == usize::from(program == "ingest"),
            "{warnings:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn check_config_tells_every_problem_the_start_tells_the_same() -> Result<()> {
    let bad = [
        "--offline-after=3",
        "--http-port=70000",
        "--mqtt-topic=a+",
        "--mqtt-share-group=g",
        "--no-such-flag",
        "--redis-url=redis://127.0.0.1:1",
    ];
    let named = [
        "--offline-after",
        "--http-port",
        "--no-such-flag",
        "--mqtt-broker",
        "--mqtt-topic",
        "--mqtt-share-group",
    ];
    let checked = run(
        "ingest",
        &[&["check-config", "--connect"], &bad[..]].concat(),
        &[],
    )
    .await?;
    let (settings, problems) = check_exit(&checked, 2)?;
    ensure!(problems.len() == named.len(), "{problems:#?}");
    for name in named {
        has(&problems, name)?;
    }
    has(&settings, "--http-port  (missing, or cannot be read)")?;
    ensure!(
        !settings.iter().any(|line| line.starts_with("connect")),
        "it connected all the same: {settings:#?}"
    );
    let (_, started) = check_exit(&run("ingest", &bad, &[]).await?, 2)?;
    ensure!(started == problems, "{started:#?} is not {problems:#?}");

    let misplaced = run("gateway", &["--log-level=info", "check-config"], &[]).await?;
    let (_, problems) = check_exit(&misplaced, 2)?;
    has(&problems, "`check-config` must stand before all settings")
}

/// The flags of the first ingest of the stack, for a command beside it.
fn links(stack: &Stack) -> [String; 2] {
    [
        format!("--mqtt-broker=mqtt://127.0.0.1:{}", stack.broker.port()),
        format!("--redis-url=redis://127.0.0.1:{}", stack.redis.port()),
    ]
}

#[tokio::test]
async fn check_config_tries_each_connection_and_disturbs_nobody() -> Result<()> {
    let stack = Stack::start().await?;
    let [broker, redis] = links(&stack);
    // The client id of the running replica: a second connection with it would take its session.
    let flags = [
        "check-config",
        "--connect",
        &broker,
        &redis,
        "--mqtt-client-id=ingest-0",
    ];
    let (tried, problems) = check_exit(&run("ingest", &flags, &[]).await?, 0)?;
    has(&tried, "subscribed to SubTronics/data")?;
    has(&tried, "64 partitions")?;
    ensure!(problems.is_empty(), "{problems:?}");
    let flags = ["check-config", "--connect", &redis, "--allow-anonymous"];
    let (tried, _) = check_exit(&run("gateway", &flags, &[]).await?, 0)?;
    has(&tried, "64 partitions")?;

    // Everything is tried, also behind a failure.
    let flags = [
        "check-config",
        "--connect",
        "--mqtt-broker=mqtt://127.0.0.1:1",
        &redis,
        "--partitions=32",
        "--otel-exporter=otlp",
        "--otel-exporter-otlp-endpoint=http://u:hunter2@127.0.0.1:1",
    ];
    let (tried, _) = check_exit(&run("ingest", &flags, &[]).await?, 1)?;
    has(&tried, "connect mqtt://127.0.0.1:1: FAILED, cannot connect")?;
    has(&tried, "its data has 64 partitions, --partitions is 32")?;
    has(&tried, "connect collector http://***@127.0.0.1:1: FAILED")?;

    // The replica still has its session, and never lost its connection.
    stack.device("OTSM-0001").send(350).await?;
    stack.shows("OTSM-0001", 350).await?;
    let connections = stack.ingests[0].process.output();
    let connections = connections.matches("Connected to MQTT broker").count();
    ensure!(connections == 1, "{connections} connections");
    stack.pass()
}

#[tokio::test]
async fn check_config_writes_nothing_into_redis() -> Result<()> {
    let stack = Plan::default().ingests(0).gateways(0).start().await?;
    let [broker, redis] = links(&stack);
    let flags = [
        "check-config",
        "--connect",
        &broker,
        &redis,
        "--partitions=32",
    ];
    let (tried, _) = check_exit(&run("ingest", &flags, &[]).await?, 0)?;
    has(&tried, "empty")?;
    let mut connection = stack.redis_connection().await?;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await?;
    ensure!(keys.is_empty(), "{keys:?}");
    stack.pass()
}

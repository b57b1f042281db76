//! The commands `check-config` and `export-log`.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::keys::PartitionKeys;
use tests::eventually::eventually;
use tests::repository;
use tests::server_process::kept_environment;
use tests::stack::{Plan, Stack};
use tokio::net::TcpListener;
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
                "--allow-anonymous = all  (variable ALLOW_ANONYMOUS)",
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
        let ends_arithmetic = |process: &str| {
            settings.iter().any(|line| {
                line.starts_with(&format!("memory of {process}: "))
                    && line.ends_with(" in the worst case")
            })
        };
        ensure!(ends_arithmetic(program), "{settings:#?}");
        // Only ingest knows the bounds of what is stored.
        ensure!(
            ends_arithmetic("Redis") == (program == "ingest"),
            "{settings:#?}"
        );
        ensure!(
            !settings
                .iter()
                .chain(&warnings)
                .any(|line| line.contains("hunter2")),
            "{settings:#?} {warnings:#?}"
        );
        // That the broker is reached without TLS; that everybody may do everything.
        ensure!(warnings.len() == 1, "{program}: {warnings:?}");
    }
    Ok(())
}

#[tokio::test]
async fn check_config_and_the_start_print_the_same_problems() -> Result<()> {
    let bad = [
        "--offline-after=3",
        "--http-port=70000",
        "--mqtt-topic=a+",
        "--mqtt-share-group=g",
        "--no-such-flag",
        "--otel-exporter-otlp-endpoint=http://u:hunter2@foo bar",
        "--redis-url=redis://127.0.0.1:1",
    ];
    let named = [
        "--offline-after",
        "--http-port",
        "--no-such-flag",
        "--otel-exporter-otlp-endpoint: invalid value: ",
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
    ensure!(
        !problems.iter().any(|line| line.contains("hunter2")),
        "{problems:#?}"
    );
    has(&settings, "--http-port  (missing, or cannot be read)")?;
    ensure!(
        !settings.iter().any(|line| line.starts_with("connect")),
        "it connected all the same: {settings:#?}"
    );
    let (_, started) = check_exit(&run("ingest", &bad, &[]).await?, 2)?;
    ensure!(started == problems, "{started:#?} is not {problems:#?}");

    let misplaced = run("gateway", &["--log-level=info", "check-config"], &[]).await?;
    let (_, problems) = check_exit(&misplaced, 2)?;
    has(&problems, "`check-config` must come before all settings")
}

/// Returns the flags with the addresses of the stack.
fn connections(stack: &Stack) -> [String; 2] {
    [
        format!("--mqtt-broker=mqtt://127.0.0.1:{}", stack.broker.port()),
        format!("--redis-url=redis://127.0.0.1:{}", stack.redis.port()),
    ]
}

#[tokio::test]
async fn check_config_tries_each_connection_and_disturbs_nobody() -> Result<()> {
    let stack = Stack::start().await?;
    let [broker, redis] = connections(&stack);
    // With the client id of the running replica, a second connection would take over its session.
    let flags = [
        "check-config",
        "--connect",
        &broker,
        &redis,
        "--mqtt-client-id=ingest-0",
    ];
    let (tried, problems) = check_exit(&run("ingest", &flags, &[]).await?, 0)?;
    has(
        &tried,
        "subscribed to SubTronics/data; no message within 5 s",
    )?;
    has(&tried, "does not show that anything is published there")?;
    has(&tried, "64 partitions")?;
    ensure!(problems.is_empty(), "{problems:?}");
    let old = [&flags[..], &["--mqtt-version=3.1.1"]].concat();
    let sending = async {
        let device = stack.device("OTSM-0002");
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        loop {
            pace.tick().await;
            if let Err(err) = device.send(1).await {
                return err;
            }
        }
    };
    let output = tokio::select! {
        output = run("ingest", &old, &[]) => output?,
        failed = sending => return Err(failed),
    };
    let (tried, warnings) = check_exit(&output, 0)?;
    has(&tried, "messages within 5 s")?;
    has(&warnings, "MQTT 3.1.1: no share groups")?;

    let flags = [
        "check-config",
        "--connect",
        &redis,
        "--allow-anonymous=read",
    ];
    let (tried, _) = check_exit(&run("gateway", &flags, &[]).await?, 0)?;
    has(&tried, "64 partitions")?;

    // Everything is tried, also after a failure, and after a server that accepts a connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let deaf = silent.local_addr()?;
    let metrics = format!("--otel-exporter-otlp-metrics-endpoint=https://{deaf}");
    let flags = [
        "check-config",
        "--connect",
        "--mqtt-broker=mqtt://127.0.0.1:1",
        &redis,
        "--partitions=32",
        "--otel-exporter=otlp",
        "--otel-exporter-otlp-endpoint=http://u:hunter2@127.0.0.1:1",
        &metrics,
        "--otel-exporter-otlp-timeout=200",
    ];
    let (tried, _) = check_exit(&run("ingest", &flags, &[]).await?, 1)?;
    has(&tried, "connect mqtt://127.0.0.1:1: FAILED, cannot connect")?;
    has(&tried, "its data has 64 partitions, --partitions is 32")?;
    has(&tried, "connect collector http://***@127.0.0.1:1: FAILED")?;
    has(&tried, &format!("connect collector https://{deaf}: FAILED"))?;

    // The replica never lost its connection.
    stack.device("OTSM-0001").send(350).await?;
    stack.shows("OTSM-0001", 350).await?;
    let text = stack.ingests[0].get("/metrics").await?;
    let text = std::str::from_utf8(&text.body)?;
    let once = "ingest_broker_connections_total 1";
    ensure!(text.lines().any(|line| line == once), "{text}");
    stack.pass()
}

#[tokio::test]
async fn check_config_writes_nothing_into_redis() -> Result<()> {
    let stack = Plan::default().ingests(0).gateways(0).start().await?;
    let [broker, redis] = connections(&stack);
    let flags = [
        "check-config",
        "--connect",
        &broker,
        &redis,
        "--partitions=32",
    ];
    let (tried, _) = check_exit(&run("ingest", &flags, &[]).await?, 0)?;
    has(&tried, "empty; warning: maxmemory is not set")?;
    // There is no log, which is an error: an export without lines would look like success.
    let export = run("ingest", &["export-log", &redis], &[]).await?;
    let (lines, problems) = check_exit(&export, 1)?;
    ensure!(lines.is_empty(), "{lines:?}");
    ensure!(problems.len() == 1, "{problems:?}");
    has(&problems, "it has no key `st:partitions`")?;
    let mut connection = stack.redis_connection().await?;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await?;
    ensure!(keys.is_empty(), "{keys:?}");
    stack.pass()
}

async fn export(stack: &Stack, more: &[&str]) -> Result<Vec<Value>> {
    let [_, redis] = connections(stack);
    let output = run(
        "ingest",
        &[&["export-log", redis.as_str()], more].concat(),
        &[],
    )
    .await?;
    let (lines, problems) = check_exit(&output, 0)?;
    ensure!(problems.is_empty(), "{problems:?}");
    let read = |line: String| serde_json::from_str(&line).with_context(|| line.clone());
    lines.into_iter().map(read).collect()
}

fn transitions(lines: &[Value]) -> Vec<(&str, &str)> {
    lines
        .iter()
        .map(|line| {
            let of = |key: &str| line[key].as_str().unwrap_or("-");
            (of("device_id"), of("change"))
        })
        .collect()
}

#[tokio::test]
async fn export_log_writes_every_transition_of_every_partition_in_order() -> Result<()> {
    let stack = Plan::default().operator_port().start().await?;
    // Three devices of three partitions, one after the other and back.
    let (one, two, three) = ("OTSM-0001", "OTSM-0002", "OTSM-0003");
    for (serial, value) in [(one, 350), (two, 1200), (three, 350), (one, 600), (two, 0)] {
        stack.device(serial).send(value).await?;
        stack.shows(serial, value).await?;
    }
    let alarm = stack.alerts(one).await?[0]["id"].clone();
    let alarm = alarm.as_str().context("an alarm has an id")?.to_owned();
    let answer = stack
        .acknowledge(one, &alarm, r#"{"acknowledged_by": "Asha"}"#)
        .await?;
    ensure!(answer.status == 200, "{answer:?}");
    // This alarm has returned: it ends with its acknowledgement.
    let alarm = stack.alerts(two).await?[0]["id"].clone();
    let alarm = alarm.as_str().context("an alarm has an id")?.to_owned();
    let answer = stack
        .acknowledge(two, &alarm, r#"{"acknowledged_by": "Meera"}"#)
        .await?;
    ensure!(answer.status == 200, "{answer:?}");
    let mut connection = stack.redis_connection().await?;
    let answer = stack.retire(three, r#"{"retired_by": "Ravi"}"#).await?;
    ensure!(answer.status == 200, "{answer:?}");

    // An unreadable line, as the newest of one partition.
    let logs: Vec<String> = redis::cmd("KEYS")
        .arg("st:*log*")
        .query_async(&mut connection)
        .await?;
    ensure!(logs.len() == 3, "{logs:?}");
    redis::cmd("XADD")
        .arg(&[&logs[0], "*", "device", "OTSM-0009", "line", "{half"])
        .exec_async(&mut connection)
        .await?;

    // A line of the present millisecond may be left out.
    let lines = eventually("the log has its last line", async || {
        let lines = export(&stack, &[]).await?;
        ensure!(
            lines.last().is_some_and(|line| line["raw"] == "{half"),
            "{lines:?}"
        );
        Ok(lines)
    })
    .await?;
    let expected = [
        (one, "raised"),
        (two, "raised"),
        (three, "raised"),
        (one, "escalated"),
        (two, "returned"),
        (one, "acknowledged"),
        (two, "acknowledged"),
        (two, "cleared"),
        (three, "retired"),
        (three, "retired"),
        ("OTSM-0009", "unreadable"),
    ];
    assert_eq!(transitions(&lines), expected);
    assert_eq!(lines[5]["by"], "Asha");
    assert_eq!(lines[5]["acknowledged_by"], "Asha");
    assert_eq!(lines[5]["state"], "acknowledged");
    assert_eq!(lines[4]["state"], "returned");
    assert_eq!(lines[6]["by"], "Meera");
    assert_eq!(lines[7]["state"], "cleared");
    assert_eq!(lines[8]["by"], "Ravi");
    assert_eq!(lines[8]["alarm_id"], Value::Null);
    assert_eq!(lines[9]["state"], "cleared");

    // The rows of REST are among them, with the same ids and fields.
    let rows = stack.get("/alarm-logs").await?.expect(200)?;
    let rows = rows["logs"].as_array().context("rows")?.clone();
    ensure!(rows.len() == 4, "{rows:?}");
    for row in &rows {
        let line = lines.iter().find(|line| line["id"] == row["id"]);
        let line = line.with_context(|| format!("no line for {row}"))?;
        for (field, value) in row.as_object().context("a row")? {
            let changes_later = [
                "acknowledged",
                "acknowledged_at",
                "acknowledged_by",
                "state",
                "cleared_at",
            ];
            ensure!(
                changes_later.contains(&field.as_str()) || line[field] == *value,
                "{field}: {line} is not {row}"
            );
        }
    }

    // From the time of the fourth line on. Nothing from the future.
    let id = lines[3]["id"].as_str().context("an id")?;
    let millis: i64 = id.rsplit('-').nth(1).context("a time")?.parse()?;
    let since = jiff::Timestamp::from_millisecond(millis)?.to_string();
    assert_eq!(
        transitions(&export(&stack, &["--since", &since]).await?),
        expected[3..]
    );
    assert_eq!(
        export(&stack, &["--since", "24h"]).await?.len(),
        expected.len()
    );
    assert_eq!(export(&stack, &["--since", "2999-01-01"]).await?.len(), 0);
    stack.pass()
}

#[tokio::test]
async fn export_log_reads_more_than_a_page_of_each_partition() -> Result<()> {
    const LINES: u32 = 3_000;
    let stack = Plan::default().ingests(0).gateways(1).start().await?;
    let mut connection = stack.redis_connection().await?;
    // Two partitions in turn, at the end only one. Some lines have the same millisecond.
    let mut pipe = redis::pipe();
    for number in 0..LINES {
        let partition = if number < 2_000 {
            u16::from(number % 2 == 1)
        } else {
            0
        };
        pipe.cmd("XADD").arg(PartitionKeys::new(partition).log());
        pipe.arg(format!("{}-{number}", 1_000_000 + number / 3));
        pipe.arg(&["device", "D", "line", &number.to_string()])
            .ignore();
    }
    pipe.exec_async(&mut connection).await?;
    let lines = export(&stack, &[]).await?;
    let found: Vec<u32> = lines
        .iter()
        .map(|line| line["raw"].as_str().unwrap_or_default().parse())
        .collect::<Result<_, _>>()?;
    let expected: Vec<u32> = (0..LINES).collect();
    assert_eq!(found, expected);

    // A key of the wrong type is reported and does not hide the other logs.
    let broken = PartitionKeys::new(2).log();
    redis::cmd("SET")
        .arg(&broken)
        .arg("x")
        .exec_async(&mut connection)
        .await?;
    let [_, redis] = connections(&stack);
    let (lines, problems) = check_exit(&run("ingest", &["export-log", &redis], &[]).await?, 1)?;
    ensure!(
        lines.len() == found.len() && problems.len() == 1,
        "{problems:?}"
    );
    has(&problems, &format!("`{broken}` is not a stream"))?;
    stack.pass()
}

#[tokio::test]
async fn export_log_without_redis_is_one_line_and_exit_1() -> Result<()> {
    let output = run(
        "ingest",
        &["export-log", "--redis-url=redis://127.0.0.1:1"],
        &[],
    )
    .await?;
    let (lines, problems) = check_exit(&output, 1)?;
    ensure!(
        lines.is_empty() && problems.len() == 1,
        "{lines:?} {problems:?}"
    );
    has(&problems, "redis is unavailable")
}

//! The log of the services: one line per alarm change with its trace, none per reading, no payload, and never a flood.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::collector::Collector;
use tests::device::TOPIC;
use tests::eventually::{LATE, eventually};
use tests::http::Connection;
use tests::ports::Port;
use tests::repository;
use tests::server_process::ServerProcess;
use tests::stack::{Plan, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

const SERIAL: &str = "OTSM-0001";
const NOISY: &str = "OTSM-0002";
/// Part of every payload. It must not be in any log.
const MARKER: &str = "canary-of-the-payload";

/// Parses all lines that a service has logged. Each must be JSON.
fn lines(process: &ServerProcess) -> Result<Vec<Value>> {
    let output = process.output();
    let lines = output.lines().filter(|line| !line.is_empty());
    let parsed = lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    parsed.collect()
}

fn changes<'a>(lines: &'a [Value], serial: &str) -> Vec<&'a Value> {
    let is_change =
        |line: &&Value| line["message"] == "alarm changed" && line["device.id"] == serial;
    lines.iter().filter(is_change).collect()
}

/// Stops every service, so that its log is complete.
async fn ended(stack: &mut Stack) -> Result<()> {
    for service in stack.ingests.iter_mut().chain(&mut stack.gateways) {
        let status = service.process.terminate().await?;
        ensure!(status.success(), "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn an_alarm_change_is_one_line_with_its_trace_and_a_reading_is_none() -> Result<()> {
    let collector = Collector::start().await?;
    let flags = collector.flags("0");
    let plan = Plan::default().ingest_flags(&flags).gateway_flags(&flags);
    let mut stack = plan.start().await?;
    let device = stack.device(SERIAL);
    for round in 0..50 {
        let payload = device.newest(round % 10).with("sender", MARKER);
        device.publish(&payload).await?;
    }
    device
        .publish(&device.newest(1_200).with("sender", MARKER))
        .await?;
    stack
        .publisher()
        .publish(TOPIC, format!("{{{MARKER}"))
        .await?;
    let alarm = eventually("the alarm is open", async || {
        let alarms = stack.alerts(SERIAL).await?;
        alarms.first().cloned().context("no alarm yet")
    })
    .await?;
    let id = alarm["id"].as_str().context("an id")?;
    stack.acknowledge(SERIAL, id, "{}").await?.expect(200)?;
    ended(&mut stack).await?;

    let logged = lines(&stack.ingests[0].process)?;
    let raised = changes(&logged, SERIAL);
    ensure!(raised.len() == 1, "{raised:?}");
    ensure!(raised[0]["alarm.change"] == "raised", "{raised:?}");
    ensure!(raised[0]["alarm.id"] == id, "{raised:?}");
    ensure!(raised[0]["level"] == "INFO", "{raised:?}");
    let trace = raised[0]["trace_id"].as_str().context("a trace")?;
    let spans = collector.spans();
    let is_ours =
        |bytes: &[u8]| u128::from_str_radix(trace, 16).is_ok_and(|id| id.to_be_bytes() == bytes);
    ensure!(
        spans
            .iter()
            .any(|span| span.name.starts_with("process ") && is_ours(&span.trace_id)),
        "{trace}: {spans:?}"
    );
    let letters: Vec<_> = logged
        .iter()
        .filter(|l| l["reason"] == "not_json")
        .collect();
    ensure!(letters.len() == 1, "{letters:?}");
    ensure!(letters[0]["trace_id"].is_string(), "{letters:?}");
    let about_device = logged
        .iter()
        .filter(|line| line.to_string().contains(SERIAL));
    ensure!(about_device.count() == 1, "{logged:?}");

    let logged = lines(&stack.gateways[0].process)?;
    let by_people = changes(&logged, SERIAL);
    let acknowledged = by_people.first().context("the acknowledgement")?;
    ensure!(
        acknowledged["alarm.change"] == "acknowledged",
        "{acknowledged}"
    );
    let of_request = &acknowledged["trace_id"];
    ensure!(of_request.is_string(), "{acknowledged}");
    for service in stack.ingests.iter().chain(&stack.gateways) {
        let output = service.process.output();
        ensure!(!output.contains(MARKER), "a payload is logged: {output}");
    }
    Ok(())
}

#[tokio::test]
async fn a_noisy_detector_cannot_flood_the_log_nor_silence_another() -> Result<()> {
    const ROUNDS: u32 = 150;
    // Fifty of them go off at once, beside the one that flaps.
    const OTHERS: u32 = 50;
    let plan = Plan::default().ingest_flags("--alarm-off-delay=0s --alarm-deadband=0");
    let mut stack = plan.every_raise_is_an_alarm().start().await?;
    let noisy = stack.device(NOISY);
    for _ in 0..ROUNDS {
        noisy.send(1_200).await?;
        noisy.send(1).await?;
        stack.publisher().publish(TOPIC, "no json").await?;
    }
    for number in 0..OTHERS {
        let serial = format!("OTSM-1{number:03}");
        stack.device(&serial).send(1_200).await?;
    }
    let messages = 2 * ROUNDS + OTHERS;
    let ingest = &stack.ingests[0];
    let committed = async |messages: u32| {
        eventually("all are committed", async || {
            let committed = ingest.metric("ingest_messages_committed_total").await?;
            let expected = f64::from(messages);
            ensure!(committed >= expected, "{committed} of {expected}");
            ingest.metric("ingest_alarm_changes_total{").await
        })
        .await
    };
    committed(messages).await?;
    // Their lines count the lines that were suppressed until now.
    for serial in ["OTSM-2001", "OTSM-2002", "OTSM-2003"] {
        stack.device(serial).send(1_200).await?;
    }
    let changed = committed(messages + 3).await?;
    ensure!(changed >= f64::from(messages) / 2.0, "{changed} changes");
    ended(&mut stack).await?;

    let logged = lines(&stack.ingests[0].process)?;
    let of_noisy = changes(&logged, NOISY).len();
    // Ten per minute, and the test may last a few minutes.
    ensure!((1..=30).contains(&of_noisy), "{of_noisy} lines");
    let all = logged
        .iter()
        .filter(|line| line["message"] == "alarm changed");
    let (mut serials, mut held_back, mut lines) = (BTreeSet::new(), 0.0, 0.0);
    for line in all {
        serials.insert(line["device.id"].to_string());
        held_back += line["held_back"].as_f64().context("a count")?;
        lines += 1.0;
    }
    // A device that shares the slot of the noisy one, one of a thousand, is suppressed with it.
    ensure!(serials.len() > OTHERS as usize, "{serials:?}");
    let untold = changed - lines - held_back;
    ensure!(
        untold < 2.5,
        "{changed} changes, {lines} lines, {held_back} suppressed"
    );
    let letters = logged.iter().filter(|line| line["reason"] == "not_json");
    // One in ten seconds.
    ensure!((1..=30).contains(&letters.count()), "dead letters flood");
    Ok(())
}

#[tokio::test]
async fn the_reason_why_redis_is_away_is_logged() -> Result<()> {
    let stack = Plan::default().start().await?;
    stack.redis_proxy.cut();
    for service in stack.ingests.iter().chain(&stack.gateways) {
        eventually("the cause is in a line", async || {
            let logged = lines(&service.process)?;
            let errors = logged.iter().filter_map(|line| line["error"].as_str());
            let mut causes =
                errors.filter_map(|error| error.strip_prefix("redis is unavailable: "));
            causes
                .next()
                .map(drop)
                .with_context(|| format!("{logged:?}"))
        })
        .await?;
    }
    stack.redis_proxy.heal();
    Ok(())
}

#[tokio::test]
async fn a_service_whose_output_is_not_read_works_and_stops() -> Result<()> {
    let stack = Plan::default().gateways(0).start().await?;
    let port = Port::reserve()?;
    let mut gateway = Command::new(repository::binary("gateway")?);
    gateway
        .env_clear()
        .arg(format!("--http-port={}", port.number()))
        .arg(format!(
            "--redis-url=redis://127.0.0.1:{}",
            stack.redis.port()
        ))
        .args(["--allow-anonymous", "--drain-period=1s"])
        // A line for each request.
        .args(["--otel-exporter=stdout", "--otel-traces-sampler-arg=1"])
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut gateway = gateway.spawn().context("starting the gateway")?;
    let unread = gateway.stdout.take();
    let dropped = "telemetry_lines_dropped_total ";
    eventually("lines are dropped", async || {
        send_pipelined(port.number(), 2_000).await?;
        let mut connection = Connection::open(port.number()).await?;
        let metrics = connection.send("GET", "/metrics", &[], b"").await?;
        let metrics = String::from_utf8(metrics.body.to_vec())?;
        let count = metrics.lines().find_map(|line| line.strip_prefix(dropped));
        let count: u64 = count.context("no count")?.parse()?;
        ensure!(count > 0, "{count}");
        Ok(())
    })
    .await?;
    let pid = gateway.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    kill_process(pid.context("it runs")?, Signal::TERM)?;
    let ended = tokio::time::timeout(LATE, gateway.wait()).await;
    let status = ended.context("it does not end")??;
    ensure!(status.success(), "{status}");
    drop(unread);
    stack.pass()
}

/// Sends this number of requests on one connection, without waiting for each answer.
async fn send_pipelined(port: u16, count: usize) -> Result<()> {
    let request = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let requests = request.repeat(count - 1) + last;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let (mut reader, mut writer) = stream.split();
    let mut answers = Vec::new();
    let write = async { writer.write_all(requests.as_bytes()).await };
    let (written, read) = tokio::join!(write, reader.read_to_end(&mut answers));
    written.and(read).context("pipelined requests")?;
    Ok(())
}

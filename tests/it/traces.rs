//! Traces received over OTLP: one trace from the MQTT packet to the emit, and no collector slows the services.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::collector::{Collector, Span, attribute};
use tests::eventually::{LATE, eventually};
use tests::ports::Port;
use tests::report;
use tests::stack::{Plan, Service, Stack};
use tests::tcp_proxy::TcpProxy;
use tokio::net::TcpListener;

const SERIAL: &str = "OTSM-0001";
const TOPIC: &str = "SubTronics/data";
const PROCESS: &str = "process SubTronics/data";
const EMIT: &str = "process st:{partition}:live:{device}";
const DEVICES_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const DEVICES_SPAN: &str = "b7ad6b7169203331";

async fn start(collector: &Collector, share: &str, more: &str) -> Result<Stack> {
    let flags = collector.flags(share);
    let plan = Plan::default().gateway_flags(&flags);
    let plan = plan.ingest_flags(format!("{flags} {more}").trim());
    plan.variable("OTEL_BSP_SCHEDULE_DELAY", "50").start().await
}

async fn publish_traced(stack: &Stack, value: i64) -> Result<()> {
    let header = format!("00-{DEVICES_TRACE}-{DEVICES_SPAN}-01");
    let payload = stack.device(SERIAL).newest(value).0.to_string();
    let properties = [("traceparent", header.as_str()), ("tracestate", "maker=1")];
    let publisher = stack.publisher();
    publisher.publish_with(TOPIC, payload, &properties).await
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every text");
        text
    })
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// Waits for `count` spans of this name.
async fn exported(collector: &Collector, name: &str, count: usize) -> Result<Vec<Span>> {
    eventually(&format!("{count} of `{name}`"), async || {
        let spans = collector.spans();
        let found = named(&spans, name);
        let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
        ensure!(found.len() >= count, "only {names:?}");
        Ok(found.into_iter().cloned().collect())
    })
    .await
}

#[tokio::test]
async fn one_trace_leads_from_the_packet_to_the_emit() -> Result<()> {
    let collector = Collector::start().await?;
    let stack = start(&collector, "1", "").await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    publish_traced(&stack, 100).await?;
    browser
        .wait_for("the reading", |seen| seen.is_of("device:data", SERIAL))
        .await?;

    let process = exported(&collector, PROCESS, 1).await?.remove(0);
    let emit = exported(&collector, EMIT, 1).await?.remove(0);
    let commit = exported(&collector, "EVALSHA", 1).await?.remove(0);
    ensure!(emit.trace_id == process.trace_id, "{emit:?} {process:?}");
    ensure!(
        emit.parent_span_id == process.span_id,
        "{emit:?} {process:?}"
    );
    ensure!(commit.links[0].span_id == process.span_id, "{commit:?}");
    // The trace of a device is linked, it does not become ours.
    ensure!(process.parent_span_id.is_empty(), "{process:?}");
    ensure!(hex(&process.trace_id) != DEVICES_TRACE, "{process:?}");
    ensure!(
        hex(&process.links[0].trace_id) == DEVICES_TRACE,
        "{process:?}"
    );
    ensure!(process.links[0].trace_state == "maker=1", "{process:?}");
    for (span, name, value) in [
        (&process, "messaging.system", "mqtt"),
        (&process, "messaging.destination.name", TOPIC),
        (&process, "messaging.operation.type", "process"),
        (&process, "device.id", SERIAL),
        (&commit, "db.system.name", "redis"),
        (&emit, "messaging.system", "redis"),
        (&emit, "device.id", SERIAL),
    ] {
        ensure!(attribute(span, name) == value, "{name}: {span:?}");
    }
    stack.pass()
}

#[tokio::test]
async fn a_trusted_devices_trace_is_continued() -> Result<()> {
    let collector = Collector::start().await?;
    let stack = start(&collector, "0", "--mqtt-trust-traces").await?;
    publish_traced(&stack, 100).await?;
    let process = exported(&collector, PROCESS, 1).await?.remove(0);
    ensure!(hex(&process.trace_id) == DEVICES_TRACE, "{process:?}");
    ensure!(hex(&process.parent_span_id) == DEVICES_SPAN, "{process:?}");
    ensure!(process.trace_state == "maker=1", "{process:?}");
    stack.pass()
}

#[tokio::test]
async fn alarm_changes_and_errors_are_traced_whatever_the_sampled_share() -> Result<()> {
    let collector = Collector::start().await?;
    let stack = start(&collector, "0", "").await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    let device = stack.device(SERIAL);
    // Sampled by its device, which is not trusted; then an alarm; then what can never be processed.
    publish_traced(&stack, 100).await?;
    device.send(1_200).await?;
    stack.publisher().publish(TOPIC, "no json").await?;
    let alarms = eventually("the alarm is open", async || {
        let alarms = stack.alerts(SERIAL).await?;
        ensure!(alarms.len() == 1, "{alarms:?}");
        Ok(alarms)
    })
    .await?;
    let id = alarms[0]["id"].as_str().context("an id")?;
    stack.acknowledge(SERIAL, id, "{}").await?.expect(200)?;

    let processed = async |key: &str, value: &str| {
        eventually(&format!("a span with {key}={value}"), async || {
            let spans = collector.spans();
            let mut spans = named(&spans, PROCESS).into_iter();
            let found = spans.find(|span| attribute(span, key) == value);
            found.cloned().context("not yet")
        })
        .await
    };
    let raised = processed("alarm.changes", "raised").await?;
    processed("error.type", "not_json").await?;
    let acknowledge = "POST /devices/{deviceId}/subtronics/alerts/{alertId}/acknowledge";
    let request = exported(&collector, acknowledge, 1).await?.remove(0);
    // The ordinary reading is not traced, unless it was slow: those are.
    for span in named(&collector.spans(), PROCESS) {
        let took = Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano);
        let has = |key| !attribute(span, key).is_empty();
        let is_sampled = has("alarm.changes") || has("error.type");
        ensure!(is_sampled || took > Duration::from_millis(500), "{span:?}");
    }
    // Both changes reached the gateway in the trace of their cause.
    let emits = exported(&collector, EMIT, 2).await?;
    ensure!(
        emits.iter().any(|e| e.parent_span_id == raised.span_id),
        "{emits:?}"
    );
    ensure!(
        emits.iter().any(|e| e.trace_id == request.trace_id),
        "{emits:?}"
    );
    ensure!(
        attribute(&request, "http.response.status_code") == "200",
        "{request:?}"
    );
    ensure!(
        named(&collector.spans(), "GET /readyz").is_empty(),
        "unsampled requests"
    );
    stack.pass()
}

#[tokio::test]
async fn metrics_reach_the_collector_with_the_last_flush() -> Result<()> {
    let collector = Collector::start().await?;
    let flags = collector.flags("0");
    let plan = Plan::default().ingests(2).ingest_flags(&flags);
    let mut stack = plan.gateway_flags(&flags).start().await?;
    stack.device(SERIAL).send(100).await?;
    stack.shows(SERIAL, 100).await?;
    for service in stack.ingests.iter_mut().chain(&mut stack.gateways) {
        let status = service.process.terminate().await?;
        ensure!(status.success(), "{status}");
    }
    let metrics = collector.metrics();
    for name in ["ingest.messages.received", "gateway.connections"] {
        ensure!(metrics.contains(name), "{name} is not in {metrics:?}");
    }
    // Each replica exports under its own name. With the same name they would overwrite each other.
    let exporters = collector.exporters();
    let names: Vec<&str> = exporters.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == ["gateway", "ingest", "ingest"], "{exporters:?}");
    Ok(())
}

/// Flags of a service that sends everything there.
fn sends_to(port: u16) -> String {
    format!(
        "--otel-exporter=otlp --otel-traces-sampler-arg=1 --otel-exporter-otlp-endpoint=http://127.0.0.1:{port}"
    )
}

/// Waits until `count` exports of a service have failed.
async fn failed(service: &Service, signal: &str, count: u64) -> Result<()> {
    let series = format!("telemetry_exports_failed_total{{signal=\"{signal}\"}} ");
    eventually(&format!("{count} exports fail"), async || {
        let text = service.get("/metrics").await?;
        let text = std::str::from_utf8(&text.body)?;
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        let value: u64 = value.context("no count")?.parse()?;
        ensure!(value >= count, "{value} of {count}");
        Ok(())
    })
    .await
}

/// Returns the log lines about exports of a service, including those of the OpenTelemetry SDK.
fn lines_of_exports(service: &Service) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for line in service.process.output().lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let target = line["target"].as_str().unwrap_or_default();
        if target.starts_with("opentelemetry") || target.starts_with("shared::telemetry") {
            found.push(line);
        }
    }
    Ok(found)
}

/// Waits until the lines about exports are as wanted, and returns them.
async fn logged(
    service: &Service,
    what: &str,
    matches: impl Fn(&[Value]) -> bool,
) -> Result<Vec<Value>> {
    eventually(&format!("{what} in the log"), async || {
        let lines = lines_of_exports(service)?;
        ensure!(matches(&lines), "{lines:?}");
        Ok(lines)
    })
    .await
}

/// Sends `count` readings of 40 devices, and waits until they are committed.
async fn readings(stack: &Stack, count: i64) -> Result<()> {
    for number in 0..count {
        let device = stack.device(&format!("OTSM-1{:03}", number % 40));
        device.send(number / 40).await?;
    }
    let committed = format!("ingest_messages_committed_total {count}");
    eventually("all are committed", async || {
        let text = stack.ingests[0].get("/metrics").await?;
        let text = std::str::from_utf8(&text.body)?;
        ensure!(text.lines().any(|line| line == committed), "{text}");
        Ok(())
    })
    .await
}

/// Checks that a reading reaches a client, and reports how long that takes.
async fn a_reading_arrives(stack: &Stack, collector: &str) -> Result<()> {
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    let began = Instant::now();
    stack.device(SERIAL).send(201).await?;
    browser
        .wait_for("the reading", |seen| seen.is_of("device:data", SERIAL))
        .await?;
    let what = format!("{collector}: a reading reached a client");
    report::duration(&what, began.elapsed(), Duration::from_secs(1));
    Ok(())
}

/// Stops the services and reports how long that takes. The last spans and metrics may delay a stop by three and a half
/// seconds each, the last log lines by one.
async fn stop(stack: &mut Stack, collector: &str) -> Result<()> {
    for service in stack.ingests.iter_mut().chain(&mut stack.gateways) {
        let began = Instant::now();
        let status = service.process.terminate().await?;
        ensure!(status.success(), "{status}");
        let what = format!("{collector}: {} stopped", service.process.name());
        report::duration(&what, began.elapsed(), Duration::from_secs(9));
    }
    Ok(())
}

#[tokio::test]
async fn a_collector_that_does_not_answer_slows_nothing() -> Result<()> {
    let collector = Collector::start().await?;
    let wall = TcpProxy::start(collector.port()).await?;
    wall.black_hole();
    let flags = sends_to(wall.port());
    let plan = Plan::default().gateway_flags(&flags).ingest_flags(&flags);
    let plan = plan.variable("OTEL_BSP_MAX_QUEUE_SIZE", "256");
    // A task that waited for an export would wait longer than this test.
    let longer = (2 * LATE).as_millis().to_string();
    let plan = plan.variable("OTEL_EXPORTER_OTLP_TIMEOUT", &longer);
    let mut stack = plan.start().await?;
    // More than the exporter's queue holds: a span of each message and one of each batch.
    readings(&stack, 2_400).await?;
    let ingest = &stack.ingests[0];
    eventually("the queue is full", async || {
        let dropped = ingest.metric("telemetry_spans_dropped_total").await?;
        ensure!(dropped > 0.0, "{dropped}");
        Ok(())
    })
    .await?;
    let is_full = |line: &Value| line["target"] == "shared::telemetry::span_queue";
    let lines = logged(ingest, "the queue is full", |lines| {
        lines.iter().any(is_full)
    })
    .await?;
    let of_library = |line: &&Value| line["name"] == "BatchSpanProcessor.SpanDroppingStarted";
    ensure!(
        lines.iter().filter(of_library).count() == 0,
        "uncounted: {lines:?}"
    );
    a_reading_arrives(&stack, "silent collector").await?;
    ensure!(collector.spans().is_empty(), "an export got through");

    stop(&mut stack, "silent collector").await
}

#[tokio::test]
async fn a_collector_without_tls_handshake_is_logged_and_slows_nothing() -> Result<()> {
    let unanswered = TcpListener::bind("127.0.0.1:0").await?;
    let address = unanswered.local_addr()?;
    let flags = sends_to(0).replace("http://127.0.0.1:0", &format!("https://{address}"));
    let plan = Plan::default().gateway_flags(&flags).ingest_flags(&flags);
    let plan = plan.variable("OTEL_EXPORTER_OTLP_TIMEOUT", "200");
    let plan = plan.variable("OTEL_BSP_SCHEDULE_DELAY", "50");
    let plan = plan.variable("OTEL_METRIC_EXPORT_INTERVAL", "50");
    let mut stack = plan.start().await?;
    a_reading_arrives(&stack, "collector without handshake").await?;
    for service in stack.ingests.iter().chain(&stack.gateways) {
        for signal in ["metrics", "spans"] {
            failed(service, signal, 1).await?;
        }
        let lines = logged(service, "the failures", |lines| !lines.is_empty()).await?;
        ensure!(lines.len() <= 2, "{lines:?}");
    }
    stop(&mut stack, "collector without handshake").await
}

#[tokio::test]
async fn a_missing_collector_slows_nothing_and_is_logged_once() -> Result<()> {
    const FAILURES: u64 = 5;
    let unused_port = Port::reserve()?;
    let flags = sends_to(unused_port.number());
    let plan = Plan::default().gateway_flags(&flags).ingest_flags(&flags);
    let plan = plan.variable("OTEL_BSP_SCHEDULE_DELAY", "50");
    let plan = plan.variable("OTEL_METRIC_EXPORT_INTERVAL", "50");
    let stack = plan.start().await?;
    let ingest = &stack.ingests[0];
    failed(ingest, "metrics", FAILURES).await?;
    // A span each time, so that there is something to export.
    eventually("as many exports of spans fail", async || {
        stack.device("OTSM-0002").send(100).await?;
        let text = ingest.get("/metrics").await?;
        let text = std::str::from_utf8(&text.body)?;
        let series = "telemetry_exports_failed_total{signal=\"spans\"} ";
        let value = text.lines().find_map(|line| line.strip_prefix(series));
        let value: u64 = value.context("no count")?.parse()?;
        ensure!(value >= FAILURES, "{value}");
        Ok(())
    })
    .await?;
    a_reading_arrives(&stack, "no collector").await?;
    for service in stack.ingests.iter().chain(&stack.gateways) {
        let lines = logged(service, "the failures", |lines| !lines.is_empty()).await?;
        ensure!(lines.len() <= 2, "{lines:?}");
        ensure!(
            lines.iter().all(|line| line["level"] == "WARN"),
            "{lines:?}"
        );
    }
    stack.pass()
}

#[tokio::test]
async fn a_collector_that_returns_is_logged_with_the_number_of_failed_exports() -> Result<()> {
    let collector = Collector::start().await?;
    let proxy = TcpProxy::start(collector.port()).await?;
    proxy.cut();
    let plan = Plan::default()
        .gateways(0)
        .ingest_flags(&sends_to(proxy.port()));
    let plan = plan.variable("OTEL_METRIC_EXPORT_INTERVAL", "50");
    let stack = plan.start().await?;
    let ingest = &stack.ingests[0];
    failed(ingest, "metrics", 3).await?;
    proxy.heal();
    let back = eventually("the line is logged", async || {
        let lines = lines_of_exports(ingest)?;
        let is_back = |line: &&Value| line["message"] == "the collector accepts metrics again";
        lines.iter().find(is_back).cloned().context("no line yet")
    })
    .await?;
    ensure!(back["failed"].as_u64().is_some_and(|n| n >= 3), "{back}");
    ensure!(!collector.metrics().is_empty(), "it has nothing");
    stack.pass()
}

#[tokio::test]
async fn the_standard_variables_of_one_signal_are_used() -> Result<()> {
    let (spans, metrics) = (Collector::start().await?, Collector::start().await?);
    let proxy = TcpProxy::start(metrics.port()).await?;
    let at = |port: u16| format!("http://127.0.0.1:{port}");
    let unused_port = Port::reserve()?;
    let plan = Plan::default()
        .gateways(0)
        .variable("OTEL_EXPORTER", "otlp")
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &at(unused_port.number()))
        .variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &at(spans.port()))
        .variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &at(proxy.port()))
        .variable("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "50")
        .variable("OTEL_METRIC_EXPORT_INTERVAL", "50")
        .variable("OTEL_TRACES_SAMPLER_ARG", "1")
        .variable("OTEL_SERVICE_NAME", "east");
    let stack = plan.start().await?;
    stack.device(SERIAL).send(100).await?;
    exported(&spans, PROCESS, 1).await?;
    eventually("metrics come", async || {
        ensure!(
            metrics.exporters().iter().any(|(name, _)| name == "east"),
            "{:?}",
            metrics.exporters()
        );
        Ok(())
    })
    .await?;
    ensure!(spans.metrics().is_empty(), "{:?}", spans.metrics());
    ensure!(metrics.spans().is_empty(), "{:?}", metrics.spans());
    // Only the time limit can end these exports. With the default of ten seconds there would be fewer.
    proxy.black_hole();
    failed(&stack.ingests[0], "metrics", 20).await?;
    stack.pass()
}

#[tokio::test]
async fn stdout_gets_a_line_of_json_per_span() -> Result<()> {
    let flags = "--otel-exporter=stdout --otel-traces-sampler-arg=1";
    let plan = Plan::default().gateway_flags(flags).ingest_flags(flags);
    let mut stack = plan.start().await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    stack.device(SERIAL).send(100).await?;
    browser
        .wait_for("the reading", |seen| seen.is_of("device:data", SERIAL))
        .await?;
    let mut found = Vec::new();
    for (service, name) in [
        (&mut stack.ingests[0], PROCESS),
        (&mut stack.gateways[0], EMIT),
    ] {
        let status = service.process.terminate().await?;
        ensure!(status.success(), "{status}");
        let output = service.process.output();
        let lines = output.lines().filter(|line| !line.is_empty());
        let lines = lines.map(|line| serde_json::from_str(line).context(line.to_owned()));
        let lines: Vec<Value> = lines.collect::<Result<_>>()?;
        let span = lines.iter().find(|line| line["span"] == name).cloned();
        found.push(span.with_context(|| format!("no {name}: {output}"))?);
    }
    let (process, emit) = (&found[0], &found[1]);
    ensure!(emit["trace_id"] == process["trace_id"], "{found:?}");
    ensure!(emit["parent_span_id"] == process["span_id"], "{found:?}");
    ensure!(process["kind"] == "consumer", "{process}");
    for (name, value) in [("device.id", SERIAL), ("messaging.system", "mqtt")] {
        ensure!(process["attributes"][name] == value, "{process}");
    }
    for time in ["start", "end"] {
        let time = process[time].as_str().context("a time")?;
        ensure!(time.ends_with('Z'), "{process}");
    }
    Ok(())
}

#[tokio::test]
async fn a_line_has_its_trace_whatever_the_level_of_the_log() -> Result<()> {
    let collector = Collector::start().await?;
    // The span of the request is of another module, and below the level.
    let level = "--log-level=warn,shared::alarm_log_lines=info";
    let flags = format!("{} {level}", collector.flags("0"));
    let stack = Plan::default().gateway_flags(&flags).start().await?;
    stack.device(SERIAL).send(1_200).await?;
    let alarm = eventually("the alarm is open", async || {
        let alarms = stack.alerts(SERIAL).await?;
        alarms.first().cloned().context("no alarm yet")
    })
    .await?;
    let id = alarm["id"].as_str().context("an id")?;
    stack.acknowledge(SERIAL, id, "{}").await?.expect(200)?;
    let lines = eventually("the line is written", async || {
        let output = stack.gateways[0].process.output();
        let lines = output.lines().map(serde_json::from_str::<Value>);
        let mut lines = lines.collect::<Result<Vec<_>, _>>()?;
        // The machine may have too few file descriptors.
        lines.retain(|line| line["level"] != "WARN");
        ensure!(!lines.is_empty(), "no line yet");
        Ok(lines)
    })
    .await?;
    ensure!(lines.len() == 1, "lines below the level: {lines:?}");
    ensure!(lines[0]["alarm.change"] == "acknowledged", "{lines:?}");
    let trace = &lines[0]["trace_id"];
    ensure!(trace.is_string(), "{lines:?}");
    stack.pass()
}

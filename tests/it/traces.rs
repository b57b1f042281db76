//! Traces against a real OTLP receiver: one from the packet to the emit, and nothing is slowed by a collector.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::collector::{Collector, Span, attribute};
use tests::eventually::eventually;
use tests::link::Link;
use tests::stack::{Plan, Stack};

const SERIAL: &str = "OTSM-0001";
const TOPIC: &str = "SubTronics/data";
const PROCESS: &str = "process SubTronics/data";
const EMIT: &str = "process st:{partition}:live:{device}";
const DEVICES_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const DEVICES_SPAN: &str = "b7ad6b7169203331";

async fn start(collector: &Collector, share: &str, more: &str) -> Result<Stack> {
    let flags = collector.flags(share);
    let plan = Plan::default().gateway(&flags);
    plan.ingest(format!("{flags} {more}").trim()).start().await
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

/// Waits for so many spans of this name.
async fn told(collector: &Collector, name: &str, count: usize) -> Result<Vec<Span>> {
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

    let process = told(&collector, PROCESS, 1).await?.remove(0);
    let emit = told(&collector, EMIT, 1).await?.remove(0);
    let commit = told(&collector, "EVALSHA", 1).await?.remove(0);
    ensure!(emit.trace_id == process.trace_id, "{emit:?} {process:?}");
    ensure!(
        emit.parent_span_id == process.span_id,
        "{emit:?} {process:?}"
    );
    ensure!(commit.links[0].span_id == process.span_id, "{commit:?}");
    // A device may not choose our trace, it is linked.
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
    let process = told(&collector, PROCESS, 1).await?.remove(0);
    ensure!(hex(&process.trace_id) == DEVICES_TRACE, "{process:?}");
    ensure!(hex(&process.parent_span_id) == DEVICES_SPAN, "{process:?}");
    ensure!(process.trace_state == "maker=1", "{process:?}");
    stack.pass()
}

#[tokio::test]
async fn alarm_changes_and_errors_are_told_whatever_the_share() -> Result<()> {
    let collector = Collector::start().await?;
    let stack = start(&collector, "0", "").await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    let device = stack.device(SERIAL);
    // Sampled by its device, which is not trusted; then an alarm; then what can never be processed.
    publish_traced(&stack, 100).await?;
    device.send(1_200).await?;
    stack.publisher().publish(TOPIC, "no json").await?;
    let alarms = eventually("the alarm stands", async || {
        let alarms = stack.alerts(SERIAL).await?;
        ensure!(alarms.len() == 1, "{alarms:?}");
        Ok(alarms)
    })
    .await?;
    let id = alarms[0]["id"].as_str().context("an id")?;
    stack.acknowledge(SERIAL, id, "{}").await?.expect(200)?;

    let spans = told(&collector, PROCESS, 2).await?;
    let emits = told(&collector, EMIT, 2).await?;
    let acknowledge = "POST /devices/{deviceId}/subtronics/alerts/{alertId}/acknowledge";
    let request = told(&collector, acknowledge, 1).await?.remove(0);
    let changes: Vec<_> = spans
        .iter()
        .map(|s| attribute(s, "alarm.changes"))
        .collect();
    let errors: Vec<_> = spans.iter().map(|s| attribute(s, "error.type")).collect();
    ensure!(changes.contains(&"raised".to_owned()), "{changes:?}");
    ensure!(errors.contains(&"not_json".to_owned()), "{errors:?}");
    // The ordinary reading before them was not told, and both changes reached the gateway in the trace of their cause.
    ensure!(spans.len() == 2 && emits.len() == 2, "{spans:?} {emits:?}");
    let raised = spans
        .iter()
        .find(|span| attribute(span, "alarm.changes") == "raised");
    let raised = raised.context("the raise")?;
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
    let plan = Plan::default().ingests(2).ingest(&flags);
    let mut stack = plan.gateway(&flags).start().await?;
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
    // Each replica tells for itself: of one name they would overwrite each other.
    let tellers = collector.tellers();
    let names: Vec<&str> = tellers.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == ["gateway", "ingest", "ingest"], "{tellers:?}");
    Ok(())
}

#[tokio::test]
async fn a_collector_that_does_not_answer_slows_nothing() -> Result<()> {
    let collector = Collector::start().await?;
    let wall = Link::start(collector.port()).await?;
    wall.black_hole();
    let flags = format!(
        "--otel-exporter=otlp --otel-traces-sampler-arg=1 --otel-exporter-otlp-endpoint=http://127.0.0.1:{}",
        wall.port()
    );
    let plan = Plan::default().gateway(&flags).ingest(&flags);
    let mut stack = plan.start().await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    // More than the exporter's queue holds: a span of each message and one of each batch.
    for round in 0..60 {
        for number in 0..40 {
            let device = stack.device(&format!("OTSM-1{number:03}"));
            device.send(round).await?;
        }
    }
    let committed = "ingest_messages_committed_total 2400";
    eventually("all are committed", async || {
        let told = stack.ingests[0].get("/metrics").await?;
        let told = std::str::from_utf8(&told.body)?;
        ensure!(told.lines().any(|line| line == committed), "{told}");
        Ok(())
    })
    .await?;
    let began = Instant::now();
    stack.device(SERIAL).send(201).await?;
    browser
        .wait_for("the reading", |seen| seen.is_of("device:data", SERIAL))
        .await?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(1), "{took:?}");
    ensure!(collector.spans().is_empty(), "it was not cut off");

    // Spans and metrics, three and a half seconds each at most.
    for service in stack.ingests.iter_mut().chain(&mut stack.gateways) {
        let began = Instant::now();
        let status = service.process.terminate().await?;
        ensure!(status.success(), "{status}");
        ensure!(
            began.elapsed() < Duration::from_secs(9),
            "{:?}",
            began.elapsed()
        );
    }
    Ok(())
}

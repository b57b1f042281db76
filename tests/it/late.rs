//! Late and failed messages are traced even if no trace is sampled, and late events are in the latency metrics.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::collector::{Collector, Span, attribute};
use tests::eventually::eventually;
use tests::http::Connection;
use tests::stack::{Plan, Stack};

const SERIAL: &str = "OTSM-0001";
/// Name of the span in which a gateway processes an event.
const EVENT_SPAN: &str = "process st:{partition}:live:{device}";
/// Longer than the limit above which a message is traced as slow.
const SLOW: Duration = Duration::from_millis(1_300);

/// Starts a stack that exports to the collector and samples no trace.
async fn start(collector: &Collector) -> Result<Stack> {
    let flags = collector.flags("0");
    let plan = Plan::default().gateway_flags(&flags).ingest_flags(&flags);
    plan.variable("OTEL_BSP_SCHEDULE_DELAY", "50").start().await
}

async fn wait_until_committed(stack: &Stack, messages: f64) -> Result<()> {
    eventually("the messages are committed", async || {
        let metric = "ingest_messages_committed_total";
        let committed = stack.ingests[0].metric(metric).await?;
        ensure!(committed >= messages, "{committed}");
        Ok(())
    })
    .await
}

async fn wait_until_late(began: Instant) -> Result<()> {
    eventually("the message is late", async || {
        ensure!(began.elapsed() > SLOW, "{:?}", began.elapsed());
        Ok(())
    })
    .await
}

/// Waits until a span is exported for which `matches` is true, and returns it.
async fn wait_for_span(
    collector: &Collector,
    what: &str,
    matches: impl Fn(&Span) -> bool,
) -> Result<Span> {
    eventually(what, async || {
        let spans = collector.spans();
        let found = spans.iter().find(|span| matches(span)).cloned();
        let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
        found.with_context(|| format!("only {names:?}"))
    })
    .await
}

#[tokio::test]
async fn a_failed_commit_and_the_message_that_waited_for_it_are_traced() -> Result<()> {
    let collector = Collector::start().await?;
    let stack = start(&collector).await?;
    stack.device(SERIAL).send(1).await?;
    stack.shows(SERIAL, 1).await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    stack.redis_proxy.cut();
    stack.device(SERIAL).send(2).await?;
    let began = Instant::now();
    eventually("a commit fails", async || {
        let failures = stack.ingests[0]
            .metric("ingest_commit_failures_total")
            .await?;
        ensure!(failures >= 1.0, "{failures}");
        Ok(())
    })
    .await?;
    wait_until_late(began).await?;
    stack.redis_proxy.heal();
    wait_for_span(&collector, "the failed commit", |span| {
        span.name == "EVALSHA" && attribute(span, "error.type") == "not_committed"
    })
    .await?;
    let message = wait_for_span(&collector, "the slow message", |span| {
        let took = span.end_time_unix_nano - span.start_time_unix_nano;
        span.name == "process SubTronics/data" && Duration::from_nanos(took) > SLOW / 2
    })
    .await?;
    // The gateway had lost Redis too, and read the missed event later. Its span is in the trace of the message.
    let emit = wait_for_span(&collector, "the span of the missed event", |span| {
        span.name == EVENT_SPAN && span.trace_id == message.trace_id
    })
    .await?;
    ensure!(emit.parent_span_id == message.span_id, "{emit:?}");
    stack.pass()
}

#[tokio::test]
async fn an_event_that_reaches_a_gateway_late_is_traced_and_counted_as_late() -> Result<()> {
    let collector = Collector::start().await?;
    let mut stack = start(&collector).await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    stack.device(SERIAL).send(1).await?;
    browser
        .wait_for("the first", |seen| seen.is_of("device:data", SERIAL))
        .await?;
    stack.gateways[0].process.pause()?;
    stack.device(SERIAL).send(2).await?;
    wait_until_committed(&stack, 2.0).await?;
    wait_until_late(Instant::now()).await?;
    stack.gateways[0].process.resume()?;
    wait_for_span(&collector, "the late event", |span| span.name == EVENT_SPAN).await?;
    let gateway = &stack.gateways[0];
    let all = gateway
        .metric("gateway_event_latency_seconds_count")
        .await?;
    let in_time = r#"gateway_event_latency_seconds_bucket{le="1"}"#;
    let in_time = gateway.metric(in_time).await?;
    // On a slow machine the first event may be late too.
    ensure!(
        all > 1.5 && in_time < all - 0.5,
        "{all} events, {in_time} in time"
    );
    stack.pass()
}

#[tokio::test]
async fn a_missed_event_that_is_read_later_is_counted_as_late() -> Result<()> {
    let mut stack = Plan::default().start().await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    stack.device(SERIAL).send(1).await?;
    browser
        .wait_for("the first", |seen| seen.is_of("device:data", SERIAL))
        .await?;
    // While the gateway is paused, its subscription loses the connection and the event is committed.
    stack.gateways[0].process.pause()?;
    let mut redis = stack.redis_connection().await?;
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("pubsub");
    kill.exec_async(&mut redis).await?;
    stack.device(SERIAL).send(2).await?;
    wait_until_committed(&stack, 2.0).await?;
    stack.gateways[0].process.resume()?;
    browser
        .wait_for("the second", |seen| {
            seen.is_of("device:data", SERIAL) && seen.body["data"]["sensor_reading"] == 2
        })
        .await?;
    let events = stack.gateways[0]
        .metric("gateway_event_latency_seconds_count")
        .await?;
    ensure!(events > 1.5, "{events}");
    stack.pass()
}

#[tokio::test]
async fn a_full_redis_hides_no_alarm_from_the_metrics() -> Result<()> {
    const AGE: &str = "gateway_fleet_sample_age_seconds";
    const ALARM: &str = "gateway_fleet_unacknowledged_critical_alarm_age_seconds";
    let plan = Plan::default().gateway_flags("--report-interval=1s");
    let stack = plan.start().await?;
    stack.device(SERIAL).send(1_200).await?;
    stack.shows(SERIAL, 1_200).await?;
    let mut redis = stack.redis_connection().await?;
    let mut set_limit = redis::cmd("CONFIG");
    set_limit.arg("SET").arg("maxmemory").arg("1");
    set_limit.exec_async(&mut redis).await?;
    let began = Instant::now();
    let gateway = &stack.gateways[0];
    eventually(
        "the gateway takes a sample although Redis is full",
        async || {
            let age = gateway.metric(AGE).await?;
            let full_for = began.elapsed().as_secs_f64();
            ensure!(age + 0.5 < full_for, "{age} s old, full for {full_for} s");
            ensure!(gateway.metric(ALARM).await? > 0.0, "no alarm");
            Ok(())
        },
    )
    .await?;
    let mut remove_limit = redis::cmd("CONFIG");
    remove_limit.arg("SET").arg("maxmemory").arg("0");
    remove_limit.exec_async(&mut redis).await?;
    stack.device(SERIAL).send(1_201).await?;
    stack.shows(SERIAL, 1_201).await?;
    stack.pass()
}

#[tokio::test]
async fn a_request_whose_client_disconnected_is_traced_and_counted() -> Result<()> {
    let collector = Collector::start().await?;
    let stack = start(&collector).await?;
    let gateway = &stack.gateways[0];
    stack.redis_proxy.delay(SLOW);
    let mut client = Connection::open(gateway.port()).await?;
    let request = client.send("GET", "/api/devices", &[], b"");
    let answer = tokio::time::timeout(SLOW, request).await;
    ensure!(answer.is_err(), "{answer:?}");
    drop(client);
    let span = wait_for_span(&collector, "the request", |span| {
        span.name == "GET /api/devices"
    })
    .await?;
    ensure!(attribute(&span, "error.type") == "given_up", "{span:?}");
    let route = r#"http_route="/api/devices""#;
    let metrics = gateway.get("/metrics").await?;
    let metrics = String::from_utf8(metrics.body.to_vec())?;
    let series = metrics.lines().find(|line| {
        line.starts_with("http_server_request_duration_seconds_count") && line.contains(route)
    });
    let series = series.context(metrics.clone())?;
    ensure!(series.contains(r#"error_type="given_up""#), "{series}");
    stack.pass()
}

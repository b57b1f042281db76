//! `/metrics` of both services: every metric is documented, every documented metric exists, and they count correctly.

#![expect(clippy::float_cmp, reason = "most values are whole numbers")]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shared::device::DeviceId;
use shared::keys::PartitionKeys;
use tests::documented_metrics::{self, Metric};
use tests::eventually::eventually;
use tests::http;
use tests::stack::{Plan, Service, Stack};

const SERIAL: &str = "OTSM-0001";
const PARTITIONS: u16 = 64;

/// The metrics of a service, and the value of each series.
#[derive(Debug)]
struct Scrape {
    metrics: BTreeMap<String, Metric>,
    values: BTreeMap<String, f64>,
}

impl Scrape {
    /// Returns the value of a series, spelled as it is served; 0 for none.
    fn value(&self, series: &str) -> f64 {
        self.values.get(series).copied().unwrap_or(0.0)
    }
}

async fn scrape(service: &Service) -> Result<Scrape> {
    let answer = service.get("/metrics").await?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(
        answer.header("content-type").starts_with("text/plain"),
        "{answer:?}"
    );
    read(std::str::from_utf8(&answer.body)?)
}

fn read(text: &str) -> Result<Scrape> {
    let mut metrics = BTreeMap::<String, Metric>::new();
    let mut values = BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (keyword, rest) = comment.split_once(' ').context("a comment of two words")?;
            let (name, rest) = rest.split_once(' ').context("a metric and more")?;
            let metric = metrics.entry(name.to_owned()).or_default();
            match keyword {
                "HELP" => rest.clone_into(&mut metric.help),
                "TYPE" => rest.clone_into(&mut metric.kind),
                _ => {}
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').context("a series and its value")?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let owner = ["_bucket", "_sum", "_count"]
            .into_iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|owner| metrics.contains_key(*owner))
            .unwrap_or(name);
        let metric = metrics.get_mut(owner).context(line.to_owned())?;
        let names = labels.trim_end_matches('}').split("\",");
        let names = names
            .filter_map(|label| label.split_once('='))
            .map(|(n, _)| n);
        let names = names.filter(|name| *name != "le").map(str::to_owned);
        metric.labels.extend(names);
        values.insert(series.to_owned(), value.parse()?);
    }
    Ok(Scrape { metrics, values })
}

#[tokio::test]
async fn every_metric_is_documented_and_the_reverse() -> Result<()> {
    // Short, because a histogram exists only with its first value, here that of a deadline.
    let stack = Plan::default()
        .gateway_flags("--report-interval=1s")
        .ingest_flags("--offline-after=2s")
        .start()
        .await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    stack.device(SERIAL).send(350).await?;
    stack.shows(SERIAL, 350).await?;
    // A label that only a failure has.
    stack.redis_proxy.cut();
    stack.gateways[0].get("/api/devices").await?.expect(503)?;
    stack.redis_proxy.heal();
    for (service, name) in [
        (&stack.ingests[0], "ingest"),
        (&stack.gateways[0], "gateway"),
    ] {
        let documented = documented_metrics::of_service(name)?;
        eventually("served and documented metrics are the same", async || {
            let served = scrape(service).await?.metrics;
            let (known, found): (BTreeSet<_>, BTreeSet<_>) =
                (documented.keys().collect(), served.keys().collect());
            let missing: Vec<_> = known.symmetric_difference(&found).collect();
            ensure!(
                missing.is_empty(),
                "either not served or not documented: {missing:?}"
            );
            for (name, metric) in &served {
                let described = &documented[name];
                ensure!(described == metric, "{name}: {described:?}, but {metric:?}");
            }
            Ok(())
        })
        .await?;
    }
    stack.pass()
}

async fn with_an_alarm() -> Result<Stack> {
    let stack = Plan::default()
        .gateway_flags("--report-interval=1s")
        .start()
        .await?;
    let device = stack.device(SERIAL);
    device.send(100).await?;
    device.send(1_200).await?;
    stack.shows(SERIAL, 1_200).await?;
    Ok(stack)
}

#[tokio::test]
async fn messages_are_counted_by_their_outcome() -> Result<()> {
    let stack = with_an_alarm().await?;
    for payload in ["no json", "{}", "{}"] {
        stack
            .publisher()
            .publish("SubTronics/data", payload)
            .await?;
    }
    eventually("ingest has counted", async || {
        let scraped = scrape(&stack.ingests[0]).await?;
        for (series, value) in [
            ("ingest_messages_received_total", 5.0),
            ("ingest_messages_committed_total", 2.0),
            (r#"ingest_messages_rejected_total{reason="not_json"}"#, 1.0),
            (
                r#"ingest_messages_rejected_total{reason="missing_serial"}"#,
                2.0,
            ),
            (r#"ingest_messages_rejected_total{reason="too_large"}"#, 0.0),
            (r#"ingest_alarm_changes_total{change="raised"}"#, 1.0),
            ("ingest_message_duration_seconds_count", 2.0),
            ("ingest_broker_link_up", 1.0),
            ("ingest_redis_link_up", 1.0),
            ("ingest_messages_unacknowledged", 0.0),
        ] {
            ensure!(scraped.values.contains_key(series), "no {series}");
            ensure!(
                scraped.value(series) == value,
                "{series}: {}",
                scraped.value(series)
            );
        }
        Ok(())
    })
    .await?;
    stack.pass()
}

#[tokio::test]
async fn unacknowledged_messages_are_counted_while_redis_is_away() -> Result<()> {
    let stack = with_an_alarm().await?;
    stack.redis_proxy.cut();
    stack.device(SERIAL).send(1_201).await?;
    eventually(
        "the window fills and the metrics show Redis as down",
        async || {
            let scraped = scrape(&stack.ingests[0]).await?;
            ensure!(
                scraped.value("ingest_messages_unacknowledged") == 1.0,
                "window"
            );
            ensure!(scraped.value("ingest_redis_link_up") == 0.0, "link");
            ensure!(
                scraped.value("ingest_commit_failures_total") >= 1.0,
                "failures"
            );
            Ok(())
        },
    )
    .await?;
    eventually(
        "the gateway reports it, and the age of its data",
        async || {
            let scraped = scrape(&stack.gateways[0]).await?;
            ensure!(scraped.value("gateway_redis_link_up") == 0.0, "link");
            ensure!(scraped.value("gateway_ingest_listening") == 0.0, "ingest");
            ensure!(
                scraped.value("gateway_fleet_sample_age_seconds") > 2.0,
                "age"
            );
            Ok(())
        },
    )
    .await?;
    stack.redis_proxy.heal();
    eventually("the metrics show everything as up again", async || {
        let scraped = scrape(&stack.ingests[0]).await?;
        ensure!(
            scraped.value("ingest_messages_unacknowledged") == 0.0,
            "window"
        );
        ensure!(scraped.value("ingest_redis_link_up") == 1.0, "link");
        Ok(())
    })
    .await?;
    stack.pass()
}

#[tokio::test]
async fn the_age_of_an_unacknowledged_critical_alarm_grows_until_it_is_acknowledged() -> Result<()>
{
    const AGE: &str = "gateway_fleet_unacknowledged_critical_alarm_age_seconds";
    let stack = with_an_alarm().await?;
    let alarms = stack.alerts(SERIAL).await?;
    let id = alarms[0]["id"].as_str().context("an id")?;
    eventually("the alarm gets old", async || {
        let scraped = scrape(&stack.gateways[0]).await?;
        ensure!(scraped.value(AGE) > 1.0, "{}", scraped.value(AGE));
        let critical = r#"gateway_fleet_alarms{acknowledged="false",severity="critical"}"#;
        ensure!(scraped.value(critical) == 1.0, "{:?}", scraped.values);
        let devices = r#"gateway_fleet_devices{state="critical"}"#;
        ensure!(scraped.value(devices) == 1.0, "{:?}", scraped.values);
        Ok(())
    })
    .await?;
    // The query in the runbook of its alert.
    let path = "/alarm-logs?severity=critical";
    let newest = stack.get(path).await?.expect(200)?["logs"][0].clone();
    ensure!(newest["device_id"] == SERIAL, "{newest}");
    ensure!(newest["acknowledged"] == false, "{newest}");
    let answer = stack.acknowledge(SERIAL, id, "{}").await?;
    ensure!(
        answer.expect(200)? == json!({"success": true}),
        "{answer:?}"
    );
    eventually("the age is 0 again", async || {
        let scraped = scrape(&stack.gateways[0]).await?;
        ensure!(scraped.values.contains_key(AGE), "no age");
        ensure!(scraped.value(AGE) == 0.0, "{}", scraped.value(AGE));
        let acknowledged = r#"gateway_acknowledgements_total{outcome="covered"}"#;
        ensure!(scraped.value(acknowledged) == 1.0, "{:?}", scraped.values);
        Ok(())
    })
    .await?;
    stack.pass()
}

#[tokio::test]
async fn connected_and_disconnected_clients_are_counted() -> Result<()> {
    let stack = with_an_alarm().await?;
    let browser = stack.browser().await?;
    browser.subscribe(SERIAL).await?;
    stack.device(SERIAL).send(1_201).await?;
    browser
        .wait_for("the reading", |seen| {
            seen.is_of("device:data", SERIAL) && seen.seq().is_some_and(|seq| seq >= 3)
        })
        .await?;
    eventually("the gateway has counted", async || {
        let scraped = scrape(&stack.gateways[0]).await?;
        for (series, value) in [
            (r#"gateway_connections{transport="websocket"}"#, 1.0),
            (r#"gateway_connections{transport="polling"}"#, 0.0),
            ("gateway_connections_opened_total", 1.0),
            ("gateway_rooms", 1.0),
            ("gateway_subscriptions", 1.0),
            ("gateway_events_total", 1.0),
            ("gateway_event_latency_seconds_count", 1.0),
            (r#"gateway_packets_total{lane="telemetry"}"#, 1.0),
            ("gateway_subscriber_up", 1.0),
            ("gateway_ingest_listening", 1.0),
        ] {
            ensure!(
                scraped.value(series) == value,
                "{series}: {}",
                scraped.value(series)
            );
        }
        Ok(())
    })
    .await?;
    browser.disconnect().await?;
    eventually("the gateway has counted its end", async || {
        let scraped = scrape(&stack.gateways[0]).await?;
        ensure!(
            scraped.value(r#"gateway_connections{transport="websocket"}"#) == 0.0,
            "gone"
        );
        let ends = scraped.values.iter();
        let ends = ends.filter(|(series, _)| series.starts_with("gateway_disconnections_total"));
        let ends: f64 = ends.map(|(_, count)| count).sum();
        ensure!(ends == 1.0, "{ends}");
        Ok(())
    })
    .await?;
    stack.pass()
}

#[tokio::test]
async fn packets_that_waited_for_a_client_that_disconnected_are_counted() -> Result<()> {
    const BUFFER: i32 = 16;
    let flags = format!("--client-buffer={BUFFER}");
    let plan = Plan::default().gateway_flags(&flags);
    let stack = plan.every_raise_is_an_alarm().start().await?;
    let gateway = &stack.gateways[0];
    let device = stack.device(SERIAL);
    device.send(1).await?;
    stack.shows(SERIAL, 1).await?;
    // A client that polls until it is connected, and then stops polling.
    let path = "/socket.io/?EIO=4&transport=polling";
    let send = async |method: &str, path: &str, body: &str| {
        let answer = http::send(gateway.port(), method, path, &[], body.as_bytes()).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(String::from_utf8(answer.body.to_vec())?)
    };
    let handshake = send("GET", path, "").await?;
    let handshake: Value = serde_json::from_str(handshake.trim_start_matches('0'))?;
    let path = format!("{path}&sid={}", handshake["sid"].as_str().context("a sid")?);
    send("POST", &path, "40").await?;
    // A ping may come first.
    while !send("GET", &path, "").await?.contains("40{") {}
    let subscribe = format!(r#"42["subscribe:device","{SERIAL}"]"#);
    send("POST", &path, &subscribe).await?;
    eventually("it is subscribed", async || {
        let scraped = scrape(gateway).await?;
        ensure!(scraped.value("gateway_subscriptions") == 1.0, "{scraped:?}");
        Ok(())
    })
    .await?;
    for value in 1..=2 * BUFFER {
        device.send(1_200 * (value % 2)).await?;
    }
    eventually("all alarms are sent to it", async || {
        let scraped = scrape(gateway).await?;
        let packets = scraped.value(r#"gateway_packets_total{lane="alarms"}"#);
        ensure!(packets > f64::from(2 * BUFFER), "{scraped:?}");
        Ok(())
    })
    .await?;
    ensure!(
        scrape(gateway)
            .await?
            .value("gateway_packets_dropped_total")
            == 0.0
    );
    send("POST", &path, "1").await?;
    eventually("the packets that waited are counted", async || {
        let scraped = scrape(gateway).await?;
        let dropped = scraped.value("gateway_packets_dropped_total");
        let is_gone = scraped.value(r#"gateway_connections{transport="polling"}"#) == 0.0;
        ensure!(is_gone && dropped >= f64::from(BUFFER), "{scraped:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deadline_that_cannot_be_evaluated_or_committed_is_counted() -> Result<()> {
    let plan = Plan::default().ingest_flags("--offline-after=2s");
    let stack = plan.start().await?;
    let mut redis = stack.redis_connection().await?;
    // The changes stream of one device has the wrong type. Nothing is stored of the other one.
    for (serial, key) in [("OTSM-0001", "changes"), ("OTSM-0002", "device")] {
        stack.device(serial).send(1).await?;
        stack.shows(serial, 1).await?;
        let device: DeviceId = serial.parse()?;
        let keys = PartitionKeys::new(device.partition(PARTITIONS));
        if key == "changes" {
            let mut set = redis::cmd("SET");
            set.arg(keys.changes(&device)).arg("no stream");
            set.exec_async(&mut redis).await?;
        } else {
            let mut del = redis::cmd("DEL");
            del.arg(keys.device(&device)).exec_async(&mut redis).await?;
        }
    }
    let ingest = &stack.ingests[0];
    eventually("both are counted", async || {
        let refused = ingest.metric("ingest_timers_refused_total").await?;
        ensure!(refused >= 2.0, "{refused}");
        Ok(())
    })
    .await?;
    let raised = ingest.metric(r#"ingest_alarm_changes_total{change="raised"}"#);
    ensure!(raised.await? == 0.0, "it was written after all");
    eventually("the refusal is logged", async || {
        let output = ingest.process.output();
        ensure!(output.contains("cannot evaluate a deadline"), "{output}");
        Ok(())
    })
    .await?;
    stack.pass()
}
